//! A pool that is full: pages that can't leave stay in memory, above the limit, and nothing is lost.

use super::look::consistent;
use super::{Memory, Running, evicting, limited};
use crate::error::{Error, Limit};
use crate::os::Os;
use crate::pager::{Duty, FaultMode, PagerCounts, PagerOptions};
use crate::units::PAGE;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

const LIMIT: usize = 64;
const PAGES: usize = 4 * LIMIT;
/// A limit of the pool that is far too low for all pages.
const SMALL: u64 = 40 * PAGE as u64 / 2;
const LARGE: u64 = 2 * (PAGES * PAGE) as u64;

/// Which threads serve touches, whether pages are evicted in place, and which threads are lent.
const WAYS: [(FaultMode, bool, &[Duty]); 6] = [
    (FaultMode::Sigbus, false, &[]),
    (FaultMode::Sigbus, true, &[]),
    (FaultMode::Sigbus, false, &[Duty::Serve, Duty::Evict]),
    (FaultMode::Sigbus, true, &[Duty::All]),
    (FaultMode::Threads, false, &[Duty::All, Duty::All]),
    (FaultMode::Threads, true, &[Duty::Serve, Duty::Evict]),
];

/// Memory with some pages filled, under a pager whose pool holds few.
struct Fixture {
    running: Running,
    memory: Memory,
    /// The value of each page.
    values: Vec<AtomicU64>,
}

impl Fixture {
    fn new((mode, evict_in_place, duties): (FaultMode, bool, &[Duty]), file: Option<&OwnedFd>) -> Self {
        let options = PagerOptions { pool_bytes: Some(SMALL), ..evicting(evict_in_place, limited(LIMIT, mode)) };
        let running = Running::new(&options, duties);
        if let Some(file) = file {
            running.pager.set_backing_file(Some((file.as_fd(), bytes_of(file)))).unwrap();
        }
        let memory = Memory::new(PAGES);
        running.add(&memory);
        Self { running, memory, values: (0..PAGES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Fills all pages, by several threads with their own pages.
    fn fill(&self, round: u64) {
        thread::scope(|scope| {
            for first in 0..3 {
                scope.spawn(move || {
                    for page in (first..PAGES).step_by(3) {
                        let value = round * PAGES as u64 + page as u64 + 1;
                        self.values[page].store(value, Relaxed);
                        self.memory.fill(page, value);
                    }
                });
            }
        });
    }

    fn check(&self) {
        for page in (0..PAGES).map(|page| page * 397 % PAGES) {
            self.memory.check(page, self.values[page].load(Relaxed));
        }
    }

    fn counts(&self) -> PagerCounts {
        self.running.pager.stats().counts
    }

    fn resident(&self) -> usize {
        self.running.pager.stats().resident_bytes as usize / PAGE
    }

    fn on_file(&self) -> u64 {
        self.running.pager.snapshot().unwrap().zswap.zswap.counts.written_back
    }

    /// Gives the pool room for all pages, and checks that the limit holds again from now on.
    fn recovers(&self) {
        let pager = &self.running.pager;
        pager.set_pool_limit(Some(LARGE)).unwrap();
        pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
        assert!(self.resident() <= LIMIT);
        let above = self.counts().over_limit;
        self.check();
        self.fill(7);
        self.check();
        assert_eq!(self.counts().over_limit, above);
        assert!(self.resident() <= LIMIT + 16, "{}", self.resident());
        consistent(&self.running);
    }
}

fn file(pages: usize) -> OwnedFd {
    Os::default().memory_file("backing", pages * PAGE, false).unwrap()
}

fn bytes_of(file: &OwnedFd) -> u64 {
    let file = std::fs::File::from(file.try_clone().unwrap());
    file.metadata().unwrap().len()
}

#[test]
fn without_a_file_pages_stay_in_memory_until_there_is_room() {
    for way in WAYS {
        let fixture = Fixture::new(way, None);
        for round in 0..3 {
            fixture.fill(round);
            fixture.check();
        }
        let counts = fixture.counts();
        assert!(counts.over_limit > 0 && counts.direct_reclaims >= counts.over_limit, "{counts:?}");
        assert!(fixture.resident() > LIMIT);
        assert!(matches!(
            fixture.running.pager.set_resident_limit(Some(PAGE as u64 * 16)),
            Err(Error::Limit(Limit::Zswap))
        ));
        // Pages that compress better than others may leave.
        let refused = (0..PAGES).find_map(|_| fixture.running.pager.evict(8).err());
        assert!(matches!(refused, Some(Error::Limit(Limit::Zswap))), "{refused:?}");
        consistent(&fixture.running);
        fixture.check();
        fixture.recovers();
    }
}

#[test]
fn with_a_file_pages_are_written_back_and_the_limit_holds() {
    for way in WAYS {
        let file = file(PAGES);
        let fixture = Fixture::new(way, Some(&file));
        for round in 0..3 {
            fixture.fill(round);
            fixture.check();
            assert!(fixture.resident() <= LIMIT + 16, "{}", fixture.resident());
        }
        assert!(fixture.on_file() > 0);
        consistent(&fixture.running);
        fixture.recovers();
    }
}

#[test]
fn with_a_file_that_is_too_small_pages_stay_in_memory() {
    for way in WAYS {
        let file = file(LIMIT / 4);
        let fixture = Fixture::new(way, Some(&file));
        for round in 0..3 {
            fixture.fill(round);
            fixture.check();
        }
        assert!(fixture.counts().over_limit > 0);
        assert!(fixture.resident() > LIMIT);
        consistent(&fixture.running);
        fixture.recovers();
    }
}

/// Pages that an owner gives back make room as well.
#[test]
fn pages_given_back_make_room() {
    for (mode, evict_in_place, _) in WAYS {
        let fixture = Fixture::new((mode, evict_in_place, &[Duty::All]), None);
        fixture.fill(0);
        let most = PAGES - 40;
        // SAFETY: the bytes are not needed.
        unsafe { fixture.running.pager.discard(fixture.memory.at(0), most * PAGE) }.unwrap();
        (0..most).for_each(|page| fixture.values[page].store(0, Relaxed));
        fixture.running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
        assert!(fixture.resident() <= LIMIT);
        fixture.check();
        consistent(&fixture.running);
    }
}
