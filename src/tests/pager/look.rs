//! Checks that a pager's accounts agree with its state words, and these with the system.

use super::Running;
use crate::os::{Os, injected::Faults};
use crate::pager::core::Core;
use crate::pager::state::{KeptCopy, PageKind, PageState};
use crate::pager::{Duty, Pager, PagerOptions};
use crate::units::PAGE;
use std::sync::Arc;
use std::time::Duration;

/// A pager whose system calls can be made to fail.
pub fn with_faults(options: &PagerOptions, duties: &[Duty]) -> (Arc<Faults>, Running) {
    let faults = Arc::<Faults>::default();
    let pager = Pager::with_os(Os { faults: Some(faults.clone()) }, "test", options).unwrap();
    (faults, Running::of(pager, duties))
}

/// The state word of the page at an address.
pub fn word_at(running: &Running, at: *const u8) -> PageState {
    let core = &running.pager.0;
    let extent = core.extents.find(at as usize).unwrap();
    core.places[extent.region].enter().unwrap().page(extent.page_at(at as usize)).peek()
}

/// What the state word says of the page at an address.
pub fn kind_at(running: &Running, at: *const u8) -> PageKind {
    word_at(running, at).kind()
}

/// How many pages are where.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counted {
    resident: u64,
    staged: u64,
    held: u64,
    immovable: u64,
    copies: u64,
    stored: u64,
    /// Pages that are resident by their words and missing, or the other way round.
    misplaced: u64,
    busy: u64,
}

fn count(core: &Core) -> Counted {
    let mut counted = Counted::default();
    for extent in core.extents.within(0, usize::MAX) {
        let region = core.places[extent.region].enter().unwrap();
        let mut present = vec![0; (extent.end - extent.start) / PAGE];
        Os::default().in_memory(extent.start, &mut present).unwrap();
        for (number, present) in present.iter().enumerate() {
            let state = region.page(extent.first + number as u64).peek();
            let mut is_here = present & 1 == 1;
            match state.kind() {
                PageKind::Resident(holds) => {
                    counted.resident += 1;
                    counted.held += u64::from(holds > 0);
                    counted.immovable += u64::from(state.is_immovable());
                    is_here = !is_here;
                }
                PageKind::Staged(_) => counted.staged += 1,
                PageKind::Stored => counted.stored += 1,
                PageKind::Busy => counted.busy += 1,
                PageKind::Empty => {}
                PageKind::Poisoned => is_here = false,
            }
            counted.misplaced += u64::from(is_here);
            let may = matches!(state.kind(), PageKind::Resident(_) | PageKind::Staged(_));
            counted.copies += u64::from(may && state.copy() != KeptCopy::No);
        }
    }
    counted
}

fn staged_in_memory(core: &Core) -> u64 {
    let (start, bytes) = core.staging.range();
    let mut present = vec![0; bytes / PAGE];
    Os::default().in_memory(start, &mut present).unwrap();
    present.iter().filter(|&&seen| seen & 1 == 1).count() as u64
}

fn difference(core: &Core, misplaced: u64) -> Option<String> {
    core.read_events();
    let counted = count(core);
    let in_zswap: u64 = (core.places.iter().filter_map(|place| place.enter()))
        .map(|region| region.area.stats().unwrap().counts.pages())
        .sum();
    let told = Counted {
        resident: core.account.resident().wrapping_sub(core.staging.pages()),
        staged: core.staging.pages(),
        held: core.holds.pages(),
        immovable: core.immovable.pages(),
        copies: core.kept.pages(),
        // A poisoned page may still have its damaged copy.
        stored: in_zswap.wrapping_sub(core.kept.pages()).min(counted.stored),
        misplaced: counted.misplaced.min(misplaced),
        busy: 0,
    };
    let staged = staged_in_memory(core);
    (counted != told || staged != told.staged)
        .then(|| format!("words: {counted:?}, accounts: {told:?}, zswap: {in_zswap}, staged in memory: {staged}"))
}

/// Checks that all accounts are right. Lent threads may be at work, so this waits for a while.
#[track_caller]
pub fn consistent(running: &Running) {
    consistent_but(running, 0);
}

/// Checks that all accounts are right, except that `misplaced` pages may be missing and resident by their words: pages
/// that their owner gave back while they were held, for example.
#[track_caller]
pub fn consistent_but(running: &Running, misplaced: u64) {
    let mut difference_now = None;
    for _ in 0..400 {
        difference_now = difference(&running.pager.0, misplaced);
        if difference_now.is_none() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{}", difference_now.unwrap());
}

/// Checks that nothing is in memory any more, once lent threads have finished what they are doing.
#[track_caller]
pub fn nothing_resident(running: &Running) {
    let resident = || running.pager.stats().resident_bytes;
    for _ in 0..400 {
        if resident() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(resident(), 0);
}
