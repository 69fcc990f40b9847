//! Giving memory back to the system, and what the system's answers prove.
//!
//! A system call that returns 0 may have done less than it was asked for. For each call by which this crate takes,
//! fills or protects memory, this is what 0 proves, and what is checked besides:
//!
//! - **madvise(MADV_DONTNEED), private memory**: The range is out of the page tables, and private memory is nowhere
//!   else: it reads as zero. A pin keeps the old page for the pin's holder, which does not matter here.
//! - **process_madvise(MADV_DONTNEED)**: As many bytes as it returns are out of the page tables. Callers compare that
//!   with what they asked for.
//! - **madvise(MADV_REMOVE), fallocate(FALLOC_FL_PUNCH_HOLE)**: The range reads as zero, and nothing else. A part of a
//!   huge page that can't be split stays in the file. [`Os::release`] asks mincore(2), and the pager cachestat(2),
//!   whether it went.
//! - **UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_CONTINUE, UFFDIO_POISON**: All pages were missing and are filled,
//!   mapped or marked. They also return the bytes that were done, and `userfault::Progress` has both.
//! - **UFFDIO_MOVE**: All pages are at their new place. A missing page is ENOENT, because the mode
//!   UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES is not used.
//! - **UFFDIO_WRITEPROTECT**: A mapped page of the range faults when this process writes to it through its page tables.
//!   A missing page of private memory is not protected: it faults as missing. Direct I/O
//!   and devices write through a pin all the same, so such memory has to be held.
//! - **UFFDIO_REGISTER**: The range is registered. Which ioctls it takes is in the answer, and
//!   `Userfault::register` checks that.
//! - **UFFDIO_UNREGISTER, UFFDIO_WAKE**: Nothing has to be proved: they take effect on the range's mappings, or on
//!   threads that wait now.
//! - **madvise(MADV_POPULATE_WRITE)**: Every page was this process's own at some moment. It may be shared again, so the
//!   pager tries to move it, and goes by the refusal.
//! - **madvise with MADV_NOHUGEPAGE, MADV_HUGEPAGE**: Nothing. They are advice, and no byte depends on them.
//! - **madvise with MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_UNMERGEABLE**: The mapping has
//!   the flag. It is a property of the mapping, and not of its pages.
//! - **mincore, cachestat**: The answer was true at that moment. Callers have claimed the page, or treat a page that
//!   came since as one that stays.
//! - **pread, pwrite**: As many bytes as it returns, which callers compare.

use super::calls::Call;
use super::errno::{Errno, OsResult, checked, last_errno};
use super::seam::Os;
use super::span::Span;
use crate::units::PAGE;

/// How many pages one call of mincore is asked about.
const LOOKS: usize = 512;

/// What backs the memory of a mapping, which decides how it is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backed {
    /// Private anonymous memory of the library's own. It can be given back even if the process locks its memory.
    Anonymous,
    /// A memory file, mapped shared.
    File,
    /// Memory of the caller's that may be given back like private anonymous memory, unless the caller has locked it.
    LentReleasable,
    /// Memory of the caller's that only the caller gives back.
    Lent,
}

impl Os {
    /// Gives the memory of a range back to the system. Returns whether it went; memory of the caller's stays.
    ///
    /// # Errors
    /// `EBUSY` if the system said that memory of a file went, but it did not. The range reads as zero all the same.
    ///
    /// # Safety
    /// The bytes of the range are no longer needed: from here on they read as zero, or stay.
    pub unsafe fn release(&self, at: *mut u8, bytes: usize, kind: Backed) -> OsResult<bool> {
        let advice = match kind {
            Backed::Anonymous | Backed::LentReleasable => libc::MADV_DONTNEED,
            Backed::File => libc::MADV_REMOVE,
            Backed::Lent => return Ok(false),
        };
        self.may(Call::Release)?;
        // SAFETY: the caller vouches that the bytes of the range are dead.
        let give = |advice| checked(unsafe { libc::madvise(at.cast(), bytes, advice) });
        match give(advice) {
            // The process locked its memory. MADV_DONTNEED_LOCKED, since Linux 5.18, takes it back all the same.
            Err(Errno(libc::EINVAL)) if kind == Backed::Anonymous => give(libc::MADV_DONTNEED_LOCKED)?,
            given => given?,
        }
        if kind == Backed::File && remains(at, bytes) { Err(Errno(libc::EBUSY)) } else { Ok(true) }
    }

    /// Whether the system takes back many ranges of private anonymous memory in one call, and flushes the page tables'
    /// caches once for all of them. It is tried on a page that was not touched yet. Systems before Linux 6.13 refuse.
    ///
    /// # Safety
    /// The bytes of the range are no longer needed, as for [`Os::release`].
    pub unsafe fn can_release_many(&self, page: *mut u8) -> bool {
        // SAFETY: the caller vouches for the page.
        let gone = unsafe { self.release_many(&[Span::new(page, PAGE)]) };
        gone == Ok(PAGE)
    }

    /// Gives back ranges of private anonymous memory, in one call. Returns how many bytes went, counted from the front.
    ///
    /// # Safety
    /// The bytes of the range are no longer needed, as for [`Os::release`].
    pub unsafe fn release_many(&self, spans: &[Span]) -> OsResult<usize> {
        /// This process, also after a fork.
        const PIDFD_SELF: libc::c_int = -10_000;
        self.may(Call::Release)?;
        let (first, count) = (spans.as_ptr(), spans.len().min(Span::MOST));
        // SAFETY: a span is an iovec, and `count` of them can be read; the caller vouches for the memory that they
        // name.
        let gone = unsafe {
            libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, first, count, libc::MADV_DONTNEED, 0 as libc::c_uint)
        };
        usize::try_from(gone).map_err(|_| last_errno())
    }
}

/// Whether any page of a range of a memory file is still in the file. If the system does not tell, the answer is no.
fn remains(at: *mut u8, bytes: usize) -> bool {
    let mut seen = [0u8; LOOKS];
    (0..bytes).step_by(LOOKS * PAGE).any(|first| {
        let part = (bytes - first).min(LOOKS * PAGE);
        // SAFETY: the range is the caller's, and a byte for each of its pages can be written.
        let asked = unsafe { libc::mincore(at.wrapping_add(first).cast(), part, seen.as_mut_ptr()) };
        asked == 0 && seen[..part / PAGE].iter().any(|seen| seen & 1 == 1)
    })
}
