//! Writeback by the caller: it claims pages, writes them where and when it likes, and ends the claims.
//!
//! A claim is a record in the table of claims, which its ticket names. [`super::claiming`] makes a guard of it for
//! Rust, [`super::plumbing`] hands out tickets for C.

use super::area::{Area, AreaState};
use super::area_turn::ClaimTurns;
use super::claims::{ClaimRecord, RawClaim};
use super::codec::Target;
use super::running_calls::RunningCall;
use super::shared::Shared;
use super::shrink_options::Choice;
use super::sweep::{ClaimedPage, Sweep};
use super::word::PageWord;
use super::writeback_refusal::Refusal;
use crate::error::{Error, Result, sentence};
use crate::os;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

const NO_ROOM: Error = Error::Busy(sentence(&"as many claims are held as there is room for: end some"));

impl AreaState {
    /// Claims pages that were not used lately, as many as `pages` has room for, in one sweep. Tells of each claim.
    /// Returns how many it claimed. An error says that none was.
    pub(super) fn claim_some(&self, pages: &mut [[u8; PAGE]], mut claimed: impl FnMut(RawClaim)) -> Result<usize> {
        let call = self.begin()?;
        self.check_writeback()?;
        let mut sweep = Sweep::new(self, Choice::ALL, false);
        let mut count = 0;
        for page in pages {
            let Some(found) = sweep.next(&call, page, Target::Callers) else { break };
            match self.remember(found)? {
                Some(kept) => claimed(kept),
                None if count == 0 => return Err(NO_ROOM),
                None => break,
            }
            count += 1;
        }
        Ok(count)
    }

    /// Ends a claim. `Ok` removes the page, which was written, unless it was loaded, stored or removed meanwhile. `Err`
    /// keeps it. Returns whether the page was removed.
    pub(super) fn end_claim(&self, claim: &RawClaim, result: Result<(), Refusal>) -> Result<bool> {
        // Within, because a fork may be waiting for a call that waits for this claim.
        let call = self.begin_within()?;
        let (claimed, _claims_call) = self.recall(self.shared.claims.take(self.id, claim)?);
        match result {
            Ok(()) => Ok(claimed.written(&call, PageWord::EMPTY)),
            Err(refusal) => {
                claimed.refused(&call, refusal);
                Ok(false)
            }
        }
    }

    /// Puts a claimed page into the table of claims. None if the table is full; the page is kept then.
    fn remember(&self, claimed: ClaimedPage<'_>) -> Result<Option<RawClaim>> {
        // A claim counts as a running call, so that the area can't be removed under it.
        let call = self.begin_within()?;
        let (area, offset, thread) = (self.id, claimed.offset(), os::this_thread());
        let bytes = claimed.slot_bytes();
        let (word, shard) = (claimed.into_word(), call.into_shard());
        let record = ClaimRecord { area, offset, word, shard: shard as u32, bytes, thread };
        let added = self.shared.claims.add(record);
        match added {
            Some(_) => _ = self.claimed_bytes.fetch_add(bytes.into(), Relaxed),
            None => {
                drop((ClaimedPage::resume(self, offset, word, bytes), RunningCall::resume(&self.shards, shard)));
            }
        }
        Ok(added)
    }

    /// Returns the claimed page of a record that was taken out of the table, and the call that the claim counted as.
    fn recall(&self, record: ClaimRecord) -> (ClaimedPage<'_>, RunningCall<'_>) {
        let ClaimRecord { offset, word, shard, bytes, .. } = record;
        self.claimed_bytes.fetch_sub(bytes.into(), Relaxed);
        (ClaimedPage::resume(self, offset, word, bytes), RunningCall::resume(&self.shards, shard as usize))
    }

    /// Ends the claims that no thread can end any more, and keeps their pages.
    pub(super) fn end_claims(&self) {
        let mut from = 0;
        while let Some(record) = self.shared.claims.take_next(self.id, &mut from) {
            drop(self.recall(record));
        }
    }
}

impl Shared {
    /// Claims a page of the area whose turn it is, or of the next area that has one. Returns what `keep` makes of the
    /// claim.
    pub(super) fn claim_of_all<R>(
        &self,
        page: &mut [u8; PAGE],
        keep: impl Fn(&Area, RawClaim) -> R,
    ) -> Result<Option<R>> {
        let _call = self.begin()?;
        for turn in ClaimTurns::new(&self.areas) {
            let area = turn.area();
            if area.0.options.no_writeback {
                continue;
            }
            let mut kept = None;
            area.0.claim_some(std::slice::from_mut(page), |claim| kept = Some(keep(area, claim)))?;
            if kept.is_some() {
                return Ok(kept);
            }
        }
        Ok(None)
    }
}
