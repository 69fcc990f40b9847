//! The results of a round.

use super::times::Summary;
use super::{PAGE, Problem, Result, memory};
use std::time::Duration;
use zsalloc::{Area, Counts, TierSnapshot, Zswap};

/// All results.
#[derive(Default)]
pub struct Report {
    /// Pages that were stored: this many of the first ones.
    pub held: usize,
    /// Why no more pages were taken, if not all were.
    pub stopped: Option<String>,
    /// Why pages stayed in memory that were to leave it, if some did.
    pub kept: Option<&'static str>,
    /// The limit in bytes, if there is one.
    pub limit: Option<u64>,
    /// How often the limit was reached.
    pub limit_hits: u64,
    /// Counts of pages and events when all pages were stored, and had left memory if they were to.
    pub counts: Counts,
    /// What the tiers had when all pages were loaded in random order.
    pub tiers: Vec<TierSnapshot>,
    /// Memory after each step.
    pub steps: Vec<Step>,
    /// Times of calls.
    pub calls: Calls,
    /// Time of all writeback.
    pub writeback: Duration,
    /// Time to remove half of the pages, and how many those were.
    pub removed: (Duration, u64),
    /// The compaction after that.
    pub compaction: Compaction,
    /// Page loads that were compared and found equal.
    pub verified: u64,
}

/// Times of calls on the same pages: stored in order, loaded in random order.
#[derive(Default)]
pub struct Calls {
    /// Successful stores, while the system provides memory.
    pub store: Option<Summary>,
    /// The same stores by plain LZ4 and a copy.
    pub plain_store: Option<Summary>,
    /// Stores of half of the pages into memory that removed pages left.
    pub store_again: Option<Summary>,
    /// The same stores by plain LZ4 and a copy, into memory that it already has.
    pub plain_store_again: Option<Summary>,
    /// Loads from memory, in random order.
    pub load: Option<Summary>,
    /// The same loads by plain LZ4 and a copy.
    pub plain_load: Option<Summary>,
    /// Loads from tiers, in random order.
    pub file_load: Option<Summary>,
    /// Loads of the same pages in order.
    pub file_load_in_order: Option<Summary>,
}

/// Results of a compaction.
#[derive(Default)]
pub struct Compaction {
    /// Pages of memory that the system got back.
    pub pages: u64,
    /// Objects moved.
    pub objects_moved: u64,
    /// Duration.
    pub time: Duration,
}

/// Memory after a step.
pub struct Step {
    /// Name of the step.
    pub name: &'static str,
    /// Pages in memory: in the pool, or in their page words alone.
    pub pages: u64,
    /// Pages in the pool.
    pub pool_pages: u64,
    /// Pages on tiers.
    pub file_pages: u64,
    /// Bytes of the slots of the pages in the pool.
    pub slot_bytes: u64,
    /// Bytes of memory of the pool, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory other than pages: the pool's tables, page words, contexts.
    pub metadata_bytes: u64,
    /// All memory, by the zswap's own statistics.
    pub all_bytes: u64,
    /// Growth of the process's resident memory since before the zswap was created, as the system counts it.
    pub growth_bytes: u64,
}

impl Step {
    /// Reads the figures. `baseline` is the process's resident memory from before the zswap.
    pub fn new(name: &'static str, zswap: &Zswap, baseline: u64) -> Result<Self> {
        let untold = |error| Problem::Damaged(format!("the zswap's statistics can't be read: {error}"));
        let growth_bytes = memory::resident()?.saturating_sub(baseline);
        let stats = zswap.stats().map_err(untold)?;
        let tables = zswap.pool_stats().map_err(untold)?.metadata_pages * PAGE as u64;
        Ok(Self {
            name,
            pages: stats.counts.pool_pages() + stats.counts.filled_pages,
            pool_pages: stats.counts.pool_pages(),
            file_pages: stats.counts.file_pages,
            slot_bytes: stats.used_bytes,
            pool_bytes: stats.pool_bytes,
            metadata_bytes: stats.metadata_bytes,
            all_bytes: stats.pool_bytes + stats.metadata_bytes - tables,
            growth_bytes,
        })
    }

    /// Returns bytes of pages in the pool over bytes of their slots; none without pages.
    pub fn ratio(&self) -> Option<f64> {
        ratio(self.pool_pages, self.slot_bytes)
    }

    /// Returns bytes of pages in memory over all memory by the zswap's own statistics.
    pub fn effective_ratio(&self) -> Option<f64> {
        ratio(self.pages, self.all_bytes)
    }

    /// Returns bytes of pages in memory over the growth of the process.
    pub fn resident_ratio(&self) -> Option<f64> {
        ratio(self.pages, self.growth_bytes)
    }
}

fn ratio(pages: u64, bytes: u64) -> Option<f64> {
    (pages > 0 && bytes > 0).then(|| (pages * PAGE as u64) as f64 / bytes as f64)
}

/// Returns how many pages were loaded from tiers.
pub fn file_loads(area: &Area) -> Result<u64> {
    let stats = area.stats().map_err(|error| Problem::Damaged(format!("the area's statistics: {error}")))?;
    Ok(stats.counts.file_loads)
}
