//! Room in the pool for an entry: the pool is compacted before a store is refused for lack of memory.

use super::area::AreaState;
use super::codec::Context;
use super::entry::{self, Seed, Stored};
use super::pool_objects::NewEntry;
use crate::error::{Error, Result};
use crate::pool::{Allowance, CompactBudget};
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;
use std::time::Duration;

/// What one step of compaction may move before the store tries again: some 250 pages, a millisecond.
const BUDGET_BYTES: u64 = 1 << 20;
const BUDGET: CompactBudget =
    CompactBudget { max_bytes_moved: Some(BUDGET_BYTES), max_time: Some(Duration::from_millis(1)) };
/// How many steps in a row may end by the clock, with nothing moved: some 20 ms. A thread that lost its processor for a
/// millisecond has not seen yet whether there is something to move.
const CUT_SHORT: u32 = 20;
/// How often a store waits for another thread that is compacting, at most: some 50 ms.
const OTHERS: u64 = 100;

/// How a page was compressed, into the entry that a context has.
#[derive(Clone, Copy)]
pub struct Packed {
    pub stored: Stored,
    /// Bytes of the entry. Its header is not filled in yet.
    pub bytes: usize,
    /// Bytes of the slot that the entry takes.
    pub slot_bytes: usize,
}

impl AreaState {
    /// Puts the entry of a context into the pool.
    pub(super) fn put(&self, seed: Seed, packed: Packed, context: &mut Context) -> Result<NewEntry<'_>> {
        let Packed { stored, bytes, slot_bytes } = packed;
        let object = self.allocate(bytes)?;
        let padded = context.entry(bytes.next_multiple_of(16));
        entry::seal(&mut padded[..bytes], slot_bytes, seed, stored);
        let raw = stored == Stored::Raw;
        // SAFETY: the object is this thread's, and mapped. Each slot is a multiple of 16 bytes, as is `padded`.
        Ok(unsafe { NewEntry::write(&self.shared.pool, object, (padded, bytes), slot_bytes as u64, raw) })
    }

    /// Allocates an object, mapped. Compacts before it gives up, for as long as that moves anything.
    fn allocate(&self, bytes: usize) -> Result<(u64, *mut u8)> {
        match self.shared.pool.malloc_mapped_raw(bytes) {
            Err(Error::NoMemory(_) | Error::Limit(_)) => self.allocate_by_compaction(bytes),
            done => done,
        }
    }

    #[cold]
    fn allocate_by_compaction(&self, bytes: usize) -> Result<(u64, *mut u8)> {
        let (shared, pool) = (&self.shared, &self.shared.pool);
        shared.capacity_hits.fetch_add(1, Relaxed);
        // In steps, each of which may be enough. There are no more of them than it takes to move all there is.
        let steps = pool.total_pages() * PAGE as u64 / BUDGET_BYTES + OTHERS;
        let (mut wait, mut cut_short) = (Wait::default(), 0);
        for _ in 0..steps {
            let compacted = pool.try_to_compact(BUDGET.begin());
            let made = pool.malloc_mapped_raw(bytes);
            match (made, compacted) {
                (Err(Error::NoMemory(_) | Error::Limit(_)), Some(done)) if done.is_idle() => {
                    cut_short += 1;
                    if !done.is_cut_short || cut_short == CUT_SHORT {
                        break;
                    }
                }
                (Err(Error::NoMemory(_) | Error::Limit(_)), Some(_)) => cut_short = 0,
                // Another thread is making room.
                (Err(Error::NoMemory(_) | Error::Limit(_)), None) => wait.a_moment(),
                (done, _) => return done,
            }
        }
        // A compaction with a budget leaves warm memory alone, some percent of a small pool. One without a budget gives
        // that back too.
        if shared.compacted_in_vain.lately() {
            return pool.malloc_mapped_raw(bytes);
        }
        let mut others = 0;
        loop {
            let compacted = pool.try_to_compact(Allowance::UNBOUNDED);
            match (pool.malloc_mapped_raw(bytes), compacted) {
                // Each round may empty what the round before has sorted.
                (Err(Error::NoMemory(_) | Error::Limit(_)), Some(done)) if done.pages > 0 => {}
                (Err(error), Some(_)) => {
                    shared.compacted_in_vain.note();
                    return Err(error);
                }
                // Another thread is making room. Whether that is in vain is for it to note.
                (Err(Error::NoMemory(_) | Error::Limit(_)), None) if others < OTHERS => {
                    others += 1;
                    wait.a_moment();
                }
                (done, _) => return done,
            }
        }
    }
}
