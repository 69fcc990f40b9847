//! The public calls of a pager on regions and on ranges of them.

use super::options::{RegionOptions, Removal};
use super::pager_calls::Pager;
use super::region::RegionId;
use crate::error::{Error, Result};

impl Pager {
    /// Adds a region: `bytes` bytes of memory at `at`, whole pages, mapped readable and writable, and already filled or
    /// not. Huge pages are turned off for the range, and forked children do not get it.
    ///
    /// Pages that are in memory already are charged 2 MiB at a time, and what is above the limit then is evicted before
    /// the next 2 MiB. Pages that can't leave, as when the pool is full, stay above the limit, and leave when they can.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not whole pages, is not memory of the kind that the options say, is in a
    /// region already, or is refused as the safety section says. [`Error::NoSpace`] if there are as many regions as
    /// there may be. [`Error::NoMemory`], [`Error::System`]: the system refuses. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// From here to the end of the region, all of this process's use of the memory goes through this range. No other
    /// thread maps or moves anything to its addresses while it is unmapped or moved, because the system tells of both
    /// in any order: hold a lock around all calls that map, move or unmap, or remove the region first. The range does
    /// not grow, by mremap or by itself (MAP_GROWSDOWN), and does not stay mapped where it was (MREMAP_DONTUNMAP). It
    /// has nothing that is needed to bring a page back: no memory that malloc uses or returned, no stack that is in
    /// use, and no memory of the pager. The heap (brk), mappings that grow, the caller's stack and most of the pager's
    /// memory are refused; with the rest, such as malloc's other arenas, the process may hang. Private memory is not
    /// given to KSM again (MADV_MERGEABLE): a page that the system merges loses the protection by which writes are
    /// noticed.
    pub unsafe fn add_region(&self, at: *mut u8, bytes: usize, options: &RegionOptions<'_>) -> Result<RegionId> {
        let core = self.call()?;
        let id = core.add_region(at as usize, bytes, options)?;
        // What can't leave now leaves as soon as it can.
        let _ = core.evict_to(core.account.limit(), u64::MAX);
        Ok(id)
    }

    /// Removes a region, and brings all of its pages back to memory before, whatever the limit says. Its memory is the
    /// program's alone from then on, as if there had been no pager. Forked children get it again, whatever the program
    /// had advised before. Huge pages stay turned off for it, until the program advises them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region: it may have been removed before. [`Error::Io`] if a page's copy
    /// is damaged: the region is removed nevertheless, and that page fails when it is touched. [`Error::Again`] if the
    /// system refused, or a page can't be read from the backing file: the region is still there. [`Error::Forked`] in a
    /// child.
    pub fn remove_region(&self, region: RegionId) -> Result<()> {
        self.call()?.remove_region(region, Removal::Restore)
    }

    /// Removes a region as [`Pager::remove_region`] does, but brings no page back: pages that are not in memory are
    /// lost, and read as zeros.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region: it may have been removed before. [`Error::Again`] if the system
    /// refused: the region is still there. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// The bytes of the region are no longer needed: any page of it may read as zeros from here on.
    pub unsafe fn remove_region_discarding(&self, region: RegionId) -> Result<()> {
        self.call()?.remove_region(region, Removal::Discard)
    }

    /// Removes all regions as [`Pager::remove_region`] does, also those with damaged pages: the memory is as if there
    /// had been no pager.
    ///
    /// # Errors
    /// [`Error::Again`] if the system refused to bring a page back, or a page can't be read from the backing file: that
    /// region is still there, and so may be others. [`Error::Io`] if a page's copy is damaged: all regions are removed
    /// nevertheless, and that page fails when it is touched. [`Error::Forked`] in a child.
    pub fn remove_all_regions(&self) -> Result<()> {
        let core = self.call()?;
        let mut damaged = Ok(());
        for place in 0..core.places.len() {
            match core.remove_place(place, Removal::Restore) {
                Err(refused @ Error::Again(_)) => return Err(refused),
                Err(lost @ Error::Io(_)) => damaged = Err(lost),
                _ => {}
            }
        }
        damaged
    }

    /// Brings the pages of a range of regions to memory, and keeps them there until [`Pager::release`]: for system
    /// calls in [`FaultMode::Sigbus`](crate::FaultMode::Sigbus). Holds of a page are counted. The pages that the range
    /// touches are held whole; no bytes touch none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region. [`Error::NoSpace`] if more would be held than may be,
    /// or a page of it is held 33 million times already. [`Error::Io`] if a page's copy is damaged, or can't be read
    /// from the backing file. [`Error::Again`] if the system refused for a second to put a page in place. After an
    /// error, nothing is held that was not before.
    pub fn hold(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.call()?.hold(at as usize, bytes)
    }

    /// Ends a hold of the same range.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region: it may have been unmapped since it was held. The hold
    /// of the other parts has ended.
    pub fn release(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.call()?.release(at as usize, bytes)
    }

    /// Gives the whole pages of a range of regions back: they read as zero, and cost nothing. madvise with
    /// MADV_DONTNEED or MADV_REMOVE does the same, but needs a lent thread to read its event. Pages that are held, or
    /// that the system has pinned, stay where they are, and are zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region, [`Error::System`] if the system refuses.
    ///
    /// # Safety
    /// The range's bytes are no longer needed.
    pub unsafe fn discard(&self, at: *mut u8, bytes: usize) -> Result<()> {
        self.call()?.discard(at as usize, bytes)
    }
}
