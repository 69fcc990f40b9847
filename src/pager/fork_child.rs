//! What a forked child has of a pager: neither the regions, nor the staging range, nor the pool, but duplicates of the
//! descriptors and copies of the tables. The tables are in whatever state other threads of the parent had left them.

use super::core::Core;
use std::ptr::from_ref;

impl Core {
    /// Closes the descriptors of a forked child, and frees the larger tables. Takes no lock and waits for nobody: the
    /// threads that it would wait for are not here. Does nothing to the parent's memory, nor at its addresses in the
    /// child.
    ///
    /// This is a forked child, nobody uses the pager any more, and what is left of it is never dropped: signal handlers
    /// may be looking at it, and see that they are in a child.
    pub unsafe fn abandon(&self) {
        for place in &self.places {
            // SAFETY: the caller vouches that this is a child. The threads that were in a region are the parent's.
            drop(unsafe { place.abandon() });
        }
        // SAFETY: the caller vouches that none of these is used or dropped again.
        unsafe {
            // An inherited pool would be freed page by page, but the parent's other threads may have left some half
            // changed.
            if self.zswap.pool().check_usable().is_err() {
                drop(from_ref(&self.zswap).read());
            }
            let mut staging = from_ref(&self.staging).read();
            staging.forget();
            drop(staging);
            drop(from_ref(&self.scratch).read());
            self.lending.abandon();
            drop(from_ref(&self.uffd).read());
        }
    }
}
