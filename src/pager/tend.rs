//! Keeping the pool compact. A lent thread that evicts does it, or else each thread that makes room for itself, a
//! little at a time.

use super::core::Core;
use crate::pool::CompactBudget;
use crate::units::PAGE;
use std::time::Duration;

/// A pool is sparse if its memory exceeds the bytes of its slots by more than 1/32 of them plus [`TABLES`].
const SPARSE: u64 = 32;
/// Bytes of a pool's tables, or a little more.
const TABLES: u64 = 1 << 20;
/// Pages that are compressed between two looks of a lent thread at whether the pool is sparse.
const LENT_EVERY: u64 = 1024;
/// How much a lent thread compacts at once. Touches may be waiting for what the thread does next.
const LENT: CompactBudget = CompactBudget { max_bytes_moved: Some(1 << 20), max_time: Some(Duration::from_millis(1)) };
/// Pages that are compressed between two looks of threads that make room for themselves.
const TOUCH_EVERY: u64 = 256;
/// How much such a thread compacts at once: its touch waits, some 0.1 ms.
const TOUCH: CompactBudget =
    CompactBudget { max_bytes_moved: Some(256 << 10), max_time: Some(Duration::from_micros(100)) };

impl Core {
    /// Compacts the pool a little if it has much more memory than its slots, once in a while. Pages that come back to
    /// memory leave holes, and the pages that take their places are of other sizes.
    pub fn compact_if_sparse(&self) {
        self.compact_within(LENT_EVERY, &LENT);
    }

    /// Compacts the pool as [`Core::compact_if_sparse`] does, if no lent thread does it: less at once, and more often.
    pub fn compact_alone(&self) {
        if !self.lending.has_evictors() {
            self.compact_within(TOUCH_EVERY, &TOUCH);
        }
    }

    fn compact_within(&self, every: u64, budget: &CompactBudget) {
        if !self.upkeep.is_look_due(self.counters.stored(), every) {
            return;
        }
        let used = self.zswap.used_bytes();
        let pool = self.zswap.pool();
        if pool.total_pages() * PAGE as u64 > used + used / SPARSE + TABLES {
            // It does nothing if another thread is compacting.
            let _ = pool.compact(budget);
        }
    }
}
