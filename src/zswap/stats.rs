//! What happened, and what is there: counted in parts, read as one.
//!
//! An area's counts are spread over parts, one for a few processors, each behind a lock that is held while a page word
//! changes and its counts with it. Who holds all locks at once sees counts that agree with the words and with each
//! other, at one moment.

use super::waiting;
use super::word::{Kind, PageWord};
use crate::error::Result;
use crate::heap;
use crate::sync::{Lock, Locked, Rank, Wait};
use crossbeam_utils::CachePadded;
use serde::Serialize;

macro_rules! counts {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Counts of pages and events: of an area, or of all areas since the zswap was created.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds each of `other`'s.
            pub(crate) fn add(&mut self, other: &Self) {
                // Wrapping: a part counts pages that went where another counted that they came.
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

counts! {
    /// Pages in the pool that a codec made shorter.
    compressed_pages,
    /// Pages in the pool that did not compress, and are stored as they came.
    raw_pages,
    /// Pages that repeat one word: they take no memory of the pool.
    filled_pages,
    /// Pages on the library's own backing file.
    file_pages,
    /// Pages that were stored.
    stores,
    /// Pages that were loaded, taken ones included.
    loads,
    /// Pages that were taken: loaded and removed.
    takes,
    /// Pages that were loaded from the library's own backing file.
    file_loads,
    /// Loads of pages that are not here.
    absent_loads,
    /// Pages that were removed by invalidate.
    invalidated,
    /// Pages of batches that were stored; counted in `stores` as well.
    batch_stores,
    /// Batches that failed.
    batches_failed,
    /// Pages refused because of the zswap's limit.
    refused_limit,
    /// Pages refused because of the area's limit.
    refused_area_limit,
    /// Of these, pages refused by the estimate, before they were compressed.
    refused_early,
    /// Pages refused because the pool had no memory, after it was compacted.
    refused_memory,
    /// Pages refused because they do not compress, by an area that does not store them as they came.
    refused_incompressible,
    /// Pages removed because their successor was refused.
    removed_by_failure,
    /// Pages that were compressed.
    compressions,
    /// Of these, pages that were thrown away: refused after all, or rolled back.
    compressions_wasted,
    /// Pages written back.
    written_back,
    /// Pages kept because they were loaded while they were written back.
    rescued,
    /// Pages that were replaced or removed while they were written back.
    overtaken,
    /// Writebacks refused with EEXIST: the embedder has the page already.
    writeback_exists,
    /// Writebacks refused with EAGAIN.
    writeback_again,
    /// Writebacks refused with ENOMEM.
    writeback_no_memory,
    /// Writebacks refused with EIO.
    writeback_io,
    /// Writebacks refused with ENOSPC.
    writeback_no_space,
    /// Writebacks refused otherwise; a panic of the callback counts here.
    writeback_other,
    /// Entries that failed their check, or could not be decoded.
    decode_failures,
    /// Reads of the library's own backing file that failed.
    file_read_failures,
    /// Pages that were stored anew with a stronger codec.
    recompressed,
    /// Pages that a stronger codec gained nothing for.
    recompress_useless,
    /// Pages that came back from where they were written to, as the embedder told, or from the library's own file.
    refaults,
}

impl Counts {
    /// All pages that are here or on the library's own file.
    pub fn pages(&self) -> u64 {
        self.pool_pages() + self.filled_pages + self.file_pages
    }

    /// Pages in the pool.
    pub fn pool_pages(&self) -> u64 {
        self.compressed_pages + self.raw_pages
    }

    /// Counts that `word` came.
    #[inline]
    pub(super) fn came(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_add(1);
        }
    }

    /// Counts that `word` went.
    #[inline]
    pub(super) fn went(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_sub(1);
        }
    }

    #[inline]
    fn gauge(&mut self, word: PageWord) -> Option<&mut u64> {
        match word.kind() {
            Kind::Empty => None,
            Kind::Filled(_) => Some(&mut self.filled_pages),
            Kind::Stored(_) if word.is_raw() => Some(&mut self.raw_pages),
            Kind::Stored(_) => Some(&mut self.compressed_pages),
            Kind::Backed(_) => Some(&mut self.file_pages),
        }
    }
}

/// A part of an area's counts, and of the calls that run on it.
#[derive(Default)]
pub struct Shard {
    /// What happened here.
    pub counts: Counts,
    /// Calls and claims that began here and have not ended.
    running: u64,
    gate: Gate,
}

/// Whether calls may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Gate {
    /// They may.
    #[default]
    Open,
    /// Not until a thread has forked. Those that run go on, and so do those that they make.
    Closed,
    /// Never again: the area was removed.
    Removed,
}

impl Shard {
    fn turn(&mut self, from: Gate, to: Gate) {
        if self.gate == from {
            self.gate = to;
        }
    }
}

/// The parts of one area.
pub struct Shards(Box<[CachePadded<Lock<Shard>>]>);

impl Shards {
    /// So many parts.
    pub fn new(count: usize) -> Result<Self> {
        let part = |_| Ok(CachePadded::new(Lock::new(Rank::Shard, Shard::default())));
        heap::slice(count, part).map(Self)
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// A call begins: where it is counted; none if the area was removed.
    #[inline]
    pub fn begin(&self) -> Option<usize> {
        let at = crate::os::current_cpu() % self.0.len();
        let mut shard = self.0[at].lock();
        shard.running += 1;
        if shard.gate != Gate::Open {
            shard.running -= 1;
            drop(shard);
            return self.begin_at_gate(at, false);
        }
        Some(at)
    }

    /// A call begins within another one, or ends a claim: it does not wait for a fork that waits for it.
    pub fn begin_within(&self) -> Option<usize> {
        self.begin_at_gate(crate::os::current_cpu() % self.0.len(), true)
    }

    #[cold]
    fn begin_at_gate(&self, at: usize, within: bool) -> Option<usize> {
        let mut wait = Wait::default();
        loop {
            let mut shard = self.0[at].lock();
            match shard.gate {
                Gate::Removed => return None,
                Gate::Closed if !within && !waiting::in_callback() => {}
                Gate::Open | Gate::Closed => {
                    shard.running += 1;
                    return Some(at);
                }
            }
            drop(shard);
            wait.a_moment();
        }
    }

    /// The part that a call began in.
    #[inline]
    pub fn lock(&self, at: usize) -> Locked<'_, Shard> {
        self.0[at].lock()
    }

    /// A call ends that began there.
    #[inline]
    pub fn end(&self, at: usize) {
        self.0[at].lock().running -= 1;
    }

    /// Takes all parts at once, until [`Shards::let_go`]. Threads that hold several parts take them in this order, and
    /// those of several areas in the order of the areas' list; so no two of them wait for each other.
    pub fn hold(&self) {
        self.0.iter().for_each(|shard| shard.lock_another().keep());
    }

    /// Lets all parts go.
    ///
    /// # Safety
    /// This thread holds them, by [`Shards::hold`].
    pub unsafe fn let_go(&self) {
        // SAFETY: the caller vouches for it.
        self.0.iter().for_each(|shard| drop(unsafe { shard.resume() }));
    }

    /// Acts on each part, all of which are held.
    ///
    /// # Safety
    /// As for [`Shards::let_go`].
    unsafe fn each_held(&self, mut act: impl FnMut(&mut Shard)) {
        for shard in &self.0 {
            // SAFETY: the caller vouches for it; it is kept again.
            let mut held = unsafe { shard.resume() };
            act(&mut held);
            held.keep();
        }
    }

    /// The sum of the counts of all parts, which are held.
    ///
    /// # Safety
    /// As for [`Shards::let_go`].
    pub unsafe fn held_counts(&self) -> Counts {
        let mut sum = Counts::default();
        // SAFETY: the caller vouches for it.
        unsafe { self.each_held(|shard| sum.add(&shard.counts)) };
        sum
    }

    /// The counts of all parts at one moment.
    pub fn counts(&self) -> Counts {
        self.hold();
        // SAFETY: they are held since the line above.
        unsafe {
            let counts = self.held_counts();
            self.let_go();
            counts
        }
    }

    /// Ends the area if no call runs: none begins after this. False: some run, or it was ended already.
    pub fn remove(&self) -> bool {
        let mut idle = true;
        self.hold();
        // SAFETY: they are held since the line above.
        unsafe {
            self.each_held(|shard| idle &= shard.running == 0 && shard.gate != Gate::Removed);
            if idle {
                self.each_held(|shard| shard.gate = Gate::Removed);
            }
            self.let_go();
        }
        idle
    }

    /// Lets no call begin before [`Shards::open`], but those that running ones make.
    pub fn close(&self) {
        self.0.iter().for_each(|shard| shard.lock().turn(Gate::Open, Gate::Closed));
    }

    /// Lets calls begin again.
    pub fn open(&self) {
        self.0.iter().for_each(|shard| shard.lock().turn(Gate::Closed, Gate::Open));
    }

    /// Keeps the locks of all parts if so many calls and claims run, and no more.
    pub fn keep_if_running(&self, calls: u64) -> bool {
        let mut running = 0;
        self.hold();
        // SAFETY: they are held since the line above.
        unsafe {
            self.each_held(|shard| running += shard.running);
            if running != calls {
                self.let_go();
            }
        }
        running == calls
    }

    /// Lets the locks go that were kept, and lets calls begin again.
    ///
    /// # Safety
    /// [`Shards::keep_if_running`] kept them, and this is called once for that, by the same thread or in the process
    /// that it forked.
    pub unsafe fn open_kept(&self) {
        // SAFETY: the caller vouches that each of them is kept.
        self.0.iter().for_each(|shard| unsafe { shard.resume() }.turn(Gate::Closed, Gate::Open));
    }
}

/// Most parts of an area's counts.
pub const MAX_SHARDS: usize = 16;

/// What a zswap has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ZswapStats {
    /// Areas.
    pub areas: u64,
    /// Pages that they have room for.
    pub area_pages: u64,
    /// The limit in bytes of slots; `u64::MAX`: none.
    pub max_bytes: u64,
    /// Bytes of the slots of stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory that the pool has from the system, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory that are not objects: the pool's tables, the areas' indexes, contexts, claims, counts.
    pub metadata_bytes: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// How often the pool was compacted because it had no memory for a page.
    pub capacity_hits: u64,
    /// Claims for writeback that callers hold.
    pub claims: u64,
    /// Bytes of the library's own file that are taken.
    pub file_bytes: u64,
    /// The counts of all areas, removed ones included.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What an area has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AreaStats {
    /// Which area: numbers are not used twice.
    pub area: u64,
    /// Pages it has room for.
    pub area_pages: u64,
    /// Its limit in bytes of slots; `u64::MAX`: none of its own.
    pub max_bytes: u64,
    /// Bytes of the slots of its stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of its index and counts.
    pub metadata_bytes: u64,
    /// How often its limit was met.
    pub limit_hits: u64,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}
