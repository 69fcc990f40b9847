//! Memory that outgrows its limit keeps its bytes, and its limit.

use super::look::word_at;
use super::{Memory, Running, evicting, limited};
use crate::error::Error;
use crate::pager::state::KeptCopy;
use crate::pager::{Duty, FaultMode, PagerOptions};
use crate::sync::{Lock, Rank};
use crate::units::PAGE;
use std::panic::catch_unwind;

const LIMIT: usize = 256;
const PAGES: usize = 4 * LIMIT;

fn outgrows(options: &PagerOptions, duties: &[Duty]) {
    let memory = Memory::new(PAGES);
    let running = Running::new(options, duties);
    let region = running.add(&memory);
    let above = || running.pager.stats().resident_bytes as usize / PAGE > LIMIT + 16;
    for page in 0..PAGES {
        memory.fill(page, page as u64 + 1);
        assert!(!above());
    }
    for round in 0..3 {
        for page in 0..PAGES {
            // In order, then in another order.
            let page = if round == 0 { page } else { page * 397 % PAGES };
            memory.check(page, page as u64 + 1);
            assert!(!above());
        }
    }
    let counts = running.pager.stats().counts;
    assert!(counts.loads > 0 && counts.stored > 0, "{counts:?}");
    running.remove(region);
    (0..PAGES).for_each(|page| memory.check(page, page as u64 + 1));
    super::look::nothing_resident(&running);
}

#[test]
fn in_the_thread_that_touches_alone() {
    outgrows(&limited(LIMIT, FaultMode::Sigbus), &[]);
}

#[test]
fn in_the_thread_that_touches_with_background_eviction() {
    outgrows(&limited(LIMIT, FaultMode::Sigbus), &[Duty::Serve, Duty::Evict]);
}

#[test]
fn by_lent_threads() {
    outgrows(&limited(LIMIT, FaultMode::Threads), &[Duty::All, Duty::All]);
}

#[test]
fn in_place() {
    for mode in [FaultMode::Sigbus, FaultMode::Threads] {
        let options = evicting(true, limited(LIMIT, mode));
        outgrows(&options, &[Duty::Serve, Duty::Evict]);
    }
}

#[test]
fn copies_are_kept_up_to_the_share_that_was_set() {
    for (percent, some) in [(0, false), (100, true)] {
        let memory = Memory::new(PAGES);
        let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
        running.pager.set_kept_copies(percent).unwrap();
        let region = running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
        (0..2 * PAGES).for_each(|page| memory.check(page % PAGES, (page % PAGES) as u64 + 1));
        let counts = running.pager.stats().counts;
        assert_eq!(counts.dropped > 0, some, "{counts:?}");
        running.remove(region);
    }
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    assert!(matches!(running.pager.set_kept_copies(101), Err(Error::Invalid(_))));
}

/// A search for stale copies is paid for by copies that are kept, so that it does not go through a large region, of
/// which little is in memory, after each touch.
#[test]
fn a_search_for_stale_copies_goes_as_far_as_it_is_paid_for() {
    let memory = Memory::new(PAGES);
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    running.pager.set_kept_copies(100).unwrap();
    let region = running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
    (0..LIMIT / 2).for_each(|page| memory.check(page, page as u64 + 1));
    let core = &running.pager.0;
    assert!(core.kept.pages() > 0);
    let paid = core.kept.take_looks(u64::MAX);
    assert!(paid > core.kept.pages(), "copies that are kept pay for some looks each");
    for paid in [0, 1, 7, 0] {
        core.kept.allow_looks(paid);
        let from = core.kept.hand();
        assert_eq!(core.drop_stale_copies(32), 0, "all copies are clean");
        let looked = core.kept.hand().max(memory.at(0) as usize) - from.max(memory.at(0) as usize);
        assert_eq!(looked, paid as usize * PAGE);
    }
    // A write makes a copy stale. The looks that are left stay.
    let clean = |page: &usize| word_at(&running, memory.at(*page)).copy() == KeptCopy::Clean;
    let page = (0..PAGES).find(clean).unwrap();
    memory.fill(page, 1);
    core.kept.allow_looks(3 * PAGES as u64);
    assert_eq!(core.drop_stale_copies(1), 1);
    assert!(core.kept.take_looks(u64::MAX) >= PAGES as u64);
    running.remove(region);
}

/// A signal handler may touch a region wherever the thread was, also in a call on another zswap with its locks held.
#[test]
fn a_touch_within_a_call_on_another_zswap() {
    let memory = Memory::new(PAGES);
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    let region = running.add(&memory);
    let lock = Lock::new(Rank::Shard, ());
    let held = lock.lock();
    (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
    (0..PAGES).for_each(|page| memory.check(page, page as u64 + 1));
    // The locks that are held are known again.
    let order = catch_unwind(|| drop(Lock::new(Rank::Hand, ()).lock()));
    assert_eq!(order.is_err(), cfg!(debug_assertions));
    drop(held);
    running.remove(region);
}
