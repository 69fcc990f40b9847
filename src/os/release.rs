//! Giving memory back to the system, and what the system's answers prove.
//!
//! A system call that returns 0 may have done less than it was asked for. This is what 0 proves of each call that this
//! crate has memory taken, filled or protected by, and what is checked besides:
//!
//! - **madvise(MADV_DONTNEED), private memory**: The range is out of the page tables, and private memory is nowhere
//!   else: it reads as zero. A pin keeps the old page for its holder, which does not count here.
//! - **process_madvise(MADV_DONTNEED)**: The same for as many bytes as it returns. Callers compare that with what
//!   they asked for.
//! - **madvise(MADV_REMOVE), fallocate(FALLOC_FL_PUNCH_HOLE)**: The range reads as zero, no more. A part of a huge
//!   page that can't be split stays in the file. [`Os::release`] asks mincore(2), and the pager cachestat(2),
//!   whether it went.
//! - **UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_CONTINUE, UFFDIO_POISON**: All pages were missing and are filled,
//!   mapped or marked. They return the bytes that were done besides, and `userfault::Progress` has both.
//! - **UFFDIO_MOVE**: All pages are at their new place. Without UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, which is not
//!   used, a missing one is ENOENT.
//! - **UFFDIO_WRITEPROTECT**: A page that is mapped in the range faults when this process writes it by its tables.
//!   A missing page of private memory is not protected: it faults as missing. A pin, for direct I/O or a device,
//!   writes all the same: such memory has to be held.
//! - **UFFDIO_REGISTER**: The range is registered. Which ioctls it takes is in the answer, and
//!   `Userfault::register` checks that.
//! - **UFFDIO_UNREGISTER, UFFDIO_WAKE**: There is nothing to prove: they take effect on the range's mappings, or on
//!   threads that wait now.
//! - **madvise(MADV_POPULATE_WRITE)**: Every page was this process's own at some moment. It may be shared again:
//!   moving it is tried, and its refusal is what counts.
//! - **madvise with MADV_NOHUGEPAGE, MADV_HUGEPAGE**: Nothing. They are advice, and no byte depends on them.
//! - **madvise with MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_UNMERGEABLE**: The mapping has
//!   the flag. It is a property of the mapping, and not of its pages.
//! - **mincore, cachestat**: What was so at that moment. Callers have the page claimed, or take a page that came
//!   since for one that stays.
//! - **pread, pwrite**: As many bytes as it returns, which callers compare.

use super::{Call, Errno, Kind, Os, Result, Span, checked, last_errno};
use crate::units::PAGE;

/// Pages that mincore is asked about at once.
const LOOKS: usize = 512;

impl Os {
    /// Gives the memory of a range back to the system. True: it went; false: it is the caller's and stays.
    ///
    /// # Errors
    /// `EBUSY` if the system said that memory of a file went, and it did not. It reads as zero all the same.
    ///
    /// # Safety
    /// Nobody may need the bytes of the range any more: they read as zero, or stay, from here on.
    pub unsafe fn release(&self, at: *mut u8, bytes: usize, kind: Kind) -> Result<bool> {
        let advice = match kind {
            Kind::Anonymous | Kind::LentReleasable => libc::MADV_DONTNEED,
            Kind::File => libc::MADV_REMOVE,
            Kind::Lent => return Ok(false),
        };
        self.may(Call::Release)?;
        // SAFETY: the caller vouches that the bytes of the range are dead.
        let give = |advice| checked(unsafe { libc::madvise(at.cast(), bytes, advice) });
        match give(advice) {
            // It is locked, by an mlockall. Since Linux 5.18.
            Err(Errno(libc::EINVAL)) if kind == Kind::Anonymous => give(libc::MADV_DONTNEED_LOCKED)?,
            given => given?,
        }
        if kind == Kind::File && remains(at, bytes) { Err(Errno(libc::EBUSY)) } else { Ok(true) }
    }

    /// Whether the system takes back many ranges of private anonymous memory in one call, and looks through the page
    /// tables' caches once for all. Tried on a page that nobody has touched yet; systems before Linux 6.13 refuse.
    ///
    /// # Safety
    /// As for [`Os::release`].
    pub unsafe fn can_release_many(&self, page: *mut u8) -> bool {
        // SAFETY: the caller vouches for the page.
        let gone = unsafe { self.release_many(&[Span::new(page, PAGE)]) };
        gone == Ok(PAGE)
    }

    /// Gives back ranges of private anonymous memory, in one call. Returns how many bytes went, from the front on.
    ///
    /// # Safety
    /// As for [`Os::release`].
    pub unsafe fn release_many(&self, spans: &[Span]) -> Result<usize> {
        /// This process, also after a fork.
        const PIDFD_SELF: libc::c_int = -10_000;
        self.may(Call::Release)?;
        let (first, count) = (spans.as_ptr(), spans.len().min(Span::MOST));
        // SAFETY: a span is an iovec, and so many can be read; the caller vouches for what they name.
        let gone = unsafe {
            libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, first, count, libc::MADV_DONTNEED, 0 as libc::c_uint)
        };
        usize::try_from(gone).map_err(|_| last_errno())
    }
}

/// Whether any page of a range of a memory file is still in the file. Where the system does not tell, none is.
fn remains(at: *mut u8, bytes: usize) -> bool {
    let mut seen = [0u8; LOOKS];
    (0..bytes).step_by(LOOKS * PAGE).any(|first| {
        let part = (bytes - first).min(LOOKS * PAGE);
        // SAFETY: the range is the caller's, and a byte for each of its pages can be written.
        let asked = unsafe { libc::mincore(at.wrapping_add(first).cast(), part, seen.as_mut_ptr()) };
        asked == 0 && seen[..part / PAGE].iter().any(|seen| seen & 1 == 1)
    })
}
