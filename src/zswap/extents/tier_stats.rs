//! What a tier has, and what happened on it.

use super::super::tier::TierFailure;
use crate::error::Result;
use crate::latency::{Latencies, LatencyHistogram};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The events of a tier.
pub struct TierCounts {
    puts: AtomicU64,
    put_bytes: AtomicU64,
    loads: AtomicU64,
    moved: AtomicU64,
    full: AtomicU64,
    away: AtomicU64,
    damaged: AtomicU64,
    latencies: Latencies,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Relaxed);
}

impl TierCounts {
    /// Counts nothing yet.
    pub fn new() -> Result<Self> {
        let latencies = Latencies::new()?;
        let [puts, put_bytes, loads, moved, full, away, damaged] = [const { AtomicU64::new(0) }; 7];
        Ok(Self { puts, put_bytes, loads, moved, full, away, damaged, latencies })
    }

    /// Counts an extent that was put.
    pub fn put(&self, bytes: usize) {
        add(&self.puts, 1);
        add(&self.put_bytes, bytes as u64);
    }

    /// Counts a page that was loaded, for which the tier took `nanoseconds`.
    pub fn loaded(&self, nanoseconds: u64) {
        add(&self.loads, 1);
        self.latencies.add(nanoseconds);
    }

    /// Counts pages that were moved away from where they lay.
    pub fn moved(&self, pages: u64) {
        add(&self.moved, pages);
    }

    /// Counts a failure by its cause.
    pub fn failed(&self, failure: TierFailure) {
        add(
            match failure {
                TierFailure::Full => &self.full,
                TierFailure::Away => &self.away,
                TierFailure::Damaged => &self.damaged,
            },
            1,
        );
    }

    /// Fills in what is counted.
    pub fn read_into(&self, stats: &mut TierStats) {
        stats.puts = self.puts.load(Relaxed);
        stats.put_bytes = self.put_bytes.load(Relaxed);
        stats.loads = self.loads.load(Relaxed);
        stats.moved = self.moved.load(Relaxed);
        stats.full = self.full.load(Relaxed);
        stats.away = self.away.load(Relaxed);
        stats.damaged = self.damaged.load(Relaxed);
        stats.load_latencies = self.latencies.read();
    }
}

/// What a tier has, and what happened on it since it was added: what [`crate::Zswap::tier_stats`] returns. The numbers
/// are read one after the other while other threads go on.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TierStats {
    /// The number of the tier.
    pub tier: u32,
    /// Whether it is a file or a device of the library's, and not a tier of the program's own.
    pub is_file: bool,
    /// The number that the names of its extents begin with: [`crate::ExtentId::owner`].
    pub owner: u64,
    /// Pages on the tier now.
    pub pages: u64,
    /// Bytes of these pages, compressed as they are there.
    pub page_bytes: u64,
    /// Bytes of their extents, in whole blocks of 4096 bytes, dead pages included.
    pub bytes: u64,
    /// The most bytes that the tier may have.
    pub max_bytes: u64,
    /// Extents on the tier now. Those count that have no page any more and are to be removed.
    pub extents: u64,
    /// Bytes of memory of the tier's tables and buffers.
    pub memory_bytes: u64,
    /// Extents that were put.
    pub puts: u64,
    /// Bytes of these extents.
    pub put_bytes: u64,
    /// Pages that were loaded from the tier.
    pub loads: u64,
    /// Pages that were cleaned: moved to another extent, so that mostly dead ones could be removed.
    pub moved: u64,
    /// How often the tier had no room for an extent, or for all of its pages.
    pub full: u64,
    /// How often the tier could not be reached, or its file could not be read or written.
    pub away: u64,
    /// How often a page was damaged, lost or that of another time.
    pub damaged: u64,
    /// How long loads of pages waited for the tier. Pages that were read ahead count as well.
    pub load_latencies: LatencyHistogram,
}
