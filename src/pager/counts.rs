//! The statistics of a pager: counters, latencies, and the form in which callers read them.

use super::options::EvictionInUse;
use crate::error::Result;
use crate::heap;
use crate::latency::LatencyHistogram;
use crate::os;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crossbeam_utils::CachePadded;
use std::ops::Deref;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one processor, or of some. Their sums over all processors only grow.
        #[derive(Default)]
        pub struct ProcessorCounters {
            $(pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Reads all counters.
            pub fn read(&self) -> PagerCounts {
                PagerCounts { $($name: self.sum(|counters| &counters.$name),)* }
            }
        }

        /// What a pager did since it was created. Each number only grows, at the moment when the thing is done, and is
        /// read by itself: a sum of two may be off by what happened in between. A page is 4096 bytes.
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "json", derive(serde::Serialize))]
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
    /// Pages that were loaded ahead of a touch, because their region was touched in order.
    loads_ahead,
    /// Pages that were touched while they waited in the staging range, and moved back without being decoded. Always 0
    /// where private pages are evicted in place.
    rescues,
    /// Pages that were filled with zeros, because they were touched for the first time, or after their owner gave them
    /// back.
    zero_fills,
    /// First writes to pages that had kept their compressed copy, which is dropped then.
    first_writes,
    /// Pages that were moved to the staging range. They are still in memory, and charged. Always 0 where private pages
    /// are evicted in place.
    staged,
    /// Pages that were compressed and stored, and left memory.
    stored,
    /// Pages that were dropped without being compressed, because their compressed copy was kept.
    dropped,
    /// Pages that left memory from where they were, and not from the staging range: of memory files always, and of
    /// private memory as [`PagerStats::eviction`] says.
    evicted_in_place,
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
    /// Pages that the owner gave back, unmapped or discarded, as the pager learned of it, and all pages of regions that
    /// were removed.
    discarded,
    /// Pages whose compressed copy was found to be damaged when they were needed, and that were poisoned: a touch
    /// raises SIGBUS.
    poisoned,
    /// Events that were read: discards, moves and unmaps by the owner, each as often as the system told of a part.
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

/// Processors that have counters of their own. With more, some share them.
const PROCESSORS: usize = 16;

/// Counters, by processor: threads on different ones do not change the same line of memory at each touch. Derefs to
/// those of the processor that the thread runs on.
pub struct Counters(Box<[CachePadded<ProcessorCounters>]>);

impl Deref for Counters {
    type Target = ProcessorCounters;

    #[inline]
    fn deref(&self) -> &ProcessorCounters {
        &self.0[os::current_cpu() % PROCESSORS]
    }
}

impl Counters {
    /// Counters that are 0. They are on the heap, because a pager passes through the stack as it is created.
    pub fn new() -> Result<Self> {
        Ok(Self(heap::slice(PROCESSORS, |_| Ok(CachePadded::default()))?))
    }

    /// Touches that were served so far, on all processors.
    pub fn faults(&self) -> u64 {
        self.sum(|counters| &counters.faults)
    }

    /// Pages that were compressed and stored so far.
    pub fn stored(&self) -> u64 {
        self.sum(|counters| &counters.stored)
    }

    fn sum(&self, counter: impl Fn(&ProcessorCounters) -> &AtomicU64) -> u64 {
        // Wraps as each part does.
        self.0.iter().fold(0, |sum, counters| sum.wrapping_add(counter(counters).load(Relaxed)))
    }
}

/// Adds to a counter. Relaxed: a counter orders nothing.
#[inline]
pub fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Relaxed);
    }
}

/// The statistics of a pager: [`Pager::stats`](crate::Pager::stats). What is not in `counts` and `latencies` is how
/// things are now. Each figure is right for its moment, and two need not be of the same moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PagerStats {
    /// The resident limit: the most bytes of pages of regions and the staging range together. `None`, in JSON null: no
    /// limit.
    pub resident_limit_bytes: Option<u64>,
    /// Bytes of pages of regions and the staging range that are in memory now. The memory of the pool comes on top: see
    /// the pool's figures in [`Pager::snapshot`](crate::Pager::snapshot).
    pub resident_bytes: u64,
    /// Bytes of resident pages that are in the staging range.
    pub staged_bytes: u64,
    /// Bytes of pages that are held now, each counted once: see [`Pager::hold`](crate::Pager::hold).
    pub held_bytes: u64,
    /// Bytes of addresses of all regions, as they were added, whether their pages are in memory, compressed or neither.
    pub region_bytes: u64,
    /// The number of regions, those of mapped memory included.
    pub regions: u64,
    /// Bytes of memory that the pager's own tables may take, of 4 bytes for each page of a region and more, without
    /// zswap's.
    pub table_bytes: u64,
    /// Threads that are lent now, of every duty: see [`Pager::lend`](crate::Pager::lend). If lent threads serve touches
    /// and this is 0, touches wait until one comes.
    pub lent_threads: u64,
    /// Bytes of pages in memory that could not leave when they were tried last: they are locked, pinned, shared with
    /// another process, or a part of a huge page that can't be split. Some are tried again from time to time.
    pub immovable_bytes: u64,
    /// How private pages are evicted, and why so.
    pub eviction: EvictionInUse,
    /// What the pager did since it was created.
    pub counts: PagerCounts,
    /// How long touches took to serve, of which every eighth is timed.
    pub latencies: LatencyHistogram,
}
