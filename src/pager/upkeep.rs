//! What threads that evict remember of the pool: whether it was full, and when it was compacted.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::sync::atomic::AtomicBool;

/// What the pool needs from the background.
#[derive(Default)]
pub struct Upkeep {
    /// The pool was full: more is written back before the next store finds it so.
    was_full: AtomicBool,
    /// The same, for threads that call tiers of the program's own. Others may write back to files only.
    tiers_were_wanted: AtomicBool,
    /// The pager has tiers of the program's own, or had.
    has_own_tiers: AtomicBool,
    /// How many pages had been compressed when the pool was last looked at.
    looked_at: AtomicU64,
}

impl Upkeep {
    /// Notes that a store found the pool full.
    pub fn note_full(&self) {
        self.was_full.store(true, Relaxed);
    }

    /// Notes that pages have to go to tiers of the program's own, if there may be any. Returns whether a thread that
    /// calls tiers has to be told.
    pub fn want_tiers(&self) -> bool {
        let wanted = self.has_own_tiers() && !self.tiers_were_wanted.load(Relaxed);
        wanted && !self.tiers_were_wanted.swap(true, Relaxed)
    }

    /// Whether pages had to go to tiers of the program's own since the last call. One caller is told.
    pub fn take_wanted_tiers(&self) -> bool {
        self.tiers_were_wanted.load(Relaxed) && self.tiers_were_wanted.swap(false, Relaxed)
    }

    /// Notes that the pager gets a tier of the program's own.
    pub fn note_own_tier(&self) {
        self.has_own_tiers.store(true, Relaxed);
    }

    /// Whether the pager has tiers of the program's own, or had.
    pub fn has_own_tiers(&self) -> bool {
        self.has_own_tiers.load(Relaxed)
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
