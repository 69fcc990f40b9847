//! Copies that zswap has of pages that are in memory: kept while they are clean and the pool has room, dropped by and
//! by once they are stale.

use super::core::Core;
use super::region::Region;
use super::word::{Copied, Kind, State};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// State words that one search looks at, at most.
const LOOKS: usize = 64 << 10;

impl Core {
    /// Drops the copy of a page that this thread has claimed, if its word, which the caller changes, says that it has
    /// one.
    pub fn drop_copy(&self, region: &Region, page: u64, was: State) {
        if was.copy() != Copied::No {
            self.forget(region, page);
            self.copies_went(1);
        }
    }

    /// Drops copies of resident pages, up to so many: those that are stale, or any. Goes on where the last search
    /// ended. How many went.
    pub fn drop_copies(&self, most: u64, clean_too: bool) -> u64 {
        if self.copies() == 0 {
            return 0;
        }
        let (mut gone, mut looked, mut wrapped) = (0, 0, false);
        let mut at = self.copies_hand.load(Relaxed) as usize;
        while gone < most && looked < LOOKS {
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
            while ours(at) && gone < most && looked < LOOKS {
                gone += u64::from(self.drop_copy_of(&region, extent.page_at(at), clean_too));
                at += PAGE;
                looked += 1;
            }
        }
        self.copies_hand.store(at as u64, Relaxed);
        gone
    }

    fn drop_copy_of(&self, region: &Region, page: u64, clean_too: bool) -> bool {
        let word = region.page(page);
        let seen = word.peek();
        let wanted = match seen.copy() {
            Copied::No => false,
            Copied::Stale => true,
            Copied::Clean => clean_too,
        };
        if !wanted || !matches!(seen.kind(), Kind::Resident(_)) {
            return false;
        }
        let Some(mut claim) = word.try_claim(seen) else { return false };
        self.drop_copy(region, page, seen);
        // It may be protected for nothing from now on: its first write finds that out.
        claim.set(seen.with_copy(Copied::No));
        true
    }
}
