//! Writeback by the caller: it takes claims, writes the pages where and when it likes, and ends the claims.

use super::area::{Area, AreaState};
use super::claims::{Claim, ClaimRecord};
use super::codec::Target;
use super::running_calls::RunningCall;
use super::sweep::{ClaimedPage, Sweep};
use super::word::PageWord;
use super::writeback_refusal::Refusal;
use crate::error::{Error, Result};
use crate::os;
use crate::units::PAGE;

impl Area {
    /// Claims pages that were not used lately, up to as many as `claims` and `pages` have room for, and decodes them
    /// into `pages`. Returns how many it claimed, which may be fewer, and none.
    ///
    /// The caller writes each page where it keeps pages, and then ends its claim with [`Area::end_writeback`], in any
    /// order and from any thread. Until then the page stays stored and can be loaded, and a thread that removes it
    /// waits.
    ///
    /// Each page is decoded before it is claimed. Where the memory of `pages` is missing, the thread that brings it may
    /// remove any page but those that this call has claimed before: it would wait for this thread, which waits for it.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many claims are held as there is room for. [`Error::Invalid`] if the area was removed or
    /// is never written back, [`Error::Forked`] in a child without the pool.
    pub fn begin_writeback(&self, claims: &mut [Claim], pages: &mut [[u8; PAGE]]) -> Result<usize> {
        const NO_ROOM: Error = Error::Busy(&"as many claims are held as there is room for: end some");
        let area = &self.0;
        let call = area.begin()?;
        area.check_writeback()?;
        let mut sweep = Sweep::new(area, false);
        let mut count = 0;
        for (claim, page) in claims.iter_mut().zip(pages) {
            let Some(claimed) = sweep.next(&call, page, Target::Callers) else { break };
            match area.remember(claimed)? {
                Some(kept) => *claim = kept,
                None if count == 0 => return Err(NO_ROOM),
                None => break,
            }
            count += 1;
        }
        Ok(count)
    }

    /// Ends a claim. `Ok` removes the page, which was written, unless it was loaded, stored or removed meanwhile. `Err`
    /// keeps it. Returns whether the page was removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the claim was ended before or is not one of this area; [`Error::Forked`] in a child
    /// without the pool.
    pub fn end_writeback(&self, claim: &Claim, result: Result<(), Refusal>) -> Result<bool> {
        let area = &self.0;
        // Within, because a fork may be waiting for a call that waits for this claim.
        let call = area.begin_within()?;
        let (claimed, _claims_call) = area.recall(area.shared.claims.take(area.id, claim)?);
        match result {
            Ok(()) => Ok(claimed.written(&call, PageWord::EMPTY)),
            Err(refusal) => {
                claimed.refused(&call, refusal);
                Ok(false)
            }
        }
    }
}

impl AreaState {
    /// Puts a claimed page into the table of claims. None if the table is full; the page is kept then.
    fn remember(&self, claimed: ClaimedPage<'_>) -> Result<Option<Claim>> {
        // A claim counts as a running call, so that the area can't be removed under it.
        let call = self.begin_within()?;
        let (area, offset, thread) = (self.id, claimed.offset(), os::this_thread());
        let (word, shard) = (claimed.into_word(), call.into_shard());
        let added = self.shared.claims.add(ClaimRecord { area, offset, word, shard, thread });
        if added.is_none() {
            drop((ClaimedPage::resume(self, offset, word), RunningCall::resume(&self.shards, shard)));
        }
        Ok(added)
    }

    /// Returns the claimed page of a record that was taken out of the table, and the call that the claim counted as.
    fn recall(&self, record: ClaimRecord) -> (ClaimedPage<'_>, RunningCall<'_>) {
        let ClaimRecord { offset, word, shard, .. } = record;
        (ClaimedPage::resume(self, offset, word), RunningCall::resume(&self.shards, shard))
    }

    /// Ends the claims that no thread can end any more, and keeps their pages.
    pub(super) fn end_claims(&self) {
        let mut from = 0;
        while let Some(record) = self.shared.claims.take_next(self.id, &mut from) {
            drop(self.recall(record));
        }
    }
}
