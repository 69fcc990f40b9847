//! Memory that a pager maps itself, and that its owner uses without `unsafe`.

use super::hold_guards::{HeldBytes, HeldBytesMut, HeldRange};
use super::open_pager::OpenPager;
use super::options::{RegionOptions, Removal};
use super::pager_calls::Pager;
use super::region::RegionId;
use crate::error::{Error, Result, sentence};
use crate::heap::Counted;
use crate::os::Mapping;
use crate::units::PAGE;
use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

/// Memory under a pager, from [`Pager::map`]: zeros at first. It derefs to exactly the bytes that were asked for. The
/// first of them is at the start of a page, a multiple of 4096.
///
/// It may be dropped before the pager or after it, and is unmapped then; what is not in memory is not brought back for
/// that. If the system refuses to take the memory from the pager, it stays mapped until the process ends.
///
/// # What is not as with other memory
/// - **A damaged page**, whose compressed copy fails its check, raises SIGBUS when it is touched, which ends the
///   process unless a handler of the program's does something else. Nothing reads wrong bytes.
/// - **A thread that blocks SIGBUS** is killed by its touch in [`FaultMode::Sigbus`](crate::FaultMode::Sigbus). A touch
///   takes some 12 KiB of stack there: see that mode.
/// - **A system call** that reads or writes the memory fails with `EFAULT` in that mode if a page is not in memory, or
///   was only read since it came back and is to be written. So pass what [`PagedMemory::hold`] or
///   [`PagedMemory::hold_mut`] returns. A mutex, condition variable or semaphore on which threads wait must not lie in
///   it unless it is held.
/// - **Direct I/O, io_uring and devices** may write to it only while it is held, in every mode.
/// - **A forked child** does not have the memory: a touch raises SIGSEGV there, or reaches what the child has mapped at
///   its addresses. Do not touch it there. Dropping it there does nothing.
///
/// # Examples
/// ```
/// use std::io::Read;
/// use zsalloc::{Pager, PagerOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pager = Pager::new("example", &PagerOptions::default())?;
/// let mut memory = pager.map(10_000)?;
/// assert_eq!(memory.len(), 10_000);
/// // read(2) writes to the memory, and so a part of it is held.
/// std::fs::File::open("/dev/zero")?.read_exact(&mut memory.hold_mut(..5000)?)?;
/// memory[9_999] = 1;
/// memory.discard(5_000..)?;
/// assert_eq!(memory[9_999], 0);
/// # Ok(())
/// # }
/// ```
///
/// Numbers in it, without `unsafe`, or with it as a slice of them:
///
/// ```
/// # use zsalloc::{Pager, PagerOptions};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pager = Pager::new("example", &PagerOptions::default())?;
/// let mut memory = pager.map(1000 * 8)?;
/// for (number, bytes) in memory.chunks_exact_mut(8).enumerate() {
///     bytes.copy_from_slice(&(number as u64).to_ne_bytes());
/// }
/// assert_eq!(u64::from_ne_bytes(memory[7 * 8..][..8].try_into()?), 7);
/// // Or as a slice: any 8 bytes are a u64, and the memory begins on a multiple of 8, so none are left over.
/// // SAFETY: every pattern of bits is a u64.
/// let (before, numbers, after) = unsafe { memory.align_to_mut::<u64>() };
/// assert!(before.is_empty() && after.is_empty());
/// numbers[8] += numbers[7];
/// assert_eq!(numbers[8], 15);
/// # Ok(())
/// # }
/// ```
///
/// Bytes that are held stay as they are until the hold ends:
///
/// ```compile_fail,E0502
/// # let pager = zsalloc::Pager::new("example", &zsalloc::PagerOptions::default()).unwrap();
/// let mut memory = pager.map(4096).unwrap();
/// let held = memory.hold(..).unwrap();
/// memory.discard(..).unwrap();
/// assert_eq!(held[0], 0);
/// ```
///
/// And their memory can't go before:
///
/// ```compile_fail,E0505
/// # let pager = zsalloc::Pager::new("example", &zsalloc::PagerOptions::default()).unwrap();
/// let memory = pager.map(4096).unwrap();
/// let held = memory.hold(..).unwrap();
/// drop(memory);
/// assert_eq!(held[0], 0);
/// ```
pub struct PagedMemory {
    open: Counted<OpenPager>,
    id: RegionId,
    mapping: Mapping,
    bytes: usize,
}

const PAST_END: Error = Error::OutOfRange(sentence(&"the range ends after the memory does, or before it begins"));

impl Pager {
    /// Maps memory for at least `bytes` bytes that is under this pager, all zeros, and private to this process. It
    /// takes addresses for whole pages of 4096 bytes at once, and memory as it is touched.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes. [`Error::NoMemory`] if the system gives no addresses or memory.
    /// [`Error::Limit`] if there are as many regions as there may be. [`Error::Again`] with
    /// [`FaultMode::Threads`](crate::FaultMode::Threads) if no thread is lent that serves touches, or
    /// [`Pager::lend_own`] promised one that does not begin within 5 seconds. [`Error::System`] if the system refuses.
    /// [`Error::Forked`] in a child.
    pub fn map(&self, bytes: usize) -> Result<PagedMemory> {
        self.map_with(bytes, &RegionOptions::default())
    }

    /// Maps memory as [`Pager::map`] does, with the options of a region. Its memory is private, so
    /// [`RegionOptions::shared`] is `None`.
    ///
    /// # Errors
    /// Those of [`Pager::map`], and [`Error::Invalid`] if `shared` is set.
    pub fn map_with(&self, bytes: usize, options: &RegionOptions<'_>) -> Result<PagedMemory> {
        self.check_usable()?;
        // No signal is blocked while this waits for a promised thread.
        if bytes != 0 && options.shared.is_none() {
            self.0.core().check_served()?;
        }
        let core = self.call()?;
        let (mapping, id) = core.map_region(bytes, options)?;
        Ok(PagedMemory { open: self.0.clone(), id, mapping, bytes })
    }
}

impl PagedMemory {
    /// Brings a range of bytes to memory, and keeps its pages there until the returned guard is dropped, which derefs
    /// to the bytes: for system calls that read them.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the range ends past the end. [`Error::Limit`] if more would be held than may be.
    /// [`Error::Damaged`] if a page's copy is damaged, [`Error::Io`] if it can't be read from the backing file.
    /// [`Error::Again`] if the system refused for a second to put a page in place. [`Error::Forked`] in a child.
    pub fn hold(&self, range: impl RangeBounds<usize>) -> Result<HeldBytes<'_>> {
        let (start, end) = self.range(range)?;
        let bytes = &self[start..end];
        Ok(HeldBytes::new(HeldRange::new(&self.open, bytes.as_ptr(), bytes.len())?, bytes))
    }

    /// Brings a range of bytes to memory as [`PagedMemory::hold`] does, for system calls that write them.
    ///
    /// # Errors
    /// Those of [`PagedMemory::hold`].
    pub fn hold_mut(&mut self, range: impl RangeBounds<usize>) -> Result<HeldBytesMut<'_>> {
        let (start, end) = self.range(range)?;
        let held = HeldRange::new(&self.open, self[start..end].as_ptr(), end - start)?;
        Ok(HeldBytesMut::new(held, &mut self[start..end]))
    }

    /// Makes a range of bytes zeros. Pages that are in the range as a whole are given back: they cost nothing until
    /// they are written.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the range ends past the end. [`Error::Again`] or [`Error::System`] if the system
    /// refuses: a part of the range may be zeros already. [`Error::Forked`] in a child.
    pub fn discard(&mut self, range: impl RangeBounds<usize>) -> Result<()> {
        let (start, end) = self.range(range)?;
        self.open.check_usable()?;
        // The bytes after the end are nobody's, so the last page counts as whole.
        let last = if end == self.bytes { end.next_multiple_of(PAGE) } else { end & !(PAGE - 1) };
        let first = start.next_multiple_of(PAGE);
        if first >= last || start == end {
            self[start..end].fill(0);
            return Ok(());
        }
        self[start..first].fill(0);
        self.open.call()?.discard(self.mapping.base().as_ptr() as usize + first, last - first)?;
        self[last.min(end)..end].fill(0);
        Ok(())
    }

    /// The first byte of a range, and the one after its last.
    fn range(&self, range: impl RangeBounds<usize>) -> Result<(usize, usize)> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.checked_add(1).ok_or(PAST_END)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.checked_add(1).ok_or(PAST_END)?,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.bytes,
        };
        if start <= end && end <= self.bytes { Ok((start, end)) } else { Err(PAST_END) }
    }
}

impl Drop for PagedMemory {
    fn drop(&mut self) {
        let removed = self.open.call().and_then(|core| core.remove_region(self.id, Removal::Discard));
        match removed {
            // The child does not have the memory, and may have mapped something else there.
            Err(Error::Forked) => self.mapping.forget(),
            // It is still under the pager, and unmapping it would wait for somebody to read that.
            Err(Error::Again(_)) => {
                self.mapping.forget();
                std::mem::forget(self.open.clone());
            }
            _ => {}
        }
    }
}

impl Deref for PagedMemory {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has that many bytes, readable, zeros at first, and stays as long as this does. Only
        // `deref_mut`, which borrows this exclusively, lets anybody write.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr(), self.bytes) }
    }
}

impl DerefMut for PagedMemory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and nobody else refers to the bytes.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base().as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for PagedMemory {
    /// Prints where the bytes are, and not the bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PagedMemory")
            .field("at", &self.mapping.base())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
