//! Statistics of a pool.

use super::Pool;
use crate::error::Result;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// Statistics of a pool, which [`Pool::stats`] returns. A page is 4096 bytes.
///
/// Each figure is exact at its moment. The figures are read one after the other while other threads go on, so two of
/// them may not fit together. Those that count since the pool was created never become less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The limit on the pool's memory in bytes: the one that was set last, or that the pool was created with, or, if
    /// the options had none, what the pool found that it can have. [`Pool::set_max_bytes`] changes it.
    pub max_bytes: u64,
    /// Objects that are allocated now. An object that was freed while mapped counts until its last mapping ends.
    pub objects: u64,
    /// Bytes of the slots of these objects: the sizes asked for, rounded up to their size classes, and the tags.
    pub object_bytes: u64,
    /// Zspages that hold these objects, or are kept for the next ones: runs of pages, cut into at most 64 slots of one
    /// size class.
    pub zspages: u64,
    /// Pages that the pool has from the system now, for objects and tables. At most `max_bytes`, unless the limit was
    /// lowered since. [`Pool::total_pages`] returns it without the rest.
    pub total_pages: u64,
    /// Those of `total_pages` that hold tables. They grow with the number of objects, and go back to the system when a
    /// compaction without bounds finds them unused.
    pub metadata_pages: u64,
    /// Those of `total_pages` that hold no object and are kept for the next ones, so that a few frees and allocations
    /// need no system calls: at most a hundredth of the limit. A compaction without bounds gives them back.
    pub warm_pages: u64,
    /// Chunks of 2 MiB of addresses that have zspages now.
    pub chunks: u64,
    /// Those of `chunks` that have a huge page. The pool takes, charges and gives back their memory whole.
    pub whole_chunks: u64,
    /// Pages that compactions gave back to the system since the pool was created.
    pub pages_compacted: u64,
    /// Objects that compactions moved since the pool was created. One that moves twice counts twice.
    pub objects_moved: u64,
    /// Pages that became free by shrinks since the pool was created.
    pub pages_reclaimed: u64,
}

impl Pool {
    /// Returns the statistics of this moment. Takes a few hundred short locks, one after the other:
    /// [`Pool::total_pages`] costs one load. Allocates nothing. May be called from any thread and from an evict
    /// callback, not from a signal handler.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<PoolStats> {
        self.check_alive()?;
        let (chunks, whole_chunks) = self.memory.open_chunks();
        let mut stats = PoolStats {
            max_bytes: self.memory.charge.limit() * PAGE as u64,
            total_pages: self.total_pages(),
            warm_pages: self.memory.charge.warm(),
            chunks,
            whole_chunks,
            pages_compacted: self.counters.pages_compacted.load(Relaxed),
            objects_moved: self.counters.objects_moved.load(Relaxed),
            pages_reclaimed: self.counters.pages_reclaimed.load(Relaxed),
            ..PoolStats::default()
        };
        for class in &self.classes {
            let state = class.lock(&self.memory);
            stats.zspages += state.zspages as u64;
            let objects = state.live_objects(&self.shelves);
            stats.objects += objects;
            stats.object_bytes += objects * crate::geometry::of(class.index()).slot_bytes as u64;
        }
        stats.metadata_pages = self.memory.table_pages() + self.fixed_pages;
        Ok(stats)
    }

    /// Returns how many objects are allocated.
    pub(super) fn object_count(&self) -> u64 {
        self.classes.iter().map(|class| class.lock(&self.memory).live_objects(&self.shelves)).sum()
    }
}
