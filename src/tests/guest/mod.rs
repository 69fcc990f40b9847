//! A guest in this process: the order in which events and touches are served, and calls that the system refuses.

mod tracked;

use super::pager::Memory;
use crate::error::Error;
use crate::guest::{Guest, GuestOptions, GuestRange, Served};
use crate::os::userfault::{Faulting, Userfault, feature};
use crate::os::{Call, Os, Span, errno, injected::Faults};
use crate::tests::options::refused as refused_for;
use crate::units::PAGE;
use crate::zswap::{Area, AreaOptions, Zswap, ZswapOptions};
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

pub const PAGES: usize = 64;
/// Pages of the snapshot that were never stored.
pub const ABSENT: usize = 60;

/// A guest and its memory. The userfaultfd stays open here as well, as its owner would keep it.
pub struct Fixture {
    pub memory: Memory,
    pub guest: Guest,
    pub area: Area,
    faults: Arc<Faults>,
    pub owners: Userfault,
}

/// The features and faults that the guest's owner asked the system for, and the options of the guest.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    pub features: u64,
    pub faulting: Faulting,
    pub shared: bool,
    pub options: GuestOptions,
}

impl Fixture {
    fn new(pages_at_once: usize) -> Self {
        Self::of(&Setup {
            options: GuestOptions { pages_at_once: Some(pages_at_once), ..GuestOptions::default() },
            ..Setup::default()
        })
    }

    pub fn of(setup: &Setup) -> Self {
        let zswap = Zswap::new("snapshot", &ZswapOptions::default()).unwrap();
        let area = zswap.add_area(PAGES as u64, &AreaOptions::default()).unwrap();
        for page in 0..ABSENT {
            area.store(page as u64, &[page as u8 + 1; PAGE]).unwrap();
        }
        let memory = if setup.shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
        let owners = Userfault::new(&Os::default(), feature::EVENT_REMOVE | setup.features, false).unwrap();
        owners.register(memory.at(0) as usize, memory.bytes(), setup.faulting).unwrap();
        let fd = owners.as_fd().try_clone_to_owned().unwrap();
        let (at, bytes) = (memory.at(0) as u64, memory.bytes() as u64);
        let range = GuestRange { at, bytes, offset: 0, page_bytes: PAGE as u64 };
        let faults = Arc::new(Faults::default());
        let os = Os { faults: Some(faults.clone()) };
        let guest = Guest::with_os(&os, &area, fd, &[range], &setup.options).unwrap();
        Self { memory, guest, area, faults, owners }
    }

    /// Serves until a thread has ended.
    pub fn serve_until<T>(&mut self, thread: ScopedJoinHandle<'_, T>) -> T {
        while !thread.is_finished() {
            self.guest.serve().unwrap();
            std::thread::yield_now();
        }
        thread.join().unwrap()
    }

    /// Returns the flags of the descriptor, which its owner shares.
    fn flags(&self) -> libc::c_int {
        // SAFETY: the call takes numbers only.
        unsafe { libc::fcntl(self.owners.fd(), libc::F_GETFL) }
    }

    /// Clears the non-blocking flag, as its owner may do.
    fn let_reads_block(&self) {
        // SAFETY: the call takes numbers only.
        let done = unsafe { libc::fcntl(self.owners.fd(), libc::F_SETFL, self.flags() & !libc::O_NONBLOCK) };
        assert_eq!(done, 0);
    }

    /// Reads the first word of a page in a thread, and serves that thread's touch.
    pub fn read(&mut self, page: usize) -> u64 {
        let at = self.memory.at(page) as usize;
        std::thread::scope(|scope| {
            let thread = touch(scope, at);
            self.serve_until(thread)
        })
    }
}

/// Reads a word in a thread.
fn touch<'a>(scope: &'a Scope<'a, '_>, at: usize) -> ScopedJoinHandle<'a, u64> {
    // SAFETY: memory of the test's, which lives longer than the thread.
    scope.spawn(move || unsafe { (at as *const u64).read_volatile() })
}

/// Returns the words that a page of the snapshot has.
pub fn stored(page: usize) -> u64 {
    u64::from_ne_bytes([page as u8 + 1; 8])
}

/// Waits until these threads sleep in the system, each because of a message that was not read.
fn wait_for_sleepers(threads: &[libc::pid_t]) {
    let sleeps = |thread: &libc::pid_t| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with(['S', 'D'])
    };
    while !threads.iter().all(sleeps) {
        std::thread::yield_now();
    }
}

#[test]
fn pages_are_filled_from_the_snapshot_and_pages_ahead_with_them() {
    let mut fixture = Fixture::new(4);
    for page in (0..ABSENT).chain([3, 0, 59]) {
        assert_eq!(fixture.read(page), stored(page));
    }
    let counts = fixture.guest.stats().counts;
    assert_eq!(counts.copied + counts.copied_ahead, ABSENT as u64);
    assert!(counts.copied_ahead > counts.copied, "{counts:?}");
    assert_eq!(fixture.area.stored().next(), Some(0), "the snapshot keeps its pages");
}

/// The kernel hands out touches before removals. While a removal waits to be read, no page can be filled.
#[test]
fn a_touch_that_is_read_before_the_removal_does_not_bring_the_page_back() {
    let mut fixture = Fixture::new(1);
    assert_eq!(fixture.read(5), stored(5));
    let (at, beside) = (fixture.memory.at(5) as usize, fixture.memory.at(9) as usize);
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let second = send.clone();
        let remover = scope.spawn(move || {
            // SAFETY: a call without arguments.
            send.send(unsafe { libc::gettid() }).unwrap();
            // SAFETY: memory of the test's, whose content is not needed.
            unsafe { libc::madvise(at as *mut _, 2 * PAGE, libc::MADV_DONTNEED) }
        });
        let toucher = scope.spawn(move || {
            // SAFETY: a call without arguments.
            second.send(unsafe { libc::gettid() }).unwrap();
            // SAFETY: memory of the test's, which lives longer than the thread.
            unsafe { (beside as *const u64).read_volatile() }
        });
        wait_for_sleepers(&[receive.recv().unwrap(), receive.recv().unwrap()]);
        assert_eq!(fixture.serve_until(remover), 0);
        assert_eq!(fixture.serve_until(toucher), stored(9));
    });
    assert_eq!([5, 6].map(|page| fixture.read(page)), [0, 0]);
    assert_eq!(fixture.read(7), stored(7));
    let counts = fixture.guest.stats().counts;
    assert_eq!((counts.removed, counts.zeroed), (2, 2));
}

#[test]
fn a_refused_call_loses_no_touch() {
    let mut fixture = Fixture::new(1);
    for (call, page) in [(Call::CopyIn, 1), (Call::ZeroIn, 1), (Call::Wake, 2), (Call::Poison, 3)] {
        let at = fixture.memory.at(page) as usize;
        if call == Call::ZeroIn {
            fixture.guest.serve().unwrap();
            std::thread::scope(|scope| {
                // SAFETY: memory of the test's, whose content is not needed.
                let remover = scope.spawn(move || unsafe { libc::madvise(at as *mut _, PAGE, libc::MADV_DONTNEED) });
                assert_eq!(fixture.serve_until(remover), 0);
            });
        }
        fixture.faults.fail(call, 1, 1);
        let wanted = if call == Call::ZeroIn { 0 } else { stored(page) };
        let refused = std::thread::scope(|scope| {
            let (thread, mut refused) = (touch(scope, at), 0);
            while !thread.is_finished() {
                match fixture.guest.serve() {
                    Ok(_) => std::thread::yield_now(),
                    Err(error) => {
                        assert!(matches!(error, Error::NoMemory(_)), "{error}");
                        assert_eq!(fixture.guest.stats().waiting, 1);
                        refused += 1;
                    }
                }
            }
            assert_eq!(thread.join().unwrap(), wanted);
            refused
        });
        assert_eq!(refused, u64::from(matches!(call, Call::CopyIn | Call::ZeroIn)));
        fixture.faults.heal(call);
    }
}

/// A page that the snapshot does not have fails when it is touched. A system call on it fails without a signal.
#[test]
fn a_page_without_content_is_poisoned() {
    let mut fixture = Fixture::new(8);
    let (at, beside) = (fixture.memory.at(ABSENT) as usize, fixture.memory.at(ABSENT - 1) as usize);
    let read = move |at: usize| {
        let mut word = 1_u64;
        // SAFETY: the word can be written; the rest the system checks.
        (unsafe { Os::default().read_memory(&[Span::new(at as *mut u8, 8)], (&raw mut word).cast()) }, word)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || (read(at), read(beside)));
        let (poisoned, whole) = fixture.serve_until(thread);
        assert!(poisoned.0.is_err() && poisoned.1 == 1, "{poisoned:?}");
        assert_eq!(whole, (Ok(8), stored(ABSENT - 1)));
    });
    assert_eq!(fixture.guest.stats().counts.poisoned, 1);
}

#[test]
fn a_running_guest_has_not_ended_and_no_touch_waits() {
    let fixture = Fixture::new(8);
    assert!(!fixture.guest.has_ended());
    assert_eq!(fixture.guest.serve(), Ok(Served::default()));
    let stats = fixture.guest.stats();
    assert_eq!((stats.waiting, stats.ended, stats.bytes), (0, false, (PAGES * PAGE) as u64));
}

/// A malicious owner shares the descriptor's flags, and one thread serves many guests.
#[test]
fn a_guest_whose_owner_makes_reads_block_is_not_waited_for() {
    // The system may lack reads that do not wait, and a jail may forbid them.
    for refused in [None, Some(libc::EOPNOTSUPP), Some(libc::EPERM)] {
        let mut fixture = Fixture::new(1);
        if let Some(errno) = refused {
            fixture.faults.say(Call::EventsAtOnce, errno, 0);
            fixture.faults.fail(Call::EventsAtOnce, 1, 0);
        }
        for page in [1, 2] {
            fixture.let_reads_block();
            assert_eq!(fixture.guest.serve(), Ok(Served::default()));
            assert!(fixture.flags() & libc::O_NONBLOCK != 0, "polling tells of touches again");
            let at = fixture.memory.at(page) as usize;
            std::thread::scope(|scope| {
                let thread = touch(scope, at);
                fixture.let_reads_block();
                assert_eq!(fixture.serve_until(thread), stored(page));
            });
        }
        assert!(fixture.faults.seen(Call::EventsAtOnce) > 0);
    }
}

#[test]
fn other_descriptors_are_refused() {
    let fixture = Fixture::new(8);
    let range = GuestRange { at: 0x10000, bytes: PAGE as u64, offset: 0, page_bytes: PAGE as u64 };
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let refused = Guest::new(&fixture.area, file.into(), &[range], &GuestOptions::default());
    assert_eq!(refused.err().map(Error::errno), Some(errno::EINVAL));
    let other = Fixture::new(8);
    for pages_at_once in [0, 65, usize::MAX] {
        let fd = other.guest.fd().try_clone_to_owned().unwrap();
        let options = GuestOptions { pages_at_once: Some(pages_at_once), ..GuestOptions::default() };
        let made = Guest::new(&fixture.area, fd, &[range], &options).map(|_| ());
        refused_for(made, &["pages_at_once", "leave it out for 8"]);
    }
}

/// Several threads serve one guest, whose threads read pages, and give some back and find them zero.
#[test]
fn several_threads_serve_one_guest() {
    let fixture = Fixture::new(4);
    let done = std::sync::atomic::AtomicU32::new(0);
    let (at, ordering) = (fixture.memory.at(0) as usize, std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (done, memory) = (&done, &fixture.memory);
            scope.spawn(move || {
                for page in (reader..ABSENT).step_by(4) {
                    let word = (at + page * PAGE) as *const u64;
                    // SAFETY: memory of the test's.
                    assert_eq!(unsafe { word.read_volatile() }, stored(page));
                    if page % 3 == 0 {
                        assert_eq!(memory.advise(page, 1, libc::MADV_DONTNEED), 0);
                        // SAFETY: as above.
                        assert_eq!(unsafe { word.read_volatile() }, 0, "page {page} was given back");
                    }
                }
                done.fetch_add(1, ordering);
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                while done.load(ordering) < 4 {
                    fixture.guest.serve().unwrap();
                    std::thread::yield_now();
                }
            });
        }
    });
    let counts = fixture.guest.stats().counts;
    assert!(counts.copied + counts.copied_ahead <= ABSENT as u64 && counts.poisoned == 0, "{counts:?}");
    assert!(counts.removed >= ABSENT as u64 / 3 && counts.zeroed > 0, "{counts:?}");
}

/// Two streams that are read in turn are both read ahead.
#[test]
fn each_of_several_streams_is_read_ahead() {
    let mut fixture = Fixture::new(8);
    for step in 1..ABSENT / 2 {
        assert_eq!(fixture.read(step), stored(step));
        assert_eq!(fixture.read(ABSENT / 2 + step), stored(ABSENT / 2 + step));
    }
    let counts = fixture.guest.stats().counts;
    assert!(counts.copied_ahead > 2 * counts.copied, "{counts:?}");
}
