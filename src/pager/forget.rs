//! Dropping copies from zswap: of pages that are in memory, where a copy is kept while it is clean and the pool has
//! room, and of pages that are discarded.

use super::core::Core;
use super::page::PageClaim;
use super::region::RegionState;
use super::state::{KeptCopy, PageKind, PageState};
use crate::units::PAGE;
use crate::zswap::Patience;

/// State words that one search looks at, at most.
pub(super) const LOOKS: u64 = 64 << 10;

impl Core {
    /// Removes a page's copy from zswap, if there is one.
    pub(super) fn forget(&self, region: &RegionState, page: u64) {
        // No claim of a pager has to be waited for. To ask whether this thread may wait would look at a thread-local
        // variable, which allocates the first time in a library that was loaded by dlopen.
        let gone = region.area.invalidate(page, 1, Patience::NoWait);
        debug_assert!(gone.is_ok());
    }

    /// Drops the kept copy of a claimed page, if its state `was` says that there is one. The caller changes the state.
    pub(super) fn drop_copy(&self, region: &RegionState, page: u64, was: PageState) {
        if was.copy() != KeptCopy::No {
            self.forget(region, page);
            self.kept.remove(1);
        }
    }

    /// Removes whatever copy there is of a claimed page, and changes its state to have none.
    pub(super) fn forget_copy(&self, region: &RegionState, page: u64, claim: &mut PageClaim<'_>) {
        self.forget(region, page);
        self.kept.remove(u64::from(claim.was().copy() != KeptCopy::No));
        claim.set(claim.was().with_copy(KeptCopy::No));
    }

    /// Drops up to `most` stale copies of resident pages, as far as the search for them is paid for: see
    /// [`KeptCopies::allow_looks`]. Returns how many went.
    pub fn drop_stale_copies(&self, most: u64) -> u64 {
        let looks = self.kept.take_looks(LOOKS);
        if looks == 0 {
            return 0;
        }
        let (gone, looked) = self.search_copies(most, looks, false);
        self.kept.allow_looks(looks - looked);
        gone
    }

    /// Drops up to `most` kept copies of resident pages, stale ones and others. Returns how many went.
    pub(super) fn drop_kept_copies(&self, most: u64) -> u64 {
        self.search_copies(most, LOOKS, true).0
    }

    /// Drops up to `most` kept copies of resident pages: the stale ones, and with `clean_too` any. Goes on where the
    /// last search ended, and looks at `looks` state words at most. Returns how many went, and how many it looked at.
    fn search_copies(&self, most: u64, looks: u64, clean_too: bool) -> (u64, u64) {
        let (mut gone, mut looked, mut wrapped) = (0, 0, false);
        if self.kept.pages() == 0 {
            return (gone, looked);
        }
        let mut at = self.kept.hand();
        while gone < most && looked < looks {
            let Some(extent) = self.extents.next(at) else {
                if std::mem::replace(&mut wrapped, true) {
                    break;
                }
                at = 0;
                continue;
            };
            at = at.max(extent.start);
            let Some(region) = self.places[extent.region].enter() else {
                at = extent.end;
                continue;
            };
            // Another region, and a smaller one, may have the place by now.
            let ours = |at: usize| at < extent.end && extent.page_at(at) < region.pages();
            if !ours(at) {
                at = extent.end;
                continue;
            }
            while ours(at) && gone < most && looked < looks {
                gone += u64::from(self.drop_kept_copy(&region, extent.page_at(at), clean_too));
                at += PAGE;
                looked += 1;
            }
        }
        self.kept.set_hand(at);
        (gone, looked)
    }

    /// Drops the kept copy of a resident page if nobody has the page claimed. Returns whether it did.
    fn drop_kept_copy(&self, region: &RegionState, page: u64, clean_too: bool) -> bool {
        let word = region.page(page);
        let seen = word.peek();
        let wanted = match seen.copy() {
            KeptCopy::No => false,
            KeptCopy::Stale => true,
            KeptCopy::Clean => clean_too,
        };
        if !wanted || !matches!(seen.kind(), PageKind::Resident(_)) {
            return false;
        }
        let Some(mut claim) = word.try_claim(seen) else { return false };
        self.drop_copy(region, page, seen);
        // The page may still be write-protected; the first write lifts that.
        claim.set(seen.with_copy(KeptCopy::No));
        true
    }
}
