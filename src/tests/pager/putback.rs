//! Pages that are there already when the pager puts them in place, and threads that wait for them.

use super::look::kind_at;
use super::{Memory, Running, limited};
use crate::os::errno::EEXIST;
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use linux_raw_sys::general as raw;
use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;
use std::thread;

const LIMIT: usize = 64;
const PAGES: usize = 3 * LIMIT;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// A pager in which `memory` was filled, and whose threads were given back.
fn without_threads(memory: &Memory) -> Running {
    let running = Running::new(&limited(LIMIT, FaultMode::Threads), &[]);
    running.add(memory);
    lend(&running, || (0..memory.pages()).for_each(|page| memory.fill(page, value(page))));
    running
}

/// Lends threads while `work` runs, which may fail.
fn lend(running: &Running, mut work: impl FnMut()) {
    struct Stop<'a>(&'a Running);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.pager.stop();
        }
    }
    running.pager.resume();
    thread::scope(|scope| {
        (0..2).for_each(|_| _ = scope.spawn(|| running.pager.run(Duty::All).unwrap()));
        let _stop = Stop(running);
        work();
    });
}

/// Waits until threads sleep in the system.
fn wait_for_sleepers(threads: &[libc::pid_t]) {
    let sleeps = |thread: &libc::pid_t| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with(['S', 'D'])
    };
    while !threads.iter().all(sleeps) {
        thread::yield_now();
    }
}

/// Puts a page in place behind the pager's back, and wakes nobody.
fn put(running: &Running, at: *mut u8, page: &[u8; PAGE]) -> Result<(), i32> {
    const COPY: u64 =
        3 << 30 | (size_of::<raw::uffdio_copy>() as u64) << 16 | (raw::UFFDIO << 8 | raw::_UFFDIO_COPY) as u64;
    let mode = u64::from(raw::UFFDIO_COPY_MODE_DONTWAKE);
    let mut argument = raw::uffdio_copy { dst: at as u64, src: page.as_ptr() as u64, len: PAGE as u64, mode, copy: 0 };
    // SAFETY: the argument is what this ioctl takes.
    let done = unsafe { libc::ioctl(running.pager.descriptor().as_raw_fd(), COPY as _, &raw mut argument) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

/// Two threads touch a page, then `then` runs, then the threads are served. Returns what they saw.
fn touched_by_two(running: &Running, at: *mut u8, then: impl FnOnce()) -> [u64; 2] {
    let address = at as usize;
    thread::scope(|scope| {
        let (send, receive) = channel();
        let threads = [(); 2].map(|()| {
            let send = send.clone();
            scope.spawn(move || {
                // SAFETY: a call without arguments.
                send.send(unsafe { libc::gettid() }).unwrap();
                // SAFETY: memory of the test's, which lives longer than the thread.
                unsafe { (address as *const u64).read_volatile() }
            })
        });
        wait_for_sleepers(&[receive.recv().unwrap(), receive.recv().unwrap()]);
        then();
        let mut seen = [0; 2];
        let mut threads = Some(threads);
        lend(running, || seen = threads.take().unwrap().map(|thread| thread.join().unwrap()));
        seen
    })
}

fn first(running: &Running, memory: &Memory, is: impl Fn(PageKind) -> bool) -> usize {
    (0..memory.pages()).find(|&page| is(kind_at(running, memory.at(page)))).unwrap()
}

/// Finds a staged page. If there is none, because compressing went on after the last touch, touches all pages.
fn first_staged(running: &Running, memory: &Memory) -> usize {
    let is_staged = |&page: &usize| matches!(kind_at(running, memory.at(page)), PageKind::Staged(_));
    for _ in 0..100 {
        if let Some(page) = (0..memory.pages()).find(is_staged) {
            return page;
        }
        // SAFETY: pages of the test's own.
        lend(running, || (0..memory.pages()).for_each(|page| _ = unsafe { memory.at(page).read_volatile() }));
    }
    panic!("nothing is ever staged");
}

#[test]
fn two_threads_that_wait_for_a_page_both_go_on() {
    let memory = Memory::new(PAGES);
    let empty = Memory::new(4);
    let running = without_threads(&memory);
    running.add(&empty);
    for _ in 0..10 {
        let stored = first(&running, &memory, |kind| kind == PageKind::Stored);
        assert_eq!(touched_by_two(&running, memory.at(stored), || ()), [value(stored); 2]);
        let staged = first_staged(&running, &memory);
        assert_eq!(touched_by_two(&running, memory.at(staged), || ()), [value(staged); 2]);
    }
    assert_eq!(touched_by_two(&running, empty.at(2), || ()), [0; 2]);
    lend(&running, || {
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
        super::look::consistent(&running);
    });
}

/// Another holder of the descriptor filled the page, and woke nobody. The program sees that page from then on, and the
/// pager drops its own.
#[test]
fn a_page_that_others_put_there_is_what_waiting_threads_see() {
    let memory = Memory::new(PAGES);
    let empty = Memory::new(4);
    let running = without_threads(&memory);
    running.add(&empty);
    let others = 0x0101_0101_0101_0101 * 9;
    let mut theirs = Vec::new();
    for round in 0..3 {
        let staged = first_staged(&running, &memory);
        let stored = first(&running, &memory, |kind| kind == PageKind::Stored);
        for at in [memory.at(stored), memory.at(staged), empty.at(round)] {
            assert_eq!(touched_by_two(&running, at, || put(&running, at, &[9; PAGE]).unwrap()), [others; 2]);
            assert_eq!(put(&running, at, &[8; PAGE]), Err(EEXIST));
            theirs.push(at);
        }
    }
    lend(&running, || {
        super::look::consistent(&running);
        _ = running.pager.evict(PAGES as u64);
        for page in 0..PAGES {
            if theirs.contains(&memory.at(page)) {
                // SAFETY: a page of the test's own.
                assert_eq!(unsafe { memory.at(page).cast::<u64>().read_volatile() }, others);
            } else {
                memory.check(page, value(page));
            }
        }
        super::look::consistent(&running);
    });
}

/// Other holders of a region's file write to it while a thread waits for a page of it that was never there.
#[test]
fn a_page_that_comes_through_the_file_is_what_waiting_threads_see() {
    let memory = Memory::shared(PAGES);
    let running = Running::new(&limited(LIMIT, FaultMode::Threads), &[]);
    running.add(&memory);
    let file = memory.file.as_ref().unwrap().as_raw_fd();
    for page in [0, 7, PAGES - 1] {
        let seen = touched_by_two(&running, memory.at(page), || {
            let bytes = [3_u8; PAGE];
            let offset = ((page + 1) * PAGE) as libc::off_t;
            // SAFETY: so many bytes can be read.
            assert_eq!(unsafe { libc::pwrite(file, bytes.as_ptr().cast(), PAGE, offset) }, PAGE as isize);
        });
        assert_eq!(seen, [0x0303_0303_0303_0303; 2]);
    }
    lend(&running, || super::look::consistent(&running));
}
