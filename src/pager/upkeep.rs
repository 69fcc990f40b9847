//! What threads that evict in the background remember of the pool: whether it was full, and when it was compacted.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::sync::atomic::AtomicBool;

/// Pages that are compressed between two looks at whether the pool is sparse.
const COMPACT_EVERY: u64 = 1024;

/// What the pool needs from the background.
#[derive(Default)]
pub struct Upkeep {
    /// The pool was full: more is written back before the next store finds it so.
    was_full: AtomicBool,
    /// How many pages had been compressed when the pool was last looked at.
    looked_at: AtomicU64,
}

impl Upkeep {
    /// Notes that a store found the pool full.
    pub fn note_full(&self) {
        self.was_full.store(true, Relaxed);
    }

    /// Whether the pool was full since the last call. One caller is told.
    pub fn take_full(&self) -> bool {
        self.was_full.load(Relaxed) && self.was_full.swap(false, Relaxed)
    }

    /// Whether it is time to look if the pool is sparse, after `stored` pages were compressed. The next time comes
    /// [`COMPACT_EVERY`] pages later.
    pub fn is_look_due(&self, stored: u64) -> bool {
        let is_due = stored.wrapping_sub(self.looked_at.load(Relaxed)) >= COMPACT_EVERY;
        if is_due {
            self.looked_at.store(stored, Relaxed);
        }
        is_due
    }

    /// Lets a test start near the wrap of the count of stored pages.
    #[cfg(test)]
    pub fn set_looked_at(&self, stored: u64) {
        self.looked_at.store(stored, Relaxed);
    }
}
