//! What a round found out.

use super::times::Summary;
use super::{PAGE, Problem, Result, memory};
use std::time::Duration;
use zsalloc::{Area, Counts, Zswap};

/// Everything that was found out.
#[derive(Default)]
pub struct Report {
    /// Pages that were stored: the first so many of those that there were.
    pub held: usize,
    /// Why no more were taken, if not all were.
    pub stopped: Option<String>,
    /// The limit, 0: none.
    pub limit: u64,
    /// How often it was met.
    pub limit_hits: u64,
    /// Counts of pages and events once all pages were stored.
    pub counts: Counts,
    /// What there was after each step.
    pub steps: Vec<Step>,
    /// What calls took.
    pub calls: Calls,
    /// Writing back: all of it.
    pub writeback: Duration,
    /// Removing half of the pages: all of it, and how many.
    pub removed: (Duration, u64),
    /// The compaction after that.
    pub compaction: Compaction,
    /// Pages compared with what they were, and found equal.
    pub verified: u64,
}

/// What calls took, of the same pages: stored in their order, loaded in a random one.
#[derive(Default)]
pub struct Calls {
    /// Stores that went well; memory comes from the system meanwhile.
    pub store: Option<Summary>,
    /// The same by plain LZ4 and a copy.
    pub plain_store: Option<Summary>,
    /// Stores of half of the pages into memory that others have left.
    pub store_again: Option<Summary>,
    /// The same by plain LZ4 and a copy.
    pub plain_store_again: Option<Summary>,
    /// Loads from memory.
    pub load: Option<Summary>,
    /// The same by plain LZ4 and a copy.
    pub plain_load: Option<Summary>,
    /// Loads from the backing file.
    pub file_load: Option<Summary>,
}

/// The compaction.
#[derive(Default)]
pub struct Compaction {
    /// Pages of memory that the system got back.
    pub pages: u64,
    /// Objects that it moved for that.
    pub objects_moved: u64,
    /// How long it took.
    pub time: Duration,
}

/// What there was after a step.
pub struct Step {
    /// Which step.
    pub name: &'static str,
    /// Pages in memory: in the pool, or in their page words alone.
    pub pages: u64,
    /// Pages in the pool.
    pub pool_pages: u64,
    /// Pages on the backing file.
    pub file_pages: u64,
    /// Bytes of the slots of the pages in the pool.
    pub slot_bytes: u64,
    /// Bytes of memory of the pool, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory that are no pages: the pool's tables, page words, contexts.
    pub metadata_bytes: u64,
    /// All memory by the zswap's own statistics.
    pub all_bytes: u64,
    /// What the process's resident memory has grown by since before the zswap was created, as the system counts it.
    pub growth_bytes: u64,
}

impl Step {
    /// Reads the figures; `baseline` is what the process had before.
    pub fn new(name: &'static str, zswap: &Zswap, baseline: u64) -> Result<Self> {
        let untold = |error| Problem::Damaged(format!("the zswap tells no figures: {error}"));
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

    /// Pages in the pool to the bytes of their slots. Of nothing there is no ratio.
    pub fn ratio(&self) -> Option<f64> {
        ratio(self.pool_pages, self.slot_bytes)
    }

    /// Pages in memory to all memory by the zswap's own statistics.
    pub fn effective_ratio(&self) -> Option<f64> {
        ratio(self.pages, self.all_bytes)
    }

    /// Pages in memory to what the process has grown by.
    pub fn resident_ratio(&self) -> Option<f64> {
        ratio(self.pages, self.growth_bytes)
    }
}

fn ratio(pages: u64, bytes: u64) -> Option<f64> {
    (pages > 0 && bytes > 0).then(|| (pages * PAGE as u64) as f64 / bytes as f64)
}

/// How many pages were loaded from the backing file.
pub fn file_loads(area: &Area) -> Result<u64> {
    let stats = area.stats().map_err(|error| Problem::Damaged(format!("the area tells no figures: {error}")))?;
    Ok(stats.counts.file_loads)
}
