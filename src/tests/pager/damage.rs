//! Pages whose stored copies are damaged: nobody reads them, and other pages don't suffer.

use super::look::{consistent, kind_at, with_faults};
use super::{Memory, Running, WAYS, evicting, limited};
use crate::error::Error;
use crate::os::errno::{EAGAIN, ENOMEM};
use crate::os::{Call, Os, Span, injected::Faults};
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use std::sync::Arc;

const LIMIT: usize = 64;
const PAGES: usize = 4 * LIMIT;
/// The damaged pages: alone, side by side, and at the end.
const DAMAGED: [usize; 5] = [17, 90, 91, 150, PAGES - 1];

struct Fixture {
    region: RegionId,
    running: Running,
    memory: Memory,
    faults: Arc<Faults>,
}

fn value(page: usize) -> u64 {
    page as u64 + 1
}

impl Fixture {
    /// Stores all pages, and damages some of them.
    fn new((mode, evict_in_place, shared): (FaultMode, bool, bool)) -> Self {
        let options = evicting(evict_in_place, limited(LIMIT, mode));
        let (faults, running) = with_faults(&options, &[Duty::Serve]);
        let memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
        let region = running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        let fixture = Self { region, running, memory, faults };
        fixture.evict();
        DAMAGED.iter().for_each(|&page| fixture.damage(page));
        fixture
    }

    fn evict(&self) {
        while self.running.pager.stats().resident_bytes > 0 {
            _ = self.running.pager.evict(PAGES as u64);
        }
    }

    /// Changes a bit of a page's stored copy.
    fn damage(&self, page: usize) {
        let region = self.running.pager.0.places[self.region.place()].enter().unwrap();
        let (at, bytes) = region.area.object_of(page as u64).unwrap();
        // SAFETY: nobody frees, moves or reads the object right now: all pages are evicted, and nobody touches any.
        unsafe { *at.add(bytes / 2) ^= 8 };
    }

    fn hold(&self, page: usize) -> Result<(), Error> {
        self.running.pager.begin_hold(self.memory.at(page), PAGE)
    }

    /// Whether the system can read a page. No signal ends that attempt.
    fn is_readable(&self, page: usize) -> bool {
        let mut bytes = [0; PAGE];
        let span = Span::new(self.memory.at(page), PAGE);
        // SAFETY: a page can be written.
        let read = unsafe { Os::default().read_memory(&[span], bytes.as_mut_ptr()) };
        read == Ok(PAGE)
    }

    fn poisoned(&self) -> u64 {
        self.running.pager.stats().counts.poisoned
    }

    /// Checks that all pages but the damaged ones are as they were.
    fn check_others(&self) {
        let others = (0..PAGES).filter(|page| !DAMAGED.contains(page));
        others.for_each(|page| self.memory.check(page, value(page)));
    }

    /// Touches the damaged pages.
    fn touch_damaged(&self) {
        for page in DAMAGED {
            assert!(matches!(self.hold(page), Err(Error::Damaged(_))));
            assert!(!self.is_readable(page), "page {page}");
        }
    }

    /// The page's bytes are not needed.
    unsafe fn discard(&self, page: usize) {
        // SAFETY: the caller vouches.
        unsafe { self.running.pager.discard(self.memory.at(page), PAGE) }.unwrap();
    }
}

#[test]
fn damaged_pages_are_not_read_and_their_neighbours_stay_right() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        fixture.touch_damaged();
        assert_eq!(fixture.poisoned(), DAMAGED.len() as u64);
        fixture.check_others();
        fixture.touch_damaged();
        fixture.evict();
        fixture.touch_damaged();
        assert_eq!(fixture.poisoned(), DAMAGED.len() as u64, "each is counted once");
        assert_eq!(fixture.running.pager.stats().held_bytes, 0);
        fixture.check_others();
        consistent(&fixture.running);
    }
}

/// A thread that goes through the memory in order has pages brought in ahead, but no damaged one.
#[test]
fn damaged_pages_are_not_brought_in_ahead() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        fixture.check_others();
        assert!(fixture.running.pager.stats().counts.loads_ahead > 0);
        assert_eq!(fixture.poisoned(), 0, "nobody needed them");
        assert!(DAMAGED.iter().all(|&page| kind_at(&fixture.running, fixture.memory.at(page)) == PageKind::Stored));
        fixture.touch_damaged();
        consistent(&fixture.running);
    }
}

#[test]
fn a_range_with_one_is_not_held_in_part() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        let held = fixture.running.pager.begin_hold(fixture.memory.at(DAMAGED[0] - 4), 8 * PAGE);
        assert!(matches!(held, Err(Error::Damaged(_))));
        assert_eq!(fixture.running.pager.stats().held_bytes, 0);
        fixture.check_others();
        consistent(&fixture.running);
    }
}

#[test]
fn damaged_pages_are_good_again_once_discarded() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        // Some of them were poisoned before, and some still have their copies.
        assert!(fixture.hold(DAMAGED[1]).is_err() && fixture.hold(DAMAGED[3]).is_err());
        for page in DAMAGED {
            // SAFETY: nobody needs the bytes.
            unsafe { fixture.discard(page) };
            assert_eq!(kind_at(&fixture.running, fixture.memory.at(page)), PageKind::Empty);
        }
        DAMAGED.iter().for_each(|&page| fixture.memory.check(page, 0));
        DAMAGED.iter().for_each(|&page| fixture.memory.fill(page, 7 * value(page)));
        fixture.evict();
        DAMAGED.iter().for_each(|&page| fixture.memory.check(page, 7 * value(page)));
        fixture.check_others();
        consistent(&fixture.running);
        fixture.running.remove(fixture.region);
        fixture.check_others();
    }
}

/// The removal reports the damage and goes through. The damaged pages still can't be read.
#[test]
fn a_region_with_some_is_removed_all_the_same() {
    for way in WAYS {
        for touched in [false, true] {
            let fixture = Fixture::new(way);
            if touched {
                fixture.touch_damaged();
            }
            let removed = fixture.running.pager.remove_by_id(fixture.region);
            assert!(matches!(removed, Err(Error::Damaged(_))), "{way:?}, touched {touched}: {removed:?}");
            fixture.check_others();
            assert!(DAMAGED.iter().all(|&page| !fixture.is_readable(page)), "{way:?}");
            let stats = fixture.running.pager.stats();
            assert_eq!((stats.regions, stats.resident_bytes, stats.held_bytes), (0, 0, 0));
            let removed = fixture.running.pager.remove_by_id(fixture.region);
            assert!(matches!(removed, Err(Error::NotFound(_))));
        }
    }
}

#[test]
fn a_region_with_some_is_discarded() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        // SAFETY: the test has no need of the pages.
        unsafe { fixture.running.pager.remove_discarding_by_id(fixture.region) }.unwrap();
        (0..PAGES).for_each(|page| fixture.memory.check(page, 0));
        assert_eq!(fixture.running.pager.snapshot().unwrap().zswap.areas.len(), 0);
    }
}

#[test]
fn dropping_the_pager_leaves_them_unreadable() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        let Fixture { region, running, memory, faults } = fixture;
        drop(running);
        let others = (0..PAGES).filter(|page| !DAMAGED.contains(page));
        others.for_each(|page| memory.check(page, value(page)));
        let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
        let fixture = Fixture { region, running, memory, faults };
        assert!(DAMAGED.iter().all(|&page| !fixture.is_readable(page)), "{way:?}");
    }
}

/// The call that marks a page is refused, once or always.
#[test]
fn a_mark_that_is_refused() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        fixture.faults.say(Call::Poison, EAGAIN, 0);
        fixture.faults.fail(Call::Poison, 1, 3);
        assert!(matches!(fixture.hold(DAMAGED[0]), Err(Error::Damaged(_))));
        assert_eq!(fixture.poisoned(), 1, "it was tried again");
        fixture.faults.say(Call::Poison, ENOMEM, 0);
        fixture.faults.fail(Call::Poison, 1, 0);
        for _ in 0..3 {
            assert!(matches!(fixture.hold(DAMAGED[1]), Err(Error::Damaged(_))));
        }
        assert_eq!(
            (fixture.poisoned(), kind_at(&fixture.running, fixture.memory.at(DAMAGED[1]))),
            (1, PageKind::Stored)
        );
        // The page would read as zeros once its region is removed.
        let removed = fixture.running.pager.remove_by_id(fixture.region);
        assert!(matches!(removed, Err(Error::Again(_))), "{removed:?}");
        // SAFETY: nobody needs the bytes.
        unsafe { fixture.discard(DAMAGED[1]) };
        fixture.memory.check(DAMAGED[1], 0);
        fixture.faults.heal(Call::Poison);
        fixture.touch_but(DAMAGED[1]);
        fixture.check_others();
        consistent(&fixture.running);
    }
}

/// The system refuses to put zeros in place of a mark, and the page stays marked.
#[test]
fn a_discard_that_is_refused() {
    for way in WAYS {
        let fixture = Fixture::new(way);
        fixture.touch_damaged();
        fixture.faults.say(Call::CopyIn, ENOMEM, 0);
        fixture.faults.fail(Call::CopyIn, 1, 1);
        // SAFETY: nobody needs the bytes.
        let discarded = unsafe { fixture.running.pager.discard(fixture.memory.at(DAMAGED[2]), PAGE) };
        assert!(matches!(discarded, Err(Error::NoMemory(_))), "{discarded:?}");
        assert!(!fixture.is_readable(DAMAGED[2]));
        fixture.faults.heal(Call::CopyIn);
        // SAFETY: nobody needs the bytes.
        unsafe { fixture.discard(DAMAGED[2]) };
        fixture.memory.check(DAMAGED[2], 0);
        fixture.touch_but(DAMAGED[2]);
        fixture.check_others();
        consistent(&fixture.running);
    }
}

impl Fixture {
    fn touch_but(&self, healed: usize) {
        for page in DAMAGED.into_iter().filter(|&page| page != healed) {
            assert!(matches!(self.hold(page), Err(Error::Damaged(_))));
            assert!(!self.is_readable(page));
        }
    }
}
