//! What a pager has and did.

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
            /// All of them.
            pub fn read(&self) -> PagerCounts {
                PagerCounts { $($name: self.$name.load(Relaxed),)* }
            }
        }

        /// What a pager did since it was created. Each number only grows, and is read by itself: sums of two of them
        /// may be off by what happened in between.
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct PagerCounts {
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Touches that were served, of whatever kind; pages that a hold or the removal of a region asked for are among
    /// them.
    faults,
    /// Pages that were loaded from zswap, or its file, because they were touched.
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
    /// Pages that were dropped, for their compressed copy was kept.
    dropped,
    /// Touches and holds that had to make room themselves: lend a thread that evicts, or give it more processor time.
    direct_reclaims,
    /// Pages that were let in above the limit, for none could go: the pool was full and nothing could be written back,
    /// or what is left is held, immovable, or being evicted by others. If the former, raise the limit of the pool or
    /// add a backing file; where there is one, the zswap's `writeback_no_space` tells that it is full, and
    /// `writeback_io` that it fails. Else hold less, or raise the limit.
    over_limit,
    /// Pages that were picked to be evicted and stayed, for the system has them pinned or locked, or refused. The same
    /// page counts each time.
    pinned,
    /// Pages that the owner gave back, unmapped or discarded, and all pages of regions that were removed.
    discarded,
    /// Pages whose compressed copy was damaged, and that were poisoned.
    poisoned,
    /// Events that were read: discards, moves and unmaps by the owner.
    events,
    /// Attempts to put a page in place that did not succeed: the memory was changing, the system refused, or the
    /// backing file could not be read. Some are usual. Many for few faults: the system lacks memory, owners move and
    /// unmap all the time, or the file fails, which the zswap counts: `file_read_failures`.
    retries,
    /// Touches that were given up after a second or so, and pages that a hold or the removal of a region asked for: the
    /// system refused, the backing file could not be read, or the memory was changing all the time. Nothing is lost.
    /// The touch got SIGBUS; where lent threads serve it, they give it up sooner, and it waits, is tried again, and
    /// counts again. Damaged pages are not among them.
    failed,
}

/// Notes that something happened.
#[inline]
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

/// What a pager has and did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PagerStats {
    /// Most bytes of pages of regions and the staging range, together.
    pub resident_limit_bytes: u64,
    /// Bytes of such pages now.
    pub resident_bytes: u64,
    /// Bytes of them that are in the staging range.
    pub staged_bytes: u64,
    /// Bytes that are held.
    pub held_bytes: u64,
    /// Bytes of addresses of all regions.
    pub region_bytes: u64,
    /// Regions.
    pub regions: u64,
    /// Bytes of memory of the pager's own tables, without zswap's.
    pub table_bytes: u64,
    /// Threads that are inside of [`Pager::run`](crate::Pager::run). Where lent threads serve touches and this is 0,
    /// touches wait until one comes.
    pub lent_threads: u64,
    /// Bytes of pages in memory that could not leave when they were tried last: they are locked, pinned, shared with
    /// another process, or a part of a huge page that can't be split. Some are tried again from time to time.
    pub immovable_bytes: u64,
    /// What it did.
    pub counts: PagerCounts,
    /// How long every eighth touch took to serve.
    pub latencies: LatencyHistogram,
}
