//! Holds of parts of regions, as guards that release them.

use super::open_pager::OpenPager;
use super::pager_calls::Pager;
use crate::error::Result;
use crate::heap::Counted;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Keeps the pages of a range of regions in memory until it is dropped: from [`Pager::hold`].
#[must_use = "dropping it releases the pages: keep it for as long as they have to stay"]
pub struct HeldRange {
    open: Counted<OpenPager>,
    at: *const u8,
    bytes: usize,
    /// The serial number of the region that was added last: regions that came later are not what is held.
    last: u64,
}

// SAFETY: the address is a number to this type, which reads nothing there. Any thread may end a hold.
unsafe impl Send for HeldRange {}
// SAFETY: as for Send.
unsafe impl Sync for HeldRange {}

/// A part of a [`PagedMemory`](crate::PagedMemory) that stays in memory until this is dropped. It derefs to the bytes,
/// which a system call may read.
#[must_use = "dropping it releases the pages: keep it for as long as they have to stay"]
pub struct HeldBytes<'a> {
    held: HeldRange,
    bytes: &'a [u8],
}

/// A part of a [`PagedMemory`](crate::PagedMemory) that stays in memory until this is dropped. It derefs to the bytes,
/// which a system call may read and write.
#[must_use = "dropping it releases the pages: keep it for as long as they have to stay"]
pub struct HeldBytesMut<'a> {
    held: HeldRange,
    bytes: &'a mut [u8],
}

impl Pager {
    /// Brings the pages of a range of regions to memory, and keeps them there until the returned guard is dropped. It
    /// is for system calls on memory of regions in [`FaultMode::Sigbus`](crate::FaultMode::Sigbus), which fail with
    /// `EFAULT` on a page that is not in memory, and in every mode for what direct I/O or a device writes. Holds of a
    /// page are counted. The pages that the range touches are held whole; no bytes touch none.
    ///
    /// What was moved or unmapped since, or is in no region any more, is no longer held. Dropping the guard then does
    /// not end a hold of another region that has the addresses by now. Held pages count as resident, and can't be
    /// evicted.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if a part of the range is in no region.
    /// [`Error::Limit`](crate::Error::Limit) if more would be held than may be, or a page of it is held 33 million
    /// times already. [`Error::Damaged`](crate::Error::Damaged) if a page's copy is damaged,
    /// [`Error::Io`](crate::Error::Io) if it can't be read from the backing file. [`Error::Again`](crate::Error::Again)
    /// if the system refused for a second to put a page in place. [`Error::Forked`](crate::Error::Forked) in a child.
    /// After an error, nothing is held that was not before.
    pub fn hold(&self, at: *const u8, bytes: usize) -> Result<HeldRange> {
        HeldRange::new(&self.0, at, bytes)
    }
}

impl HeldRange {
    /// Holds a range.
    pub(super) fn new(open: &Counted<OpenPager>, at: *const u8, bytes: usize) -> Result<Self> {
        let core = open.call()?;
        core.hold(at as usize, bytes)?;
        Ok(Self { open: open.clone(), at, bytes, last: core.serials.last() })
    }
}

impl<'a> HeldBytes<'a> {
    /// Bytes of a region, and the hold of them.
    pub(super) fn new(held: HeldRange, bytes: &'a [u8]) -> Self {
        Self { held, bytes }
    }
}

impl<'a> HeldBytesMut<'a> {
    /// Bytes of a region, and the hold of them.
    pub(super) fn new(held: HeldRange, bytes: &'a mut [u8]) -> Self {
        Self { held, bytes }
    }
}

impl Drop for HeldRange {
    fn drop(&mut self) {
        // An error says that a part is in no region any more, and so is no longer held; or that this is a child.
        let _ = self.open.call().and_then(|core| core.release(self.at as usize, self.bytes, self.last));
    }
}

impl Deref for HeldBytes<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Deref for HeldBytesMut<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for HeldBytesMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl fmt::Debug for HeldRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HeldRange").field("at", &self.at).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for HeldBytes<'_> {
    /// Prints where the bytes are, and not the bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldBytes").field(&self.held).finish()
    }
}

impl fmt::Debug for HeldBytesMut<'_> {
    /// Prints where the bytes are, and not the bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldBytesMut").field(&self.held).finish()
    }
}
