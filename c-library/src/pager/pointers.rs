//! The argument that only the pager's functions have: a pager.

use super::types::zspager_stats;
use super::zspager;
use crate::export::{Argument, CallFromC, Output, fills_statistics};
use crate::wrong::Wrong;
use std::ops::Deref;
use std::ptr::NonNull;
use zsalloc::plumbing::sentence;
use zsalloc::plumbing::{PagerForC, Uncancelled, boxed};
use zsalloc::{Error, Pager, Result};

fills_statistics!(zspager_stats);

impl Output for *mut zspager {}

/// A pager that C passed.
pub struct PagerPointer(NonNull<zspager>);

impl PagerPointer {
    /// Returns the pointer for C, which owns the pager from now on.
    pub fn give(rust: Pager) -> Result<*mut zspager> {
        boxed(zspager { rust }).map(Box::into_raw)
    }

    /// Brings all pages back and destroys the pager. If that fails with [`Error::Again`] or
    /// [`Error::Busy`], the pager still exists, possibly with fewer regions.
    ///
    /// # Safety
    /// After success, or [`Error::Damaged`], the caller does not use the pager again.
    pub unsafe fn destroy(self) -> Result<()> {
        const LENT: Error = Error::Busy(sentence(
            &"threads are lent to the pager: call zspager_stop(), and wait until they have returned",
        ));
        let pager: &Pager = &self;
        // A forked child has neither the parent's lent threads nor its regions.
        let forked = pager.check_usable().is_err();
        if !forked && pager.lent_threads() != 0 {
            return Err(LENT);
        }
        let damaged = match pager.remove_all_regions() {
            Err(refused @ Error::Again(_)) => return Err(refused),
            Err(Error::Forked) => Ok(()),
            removed => removed,
        };
        let _whole = Uncancelled::new();
        // SAFETY: the pointer came from the Box in `give`, and the caller does not use it again.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        damaged
    }
}

impl Deref for PagerPointer {
    type Target = Pager;
    fn deref(&self) -> &Pager {
        // SAFETY: the caller passed a pager that was created and lives throughout the call.
        unsafe { &self.0.as_ref().rust }
    }
}

impl<'call> Argument<'call> for *mut zspager {
    type Checked = PagerPointer;
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<PagerPointer> {
        NonNull::new(self).map(PagerPointer).ok_or(wrong.null)
    }
}
