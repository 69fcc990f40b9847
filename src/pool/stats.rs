//! What a pool has, as numbers.

use super::Pool;
use crate::error::Result;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// What a pool has. Each figure is right for its moment; they are read one after the other while others go on. Pages
/// are
/// 4096 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most bytes of memory the pool may have: what was asked for, or found.
    pub max_bytes: u64,
    /// Objects that are allocated, those freed while mapped included.
    pub objects: u64,
    /// Bytes of their slots.
    pub object_bytes: u64,
    /// Zspages.
    pub zspages: u64,
    /// Pages that the pool has from the system.
    pub total_pages: u64,
    /// Those of them that hold tables, not objects.
    pub metadata_pages: u64,
    /// Those of them that are kept empty to be used again soon.
    pub warm_pages: u64,
    /// Chunks of 2 MiB in use.
    pub chunks: u64,
    /// Those of them that are committed, and given back, whole.
    pub whole_chunks: u64,
    /// Pages that compactions gave back, since the pool was created.
    pub pages_compacted: u64,
    /// Objects that compactions moved.
    pub objects_moved: u64,
    /// Pages that shrinks freed.
    pub pages_reclaimed: u64,
}

impl Pool {
    /// What the pool has now. Takes the lock of each class in turn; may be called from any thread and from a callback.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<PoolStats> {
        self.check_alive()?;
        let (chunks, whole_chunks) = self.region.open_chunks();
        let mut stats = PoolStats {
            max_bytes: self.region.charge.limit() * PAGE as u64,
            total_pages: self.total_pages(),
            warm_pages: self.region.charge.warm(),
            chunks,
            whole_chunks,
            pages_compacted: self.counters.pages_compacted.load(Relaxed),
            objects_moved: self.counters.objects_moved.load(Relaxed),
            pages_reclaimed: self.counters.pages_reclaimed.load(Relaxed),
            ..PoolStats::default()
        };
        for class in &self.classes {
            let state = class.lock(&self.region);
            stats.zspages += state.zspages as u64;
            stats.objects += state.objects;
            stats.object_bytes += state.objects * crate::classes::class(class.index()).slot_bytes as u64;
        }
        stats.metadata_pages = self.region.table_pages() + self.fixed_pages;
        Ok(stats)
    }

    /// Objects that are allocated.
    pub(super) fn object_count(&self) -> u64 {
        self.classes.iter().map(|class| class.lock(&self.region).objects).sum()
    }
}
