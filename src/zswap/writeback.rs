//! Writeback by a shrink: pages that were not used lately are decoded, claimed, and handed over with no lock held. They
//! go once the callback, or the write to the file, says that they were written.
//!
//! [`super::sweep`] chooses the pages, [`super::fill_extents`] writes to tiers, and
//! [`super::caller_writeback`] is for callers that write pages back by themselves.

use super::area::{Area, AreaState};
use super::codec::Target;
use super::patience::{InCallback, check_not_in_tier};
use super::running_calls::RunningCall;
use super::shared::WritebackTarget;
use super::shrink_options::{Choice, Quota, ShrinkDone, ShrinkOptions};
use super::sweep::{Shrunk, Sweep};
use super::tier::TierAccess;
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
    /// Writes pages back to `target`.
    pub(super) fn shrink_to(&self, choice: Choice, quota: Quota, target: &WritebackTarget) -> Result<Shrunk> {
        let area = &self.0;
        let call = area.begin()?;
        if area.options.no_writeback {
            return Ok(Shrunk::Ended(ShrinkDone::default()));
        }
        match target {
            WritebackTarget::None => Ok(Shrunk::Ended(ShrinkDone::default())),
            WritebackTarget::Callback(callback) => {
                Ok(self.shrink_by_call(&call, choice, quota, &|area, offset, page| callback(area, offset, page)))
            }
            WritebackTarget::Foreign(callback) => {
                Ok(self.shrink_by_call(&call, choice, quota, &|area, offset, page| callback.call(area, offset, page)))
            }
            WritebackTarget::Tiers(tiers) => area.shrink_to_tiers(&call, choice, quota, tiers),
        }
    }

    /// Writes pages back by a callback. Not inlined: keeps this page off the stack of a shrink to the file, which can
    /// run in a signal handler.
    #[inline(never)]
    fn shrink_by_call(
        &self,
        call: &RunningCall<'_>,
        choice: Choice,
        quota: Quota,
        callback: &WritebackCall<'_>,
    ) -> Shrunk {
        let mut sweep = Sweep::new(&self.0, choice, false);
        let mut page = AlignedPage([0; PAGE]);
        let (mut done, mut failures) = (ShrinkDone::default(), 0);
        while !quota.after(done).is_spent() && failures < MOST_FAILURES {
            sweep.set_quota(quota.after(done));
            let Some(claimed) = sweep.next(call, &mut page.0, Target::Own) else { return Shrunk::Ended(done) };
            let slot_bytes = claimed.slot_bytes();
            match hand_over(callback, self, claimed.offset(), &page.0) {
                Ok(()) => {
                    if claimed.written(call, PageWord::EMPTY) {
                        done.count(slot_bytes);
                    }
                }
                Err(refusal) => {
                    claimed.refused(call, refusal);
                    failures += 1;
                    if refusal.ends_area() {
                        return Shrunk::Ended(done);
                    }
                }
            }
        }
        if failures < MOST_FAILURES { Shrunk::MoreLeft(done) } else { Shrunk::Ended(done) }
    }

    /// Writes back up to `pages` pages of this area that were not used lately, as [`crate::Zswap::shrink`] does for all
    /// areas. Returns how many went.
    ///
    /// # Errors
    /// [`Error::Again`] if none could go now, [`Error::NotFound`] if none is in the pool, [`Error::Invalid`] without a
    /// callback or a tier, or if the area is never written back; [`Error::Busy`] in a call of a tier;
    /// [`Error::Removed`]; [`Error::Io`] if the library's descriptor of the file was closed or is another file's now,
    /// [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        Ok(self.shrink_by(&ShrinkOptions { max_pages: pages, ..ShrinkOptions::default() })?.pages)
    }

    /// Writes back pages of this area, as [`crate::Zswap::shrink_by`] does for all areas. Returns what went.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `min_age` of more than 3; [`Error::Again`] if no page could go now, is old enough, or
    /// is small enough; the other errors of [`Area::shrink`].
    pub fn shrink_by(&self, options: &ShrinkOptions) -> Result<ShrinkDone> {
        check_not_in_tier()?;
        self.shrink_within(options, TierAccess::All)
    }

    /// Shrinks as [`Area::shrink`] does, in a call that may use fewer tiers.
    #[cfg(feature = "uffd")]
    pub(crate) fn shrink_with(&self, pages: u64, access: TierAccess) -> Result<u64> {
        Ok(self.shrink_within(&ShrinkOptions { max_pages: pages, ..ShrinkOptions::default() }, access)?.pages)
    }

    fn shrink_within(&self, options: &ShrinkOptions, access: TierAccess) -> Result<ShrinkDone> {
        const NOTHING: Error = Error::NotFound(sentence(&"no page of the area is in the pool"));
        const NOT_NOW: Error = Error::Again(sentence(&"no page of the area could be written back now"));
        let area = &self.0;
        let _call = area.shared.begin()?;
        options.check()?;
        let target = area.shared.writeback_target()?;
        area.check_writeback()?;
        let quota = Quota::of(options, access);
        let mut done = ShrinkDone::default();
        for choice in options.choices() {
            match self.shrink_to(choice, quota.after(done), &target) {
                Ok(shrunk) => done += shrunk.done(),
                Err(error) if done.pages == 0 => return Err(error),
                Err(_) => break,
            }
        }
        match done.pages {
            0 if quota.is_spent() => Ok(done),
            0 if area.limit.used() == 0 => Err(NOTHING),
            0 => Err(options.why_nothing(NOT_NOW)),
            _ => Ok(done),
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
