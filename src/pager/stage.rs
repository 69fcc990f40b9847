//! Eviction by moving: pages that the hand picked go to the staging range.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::hand_turn::HandTurn;
use super::immovable::{Effort, is_lasting};
use super::options::FaultMode;
use super::picks::Picks;
use super::staging::PageId;
use super::state::{KeptCopy, MAX_AGE, PageState};
use crate::os::{Advice, Errno, errno};
use crate::units::PAGE;

/// Bytes that are taken from KSM together: some 1 ms if all of them were merged.
const UNMERGED: usize = 2 << 20;

impl Core {
    /// Moves picked pages to a block of the staging range.
    pub(super) fn stage(&self, extent: &Extent, picks: &mut Picks<'_>, effort: &mut Effort) -> HandTurn {
        let Some(mut block) = self.staging.take_free() else { return HandTurn { busy: true, ..HandTurn::default() } };
        let mut turn = HandTurn::default();
        let (mut first, mut made_movable) = (0, 0);
        while first < picks.count {
            let end = picks.run(first);
            let slot = block.slot(block.filled);
            (first..end).for_each(|pick| {
                let id = PageId { region: extent.region, page: picks.page(pick) };
                self.staging.note(block.slot(block.filled + pick - first), id);
            });
            // If the gate is closed, the claims that are left end as they were.
            let Some(inside) = self.enter(picks.version, picks.at[first], picks.at[end - 1] + PAGE) else {
                turn.busy = true;
                break;
            };
            // SAFETY: the pages are claimed, and the block is this thread's.
            let mut moved = unsafe { self.staging.move_in(slot, picks.at[first], end - first) };
            if moved.bytes == 0 && end - first > 1 {
                // They may be of two mappings, which one call does not take.
                // SAFETY: the page is claimed, and the block is this thread's.
                moved = unsafe { self.staging.move_in(slot, picks.at[first], 1) };
            }
            let done = moved.bytes / PAGE;
            self.staging.came(done as u64);
            for pick in first..first + done {
                if picks.is_retried(pick) {
                    self.immovable.retry_at_once();
                }
                let slot = block.slot(block.filled + pick - first);
                picks.end(pick, PageState::staged(slot, picks.was(pick)));
            }
            block.filled += done;
            turn.staged += done as u64;
            first += done;
            if let Some(Errno(refused)) = moved.stopped
                && done == 0
            {
                let was = picks.was(first);
                let again = refused == errno::EBUSY && made_movable <= first;
                made_movable = first + 1;
                if !(again && self.make_movable(extent, picks.at[first], was)) {
                    turn.marked += self.not_moved(picks, first, refused, effort);
                    first += 1;
                }
            }
            drop(inside);
        }
        add(&self.counters.staged, turn.staged);
        self.staging.queue(block);
        turn
    }

    /// Ends the claim of a page that the system did not move. It is pinned, locked, about to change, or moved away by
    /// its owner: the event of that was not read, and will not be while the caller is inside the gate. The hand passes
    /// the page by for a while. Returns how many pages were marked as immovable.
    fn not_moved(&self, picks: &mut Picks<'_>, pick: usize, refused: i32, effort: &mut Effort) -> u64 {
        if refused == errno::ENOENT {
            // The owner may have given the page back just before it was touched last. Then it reads as zero, and gets a
            // page of zeros here. If the owner moved it, this call is refused.
            let _ = self.uffd.zero(picks.at[pick], PAGE);
        }
        let (stays, retried) = (picks.was(pick).with_age(MAX_AGE), picks.is_retried(pick));
        let lasting = is_lasting(refused);
        picks.end(pick, if lasting { self.immovable.marked(stays) } else { stays });
        if lasting {
            effort.fail(false, retried);
        }
        add(&self.counters.pinned, u64::from(![errno::EAGAIN, errno::ENOENT].contains(&refused)));
        u64::from(lasting)
    }

    /// Makes a page movable that the system would not move because it is shared: merged by KSM, or with a forked child.
    /// Returns false if nothing can be done about it.
    #[cold]
    fn make_movable(&self, extent: &Extent, at: usize, was: PageState) -> bool {
        // The range stays unmergeable. Merging does not pay: each merged page counts for a whole one against the limit.
        let start = (at / UNMERGED * UNMERGED).max(extent.start);
        let end = ((at / UNMERGED + 1) * UNMERGED).min(extent.end);
        let _ = self.os.advise(start as *mut u8, end - start, Advice::Unmergeable);
        if was.copy() == KeptCopy::Clean || self.mode != FaultMode::Sigbus {
            // The next call would fault because of the protection. Or, if the page went missing, it would wait for a
            // lent thread, which waits for this thread's claim.
            return true;
        }
        // Pages that are shared with a forked child.
        self.os.advise(at as *mut u8, PAGE, Advice::Unshare).is_ok()
    }
}
