//! Compressing what waits in the staging range, oldest first.

use super::core::Core;
use super::counts::add;
use super::evict::Evicted;
use super::page::PageClaim;
use super::staging::{Block, PageId};
use super::state::{KeptCopy, MAX_AGE, PageKind, PageState};
use super::store::NoRoom;
use crate::os;
use crate::units::PAGE;

/// What became of a staged page.
enum Compressed {
    /// It is in zswap.
    Yes,
    /// It left the staging range, because it was touched or discarded.
    Gone,
    /// It was discarded, and its memory stayed in the slot and on the account.
    Left,
    /// There is no room for it.
    Refused(NoRoom),
}

impl Core {
    /// Compresses the pages that were staged longest, up to `pages`.
    pub(super) fn drain(&self, pages: u64) -> Evicted {
        let Some(mut block) = self.staging.take_oldest() else {
            return if self.staging.is_in_use() { Evicted::Busy } else { Evicted::None };
        };
        let mut stored = 0;
        let mut refused = None;
        while block.next < block.filled && stored < pages {
            if block.next + 1 < block.filled {
                // The next page arrives while this one is compressed.
                os::prefetch_bytes(self.staging.address(block.slot(block.next + 1)) as *const u8, PAGE);
            }
            match self.compress(block.slot(block.next)) {
                Compressed::Yes | Compressed::Left => stored += 1,
                Compressed::Gone => {}
                Compressed::Refused(which) => {
                    refused = Some(which);
                    break;
                }
            }
            block.next += 1;
        }
        block.owed += stored;
        let gone = self.empty_slots(&mut block);
        // A page without room in its own area must not keep the pages of other areas from leaving.
        self.staging.put_back(block, refused == Some(NoRoom::Area));
        match refused {
            Some(NoRoom::Pool) if gone == 0 => Evicted::Full,
            Some(NoRoom::Area) if gone == 0 => Evicted::Busy,
            _ => Evicted::Pages(gone),
        }
    }

    /// Gives the memory of the slots that a block was drained of back to the system. Returns how many pages left memory
    /// with that.
    fn empty_slots(&self, block: &mut Block) -> u64 {
        if block.given == block.next {
            return 0;
        }
        // SAFETY: no state word names these slots: their pages are stored, or were moved back.
        let given = unsafe { self.staging.give_back(block.slot(block.given), block.next - block.given) };
        if given.is_err() {
            // The pages stay charged. The next thread that drains the block tries again.
            return 0;
        }
        let gone = std::mem::take(&mut block.owed);
        block.given = block.next;
        self.account.uncharge(gone);
        gone
    }

    /// Compresses the page that was moved to a slot, if it still is there.
    fn compress(&self, slot: u32) -> Compressed {
        let gone = || if self.staging.was_left(slot) { Compressed::Left } else { Compressed::Gone };
        let Some(id) = self.staging.owner(slot) else { return Compressed::Left };
        let Some(region) = self.places[id.region].enter() else { return gone() };
        if id.page >= region.pages() {
            return gone();
        }
        // A thread that has the page claimed may still need the slot, and may fail and leave the page there.
        let claim = region.page(id.page).claim_if(|state| state.kind() == PageKind::Staged(slot));
        let Some(mut claim) = claim else { return gone() };
        let seen = claim.was();
        if seen.copy() == KeptCopy::Clean {
            add(&self.counters.dropped, 1);
        // SAFETY: the claim keeps the page in its slot.
        } else if let Err(refused) = unsafe { self.store(&region, id.page, self.staging.address(slot) as *const u8) } {
            // The attempt removed the copy that was there before.
            self.kept.remove(u64::from(seen.copy() != KeptCopy::No));
            claim.set(seen.with_copy(KeptCopy::No));
            if refused == NoRoom::Area && self.put_in_place(id, &mut claim, slot) {
                return Compressed::Gone;
            }
            return Compressed::Refused(refused);
        }
        self.kept.remove(u64::from(seen.copy() != KeptCopy::No));
        claim.set(self.stored(seen));
        self.staging.went(1);
        Compressed::Yes
    }

    /// Moves a staged page back to its place because its region is full by its own limit: in the staging range it would
    /// keep others out. Returns false if it can't be moved now.
    #[cold]
    fn put_in_place(&self, id: PageId, claim: &mut PageClaim<'_>, slot: u32) -> bool {
        let version = self.extents.version();
        let Some(at) = self.extents.address_of(id.region, id.page) else { return false };
        let Some(_inside) = self.enter(version, at, at + PAGE) else { return false };
        let moved = self.staging.move_out(slot, &self.uffd, at, claim);
        if moved.stopped.is_none() {
            claim.set(PageState::resident(MAX_AGE));
            self.staging.went(1);
        }
        moved.stopped.is_none()
    }
}
