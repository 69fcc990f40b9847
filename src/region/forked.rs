//! The locks of a region across a fork.

use super::Region;
use crate::sync::Locked;
use std::time::Instant;

impl Region {
    /// Keeps the locks of handles and arena, unless that takes longer than `until`.
    pub fn keep_locks(&self, until: Instant) -> bool {
        let Some(handles) = self.handles.lock_until(until) else { return false };
        let Some(mut arena) = self.arena.lock_until(until) else { return false };
        self.settle_limbo(&mut arena);
        arena.keep();
        handles.keep();
        true
    }

    /// Lets them go. In the child, which has no threads to end what they had begun, the zspages that they were giving
    /// back stay taken.
    ///
    /// # Safety
    /// [`Region::keep_locks`] kept them, and this is called once for that, in the parent or in the child.
    pub unsafe fn let_go_of_locks(&self, in_child: bool) {
        if in_child {
            self.limbo.forget();
        }
        // SAFETY: the caller vouches for both.
        let kept: (Locked<'_, _>, Locked<'_, _>) = unsafe { (self.arena.resume(), self.handles.resume()) };
        drop(kept);
    }
}
