//! What a process reads when the process that serves its memory is killed while it runs: with a guardian, and without.
//!
//! Each test forks, so this runs without the test harness and its threads.

mod processes;
mod skip;

use processes::userfault::{self, SmallPager};
use processes::{
    End, Memory, a_moment, end_of, is_there, kill, pair, receive, receive_fd, send, send_fd, spawn, wait_for,
};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use zsalloc::{Error, Guardian, Limit, OnDeath};

/// Pages of a client.
const PAGES: usize = 256;
/// Pages that the pager evicts before it begins, and again for each page that it brings back, so that the number of
/// missing pages stays the same.
const MISSING: usize = PAGES / 2;

/// Messages of a client: it has read all of its pages, or a page was all zeros, or it was wrong.
const PASSED: u64 = 1;
const ZEROS: u64 = 2;
const WRONG: u64 = 3;

fn main() {
    let tests: [(&str, fn()); 12] = [
        ("without a guardian a client reads zeros", without_one_a_client_reads_zeros),
        ("clients are killed when their pager is killed", clients_are_killed_with_their_pager),
        ("clients wait when their pager is killed", clients_wait_when_their_pager_is_killed),
        ("a client whose process was not named waits as well", a_client_that_was_not_named),
        ("a dismissed guardian leaves clients alone", dismissed),
        ("a pager's forked children do not keep it alive", forked_children_do_not_matter),
        ("a guardian has none of its pager's memory", a_guardian_is_small),
        ("clients that end are forgotten, and numbers tell them apart", clients_come_and_go),
        ("clients that can't be watched are refused", refusals),
        ("a guardian that can't start leaves no process", one_that_can_not_start),
        ("a guardian that is killed is noticed", a_guardian_that_is_killed),
        ("a descendant that gets the pager's process id is not taken for it", a_descendant_with_the_pager_s_number),
    ];
    if let Err(errno) = userfault::open() {
        skip::skip("guardian", format_args!("no right to userfaultfd here (errno {errno})"));
        return;
    }
    // Guardians outlive the pagers that started them: they become children of this process.
    // SAFETY: the call takes only numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    for (name, test) in tests {
        println!("guardian: {name}");
        test();
    }
}

/// A client and its pager.
struct Pair {
    client: i32,
    pager: i32,
    /// Process id of the guardian; 0: there is none.
    guardian: i32,
    /// Messages from the client.
    says: OwnedFd,
    /// Connection to the pager.
    line: OwnedFd,
}

/// What the pager does differently.
#[derive(Clone, Copy, Default)]
struct Besides {
    guardian: Option<OnDeath>,
    /// Whether the client's process is not named to the guardian.
    nameless: bool,
    /// Whether the pager has a child with all its descriptors.
    forks: bool,
}

impl Pair {
    fn start(besides: Besides) -> Self {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"client".as_ptr(), 0) };
        assert!(fd >= 0);
        // SAFETY: the descriptor was just created, and nothing else owns it.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the call takes only numbers.
        assert_eq!(unsafe { libc::ftruncate(fd, (PAGES * processes::PAGE) as libc::off_t) }, 0);
        let (says, speaks) = pair();
        let (to_pager, to_client) = pair();
        let (line, pagers_line) = pair();
        let client = spawn(|| client(&file, &speaks, &to_client));
        drop((speaks, to_client));
        let pager = spawn(move || pager(file, client, &to_pager, &pagers_line, besides));
        let guardian = receive(&line, true).expect("the pager starts") as i32;
        Self { client, pager, guardian, says, line }
    }

    /// Waits until the client has read all its pages another `count` times.
    fn passes(&self, count: usize) {
        for _ in 0..count {
            assert_eq!(receive(&self.says, true), Some(PASSED));
        }
    }

    /// Kills the pager, and waits until it has ended.
    fn kill_pager(&self) {
        kill(self.pager);
        assert_eq!(wait_for(self.pager), End::Signal(libc::SIGKILL));
    }

    /// Returns the client's last message that was not read yet; none: there is none.
    fn last_words(&self) -> Option<u64> {
        std::iter::from_fn(|| receive(&self.says, false)).last()
    }

    /// Waits until the client waits for a page. Panics if the client read something wrong.
    fn wait_until_stuck(&self) {
        let mut quiet = 0;
        while quiet < 20 {
            match self.last_words() {
                Some(PASSED) => quiet = 0,
                Some(said) => panic!("the client read a page that is zeros (2) or wrong (3): {said}"),
                None if state_of(self.client) == 'R' => quiet = 0,
                None => quiet += 1,
            }
            a_moment();
        }
        assert!(is_there(self.client));
    }
}

/// Returns the state of a process: R for one that runs, S and D for one that waits, Z for one that has ended.
fn state_of(process: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

/// Maps memory, puts it under a userfaultfd that it hands over, and reads the memory again and again.
fn client(file: &OwnedFd, says: &OwnedFd, line: &OwnedFd) {
    let memory = Memory::new(PAGES, Some(file));
    memory.fill();
    let uffd = userfault::open().unwrap();
    userfault::register(&uffd, &memory);
    send_fd(line, memory.at(0) as u64, uffd.as_raw_fd());
    // From here on only the pager has the userfaultfd.
    drop(uffd);
    receive(line, true).expect("the pager says when it has begun");
    loop {
        for page in 0..PAGES {
            match memory.wrong(page) {
                None => {}
                Some(0) => return send(says, ZEROS),
                Some(_) => return send(says, WRONG),
            }
        }
        send(says, PASSED);
    }
}

/// Serves the client and evicts as many pages as it brings back, until it is asked to end. Reports the guardian's
/// process id.
fn pager(file: OwnedFd, client: i32, client_line: &OwnedFd, line: &OwnedFd, besides: Besides) {
    let (at, uffd) = receive_fd(client_line);
    let guardian = besides.guardian.map(|on_death| Guardian::start(on_death).unwrap());
    let mut small = SmallPager::new(file, PAGES, uffd, at);
    if let Some(guardian) = &guardian {
        let client = if besides.nameless { None } else { Some(client) };
        guardian.watch(small.uffd().as_fd(), client).unwrap();
    }
    if besides.forks {
        spawn(|| {
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        });
    }
    small.evict(MISSING);
    send(client_line, 1);
    send(line, guardian.as_ref().map_or(0, |guardian| guardian.pid() as u64));
    loop {
        if small.serve(10) {
            small.evict(1);
        }
        if receive(line, false).is_some() {
            small.let_go();
            if let Some(guardian) = guardian {
                guardian.dismiss().unwrap();
            }
            return;
        }
    }
}

/// Shows why there is a guardian. A future system may behave better, and the test accepts that.
fn without_one_a_client_reads_zeros() {
    let pair = Pair::start(Besides::default());
    pair.passes(2);
    pair.kill_pager();
    // The client reads zeros within a pass or never, so this waits for a few passes.
    let mut quiet = 0;
    let said = loop {
        match pair.last_words() {
            None if quiet == 400 => break None,
            None => quiet += 1,
            Some(PASSED) => quiet = 0,
            Some(said) => break Some(said),
        }
        a_moment();
    };
    match said {
        Some(said) => {
            assert_eq!(said, ZEROS, "the client read something other than zeros");
            assert_eq!(wait_for(pair.client), End::Code(0));
        }
        None => {
            println!("guardian: this system does not let a client read zeros, even without a guardian");
            kill(pair.client);
            wait_for(pair.client);
        }
    }
}

fn clients_are_killed_with_their_pager() {
    for round in 0..20 {
        let pair = Pair::start(Besides { guardian: Some(OnDeath::Kill), ..Besides::default() });
        pair.passes(1);
        // The kill comes at a different place of a pass each time.
        std::thread::sleep(std::time::Duration::from_micros(round * 733 % 5000));
        pair.kill_pager();
        assert_eq!(wait_for(pair.client), End::Signal(libc::SIGKILL));
        assert!(matches!(pair.last_words(), None | Some(PASSED)), "the client read a page that is zeros, or wrong");
        assert_eq!(wait_for(pair.guardian), End::Code(0), "the guardian ends after its clients");
    }
}

fn clients_wait_when_their_pager_is_killed() {
    let pair = Pair::start(Besides { guardian: Some(OnDeath::Freeze), ..Besides::default() });
    pair.passes(2);
    pair.kill_pager();
    pair.wait_until_stuck();
    assert!(is_there(pair.guardian));
    // The waiting client can be killed.
    kill(pair.client);
    assert_eq!(wait_for(pair.client), End::Signal(libc::SIGKILL));
    assert_eq!(wait_for(pair.guardian), End::Code(0));
}

fn a_client_that_was_not_named() {
    let besides = Besides { guardian: Some(OnDeath::Kill), nameless: true, ..Besides::default() };
    let pair = Pair::start(besides);
    pair.passes(1);
    pair.kill_pager();
    pair.wait_until_stuck();
    kill(pair.client);
    wait_for(pair.client);
    // The guardian notices that on its own.
    assert_eq!(wait_for(pair.guardian), End::Code(0));
}

fn dismissed() {
    let pair = Pair::start(Besides { guardian: Some(OnDeath::Kill), ..Besides::default() });
    pair.passes(1);
    send(&pair.line, 1);
    assert_eq!(wait_for(pair.pager), End::Code(0));
    assert!(!is_there(pair.guardian), "the pager has waited for it");
    pair.last_words();
    pair.passes(3);
    kill(pair.client);
    assert_eq!(wait_for(pair.client), End::Signal(libc::SIGKILL));
}

/// The children have the pager's end of the connection to the guardian, and the userfaultfd as well.
fn forked_children_do_not_matter() {
    let besides = Besides { guardian: Some(OnDeath::Kill), forks: true, ..Besides::default() };
    let pair = Pair::start(besides);
    pair.passes(1);
    pair.kill_pager();
    assert_eq!(wait_for(pair.client), End::Signal(libc::SIGKILL));
    assert_eq!(wait_for(pair.guardian), End::Code(0));
    // The pager's child is now the only child of this process.
    let child = fs::read_to_string("/proc/thread-self/children").unwrap();
    let child = child.trim().parse().unwrap();
    kill(child);
    wait_for(child);
}

fn status_of(process: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap().trim().to_owned()
}

fn a_guardian_is_small() {
    processes::in_child(|| {
        let memory = vec![1u8; 64 << 20];
        let guardian = Guardian::start(OnDeath::Kill).unwrap();
        let kib = |field| status_of(guardian.pid(), field).trim_end_matches(" kB").parse::<u64>().unwrap();
        assert!(kib("RssAnon") < 1024, "{} KiB of its own", kib("RssAnon"));
        assert_eq!(status_of(guardian.pid(), "Name"), "zs-guardian");
        let open = fs::read_dir(format!("/proc/{}/fd", guardian.pid())).unwrap().count();
        assert_eq!(open, 2, "a guardian has a connection and a descriptor of its pager's process");
        assert_eq!(status_of(guardian.pid(), "Threads"), "1");
        // No signal of a terminal reaches it, and a program that waits for any child does not find it.
        // SAFETY: the calls take only numbers, and write nothing.
        unsafe {
            assert_eq!(libc::getsid(guardian.pid()), guardian.pid());
            assert_eq!(libc::kill(guardian.pid(), libc::SIGTERM), 0);
            assert_eq!(libc::waitpid(-1, std::ptr::null_mut(), 0), -1);
        }
        guardian.dismiss().unwrap();
        assert!(memory.iter().all(|&byte| byte == 1));
    });
}

fn sleeper() -> i32 {
    // SAFETY: waits for a signal.
    spawn(|| _ = unsafe { libc::pause() })
}

fn clients_come_and_go() {
    processes::in_child(|| {
        let uffd = userfault::open().unwrap();
        let guardian = Guardian::start(OnDeath::Kill).unwrap();
        let (first, second) = (sleeper(), sleeper());
        let one = guardian.watch(uffd.as_fd(), Some(first)).unwrap();
        let other = guardian.watch(uffd.as_fd(), Some(second)).unwrap();
        assert_ne!(one, other);
        kill(first);
        wait_for(first);
        // The guardian notices the end on its own.
        while !matches!(guardian.forget(one), Err(Error::NotFound(_))) {
            a_moment();
        }
        guardian.forget(other).unwrap();
        assert!(guardian.forget(other).is_err());
        // Far more clients than the guardian could have at once: it closes the descriptors of those that ended.
        for _ in 0..10_000 {
            let watched = guardian.watch(uffd.as_fd(), Some(second)).unwrap();
            guardian.forget(watched).unwrap();
        }
        drop(guardian);
        assert_eq!(state_of(second), 'S');
        kill(second);
        wait_for(second);
    });
}

fn refusals() {
    processes::in_child(|| {
        let uffd = userfault::open().unwrap();
        let mut owned = Some(Guardian::start(OnDeath::Freeze).unwrap());
        let guardian = owned.as_ref().unwrap();
        let ended = spawn(|| {});
        wait_for(ended);
        assert!(matches!(guardian.watch(uffd.as_fd(), Some(ended)), Err(Error::NotFound(_))));
        let watched = guardian.watch(uffd.as_fd(), None).unwrap();
        processes::in_child(|| {
            let guardian = owned.take().unwrap();
            assert_eq!(guardian.watch(uffd.as_fd(), None), Err(Error::Forked));
            assert_eq!(guardian.forget(watched), Err(Error::Forked));
            // The guardian belongs to the parent, which still has it.
            assert_eq!(guardian.dismiss(), Err(Error::Forked));
        });
        let guardian = owned.as_ref().unwrap();
        let most = (1..4097).map_while(|_| guardian.watch(uffd.as_fd(), None).ok()).count() + 1;
        assert!(most > 100);
        let full = guardian.watch(uffd.as_fd(), None);
        assert!(matches!(full, Err(Error::Limit(Limit::Watched))), "{full:?} after {most}");
        guardian.forget(watched).unwrap();
        guardian.watch(uffd.as_fd(), None).unwrap();
    });
}

fn a_guardian_that_is_killed() {
    processes::in_child(|| {
        let uffd = userfault::open().unwrap();
        let guardian = Guardian::start(OnDeath::Kill).unwrap();
        kill(guardian.pid());
        while !matches!(guardian.watch(uffd.as_fd(), None), Err(Error::Io(_))) {
            a_moment();
        }
        assert!(matches!(guardian.dismiss(), Err(Error::Io(_))));
    });
}

/// Makes a system call fail with ENOSYS from now on, in this process and its children.
fn forbid(number: libc::c_long) {
    let filter =
        |code: u32, jt, k: u32| libc::sock_filter { code: code as u16, jt, jf: u8::from(jt == 0 && code == 0x15), k };
    let mut program = [
        filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, number as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        filter(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives through the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

/// The system lacks what the guardian needs. When the error is reported, the guardian's process has ended and has been
/// waited for.
fn one_that_can_not_start() {
    processes::in_child(|| {
        forbid(libc::SYS_close_range);
        for _ in 0..3 {
            assert!(matches!(Guardian::start(OnDeath::Kill), Err(Error::System { errno: libc::ENOSYS, .. })));
        }
        let mut status = 0;
        // SAFETY: the place lives through the call.
        let child = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        assert!(child < 0, "process {child} was left");
    });
}

/// The pager has ended, and a child of its child got its process id. The guardian must not take that process for its
/// pager.
fn a_descendant_with_the_pager_s_number() {
    const NEXT: &str = "/proc/sys/kernel/ns_last_pid";
    if fs::OpenOptions::new().write(true).open(NEXT).is_err() {
        skip::skip("guardian_pid", "no right to choose the number of a process here");
        return;
    }
    // This process's memory stays, so the guardian has something to watch.
    let uffd = userfault::open().unwrap();
    let (ours, theirs) = pair();
    let pager = spawn(|| {
        let own = std::process::id() as i32;
        let mut guardian = Some(Guardian::start(OnDeath::Freeze).unwrap());
        guardian.as_ref().unwrap().watch(uffd.as_fd(), None).unwrap();
        let number = guardian.as_ref().unwrap().pid();
        spawn(|| {
            while is_there(own) {
                a_moment();
            }
            let given = (0..1000).any(|_| {
                fs::write(NEXT, (own - 1).to_string()).unwrap();
                let act = || match std::process::id() as i32 == own {
                    true => drop(guardian.take()),
                    // SAFETY: ends a process that was given another number.
                    false => unsafe { libc::_exit(3) },
                };
                end_of(act) == End::Code(0)
            });
            assert!(given, "no process got the pager's process id");
            send(&theirs, number as u64);
            std::mem::forget(guardian.take());
        });
        kill(own);
    });
    assert_eq!(wait_for(pager), End::Signal(libc::SIGKILL));
    let guardian = receive(&ours, true).unwrap() as i32;
    let sleeps = || fs::read_to_string(format!("/proc/{guardian}/stat")).unwrap().contains(") S ");
    // On a busy machine it may still have to get there.
    let comes_to_sleep = (0..1000).any(|_| {
        sleeps() || {
            a_moment();
            false
        }
    });
    assert!(is_there(guardian) && comes_to_sleep);
    kill(guardian);
    while is_there(guardian) {
        // SAFETY: waits for any child, among them those of the pager's.
        unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) };
    }
}
