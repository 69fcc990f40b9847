//! What a forked child has of a pager: neither the regions, nor the staging range, nor the pool, but duplicates of the
//! descriptors and copies of the tables, in whatever state other threads of the parent had left them.

use super::core::Core;
use std::ptr::from_ref;

impl Core {
    /// Lets go of what a forked child has: closes its descriptors, and frees the larger tables. No lock is taken and
    /// nobody is waited for: threads that are not here would be. Nothing is done to the parent's memory, nor at the
    /// addresses where it is there.
    ///
    /// # Safety
    /// This is a forked child, nobody uses the pager any more, and what is left of it is never dropped: handlers of
    /// signals may be looking at it, and see that it is none of theirs.
    pub unsafe fn abandon(&self) {
        for place in &self.places {
            // SAFETY: the caller vouches; who was in a region was so in the parent.
            drop(unsafe { place.abandon() });
        }
        // SAFETY: the caller vouches that none of these is used or dropped again.
        unsafe {
            // One whose pool was inherited would free its pages one by one, of whom others may have been working on
            // some in the parent.
            if self.zswap.pool().check_usable().is_err() {
                drop(from_ref(&self.zswap).read());
            }
            let mut staging = from_ref(&self.staging).read();
            staging.forget();
            drop(staging);
            drop(from_ref(&self.scratch).read());
            drop(from_ref(&self.bell).read());
            drop(from_ref(&self.uffd).read());
        }
    }
}
