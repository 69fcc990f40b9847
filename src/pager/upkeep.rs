//! What threads that evict remember of the pool: whether it was full, and when it was compacted.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::sync::atomic::AtomicBool;

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

    /// Whether it is time to look if the pool is sparse, after `stored` pages were compressed: `every` so many. One
    /// caller is told.
    pub fn is_look_due(&self, stored: u64, every: u64) -> bool {
        let last = self.looked_at.load(Relaxed);
        // Relaxed: it decides which thread looks, and hands nothing over.
        (every..u64::MAX / 2).contains(&stored.wrapping_sub(last))
            && self.looked_at.compare_exchange(last, stored, Relaxed, Relaxed).is_ok()
    }

    /// Lets a test start near the wrap of the count of stored pages.
    #[cfg(test)]
    pub fn set_looked_at(&self, stored: u64) {
        self.looked_at.store(stored, Relaxed);
    }
}
