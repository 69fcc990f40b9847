//! The clock hand of an area: finds pages that were not used lately, and claims them for writeback.
//!
//! The hand sweeps the page words in the order of offsets. It clears REFERENCED and passes by the pages that had it,
//! and claims those that had not. It needs no list of pages and no lock.
//!
//! A sweep that takes only some of the pages, such as old ones, has a hand of its own. It leaves the others alone.

use super::area::AreaState;
use super::codec::Target;
use super::page::KeptAs;
use super::pool_objects::{self, PinnedObject};
use super::running_calls::RunningCall;
use super::shrink_options::{Choice, Quota, ShrinkDone};
use super::word::{PageWord, WordKind};
use super::writeback_refusal::Refusal;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::units::PAGE;

/// What a shrink of an area wrote back, and how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shrunk {
    /// As much went as was asked for. More may go.
    MoreLeft(ShrinkDone),
    /// No more pages can go now.
    Ended(ShrinkDone),
}

impl Shrunk {
    /// Returns what went.
    pub fn done(self) -> ShrinkDone {
        match self {
            Self::MoreLeft(done) | Self::Ended(done) => done,
        }
    }
}

/// A page that is claimed for writeback, and pinned. Dropping it ends the claim and keeps the page.
pub struct ClaimedPage<'a> {
    area: &'a AreaState,
    offset: u64,
    /// The word as it was claimed.
    word: PageWord,
    /// Bytes of the page's slot.
    bytes: u32,
}

impl<'a> ClaimedPage<'a> {
    /// Returns which page it is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the bytes of the page's slot.
    pub fn slot_bytes(&self) -> u32 {
        self.bytes
    }

    /// Leaves the page claimed and pinned. Returns its word, from which [`ClaimedPage::resume`] makes it again.
    pub fn into_word(self) -> PageWord {
        let word = self.word;
        std::mem::forget(self);
        word
    }

    /// Makes the claimed page from what [`ClaimedPage::into_word`] returned. Call it once for each.
    pub fn resume(area: &'a AreaState, offset: u64, word: PageWord, bytes: u32) -> Self {
        Self { area, offset, word, bytes }
    }

    /// Returns the pin as a value that unpins when it is dropped. The claim goes on until the caller ends it.
    fn pin(&self) -> Option<pool_objects::Pin<'a>> {
        match self.word.kind() {
            WordKind::Stored(handle) => Some(pool_objects::resume_pin(&self.area.shared.pool, handle)),
            _ => None,
        }
    }

    /// Ends the claim of a page that was written: `to` takes its place, unless the page was used or replaced meanwhile.
    /// Returns whether it went.
    pub fn written(self, call: &RunningCall<'_>, to: PageWord) -> bool {
        let _pin = self.pin();
        let (area, offset) = (self.area, self.offset);
        let word = self.into_word();
        let mut shard = call.lock();
        let done = area.page(offset).acknowledge(word, to);
        let counts = &mut shard.counts;
        match done {
            Ok(()) => {
                counts.went(word);
                counts.came(to);
                counts.written_back += 1;
            }
            Err(KeptAs::Replaced) => counts.overtaken += 1,
            Err(KeptAs::Rescued | KeptAs::Same) => counts.rescued += 1,
        }
        drop(shard);
        if done.is_ok() {
            area.discard(word);
        }
        done.is_ok()
    }

    /// Ends the claim of a page that was not written, and keeps the page.
    pub fn refused(self, call: &RunningCall<'_>, refusal: Refusal) {
        if refusal == Refusal::Exists {
            self.area.page(self.offset).reference(self.word);
        }
        drop(self);
        call.count(|counts| refusal.count(counts));
    }
}

impl Drop for ClaimedPage<'_> {
    fn drop(&mut self) {
        let _pin = self.pin();
        self.area.page(self.offset).end(self.word);
    }
}

/// One sweep of an area's clock hand, of at most two rounds: the first clears REFERENCED, so that the second finds
/// pages that were not used since. A sweep that gives no second chances has one round.
pub struct Sweep<'a> {
    area: &'a AreaState,
    hand: &'a AtomicU64,
    choice: Choice,
    at: u64,
    /// Pages that are still to be passed by.
    left: u64,
    /// What the pages may take that are claimed next, and what they have taken since that was set.
    quota: Quota,
    taken: ShrinkDone,
    own: bool,
}

impl<'a> Sweep<'a> {
    /// Begins where the hand stands. `own`: pages go to places on disk that only their claims write.
    pub fn new(area: &'a AreaState, choice: Choice, own: bool) -> Self {
        let (hand, rounds) = if choice.gives_second_chances() { (&area.hand, 2) } else { (&area.picking_hand, 1) };
        let (at, left) = (hand.load(Relaxed), area.index.pages() * rounds);
        Self { area, hand, choice, at, left, quota: Quota::ALL, taken: ShrinkDone::default(), own }
    }

    /// Sets what the pages may take that are claimed from now on.
    pub fn set_quota(&mut self, quota: Quota) {
        (self.quota, self.taken) = (quota, ShrinkDone::default());
    }

    /// Claims the next page and decodes it into `page`. Passes by pages that can't be decoded.
    pub fn next(&mut self, call: &RunningCall<'_>, page: &mut [u8; PAGE], target: Target) -> Option<ClaimedPage<'a>> {
        let area = self.area;
        self.next_with(|offset, pinned| {
            let decoded = area.decode(offset, pinned, page, target);
            decoded.inspect_err(|_| call.count(|counts| counts.decode_failures += 1)).is_ok()
        })
    }

    /// Claims the next page that `read` accepts, which is called with its offset and its object before the claim.
    pub fn next_with(&mut self, mut read: impl FnMut(u64, &PinnedObject<'_>) -> bool) -> Option<ClaimedPage<'a>> {
        while !self.quota.after(self.taken).is_spent()
            && let Some((offset, seen)) = self.advance()
        {
            match self.try_claim(offset, seen, |pinned| read(offset, pinned)) {
                ClaimTry::Claimed(claimed) => {
                    self.taken.count(claimed.bytes);
                    return Some(claimed);
                }
                ClaimTry::TooLarge if self.quota.after(self.taken).ends_at_misfits() => return None,
                ClaimTry::TooLarge | ClaimTry::PassedBy => {}
            }
        }
        None
    }

    /// Moves the hand past the next page that is in the pool and is not being written back. Returns its offset and
    /// word.
    fn advance(&mut self) -> Option<(u64, PageWord)> {
        let pages = self.area.index.pages();
        while self.left > 0 {
            let found = self.area.index.next_used(self.at, pages);
            let next = found.map_or(pages, |(offset, _)| offset + 1);
            self.left = self.left.saturating_sub((next - self.at).max(1));
            self.at = if next == pages { 0 } else { next };
            self.hand.store(self.at, Relaxed);
            if let Some((offset, word)) = found
                && matches!(word.kind(), WordKind::Stored(_))
                && !word.has_writeback()
            {
                return Some((offset, word));
            }
        }
        None
    }

    /// Reads and claims a page, if it is one to take.
    fn try_claim(&self, offset: u64, seen: PageWord, read: impl FnOnce(&PinnedObject<'_>) -> bool) -> ClaimTry<'a> {
        let (area, page, choice) = (self.area, self.area.page(offset), self.choice);
        if !choice.takes(seen) {
            if choice.gives_second_chances() {
                page.exchange_relaxed(seen, seen.with_second_chance());
            }
            return ClaimTry::PassedBy;
        }
        let (shared, left) = (&area.shared, self.quota.after(self.taken).bytes);
        let mut is_too_large = false;
        // The page may have been used or replaced since `seen`.
        let claimed = page.find_and_claim(&shared.pool, shared.next_claim(), self.own, |word, pinned| {
            is_too_large = choice.takes(word) && pinned.slot().len() as u64 > left;
            choice.takes(word) && !is_too_large && read(pinned)
        });
        let Some((word, pinned)) = claimed else {
            return if is_too_large { ClaimTry::TooLarge } else { ClaimTry::PassedBy };
        };
        let bytes = pinned.slot().len() as u32;
        pinned.leave_pinned();
        ClaimTry::Claimed(ClaimedPage { area, offset, word, bytes })
    }
}

/// What became of the try to claim a page.
enum ClaimTry<'a> {
    Claimed(ClaimedPage<'a>),
    /// Its slot has more bytes than may be taken.
    TooLarge,
    PassedBy,
}
