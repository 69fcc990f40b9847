//! Missing rights, system calls on evicted pages, and damaged pages.

use crate::processes::{Memory, PAGE};
use crate::{BUS, Fixture, GOOD, PAGES, RESIDENT, Test, exit, options, touch};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use zsalloc::{Error, FaultMode, Guardian, Limit, OnDeath, Pager};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a user without privileges", GOOD, without_privileges),
    ("a system call on an evicted page", GOOD, a_system_call),
    ("served by threads, a system call on an evicted page", GOOD, a_system_call_served_by_threads),
    ("a damaged page is not read", BUS, || {
        let (fixture, damaged) = a_damaged_page(FaultMode::Sigbus);
        exit(100 + i32::from(touch(&fixture.memory, damaged) == 0));
    }),
    ("served by threads, a damaged page is not read", BUS, || {
        let (fixture, damaged) = a_damaged_page(FaultMode::Threads);
        exit(100 + i32::from(touch(&fixture.memory, damaged) == 0));
    }),
    ("a damaged page does not harm others", GOOD, || damage(FaultMode::Sigbus)),
    ("served by threads, a damaged page does not harm others", GOOD, || damage(FaultMode::Threads)),
];

/// Gives up the privileges of root, if the process has them.
fn become_nobody() {
    // SAFETY: the calls take numbers only.
    unsafe {
        if libc::getuid() == 0 {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
    }
}

fn without_privileges() {
    become_nobody();
    let fixture = Fixture::new(FaultMode::Sigbus);
    fixture.memory.check();
    Guardian::start(OnDeath::Kill).unwrap().dismiss().unwrap();
    match Pager::new("threads", &options(FaultMode::Threads)) {
        Ok(_) => println!("pager_process: this system gives everybody the right to FaultMode::Threads"),
        Err(error) => {
            assert_eq!(error.errno(), libc::EPERM);
            let text = error.text();
            for way in ["lent threads", "CAP_SYS_PTRACE", "vm.unprivileged_userfaultfd", "/dev/userfaultfd"] {
                assert!(text.contains(way), "{text}");
            }
        }
    }
}

/// Makes a file of one page whose bytes are all 7.
fn sevens() -> File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"sevens".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new, and nobody else owns it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&[7; PAGE]).unwrap();
    file
}

/// Reads from a file into a page, which the system may refuse. It makes no reference to the page's bytes.
fn read_into(file: &File, memory: &Memory, page: usize) -> Result<usize, i32> {
    // SAFETY: a page of the test's own can be written.
    let done = unsafe { libc::pread(file.as_raw_fd(), memory.at(page).cast(), PAGE, 0) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap())
}

/// Writes a page to a file, which the system may refuse. It makes no reference to the page's bytes.
fn write_from(file: &File, memory: &Memory, page: usize) -> Result<usize, i32> {
    // SAFETY: a page of the test's own can be read.
    let done = unsafe { libc::pwrite(file.as_raw_fd(), memory.at(page).cast(), PAGE, 0) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap())
}

fn a_system_call() {
    let fixture = Fixture::new(FaultMode::Sigbus);
    let (memory, file, copy) = (&fixture.memory, sevens(), sevens());
    assert_eq!(read_into(&file, memory, 4), Err(libc::EFAULT));
    assert_eq!(write_from(&copy, memory, 4), Err(libc::EFAULT));
    assert_eq!(memory.wrong(4), None, "the page is as it was");
    // Held pages stay while the others come and go.
    let held = fixture.pager.hold(memory.at(10), 2 * PAGE).unwrap();
    memory.check();
    let _ = fixture.pager.evict(PAGES as u64);
    assert_eq!(write_from(&copy, memory, 11), Ok(PAGE));
    let mut bytes = [0; PAGE];
    copy.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, memory.copy(11));
    assert_eq!(read_into(&file, memory, 10), Ok(PAGE));
    assert_eq!(memory.copy(10), [7; PAGE]);
    drop(held);
    // Bytes that a system call wrote are evicted like all others.
    fixture.evict();
    assert_eq!(read_into(&file, memory, 10), Err(libc::EFAULT));
    assert_eq!(memory.copy(10), [7; PAGE]);
    // More than may be held.
    assert!(matches!(fixture.pager.hold(memory.at(0), RESIDENT * PAGE), Err(Error::Limit(Limit::Held))));
    write_again(memory, 10);
}

/// Writes the content that the fixture expects in the end.
fn write_again(memory: &Memory, page: usize) {
    let words = memory.at(page).cast::<u64>();
    // SAFETY: a page of the test's own, aligned.
    (0..PAGE / 8).for_each(|word| unsafe { words.add(word).write_volatile(crate::processes::expected(page, word)) });
}

fn a_system_call_served_by_threads() {
    let fixture = Fixture::new(FaultMode::Threads);
    let (memory, file, copy) = (&fixture.memory, sevens(), sevens());
    assert_eq!(write_from(&copy, memory, 11), Ok(PAGE));
    let mut bytes = [0; PAGE];
    copy.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, memory.copy(11));
    assert_eq!(read_into(&file, memory, 10), Ok(PAGE));
    fixture.evict();
    assert_eq!(memory.copy(10), [7; PAGE]);
    write_again(memory, 10);
}

/// Makes a file for pages that nobody else can open.
fn disk() -> File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"disk".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new, and nobody else owns it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len((PAGES * PAGE) as u64).unwrap();
    file
}

/// Makes a region whose pages are all in a file of which one byte is wrong. Returns the page that has it as well.
fn a_damaged_page(mode: FaultMode) -> (Fixture, usize) {
    let disk = disk();
    let pager = Pager::new("damage", &options(mode)).unwrap();
    pager.set_backing_file(Some((disk.as_fd(), (PAGES * PAGE) as u64))).unwrap();
    let fixture = Fixture::of(pager, mode);
    while fixture.pager.snapshot().unwrap().zswap.zswap.used_bytes > 0 {
        fixture.pager.write_back(PAGES as u64).unwrap();
    }
    // Where a page lies in the file is the library's own business, so the bad page is found by holding each.
    let mut byte = [0];
    let at = (PAGES / 2 * PAGE + 100) as u64;
    disk.read_exact_at(&mut byte, at).unwrap();
    disk.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let fails = |page: &usize| {
        let at = fixture.memory.at(*page);
        matches!(fixture.pager.hold(at, PAGE), Err(Error::Damaged(_)))
    };
    let damaged = (0..PAGES).filter(fails).collect::<Vec<_>>();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    (fixture, damaged[0])
}

/// Checks that the page can't be read in any way, that the other pages are unchanged, and that the region can be
/// removed.
fn damage(mode: FaultMode) {
    let (fixture, damaged) = a_damaged_page(mode);
    let memory = &fixture.memory;
    (0..PAGES).filter(|page| *page != damaged).for_each(|page| assert_eq!(memory.wrong(page), None));
    let error = write_from(&sevens(), memory, damaged).unwrap_err();
    assert!(matches!(error, libc::EFAULT | libc::EHWPOISON), "errno {error}");
    assert!(matches!(fixture.pager.hold(memory.at(damaged), PAGE), Err(Error::Damaged(_))));
    // A discard makes the page usable again.
    // SAFETY: its bytes are lost.
    unsafe { fixture.pager.discard(memory.at(damaged), PAGE) }.unwrap();
    assert_eq!(touch(memory, damaged), 0);
    write_again(memory, damaged);
    fixture.evict();
}
