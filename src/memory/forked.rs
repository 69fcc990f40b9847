//! The locks of a pool's memory across a fork.

use super::PoolMemory;
use crate::sync::Locked;
use std::time::Instant;

impl PoolMemory {
    /// Takes and keeps the locks of the handle supply and the arena. Returns false if that takes longer than `until`.
    pub fn keep_locks(&self, until: Instant) -> bool {
        let Some(mut handles) = self.handles.lock_until(until) else { return false };
        self.settle_left(&mut handles);
        let Some(mut arena) = self.arena.lock_until(until) else { return false };
        self.settle_limbo(&mut arena);
        arena.keep();
        handles.keep();
        true
    }

    /// Lets the kept locks go. The child has no threads to end what the parent's had begun, so the zspages that they
    /// were giving back stay taken there.
    ///
    /// # Safety
    /// [`PoolMemory::keep_locks`] kept them, and this is called once for that, in the parent or in the child.
    pub unsafe fn let_go_of_locks(&self, in_child: bool) {
        if in_child {
            self.limbo.forget();
            self.left_handles.forget();
        }
        // SAFETY: the caller vouches for both.
        let kept: (Locked<'_, _>, Locked<'_, _>) = unsafe { (self.arena.resume(), self.handles.resume()) };
        drop(kept);
    }
}
