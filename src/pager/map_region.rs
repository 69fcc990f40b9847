//! Mapping memory for a region, and unmapping it.

use super::core::Core;
use super::extents::whole_pages;
use super::options::{RegionOptions, Removal};
use super::region::RegionId;
use super::remove_region::NONE;
use crate::error::{Error, Result, not_given, sentence};
use crate::os::Mapping;
use crate::units::PAGE;
use std::ptr::NonNull;

impl Core {
    /// Maps whole pages for at least `bytes` bytes, and adds them as a region.
    pub fn map_region(&self, bytes: usize, options: &RegionOptions<'_>) -> Result<(Mapping, RegionId)> {
        const NO_BYTES: Error = Error::Invalid(sentence(&"memory of 0 bytes can't be mapped: ask for 1 byte at least"));
        const SHARED: Error = Error::Invalid(sentence(
            &"memory that the pager maps is private: map the memory file, and add it as a region",
        ));
        const NO_MEMORY: Error = Error::NoMemory(not_given!("the system maps no memory for the pager"));
        if bytes == 0 {
            return Err(NO_BYTES);
        }
        if options.shared.is_some() {
            return Err(SHARED);
        }
        let whole = bytes.checked_next_multiple_of(PAGE).filter(|&whole| whole <= isize::MAX as usize);
        let whole = whole.ok_or(NO_MEMORY)?;
        let mut mapping = self.os.reserve(whole, PAGE).map_err(|_| NO_MEMORY)?;
        let at = mapping.base().as_ptr();
        self.os.unlock(at, whole);
        self.os.commit(at, whole).map_err(|_| NO_MEMORY)?;
        // The owner of this memory does not unmap or move it. Of madvise it may make use where pages are moved.
        let options = RegionOptions { settled: options.settled || !self.moves, ..options.clone() };
        let added = self.add_region(at as usize, whole, &options);
        if added.is_err() && self.extents.within(at as usize, at as usize + whole).next().is_some() {
            // The system did not let a part go again. Unmapping it would wait for somebody to read that.
            mapping.forget();
        }
        Ok((mapping, added?))
    }

    /// Removes the region whose memory is a range, brings no page back, and unmaps the range. `region` is that region;
    /// with none, it is the one that the range begins in. The range is all of the region's memory and nothing else: the
    /// bytes of any other part would be lost.
    ///
    /// # Safety
    /// The caller may unmap the range, and nothing uses it afterwards.
    pub unsafe fn unmap_region(&self, region: Option<RegionId>, at: *mut u8, bytes: usize) -> Result<()> {
        const ANOTHER: Error = Error::Invalid(sentence(
            &"the range is not all of that region's memory: pass the address and the length that were mapped",
        ));
        let region = region.or_else(|| self.region_at(at as usize)).ok_or(NONE)?;
        let place = self.places.get(region.place()).and_then(|place| place.enter());
        drop(place.filter(|there| there.serial == region.serial()).ok_or(NONE)?);
        let (start, end) = whole_pages(at as usize, bytes)?;
        let mine = self.extents.within(start, end).filter(|part| part.region == region.place());
        let has_all = mine.map(|part| part.end - part.start).sum::<usize>() == end - start;
        let before = self.extents.first_of(region.place()).is_some_and(|part| part.start < start);
        let is_all = has_all && !before && self.extents.next_of(region.place(), end).is_none();
        let base = NonNull::new(at).filter(|_| is_all && start == at as usize && start < end).ok_or(ANOTHER)?;
        self.remove_region(region, Removal::Discard)?;
        // SAFETY: the caller promises it. The region is gone, so nobody has to read of it.
        drop(unsafe { Mapping::of_range(base, end - start) });
        Ok(())
    }

    /// Returns the region that an address is in.
    fn region_at(&self, at: usize) -> Option<RegionId> {
        let place = self.extents.find(at)?.region;
        let serial = self.places.get(place)?.enter()?.serial;
        Some(RegionId::new(place, serial))
    }
}
