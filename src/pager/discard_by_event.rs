//! Discarding pages that their owner gave back or unmapped, and of which the system told by an event.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::file_pages::Punched;
use super::page::PageClaim;
use super::region::RegionState;
use super::state::{KeptCopy, MAX_AGE, PageKind, PageState};
use crate::units::PAGE;

impl Core {
    /// Discards the pages of an extent: they read as zero from now on.
    pub fn discard_part(&self, part: &Extent) {
        if let Some(region) = self.places[part.region].enter() {
            for at in (part.start..part.end).step_by(PAGE) {
                self.discard_page(&region, part.page_at(at), at);
            }
        }
    }

    /// Discards one page, whose owner gave it back.
    fn discard_page(&self, region: &RegionState, page: u64, at: usize) {
        if region.page(page).peek() == PageState::EMPTY {
            return;
        }
        let mut claim = region.page(page).claim();
        self.discard_claimed_page(region, page, at, &mut claim);
    }

    /// Discards a page that this thread has claimed. Overwrites a held page with zeros first.
    pub(super) fn discard_claimed_page(&self, region: &RegionState, page: u64, at: usize, claim: &mut PageClaim<'_>) {
        if matches!(claim.was().kind(), PageKind::Resident(1..)) {
            // The system takes the page out of its place a little later, and leaves it in a memory file. The page may
            // be released and evicted before that, and must not come back as it was.
            let _ = self.write_zeros(region, page, at);
        }
        self.discard_claimed(region, page, at, claim);
    }

    /// Discards a page that this thread has claimed, and whose bytes need not be overwritten. A held page keeps its
    /// place; a poisoned page of a memory file stays poisoned.
    pub(super) fn discard_claimed(&self, region: &RegionState, page: u64, at: usize, claim: &mut PageClaim<'_>) {
        let was = claim.was();
        match was.kind() {
            // The page is missing in a moment. The next touch decides what it reads as.
            PageKind::Resident(1..) => {
                self.drop_copy(region, page, was);
                claim.set(was.with_copy(KeptCopy::No));
                return;
            }
            PageKind::Resident(_) => {
                // The event does not tell a hole in a memory file from a discard, which would leave the page in the
                // file for now. The page must be gone before an eviction could store it.
                let punched = match region.is_private() {
                    true => Ok(Punched::Gone),
                    false => self.discard_from_file(region, page, at),
                };
                let Ok(punched) = punched else { return };
                self.drop_copy(region, page, was);
                if punched == Punched::Stays {
                    claim.set(self.immovable.marked(was.with_copy(KeptCopy::No).with_age(MAX_AGE)));
                    return;
                }
                self.immovable.unmarked(was);
                self.account.uncharge(1);
            }
            PageKind::Staged(slot) => {
                self.drop_copy(region, page, was);
                self.unstage(slot, claim);
            }
            PageKind::Stored => self.forget(region, page),
            // The system drops the mark of a damaged private page together with the memory.
            PageKind::Poisoned if region.is_private() => self.forget(region, page),
            PageKind::Empty | PageKind::Busy | PageKind::Poisoned => return,
        }
        claim.set(PageState::EMPTY);
        add(&self.counters.discarded, 1);
    }

    /// Drops a page whose addresses are gone.
    pub(super) fn drop_page(&self, region: &RegionState, page: u64) {
        if region.page(page).peek() == PageState::EMPTY {
            return;
        }
        let mut claim = region.page(page).claim();
        let was = claim.was();
        match was.kind() {
            PageKind::Resident(holds) => {
                self.drop_copy(region, page, was);
                self.immovable.unmarked(was);
                self.account.uncharge(1);
                if holds > 0 {
                    self.holds.remove_one();
                }
            }
            PageKind::Staged(slot) => {
                self.drop_copy(region, page, was);
                self.unstage(slot, &claim);
            }
            PageKind::Stored => self.forget(region, page),
            PageKind::Empty | PageKind::Busy | PageKind::Poisoned => {}
        }
        claim.set(PageState::EMPTY);
        add(&self.counters.discarded, 1);
    }

    /// Gives back the memory of a staged page that this thread has claimed and that nobody needs. If the system does
    /// not take it, the page stays charged until its block is drained.
    fn unstage(&self, slot: u32, claim: &PageClaim<'_>) {
        self.staging.went(1);
        if self.staging.empty(slot, claim) {
            self.account.uncharge(1);
        }
    }
}
