//! Guests of other processes, filled under a seccomp filter. The filter allows the system calls that the documentation
//! of [`zsalloc::Guest`] lists.

use crate::processes::{End, Memory, PAGE, expected, pair, receive, receive_fd, send, send_fd, spawn};
use crate::processes::{end_of, userfault};
use crate::{GOOD, PAGES, Test};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use zsalloc::{Area, AreaOptions, Guest, GuestFile, GuestOptions, GuestRange, Zswap, ZswapOptions};

/// The tests. Those of guests need the right to let threads serve touches, which their names say.
pub const TESTS: &[Test] = &[
    ("served by threads, a guest in a jail", GOOD, || fill_in_jail(false, None)),
    ("served by threads, a guest with a memory file in a jail", GOOD, || fill_in_jail(true, None)),
    ("served by threads, a guest needs the calls that are listed", GOOD, the_listed_calls_are_needed),
    ("the documentation of a guest lists the calls that it needs", GOOD, the_documentation_has_the_same_lists),
];

/// The calls of the test itself: to wait for a touch, to hear that the client has finished, and to end.
const OF_THE_TEST: [libc::c_long; 3] = [libc::SYS_poll, libc::SYS_recvfrom, libc::SYS_exit_group];

/// The calls that the documentation lists for a guest.
const OF_A_GUEST: [(&str, libc::c_long); 8] = [
    ("close", libc::SYS_close),
    ("fcntl", libc::SYS_fcntl),
    ("futex", libc::SYS_futex),
    ("ioctl", libc::SYS_ioctl),
    ("poll", libc::SYS_poll),
    ("preadv2", libc::SYS_preadv2),
    ("read", libc::SYS_read),
    ("sched_yield", libc::SYS_sched_yield),
];
/// The further calls that it lists for a guest with a memory file.
const OF_A_FILE: [(&str, libc::c_long); 2] = [("pread64", libc::SYS_pread64), ("pwrite64", libc::SYS_pwrite64)];

/// Installs a filter: from here on, a system call that is not in the list ends the process.
fn jail(allowed: &[libc::c_long]) {
    let of = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let is = |&number: &libc::c_long| {
        let same = of(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32);
        [same, of(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)]
    };
    let mut program = vec![of(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    program.extend(allowed.iter().flat_map(is));
    program.push(of(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives through the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

/// Makes a snapshot whose pages are as [`Memory::fill`] writes them.
fn snapshot() -> (Zswap, Area) {
    let zswap = Zswap::new("snapshot", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area(PAGES as u64, &AreaOptions::default()).unwrap();
    for page in 0..PAGES {
        let words: Vec<u8> = (0..PAGE / 8).flat_map(|word| expected(page, word).to_ne_bytes()).collect();
        area.store(page as u64, words.as_slice().try_into().unwrap()).unwrap();
    }
    (zswap, area)
}

/// Makes a memory file that is full of one byte.
fn memory_file(bytes: usize, byte: u8) -> OwnedFd {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new, and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut file = File::from(file);
    match byte {
        0 => file.set_len(bytes as u64).unwrap(),
        _ => file.write_all(&vec![byte; bytes]).unwrap(),
    }
    file.into()
}

/// Runs the process of a guest: it hands its memory over and touches all of it.
fn client(line: &OwnedFd, file: Option<&OwnedFd>) {
    // If its handler ends, it would wait for ever.
    // SAFETY: the call takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }, 0);
    let uffd = userfault::open().unwrap();
    let memory = Memory::new(PAGES, file);
    userfault::register(&uffd, &memory);
    send_fd(line, memory.at(0) as u64, uffd.as_raw_fd());
    memory.check();
    send(line, 1);
}

/// Fills a guest in a jail that allows the listed calls, except for `without`.
fn fill_in_jail(with_file: bool, without: Option<libc::c_long>) {
    let (_zswap, area) = snapshot();
    let (ours, theirs) = pair();
    let files = with_file.then(|| (memory_file(PAGES * PAGE, 0), memory_file(PAGES / 8, 0xff)));
    spawn(|| client(&theirs, files.as_ref().map(|(memory, _)| memory)));
    drop(theirs);
    let (at, fd) = receive_fd(&ours);
    let ranges = [GuestRange { at, bytes: (PAGES * PAGE) as u64, offset: 0, page_bytes: PAGE as u64 }];
    let options = GuestOptions::default();
    let guest = match files {
        Some((memory, bitmap)) => {
            let file = GuestFile { memory, bitmap: Some(bitmap) };
            Guest::with_file(&area, fd, file, &ranges, &options).unwrap()
        }
        None => Guest::new(&area, fd, &ranges, &options).unwrap(),
    };
    let mut allowed = OF_THE_TEST.to_vec();
    allowed.extend(OF_A_GUEST.map(|(_, number)| number));
    allowed.extend(OF_A_FILE.map(|(_, number)| number).into_iter().filter(|_| with_file));
    allowed.retain(|&number| Some(number) != without);
    jail(&allowed);
    loop {
        let polled = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut fds = [polled(guest.fd().as_raw_fd(), libc::POLLIN), polled(ours.as_fd().as_raw_fd(), libc::POLLIN)];
        // SAFETY: both entries can be read and written.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
        while guest.serve().unwrap().again {}
        if fds[1].revents != 0 {
            break;
        }
    }
    let done = receive(&ours, true);
    if with_file {
        guest.fill_in_file(0).unwrap();
    }
    while done.is_some() && !guest.has_ended() {}
    crate::exit(if done == Some(1) && guest.stats().counts.faults > 0 { 0 } else { 102 });
}

/// Checks that the handler ends in its jail without each of these calls. The other calls of the list are needed on
/// older systems, for processes that fork, and by threads that wait for each other.
fn the_listed_calls_are_needed() {
    for number in [libc::SYS_ioctl, libc::SYS_preadv2] {
        let end = end_of(|| fill_in_jail(false, Some(number)));
        assert_eq!(end, End::Signal(libc::SIGSYS), "without {number}");
    }
    for (_, number) in OF_A_FILE {
        assert_eq!(end_of(|| fill_in_jail(true, Some(number))), End::Signal(libc::SIGSYS), "without {number}");
    }
}

/// Reads the lists in the documentation, which are "`call`, `call`" behind the words that introduce them.
fn the_documentation_has_the_same_lists() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guest/state.rs")).unwrap();
    let text = source.lines().filter_map(|line| line.trim_start().strip_prefix("/// ")).collect::<Vec<_>>().join(" ");
    for (words, calls) in [("makes these system calls: ", &OF_A_GUEST[..]), ("memory file also ", &OF_A_FILE)] {
        let listed = text.split(words).nth(1).and_then(|rest| rest.split('.').next()).expect(words);
        let listed: Vec<_> =
            listed.split([',', ' ']).filter_map(|name| name.strip_prefix('`')?.strip_suffix('`')).collect();
        let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, names, "{words}");
    }
}
