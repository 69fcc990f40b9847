//! The names of regions: the name of a region that is gone names no other, even if its place is used again.

use super::{Memory, Running, limited};
use crate::Error;
use crate::pager::FaultMode;
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::region::Serials;
use std::collections::HashSet;

const PAGES: usize = 40;
const LIMIT: usize = 16;

/// Both ways to remove a region refuse this name.
#[track_caller]
fn refused(running: &Running, stale: RegionId) {
    assert!(matches!(running.pager.remove_by_id(stale), Err(Error::NotFound(_))));
    // SAFETY: the call is refused, and removes nothing.
    let discarded = unsafe { running.pager.remove_discarding_by_id(stale) };
    assert!(matches!(discarded, Err(Error::NotFound(_))));
}

fn stale_names_are_refused(running: &Running, regions: usize) {
    let mut stale = Vec::new();
    let mut all = HashSet::new();
    for round in 0..regions {
        let memory = Memory::new(PAGES);
        (0..PAGES).for_each(|page| memory.fill(page, (round * PAGES + page + 1) as u64));
        let region = running.add(&memory);
        assert!(region.number() != 0 && all.insert(region.number()), "a name was given twice");
        stale.iter().for_each(|&stale| refused(running, stale));
        assert_eq!(running.pager.stats().regions, 1);
        running.remove(region);
        (0..PAGES).for_each(|page| memory.check(page, (round * PAGES + page + 1) as u64));
        refused(running, region);
        stale.push(region);
    }
}

#[test]
fn name_of_a_region_that_is_gone_is_refused() {
    stale_names_are_refused(&Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]), 10);
}

/// The serial numbers of regions wrap, and none of them is 0.
#[test]
fn names_go_on_when_serial_numbers_wrap() {
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    running.pager.0.serials.set_last(Serials::LAST - 3);
    stale_names_are_refused(&running, 10);
}

#[test]
fn number_that_was_never_a_name_is_refused() {
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    let memory = Memory::new(PAGES);
    let region = running.add(&memory);
    let others = (0..64).map(|bit| region.number() ^ 1 << bit).chain([0, u64::MAX]);
    others.for_each(|number| refused(&running, RegionId::of_number(number)));
    running.remove(region);
}
