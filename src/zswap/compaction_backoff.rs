//! Keeps stores into a full pool from compacting all of it again and again.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Remembers when a store last compacted the whole pool and found no room all the same. To go through the whole pool
/// takes milliseconds, which otherwise each store into a full pool would pay.
pub struct CompactedInVain {
    created: Instant,
    /// Milliseconds after `created`, plus 1; 0: never. Relaxed throughout: it is a hint.
    at: AtomicU64,
}

impl CompactedInVain {
    /// Milliseconds from one compaction in vain to the next.
    const EVERY: u64 = 50;

    /// Nothing was compacted in vain yet.
    pub fn never() -> Self {
        Self { created: Instant::now(), at: AtomicU64::new(0) }
    }

    /// Whether a store compacted in vain a moment ago.
    pub fn lately(&self) -> bool {
        let last = self.at.load(Relaxed);
        last != 0 && self.now() < last + Self::EVERY
    }

    /// Notes that a store compacted in vain just now.
    pub fn note(&self) {
        self.at.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        1 + self.created.elapsed().as_millis() as u64
    }
}
