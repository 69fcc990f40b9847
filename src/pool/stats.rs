//! Statistics of a pool.

use super::Pool;
use crate::error::Result;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// Statistics of a pool. Pages have 4096 bytes. Each figure is exact at its moment. The figures are read one after the
/// other, while other threads go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// The limit in bytes on the pool's memory, as it was asked for or found.
    pub max_bytes: u64,
    /// Objects that are allocated, with those that were freed and are still mapped.
    pub objects: u64,
    /// Bytes of the slots of all objects.
    pub object_bytes: u64,
    /// Zspages in use.
    pub zspages: u64,
    /// Pages that the pool has from the system.
    pub total_pages: u64,
    /// Pages of the pool that hold tables, not objects.
    pub metadata_pages: u64,
    /// Pages of the pool that are kept empty, to be used again soon.
    pub warm_pages: u64,
    /// Chunks of 2 MiB in use.
    pub chunks: u64,
    /// Chunks in use that have a huge page: they are committed, and given back, whole.
    pub whole_chunks: u64,
    /// Pages that compactions gave back since the pool was created.
    pub pages_compacted: u64,
    /// Objects that compactions moved since the pool was created.
    pub objects_moved: u64,
    /// Pages that shrinks freed since the pool was created.
    pub pages_reclaimed: u64,
}

impl Pool {
    /// Returns the statistics of this moment. Takes the lock of each class in turn. May be called from any thread and
    /// from a callback.
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
            stats.objects += state.objects;
            stats.object_bytes += state.objects * crate::geometry::of(class.index()).slot_bytes as u64;
        }
        stats.metadata_pages = self.memory.table_pages() + self.fixed_pages;
        Ok(stats)
    }

    /// Returns how many objects are allocated.
    pub(super) fn object_count(&self) -> u64 {
        self.classes.iter().map(|class| class.lock(&self.memory).objects).sum()
    }
}
