//! Pages that leave to a tier of the program's own, and come back: read by lent threads where touches are served in
//! signal handlers, and by the threads that serve touches otherwise.

use super::look::{consistent, kind_at};
use super::{Memory, Running, evicting, limited, soon};
use crate::error::Error;
use crate::os::Os;
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode, Pager, PagerOptions};
use crate::units::PAGE;
use crate::zswap::{ExtentId, Tier, TierFailure, TierOptions, TierResult};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

const LIMIT: usize = 64;
const PAGES: usize = 6 * LIMIT;
/// A limit of the pool that is far too low for all pages.
const SMALL: u64 = 80 * PAGE as u64 / 2;

/// How tests see a tier, and what they make it do.
#[derive(Default)]
struct ShelfState {
    extents: Mutex<HashMap<ExtentId, Vec<u8>>>,
    away: AtomicBool,
    damaged: AtomicBool,
    /// Calls sleep for so many microseconds.
    slow: AtomicU64,
    gets: AtomicU32,
    /// Gets that have not returned.
    inside: AtomicU32,
    /// The threads that called it.
    callers: Mutex<Vec<ThreadId>>,
}

/// A tier in memory.
struct Shelf(Arc<ShelfState>);

impl ShelfState {
    fn enter(&self) -> TierResult {
        let mut callers = self.callers.lock().unwrap();
        let caller = thread::current().id();
        if !callers.contains(&caller) {
            callers.push(caller);
        }
        drop(callers);
        match self.slow.load(Relaxed) {
            0 => {}
            slow => thread::sleep(Duration::from_micros(slow)),
        }
        if self.away.load(Relaxed) { Err(TierFailure::Away) } else { Ok(()) }
    }

    fn was_called_by(&self, thread: ThreadId) -> bool {
        self.callers.lock().unwrap().contains(&thread)
    }
}

impl Tier for Shelf {
    fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult {
        self.0.enter()?;
        self.0.extents.lock().unwrap().insert(extent, bytes.to_vec());
        Ok(())
    }

    fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult {
        self.0.gets.fetch_add(1, Relaxed);
        self.0.inside.fetch_add(1, Relaxed);
        let entered = self.0.enter();
        self.0.inside.fetch_sub(1, Relaxed);
        entered?;
        let extents = self.0.extents.lock().unwrap();
        let kept = extents.get(&extent).ok_or(TierFailure::Damaged)?;
        bytes.copy_from_slice(&kept[from..from + bytes.len()]);
        if self.0.damaged.load(Relaxed) { Err(TierFailure::Damaged) } else { Ok(()) }
    }

    fn remove(&self, extent: ExtentId) -> TierResult {
        self.0.enter()?;
        self.0.extents.lock().unwrap().remove(&extent);
        Ok(())
    }
}

/// Which threads serve touches, whether pages are evicted in place, and which threads are lent.
const WAYS: [(FaultMode, bool, &[Duty]); 8] = [
    (FaultMode::Sigbus, true, &[Duty::Tiers]),
    (FaultMode::Sigbus, false, &[Duty::Tiers]),
    (FaultMode::Sigbus, true, &[Duty::All]),
    (FaultMode::Sigbus, false, &[Duty::All, Duty::All]),
    (FaultMode::Sigbus, true, &[Duty::Tiers, Duty::Tiers, Duty::Evict, Duty::Serve]),
    (FaultMode::Sigbus, false, &[Duty::Tiers, Duty::All, Duty::Serve]),
    (FaultMode::Threads, true, &[Duty::Serve, Duty::Tiers]),
    (FaultMode::Threads, false, &[Duty::All, Duty::All]),
];
const SIGBUS: (FaultMode, bool, &[Duty]) = WAYS[0];

struct Fixture {
    running: Running,
    memory: Memory,
    shelf: Arc<ShelfState>,
    tier: u32,
}

fn value(page: usize, round: u64) -> u64 {
    round * PAGES as u64 + page as u64 + 1
}

impl Fixture {
    /// A region under a pager that has a tier of the test's own. The pool holds few pages, or all if `large`.
    fn new((mode, in_place, duties): (FaultMode, bool, &[Duty]), large: bool) -> Self {
        let pool_bytes = if large { None } else { Some(SMALL) };
        let running = Running::new(&PagerOptions { pool_bytes, ..evicting(in_place, limited(LIMIT, mode)) }, duties);
        let shelf = Arc::<ShelfState>::default();
        let tier = running.pager.add_tier_of_c(Shelf(shelf.clone()), &TierOptions::default()).unwrap();
        let memory = Memory::new(PAGES);
        running.add(&memory);
        Self { running, memory, shelf, tier }
    }

    /// With all pages on the tier.
    fn stored(way: (FaultMode, bool, &[Duty])) -> Self {
        let fixture = Self::new(way, true);
        fixture.fill(0);
        fixture.leave();
        fixture
    }

    /// Sends all pages to the tier.
    fn leave(&self) {
        let pager = &self.running.pager;
        assert!(soon(|| {
            _ = pager.evict(PAGES as u64);
            _ = pager.write_back(PAGES as u64);
            pager.stats().resident_bytes == 0 && self.on_tier() == PAGES as u64
        }));
    }

    fn on_tier(&self) -> u64 {
        self.running.pager.tier_stats(self.tier).unwrap().pages
    }

    fn fill(&self, round: u64) {
        (0..PAGES).for_each(|page| self.memory.fill(page, value(page, round)));
    }

    fn check(&self, round: u64) {
        (0..PAGES).map(|page| page * 397 % PAGES).for_each(|page| self.memory.check(page, value(page, round)));
    }

    fn is_stored(&self, page: usize) -> bool {
        kind_at(&self.running, self.memory.at(page)) == PageKind::Stored
    }

    /// Whether the system can read a page. No signal ends that attempt.
    fn is_readable(&self, page: usize) -> bool {
        let mut bytes = [0; PAGE];
        let span = crate::os::Span::new(self.memory.at(page), PAGE);
        // SAFETY: a page can be written.
        let read = unsafe { Os::default().read_memory(&[span], bytes.as_mut_ptr()) };
        read == Ok(PAGE)
    }

    /// Serves a touch as the handler of SIGBUS does. Returns whether that brought the page.
    fn touch_as_a_handler(&self, page: usize) -> Option<bool> {
        let at = self.memory.at(page) as usize;
        self.running.pager.0.serve_signal(crate::os::sigbus::Touch { at, write: false })
    }
}

#[test]
fn pages_leave_to_a_tier_and_come_back() {
    for way in WAYS {
        let fixture = Fixture::new(way, false);
        for round in 0..3 {
            fixture.fill(round);
            fixture.check(round);
        }
        assert!(fixture.on_tier() > 0 && fixture.shelf.gets.load(Relaxed) > 0, "{way:?}");
        let stats = fixture.running.pager.stats();
        assert!(stats.resident_bytes as usize <= (LIMIT + 32) * PAGE, "{way:?}: {stats:?}");
        // This thread touched, and it is in a handler then.
        assert!(!fixture.shelf.was_called_by(thread::current().id()), "{way:?}");
        consistent(&fixture.running);
    }
}

#[test]
fn threads_touch_at_once_while_the_tier_is_slow() {
    for way in WAYS {
        let fixture = Fixture::stored(way);
        fixture.shelf.slow.store(200, Relaxed);
        thread::scope(|scope| {
            for first in 0..4 {
                let fixture = &fixture;
                scope.spawn(move || {
                    // Each page is touched by two threads.
                    for page in (first % 2..PAGES).step_by(2) {
                        fixture.memory.check(page, value(page, 0));
                    }
                });
            }
        });
        fixture.shelf.slow.store(0, Relaxed);
        consistent(&fixture.running);
    }
}

/// More threads touch than there may be requests.
#[test]
fn more_touches_wait_than_there_are_slots() {
    let fixture = Fixture::stored(SIGBUS);
    fixture.shelf.slow.store(500, Relaxed);
    thread::scope(|scope| {
        for first in 0..48 {
            let fixture = &fixture;
            scope.spawn(move || {
                (first..PAGES).step_by(48).for_each(|page| fixture.memory.check(page, value(page, 0)));
            });
        }
    });
    consistent(&fixture.running);
}

/// A touch waits for a tier that is away for a while. If it is away for longer, the touch fails, and nothing is lost.
#[test]
fn a_tier_that_is_away_and_comes_back() {
    for duties in [&[Duty::Tiers], &[Duty::All]] {
        let fixture = Fixture::stored((FaultMode::Sigbus, true, duties));
        fixture.shelf.away.store(true, Relaxed);
        assert_eq!(fixture.touch_as_a_handler(5), Some(false));
        assert!(fixture.is_stored(5));
        thread::scope(|scope| {
            scope.spawn(|| fixture.memory.check(5, value(5, 0)));
            assert!(soon(|| fixture.shelf.gets.load(Relaxed) > 3));
            fixture.shelf.away.store(false, Relaxed);
        });
        fixture.check(0);
        consistent(&fixture.running);
    }
}

/// Lent threads that serve touches try again as long as the tier is away.
#[test]
fn a_tier_that_is_away_in_the_mode_of_threads() {
    let fixture = Fixture::stored((FaultMode::Threads, true, &[Duty::All]));
    fixture.shelf.away.store(true, Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| fixture.memory.check(5, value(5, 0)));
        assert!(soon(|| fixture.shelf.gets.load(Relaxed) > 8));
        fixture.shelf.away.store(false, Relaxed);
    });
    fixture.check(0);
}

/// A page that its tier has lost is never read again, and the others are.
#[test]
fn a_tier_that_has_lost_a_page() {
    for (mode, in_place, duties) in WAYS {
        let fixture = Fixture::stored((mode, in_place, duties));
        fixture.shelf.damaged.store(true, Relaxed);
        assert!(!fixture.is_readable(7));
        if mode == FaultMode::Sigbus {
            // The read was a system call, which no handler served.
            assert_eq!(fixture.touch_as_a_handler(7), Some(false));
        }
        // The read may return before the claim of the page ends.
        let is_poisoned = || kind_at(&fixture.running, fixture.memory.at(7)) == PageKind::Poisoned;
        assert!(soon(is_poisoned), "{mode:?}");
        fixture.shelf.damaged.store(false, Relaxed);
        (8..PAGES).for_each(|page| fixture.memory.check(page, value(page, 0)));
        assert!(matches!(fixture.running.pager.begin_hold(fixture.memory.at(7), PAGE), Err(Error::Damaged(_))));
    }
}

#[test]
fn a_tier_needs_a_thread_that_may_call_it() {
    let pager = Pager::new("test", &limited(LIMIT, FaultMode::Sigbus)).unwrap();
    let add = |pager: &Pager| pager.add_tier(Shelf(Arc::default()), &TierOptions::default());
    let refused = |pager: &Pager| {
        let Err(Error::Invalid(sentence)) = add(pager) else { panic!("it was added") };
        assert!(sentence.to_string().contains("duty Tiers"), "{sentence}");
    };
    refused(&pager);
    let others = [Duty::Serve, Duty::Evict].map(|duty| pager.lend(duty).unwrap());
    refused(&pager);
    // What was promised is waited for, unless it is given up.
    let (lent, work) = pager.lend_own(Duty::Tiers).unwrap();
    drop(work);
    refused(&pager);
    drop(lent);
    let (lent, work) = pager.lend_own(Duty::Tiers).unwrap();
    let begins = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        work.run();
    });
    assert_eq!(add(&pager), Ok(0));
    drop(lent);
    begins.join().unwrap();
    refused(&pager);
    let _all = pager.lend(Duty::All).unwrap();
    assert_eq!(add(&pager), Ok(1));
    drop(others);
    // A file needs none, nor does a pager whose touches are served by lent threads.
    let file = Os::default().memory_file("tier", 64 * PAGE, false).unwrap();
    let pager = Pager::new("test", &limited(LIMIT, FaultMode::Sigbus)).unwrap();
    assert_eq!(pager.add_file_tier("file", file.as_fd(), 64 * PAGE as u64), Ok(0));
    let pager = Pager::new("test", &limited(LIMIT, FaultMode::Threads)).unwrap();
    assert_eq!(add(&pager), Ok(0));
    assert!(pager.tier_stats(0).is_ok());
    pager.remove_tier(0).unwrap();
    assert!(matches!(pager.tier_stats(0), Err(Error::NotFound(_))));
}

/// The last thread that may call the tier ends while touches wait: they fail, and nothing is lost.
#[test]
fn the_lent_thread_ends_while_touches_wait() {
    let fixture = Fixture::stored(SIGBUS);
    fixture.shelf.slow.store(300_000, Relaxed);
    thread::scope(|scope| {
        let touches: Vec<_> = (0..4)
            .map(|page| {
                scope.spawn({
                    let fixture = &fixture;
                    move || fixture.touch_as_a_handler(page * 64)
                })
            })
            .collect();
        assert!(soon(|| fixture.shelf.inside.load(Relaxed) > 0));
        fixture.running.pager.stop();
        let served: Vec<_> = touches.into_iter().map(|touch| touch.join().unwrap()).collect();
        // The one that the thread had begun with came through.
        assert_eq!(served.iter().filter(|&&served| served == Some(true)).count(), 1, "{served:?}");
        assert_eq!(served.iter().filter(|&&served| served == Some(false)).count(), 3, "{served:?}");
    });
    assert_eq!(fixture.running.pager.lent_threads(), 0);
    assert_eq!(fixture.touch_as_a_handler(300), Some(false));
    fixture.shelf.slow.store(0, Relaxed);
    // Calls of the program's own are in no handler, and call the tier themselves.
    fixture.running.pager.begin_hold(fixture.memory.at(300), PAGE).unwrap();
    fixture.memory.check(300, value(300, 0));
    fixture.running.pager.end_hold(fixture.memory.at(300), PAGE).unwrap();
    // A touch that waits is served by a thread that is lent within the time.
    fixture.running.pager.resume();
    thread::scope(|scope| {
        let touch = scope.spawn(|| fixture.touch_as_a_handler(301));
        thread::sleep(Duration::from_millis(20));
        let lent = fixture.running.pager.lend(Duty::Tiers).unwrap();
        assert_eq!(touch.join().unwrap(), Some(true));
        fixture.check(0);
        drop(lent);
    });
}

/// A page that is stored anew while a thread reads its old bytes from the tier.
#[test]
fn pages_that_change_while_others_wait_for_them() {
    for way in [WAYS[0], WAYS[3], WAYS[4]] {
        let fixture = Fixture::stored(way);
        let rounds: Vec<_> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for first in 0..3 {
                let (fixture, rounds) = (&fixture, &rounds);
                scope.spawn(move || {
                    for step in 0..4 * PAGES {
                        let page = (step * 397 % PAGES) / 3 * 3 + first;
                        let round = rounds[page].load(Relaxed);
                        fixture.memory.check(page, value(page, round));
                        if step % 3 == 0 {
                            fixture.memory.fill(page, value(page, round + 1));
                            rounds[page].store(round + 1, Relaxed);
                        }
                    }
                });
            }
            let pager = &fixture.running.pager;
            for _ in 0..64 {
                _ = pager.evict(PAGES as u64);
                _ = pager.write_back(PAGES as u64);
            }
        });
        (0..PAGES).for_each(|page| fixture.memory.check(page, value(page, rounds[page].load(Relaxed))));
        consistent(&fixture.running);
    }
}

/// Removing the region and dropping the pager bring all pages back, also without a lent thread.
#[test]
fn all_pages_come_back_with_the_pager_gone() {
    let fixture = Fixture::stored(SIGBUS);
    let Fixture { running, memory, .. } = fixture;
    drop(running);
    (0..PAGES).for_each(|page| memory.check(page, value(page, 0)));
}
