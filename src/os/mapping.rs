//! Reserving addresses, mapping memory files, making addresses usable, and advice about them.

use super::calls::Call;
use super::errno::{Errno, OsResult, checked, last_errno};
use super::seam::Os;
use crate::units::PAGE;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

/// A mapped or reserved range. Dropping it unmaps the range, unless it is the caller's or not this process's to unmap.
///
/// `memmap2` makes no mapping that nothing may touch, so these are made by hand.
pub struct Mapping {
    base: NonNull<u8>,
    /// What to unmap: the range with the slack that alignment cost. Length 0: nothing.
    raw: (*mut libc::c_void, usize),
}

// SAFETY: a mapping is a range of addresses; its users decide which thread touches what in it.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Wraps memory of the caller's, which is never unmapped.
    pub fn lent(base: NonNull<u8>) -> Self {
        Self { base, raw: (ptr::null_mut(), 0) }
    }

    /// Returns the first usable address.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Leaves the first `bytes` bytes, whole pages, mapped until the caller unmaps them. Unmaps what the reservation
    /// has beyond them. Returns their address.
    #[cfg(feature = "uffd")]
    pub fn keep(mut self, bytes: usize) -> NonNull<u8> {
        let start = self.raw.0 as usize;
        let (before, after) = (self.base.as_ptr() as usize - start, start + self.raw.1);
        let end = self.base.as_ptr() as usize + bytes;
        self.raw.1 = 0;
        for (from, to) in [(start, start + before), (end, after)] {
            if from < to {
                // SAFETY: the reservation has these pages, and nothing uses them.
                unsafe { libc::munmap(ptr::with_exposed_provenance_mut(from), to - from) };
            }
        }
        self.base
    }

    /// Takes a mapped range, which the drop unmaps.
    ///
    /// # Safety
    /// The range is whole pages that the caller may unmap, and nothing uses it after the drop.
    #[cfg(feature = "uffd")]
    pub unsafe fn of_range(base: NonNull<u8>, bytes: usize) -> Self {
        Self { base, raw: (base.as_ptr().cast(), bytes) }
    }

    /// Keeps the drop from unmapping the range: in a forked child that never got it.
    pub fn forget(&mut self) {
        self.raw.1 = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.raw.1 != 0 {
            // SAFETY: `raw` is this value's to unmap: mmap returned it, or the caller of `of_range` vouched for it. Its
            // users are gone.
            unsafe { libc::munmap(self.raw.0, self.raw.1) };
        }
    }
}

/// Advice about a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Core dumps leave it out.
    DontDump,
    /// Forked children do not get it.
    DontFork,
    /// Forked children get it again.
    Fork,
    /// Touching it brings huge pages.
    Huge,
    /// Touching it never brings huge pages.
    NotHuge,
    /// This process gets its own copies of pages that it shares with a forked child. Since Linux 5.14.
    #[cfg(feature = "uffd")]
    Unshare,
    /// The system no longer merges the pages with equal ones (KSM), and separates those that it has merged.
    #[cfg(feature = "uffd")]
    Unmergeable,
}

impl Os {
    /// Reserves `bytes` of addresses aligned to `align`. Nothing may touch them before [`Os::commit`].
    pub fn reserve(&self, bytes: usize, align: usize) -> OsResult<Mapping> {
        self.may(Call::Map)?;
        let room = bytes.checked_add(align).ok_or(Errno(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the system chooses.
        let raw = unsafe { libc::mmap(ptr::null_mut(), room, libc::PROT_NONE, flags, -1, 0) };
        if raw == libc::MAP_FAILED {
            // EAGAIN: the process locks what it maps, and has reached RLIMIT_MEMLOCK. A retry would fail as well.
            return Err(Errno(if last_errno().0 == libc::EAGAIN { libc::ENOMEM } else { last_errno().0 }));
        }
        let slack = raw.cast::<u8>().align_offset(align);
        // SAFETY: `slack` < `align`, and the mapping is `align` longer than what is asked for.
        let base = unsafe { raw.cast::<u8>().add(slack) };
        Ok(Mapping { base: NonNull::new(base).ok_or(Errno(libc::ENOMEM))?, raw: (raw, room) })
    }

    /// Maps `bytes` of the memory file `fd`, aligned to `align`. Nothing may touch them before [`Os::commit`].
    pub fn map_file(&self, fd: RawFd, bytes: usize, align: usize) -> OsResult<Mapping> {
        self.may(Call::Map)?;
        // A reservation has the slack for the alignment, and the file is mapped over it.
        let room = self.reserve(bytes, align)?;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the fixed range lies inside the reservation that `room` owns.
        let at = unsafe { libc::mmap(room.base.as_ptr().cast(), bytes, libc::PROT_NONE, flags, fd, 0) };
        if at == libc::MAP_FAILED { Err(last_errno()) } else { Ok(room) }
    }

    /// Makes a reserved range readable and writable. Under strict overcommit the system counts it from here on.
    pub fn commit(&self, at: *mut u8, bytes: usize) -> OsResult<()> {
        self.may(Call::Commit)?;
        // SAFETY: the caller names a range of its own mapping; no memory changes, only what may be done to it.
        checked(unsafe { libc::mprotect(at.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) })
    }

    /// Maps `bytes` of memory that comes page by page as it is touched: also in a process that locks what it maps, and
    /// without huge pages, one of which would bring 512 pages for one.
    pub fn sparse_memory(&self, bytes: usize) -> OsResult<Mapping> {
        let mapping = self.reserve(bytes, PAGE)?;
        let at = mapping.base().as_ptr();
        self.unlock(at, bytes);
        self.commit(at, bytes)?;
        // A refusal costs memory and nothing else.
        let _ = self.advise(at, bytes, Advice::NotHuge);
        Ok(mapping)
    }

    /// Unlocks a range before [`Os::commit`], so that its pages come when they are touched: in a process that locks
    /// what it maps (`mlockall`) the commit would otherwise bring all of them.
    pub fn unlock(&self, at: *mut u8, bytes: usize) {
        // SAFETY: no memory changes. A refusal costs memory, and nothing else.
        unsafe { libc::munlock(at.cast(), bytes) };
    }

    /// Gives advice. The caller decides whether a refusal matters.
    pub fn advise(&self, at: *mut u8, bytes: usize, advice: Advice) -> OsResult<()> {
        self.may(Call::Advise)?;
        let advice = match advice {
            Advice::DontDump => libc::MADV_DONTDUMP,
            Advice::DontFork => libc::MADV_DONTFORK,
            Advice::Fork => libc::MADV_DOFORK,
            Advice::Huge => libc::MADV_HUGEPAGE,
            Advice::NotHuge => libc::MADV_NOHUGEPAGE,
            #[cfg(feature = "uffd")]
            Advice::Unshare => libc::MADV_POPULATE_WRITE,
            #[cfg(feature = "uffd")]
            Advice::Unmergeable => libc::MADV_UNMERGEABLE,
        };
        // SAFETY: no advice of these changes what the memory holds in this process.
        checked(unsafe { libc::madvise(at.cast(), bytes, advice) })
    }
}
