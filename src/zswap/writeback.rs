//! Writeback by a shrink: pages that were not used lately are decoded, claimed, and handed over with no lock held. They
//! go once the callback, or the write to the file, says that they were written.
//!
//! [`super::sweep`] chooses the pages, [`super::fill_extents`] writes to tiers, and
//! [`super::caller_writeback`] is for callers that write pages back by themselves.

use super::area::{Area, AreaState};
use super::codec::Target;
use super::patience::{InCallback, check_not_in_tier};
use super::running_calls::RunningCall;
use super::shared::{TierAccess, WritebackTarget};
use super::sweep::{Shrunk, Sweep};
use super::word::PageWord;
use super::writeback_refusal::Refusal;
use crate::error::{Error, Result, sentence};
use crate::os;
use crate::sync::Ordering::Relaxed;
use crate::units::{AlignedPage, PAGE};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A writeback callback while it is called.
type WritebackCall<'a> = dyn Fn(&Area, u64, &[u8; PAGE]) -> Result<(), Refusal> + 'a;

/// How many refused pages end a shrink of an area.
const MOST_FAILURES: u64 = 16;

impl AreaState {
    /// Refuses an area whose pages are never written back.
    pub(super) fn check_writeback(&self) -> Result<()> {
        const NO_WRITEBACK: Error = Error::Invalid(sentence(&"the area is never written back"));
        if self.options.no_writeback { Err(NO_WRITEBACK) } else { Ok(()) }
    }
}

impl Area {
    /// Writes up to `pages` pages back to `target`.
    pub(super) fn shrink_to(&self, pages: u64, target: &WritebackTarget, access: TierAccess) -> Result<Shrunk> {
        let area = &self.0;
        let call = area.begin()?;
        if area.options.no_writeback {
            return Ok(Shrunk::Ended(0));
        }
        match target {
            WritebackTarget::None => Ok(Shrunk::Ended(0)),
            WritebackTarget::Callback(callback) => {
                Ok(self.shrink_by(&call, pages, &|area, offset, page| callback(area, offset, page)))
            }
            WritebackTarget::Foreign(callback) => {
                Ok(self.shrink_by(&call, pages, &|area, offset, page| callback.call(area, offset, page)))
            }
            WritebackTarget::Tiers(tiers) => area.shrink_to_tiers(&call, pages, tiers, access),
        }
    }

    /// Writes up to `pages` pages back by a callback. Not inlined: keeps this page off the stack of a shrink to the
    /// file, which can run in a signal handler.
    #[inline(never)]
    fn shrink_by(&self, call: &RunningCall<'_>, pages: u64, callback: &WritebackCall<'_>) -> Shrunk {
        let mut sweep = Sweep::new(&self.0, false);
        let mut page = AlignedPage([0; PAGE]);
        let (mut written, mut failures) = (0, 0);
        while written < pages && failures < MOST_FAILURES {
            let Some(claimed) = sweep.next(call, &mut page.0, Target::Own) else { return Shrunk::Ended(written) };
            match hand_over(callback, self, claimed.offset(), &page.0) {
                Ok(()) => written += u64::from(claimed.written(call, PageWord::EMPTY)),
                Err(refusal) => {
                    claimed.refused(call, refusal);
                    failures += 1;
                    if refusal.ends_area() {
                        return Shrunk::Ended(written);
                    }
                }
            }
        }
        if failures < MOST_FAILURES { Shrunk::MoreLeft(written) } else { Shrunk::Ended(written) }
    }

    /// Writes back up to `pages` pages of this area that were not used lately, as [`crate::Zswap::shrink`] does for all
    /// areas. Returns how many went.
    ///
    /// # Errors
    /// [`Error::Again`] if none could go now, [`Error::NotFound`] if none is in the pool, [`Error::Invalid`] without a
    /// callback or a tier, or if the area is never written back; [`Error::Busy`] in a call of a tier; [`Error::Removed`]; [`Error::Io`] if the library's
    /// descriptor of the file was closed or is another file's now, [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        check_not_in_tier()?;
        self.shrink_with(pages, TierAccess::All)
    }

    /// Shrinks as [`Area::shrink`] does, in a call that may use fewer tiers.
    pub(crate) fn shrink_with(&self, pages: u64, access: TierAccess) -> Result<u64> {
        const NOTHING: Error = Error::NotFound(sentence(&"no page of the area is in the pool"));
        const NOT_NOW: Error = Error::Again(sentence(&"no page of the area could be written back now"));
        let area = &self.0;
        let _call = area.shared.begin()?;
        let target = area.shared.writeback_target()?;
        area.check_writeback()?;
        match self.shrink_to(pages, &target, access)?.written() {
            0 if pages == 0 => Ok(0),
            0 if area.limit.used() == 0 => Err(NOTHING),
            0 => Err(NOT_NOW),
            written => Ok(written),
        }
    }

    /// Returns how many pages of this area are worth writing back now, under memory pressure: the pages in the pool,
    /// less those that lately came back from where they were written to, scaled by how small the pages are. To write
    /// back a page that takes a quarter of its size in memory frees a quarter of a page.
    ///
    /// Each call forgets the pages that came back which it has accounted for, so each of them counts once.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Forked`] in a child without the pool.
    pub fn reclaimable_pages(&self) -> Result<u64> {
        let stats = self.stats()?;
        let stored = stats.counts.pool_pages();
        if self.0.options.no_writeback || stored == 0 {
            return Ok(0);
        }
        let answer = |recent: u64| recent.saturating_sub(stored);
        let recent = self.0.recent_refaults.fetch_update(Relaxed, Relaxed, |recent| Some(answer(recent)));
        let freeable = stored - recent.unwrap_or(0).min(stored);
        Ok((u128::from(freeable) * u128::from(stats.used_bytes) / (u128::from(stored) * PAGE as u128)) as u64)
    }

    /// Notes that `pages` pages that were written back are needed again. [`Area::reclaimable_pages`] is smaller for a
    /// while. Loads from tiers are noted by themselves.
    pub fn note_refaults(&self, pages: u64) -> Result<()> {
        let call = self.0.begin()?;
        let more = |recent: u64| Some(recent.saturating_add(pages));
        // Never an error: `more` always returns a value.
        let _ = self.0.recent_refaults.fetch_update(Relaxed, Relaxed, more);
        call.count(|counts| counts.refaults = counts.refaults.saturating_add(pages));
        Ok(())
    }
}

/// Calls the callback. A panic in it counts as its failure.
fn hand_over(callback: &WritebackCall<'_>, area: &Area, offset: u64, page: &[u8; PAGE]) -> Result<(), Refusal> {
    #[cfg(debug_assertions)]
    crate::sync::ranks::assert_none();
    let _inside = InCallback::enter();
    let called = catch_unwind(AssertUnwindSafe(|| callback(area, offset, page)));
    called.unwrap_or(Err(Refusal::Other(os::errno::EIO)))
}
