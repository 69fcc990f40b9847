//! A region as a guard that removes it.

use super::open_pager::OpenPager;
use super::options::Removal;
use super::region::RegionId;
use crate::error::{Error, Result, sentence};
use crate::heap::Counted;
use std::fmt;

/// Memory of the program that is under a pager, from [`Pager::add_region`](crate::Pager::add_region), until this guard
/// is dropped.
///
/// Dropping it brings all pages back to memory, whatever the limit says, and removes the region, as [`Region::remove`]
/// does. If that fails, nobody can be told: the region, and its pager, stay until the process ends, and pages that are
/// not in memory go on being served in [`FaultMode::Sigbus`](crate::FaultMode::Sigbus), or by lent threads. So call
/// [`Region::remove`] where the program can do something about an error. The pager may be dropped before.
///
/// Drop it before its memory is unmapped: a struct that has both declares the region before the memory. See the safety
/// section of [`Pager::add_region`](crate::Pager::add_region).
///
/// In a forked child, which does not get the memory, the drop does nothing.
#[must_use = "dropping it removes the region: keep it for as long as the memory should be under the pager"]
pub struct Region {
    open: Counted<OpenPager>,
    id: RegionId,
    at: *mut u8,
    bytes: usize,
    /// The region is there, as far as this guard knows.
    stays: bool,
}

// SAFETY: the address is a number to this type, which reads nothing there. Any thread may remove a region.
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    /// The guard of a region that was added.
    pub(super) fn new(open: &Counted<OpenPager>, id: RegionId, at: *mut u8, bytes: usize) -> Self {
        Self { open: open.clone(), id, at, bytes, stays: true }
    }

    /// Removes the region, and brings all of its pages back to memory before, whatever the limit says. Its memory is
    /// the program's alone from then on, as if there had been no pager. Forked children get it again, whatever the
    /// program had advised before. Huge pages stay turned off for it, until the program advises them. Afterwards the
    /// guard does nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a page's copy is damaged: the region is removed nevertheless, and that page fails when it
    /// is touched. [`Error::Again`] if the system refused, or a page can't be read from the backing file: the region is
    /// still there, and the call may be repeated. [`Error::NotFound`] if the region was removed before.
    /// [`Error::Forked`] in a child.
    pub fn remove(&mut self) -> Result<()> {
        self.remove_as(Removal::Restore)
    }

    /// Removes the region as [`Region::remove`] does, but brings no page back: pages that are not in memory are lost,
    /// and read as zeros.
    ///
    /// # Errors
    /// [`Error::Again`] if the system refused: the region is still there, and the call may be repeated.
    /// [`Error::NotFound`] if the region was removed before. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// The bytes of the region are no longer needed: any page of it may read as zeros from here on.
    pub unsafe fn remove_discarding(&mut self) -> Result<()> {
        self.remove_as(Removal::Discard)
    }

    fn remove_as(&mut self, removal: Removal) -> Result<()> {
        const REMOVED: Error = Error::NotFound(sentence(&"the region was removed before"));
        if !self.stays {
            return Err(REMOVED);
        }
        let removed = self.open.call()?.remove_region(self.id, removal);
        self.stays = matches!(removed, Err(Error::Again(_)));
        removed
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.stays && matches!(self.remove(), Err(Error::Again(_))) {
            // The pager stays as well, and serves what is not in memory.
            std::mem::forget(self.open.clone());
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Region")
            .field("at", &self.at)
            .field("bytes", &self.bytes)
            .field("stays", &self.stays)
            .finish_non_exhaustive()
    }
}
