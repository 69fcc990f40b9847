//! The lock of a class across a fork.

use super::{ClassState, SizeClass};
use crate::memory::PoolMemory;
#[cfg(doc)]
use crate::sync::Lock;
use crate::sync::Locked;
use std::time::Instant;

impl SizeClass {
    /// Takes the lock, or gives up at `until`, and releases the slots that were deferred.
    pub fn lock_until(&self, memory: &PoolMemory, until: Instant) -> Option<Locked<'_, ClassState>> {
        let mut state = self.state.lock_until(until)?;
        self.release_deferred(&mut state, memory);
        Some(state)
    }

    /// Lets a lock go that was kept across a fork. The child has no threads to end what the parent's were deferring, so
    /// it forgets the deferred slots: they stay taken there.
    ///
    /// # Safety
    /// As [`Lock::resume`].
    pub unsafe fn let_go(&self, in_child: bool) {
        if in_child {
            self.deferred.forget();
        }
        // SAFETY: the caller vouches for it.
        drop(unsafe { self.state.resume() });
    }
}
