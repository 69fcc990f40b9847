//! The statistics of a pager: counters, latencies, and the form in which callers read them.

use crate::latency::LatencyHistogram;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters, each of which only grows.
        #[derive(Default)]
        pub struct Counters {
            $(pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Reads all counters.
            pub fn read(&self) -> PagerCounts {
                PagerCounts { $($name: self.$name.load(Relaxed),)* }
            }
        }

        /// What a pager did since it was created. Each number only grows, and is read by itself: a sum of two may be
        /// off by what happened in between.
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct PagerCounts {
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Touches that were served, of every kind. Pages that a hold or the removal of a region asked for count as well.
    faults,
    /// Pages that were loaded from zswap, or from its file, because they were touched.
    loads,
    /// Pages that were loaded ahead of a touch.
    loads_ahead,
    /// Pages that were touched while they were staged, and moved back.
    rescues,
    /// Pages that were touched for the first time, or after their owner gave them back.
    zero_fills,
    /// Writes to pages that had kept their compressed copy.
    first_writes,
    /// Pages that were moved to the staging range.
    staged,
    /// Pages that were compressed.
    stored,
    /// Pages that were dropped without being compressed, because their compressed copy was kept.
    dropped,
    /// Touches and holds that had to make room themselves: lend a thread that evicts, or give it more processor time.
    direct_reclaims,
    /// Pages that were let in above the limit because none could leave: the pool was full and nothing could be written
    /// back, or what is left is held, immovable, or being evicted by others. In the first case raise the limit of the
    /// pool or add a backing file; if there is one, the zswap's `writeback_no_space` tells that it is full, and
    /// `writeback_io` that it fails. Otherwise hold less, or raise the limit.
    over_limit,
    /// Pages that were picked to be evicted and stayed, because the system has them pinned or locked, or refused. The
    /// same page counts each time.
    pinned,
    /// Pages that the owner gave back, unmapped or discarded, and all pages of regions that were removed.
    discarded,
    /// Pages whose compressed copy was damaged, and that were poisoned.
    poisoned,
    /// Events that were read: discards, moves and unmaps by the owner.
    events,
    /// Attempts to put a page in place that did not succeed: the memory was changing, the system refused, or the
    /// backing file could not be read. Some are usual. If there are many for few faults, the system lacks memory,
    /// owners move and unmap all the time, or the file fails, which the zswap counts as `file_read_failures`.
    retries,
    /// Touches, and pages that a hold or the removal of a region asked for, that were given up after a second or so:
    /// the system refused, the backing file could not be read, or the memory was changing all the time. Nothing is
    /// lost. The touch got SIGBUS; a lent thread gives up sooner, and the touch waits, is tried again, and counts
    /// again. Damaged pages are not counted here.
    failed,
}

/// Adds to a counter. Relaxed: a counter orders nothing.
#[inline]
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

/// The statistics of a pager.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PagerStats {
    /// The resident limit: the most bytes of pages of regions and the staging range together. `None`, in JSON null: no
    /// limit.
    pub resident_limit_bytes: Option<u64>,
    /// Bytes of pages of regions and the staging range that are in memory now.
    pub resident_bytes: u64,
    /// Bytes of resident pages that are in the staging range.
    pub staged_bytes: u64,
    /// Bytes of pages that are held.
    pub held_bytes: u64,
    /// Bytes of addresses of all regions.
    pub region_bytes: u64,
    /// The number of regions.
    pub regions: u64,
    /// Bytes of memory of the pager's own tables, without zswap's.
    pub table_bytes: u64,
    /// Threads that are lent now, of every duty: see [`Pager::lend`](crate::Pager::lend). If lent threads serve touches
    /// and this is 0, touches wait until one comes.
    pub lent_threads: u64,
    /// Bytes of pages in memory that could not leave when they were tried last: they are locked, pinned, shared with
    /// another process, or a part of a huge page that can't be split. Some are tried again from time to time.
    pub immovable_bytes: u64,
    /// What the pager did since it was created.
    pub counts: PagerCounts,
    /// How long every eighth touch took to serve.
    pub latencies: LatencyHistogram,
}
