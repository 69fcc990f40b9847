//! The argument that only the pager's functions have: a pager.

use super::types::zspager_stats;
use super::zspager;
use crate::export::{Argument, Call, NULL, Output, fills_statistics};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use zsalloc::plumbing::{Uncancelled, boxed};
use zsalloc::{Duty, Error, Pager, Result};

fills_statistics!(zspager_stats);

impl Output for *mut zspager {}

/// A pager that C named.
pub struct PagerPointer(NonNull<zspager>);

/// Counts a thread for as long as it is lent, also if it panics.
struct LentThread<'a>(&'a AtomicUsize);

impl<'a> LentThread<'a> {
    fn new(lent: &'a AtomicUsize) -> Self {
        lent.fetch_add(1, SeqCst);
        Self(lent)
    }
}

impl Drop for LentThread<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl PagerPointer {
    /// The pointer for C, which holds the pager from now on.
    pub fn give(rust: Pager) -> Result<*mut zspager> {
        boxed(zspager { rust, lent: AtomicUsize::new(0) }).map(Box::into_raw)
    }

    /// Lends the calling thread, and counts it meanwhile.
    pub fn lend(&self, duty: Duty) -> Result<()> {
        let _lent = LentThread::new(self.lent());
        self.run(duty)
    }

    /// Brings all pages back and destroys it, or leaves it as it was, without some of its regions.
    ///
    /// # Safety
    /// The caller uses it no more, if this succeeds or fails with [`Error::Io`].
    pub unsafe fn destroy(self) -> Result<()> {
        const LENT: Error = Error::Busy(&"threads are lent to the pager: zspager_stop() gives them back");
        let pager: &Pager = &self;
        // Threads that were lent in the parent are not here, and neither are the regions.
        let forked = pager.check_usable().is_err();
        if !forked && self.lent().load(SeqCst) != 0 {
            return Err(LENT);
        }
        let damaged = match pager.remove_all_regions() {
            Err(refused @ Error::Again(_)) => return Err(refused),
            Err(Error::Forked) => Ok(()),
            removed => removed,
        };
        let _whole = Uncancelled::new();
        // SAFETY: the pointer came from the Box in `give`, and the caller uses it no more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        damaged
    }

    fn lent(&self) -> &AtomicUsize {
        // SAFETY: as for `deref`.
        unsafe { &self.0.as_ref().lent }
    }
}

impl Deref for PagerPointer {
    type Target = Pager;
    fn deref(&self) -> &Pager {
        // SAFETY: the caller passed one that was created and not destroyed yet, and it stays so throughout the call.
        unsafe { &self.0.as_ref().rust }
    }
}

impl<'call> Argument<'call> for *mut zspager {
    type Checked = PagerPointer;
    unsafe fn check(self, _: &'call Call) -> Result<PagerPointer> {
        NonNull::new(self).map(PagerPointer).ok_or(NULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_that_panics_is_not_lent_any_more() {
        let lent = AtomicUsize::new(0);
        let panicked = std::panic::catch_unwind(|| {
            let _lent = LentThread::new(&lent);
            assert_eq!(lent.load(SeqCst), 2, "the test asked for it");
        });
        assert!(panicked.is_err());
        assert_eq!(lent.load(SeqCst), 0);
    }
}
