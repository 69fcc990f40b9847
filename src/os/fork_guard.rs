//! Telling a forked child from its parent.

use super::calls::Call;
use super::errno::{Errno, OsResult, checked};
use super::seam::Os;
use crate::units::PAGE;
use memmap2::MmapMut;

/// Tells the process that created it from the children that it forked since: a page that the system wipes in a child.
pub struct ForkGuard(MmapMut);

impl Os {
    /// Creates a guard, in the process that is the parent.
    pub fn fork_guard(&self) -> OsResult<ForkGuard> {
        self.may(Call::ForkGuard)?;
        let mut page = MmapMut::map_anon(PAGE)?;
        // SAFETY: a page of its own; in this process the advice changes nothing.
        let wiped = unsafe { libc::madvise(page.as_mut_ptr().cast(), PAGE, libc::MADV_WIPEONFORK) };
        // EAGAIN: the system would have to split the mapping, which may be part of a larger one, and has no memory.
        checked(wiped).map_err(|errno| Errno(if errno.0 == libc::EAGAIN { libc::ENOMEM } else { errno.0 }))?;
        page[0] = 1;
        Ok(ForkGuard(page))
    }
}

impl ForkGuard {
    /// Whether this is a child that was forked after the guard was created.
    #[inline]
    pub fn in_child(&self) -> bool {
        // Volatile, because the system changes the page behind the compiler's back, in a fork.
        // SAFETY: the page is mapped for as long as the guard lives.
        unsafe { self.0.as_ptr().read_volatile() == 0 }
    }
}
