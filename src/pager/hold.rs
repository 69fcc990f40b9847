//! Holding parts of regions. Held pages stay in their places, for the system to read and write, until they are
//! released.

use super::core::Core;
use super::extents::{Extent, NO_REGION, whole_pages};
use super::fault::{FaultOutcome, Want};
use super::page::PageClaim;
use super::region::Serials;
use super::state::{MAX_HOLDS, PageKind};
use crate::error::{Error, Limit, Result};
use crate::sync::Wait;
use crate::units::PAGE;

/// The most holds of a page. A state word has room for more: several threads may each find the page below this, and add
/// a hold at once.
pub(crate) const MOST_HOLDS: u32 = MAX_HOLDS - 0xffff;
/// How often pages are made writable if the system refuses: for some milliseconds.
const PROTECT_TRIES: u32 = 20;

impl Core {
    /// Returns the whole pages of a range, if all of them are in regions.
    pub(super) fn check_range(&self, at: usize, bytes: usize) -> Result<(usize, usize)> {
        let (start, end) = whole_pages(at, bytes)?;
        if self.covers(start, end) { Ok((start, end)) } else { Err(NO_REGION) }
    }

    /// Whether regions have all of a range.
    fn covers(&self, start: usize, end: usize) -> bool {
        self.extents.cover(start, end) || {
            // The owner of a range that moves goes on once the event was read. It may come here before the event takes
            // effect, which happens before the reading thread lets go of the lock of events.
            self.read_events();
            self.extents.cover(start, end)
        }
    }

    /// Brings a range to memory, and keeps it there.
    pub fn hold(&self, at: usize, bytes: usize) -> Result<()> {
        const HELD: Error = Error::Limit(Limit::Held);
        let (start, end) = self.check_range(at, bytes)?;
        for at in (start..end).step_by(PAGE) {
            let held = match self.holds_of(at) {
                0 if self.may_hold_no_more() => Err(HELD),
                MOST_HOLDS.. => Err(HELD),
                0 => {
                    self.isolate(at);
                    self.hold_page(at)
                }
                _ => self.hold_page(at),
            };
            if let Err(error) = held {
                self.release_range(start, at, Serials::LAST);
                return Err(error);
            }
        }
        self.unprotect_held(start, end);
        self.keep_mapped(start, end);
        Ok(())
    }

    /// Lifts the write protection of pages that were held just now.
    fn unprotect_held(&self, start: usize, end: usize) {
        // An eviction that picked before these pages were held may still protect them. A later one sees that they are
        // held.
        self.hand.wait_for_lanes();
        let mut wait = Wait::default();
        for _ in 0..PROTECT_TRIES {
            let refused = |part: Extent| self.uffd.protect(part.start, part.end - part.start, false).is_err();
            if !self.extents.within(start, end).any(refused) {
                break;
            }
            // An event has to be read first, or the range is not what it was. If this does not help, a system call
            // finds the page protected.
            self.read_events();
            wait.a_moment();
        }
    }

    /// Whether as many pages are held as may be. Pages that were unmapped are still counted until they are dropped.
    fn may_hold_no_more(&self) -> bool {
        if self.holds.is_full() {
            self.do_all_work();
        }
        self.holds.is_full()
    }

    /// How often the page of an address is held.
    fn holds_of(&self, at: usize) -> u32 {
        if let Some(PageKind::Resident(holds)) = self.kind_at(at) { holds } else { 0 }
    }

    fn hold_page(&self, at: usize) -> Result<()> {
        match self.serve(at, Want::of_call(true)) {
            FaultOutcome::Done => Ok(()),
            FaultOutcome::Unknown => Err(NO_REGION),
            FaultOutcome::Failed(error) => Err(error),
        }
    }

    /// Adds a hold of a page that this thread has claimed and put in place.
    pub(super) fn hold_claimed(&self, claim: &mut PageClaim<'_>) {
        let PageKind::Resident(holds) = claim.becomes().kind() else { return };
        let state = self.immovable.unmarked(claim.becomes());
        if holds == 0 {
            self.holds.add_one();
        }
        claim.set(state.with_holds((holds + 1).min(MAX_HOLDS)));
    }

    /// Ends one hold of each page of the range that is still in a region. Parts may have been unmapped, or their region
    /// removed.
    pub fn release(&self, at: usize, bytes: usize, last: u64) -> Result<()> {
        let (start, end) = whole_pages(at, bytes)?;
        let all = self.covers(start, end);
        // What the system writes to a page that was discarded while it was held stays. So a discard that is under way
        // must still find the page held.
        self.wait_for_discards(start, end);
        self.release_range(start, end, last);
        if all { Ok(()) } else { Err(NO_REGION) }
    }

    fn release_range(&self, start: usize, end: usize, last: u64) {
        let mut at = start;
        loop {
            let version = self.extents.version();
            let Some(part) = self.extents.within(at, end).next() else { return };
            if self.release_part(&part, version, last) {
                at = part.end;
            }
        }
    }

    /// Ends a hold of each page of a part that was found in the table of extents at `version`, unless its region was
    /// added after the one with the serial number `last`: the hold is not of that region. Returns false if the
    /// table has changed since: the part may be of a region that is gone, and whose place another one has.
    pub(crate) fn release_part(&self, part: &Extent, version: u64, last: u64) -> bool {
        let region = self.places[part.region].enter();
        // The parts of a region leave the table before the region leaves its place. So it stays while this thread is in
        // it.
        if self.extents.version() != version {
            return false;
        }
        let Some(region) = region.filter(|region| region.serial <= last) else { return true };
        for at in (part.start..part.end).step_by(PAGE) {
            let mut claim = region.page(part.page_at(at)).claim();
            let PageKind::Resident(holds @ 1..) = claim.was().kind() else { continue };
            claim.set(claim.was().with_holds(holds - 1));
            if holds == 1 {
                self.holds.remove_one();
            }
        }
        true
    }
}
