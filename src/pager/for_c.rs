//! What C needs of a pager: regions by number, holds as pairs of calls, and threads that are lent by a call. Rust
//! programs have guards for each, which can't be used wrongly.

use super::lent_count::Leave;
use super::options::{Duty, RegionOptions, Removal};
use super::pager_calls::Pager;
use crate::error::{Error, Result};
use crate::units::PAGE;
use crate::zswap::{Tier, TierOptions};
use std::ptr::NonNull;

pub use super::region::RegionId;
use super::region::Serials;

/// The calls of the C library on a pager, beside those that Rust programs have.
pub trait PagerForC {
    /// Adds a region, which stays until it is removed or the pager is dropped.
    ///
    /// # Errors
    /// Those of [`Pager::add_region`], except that in `FaultMode::Threads` a thread may be lent later.
    ///
    /// # Safety
    /// As for [`Pager::add_region`].
    unsafe fn add_region_by_id(&self, at: *mut u8, bytes: usize, options: &RegionOptions<'_>) -> Result<RegionId>;

    /// Maps memory as [`Pager::map_with`] does. It stays mapped until [`PagerForC::unmap_by_id`], or until the caller
    /// unmaps it after the region was removed.
    ///
    /// # Errors
    /// Those of [`Pager::map_with`], except that in `FaultMode::Threads` a thread may be lent later.
    fn map_by_id(&self, bytes: usize, options: &RegionOptions<'_>) -> Result<(NonNull<u8>, RegionId)>;

    /// Removes the region that has all of a range, brings no page back, and unmaps the range's pages. With `region`
    /// none, it is the region that the range begins in.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region, [`Error::Invalid`] if it does not have all of the range,
    /// [`Error::Again`] if the system refuses to take the memory from the pager, [`Error::Forked`] in a child. Nothing
    /// was unmapped then.
    ///
    /// # Safety
    /// The caller may unmap the range, and nothing uses it afterwards.
    unsafe fn unmap_by_id(&self, region: Option<RegionId>, at: *mut u8, bytes: usize) -> Result<()>;

    /// Removes a region, and brings its pages back: see [`crate::Region::remove`].
    ///
    /// # Errors
    /// Those of [`crate::Region::remove`].
    fn remove_by_id(&self, region: RegionId) -> Result<()>;

    /// Removes a region, and brings no page back: see [`crate::Region::remove_discarding`].
    ///
    /// # Errors
    /// Those of [`crate::Region::remove_discarding`].
    ///
    /// # Safety
    /// As for [`crate::Region::remove_discarding`].
    unsafe fn remove_discarding_by_id(&self, region: RegionId) -> Result<()>;

    /// Removes all regions, also those with damaged pages.
    ///
    /// # Errors
    /// [`Error::Again`] if the system refused to bring a page back, or a page can't be read from the backing file: that
    /// region is still there, and so may be others. [`Error::Damaged`] if a page's copy is damaged: all regions are
    /// removed nevertheless, and that page fails when it is touched. [`Error::Forked`] in a child.
    fn remove_all_regions(&self) -> Result<()>;

    /// Begins a hold: see [`Pager::hold`].
    ///
    /// # Errors
    /// Those of [`Pager::hold`].
    fn begin_hold(&self, at: *const u8, bytes: usize) -> Result<()>;

    /// Ends a hold.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region: it may have been unmapped since it was held. The hold
    /// of the other parts has ended. [`Error::Forked`] in a child.
    fn end_hold(&self, at: *const u8, bytes: usize) -> Result<()>;

    /// Lends the calling thread until [`PagerForC::stop`].
    ///
    /// # Errors
    /// [`Error::Forked`] in a child.
    fn run(&self, duty: Duty) -> Result<()>;

    /// Gives all lent threads back, and those that are lent later at once, until [`PagerForC::resume`]. Does not wait
    /// for them. Does nothing in a forked child.
    fn stop(&self);

    /// Lets threads be lent again. Does nothing in a forked child.
    fn resume(&self);

    /// Adds a tier of the program's own: see [`Pager::add_tier`]. A thread that calls tiers has a second to begin.
    ///
    /// # Errors
    /// Those of [`Pager::add_tier`].
    fn add_tier_of_c(&self, tier: impl Tier + 'static, options: &TierOptions) -> Result<u32>
    where
        Self: Sized;

    /// Lent threads that have not left the pager yet. A thread that is no longer counted does not use the pager any
    /// more.
    fn lent_threads(&self) -> u32;
}

impl PagerForC for Pager {
    unsafe fn add_region_by_id(&self, at: *mut u8, bytes: usize, options: &RegionOptions<'_>) -> Result<RegionId> {
        let core = self.call()?;
        let id = core.add_region(at as usize, bytes, options)?;
        // What can't leave now leaves as soon as it can.
        let _ = core.evict_to(core.account.limit(), u64::MAX);
        Ok(id)
    }

    fn map_by_id(&self, bytes: usize, options: &RegionOptions<'_>) -> Result<(NonNull<u8>, RegionId)> {
        let (mapping, id) = self.call()?.map_region(bytes, options)?;
        Ok((mapping.keep(bytes.next_multiple_of(PAGE)), id))
    }

    unsafe fn unmap_by_id(&self, region: Option<RegionId>, at: *mut u8, bytes: usize) -> Result<()> {
        // SAFETY: the caller promises it.
        unsafe { self.call()?.unmap_region(region, at, bytes) }
    }

    fn remove_by_id(&self, region: RegionId) -> Result<()> {
        self.call()?.remove_region(region, Removal::Restore)
    }

    unsafe fn remove_discarding_by_id(&self, region: RegionId) -> Result<()> {
        self.call()?.remove_region(region, Removal::Discard)
    }

    fn remove_all_regions(&self) -> Result<()> {
        let core = self.call()?;
        let mut damaged = Ok(());
        for place in 0..core.places.len() {
            match core.remove_place(place, Removal::Restore) {
                Err(refused @ Error::Again(_)) => return Err(refused),
                Err(lost @ Error::Damaged(_)) => damaged = Err(lost),
                _ => {}
            }
        }
        damaged
    }

    fn begin_hold(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.call()?.hold(at as usize, bytes)
    }

    fn end_hold(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.call()?.release(at as usize, bytes, Serials::LAST)
    }

    fn run(&self, duty: Duty) -> Result<()> {
        let core = self.call()?;
        let leave = Leave::default();
        core.work(&core.lending.at_work(core.lending.count(duty), &leave));
        Ok(())
    }

    fn stop(&self) {
        // In a child, the descriptor that wakes them is the parent's as well.
        if let Ok(core) = self.call() {
            core.lending.stop();
        }
    }

    fn resume(&self) {
        if let Ok(core) = self.call() {
            core.lending.resume();
        }
    }

    fn add_tier_of_c(&self, tier: impl Tier + 'static, options: &TierOptions) -> Result<u32> {
        self.call()?.add_own_tier(tier, options, false)
    }

    fn lent_threads(&self) -> u32 {
        self.0.lending.threads()
    }
}
