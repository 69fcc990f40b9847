//! The pool: malloc, map, free, compact and shrink, over the modules below.

mod allocate;
pub mod compact;
#[cfg(not(loom))]
mod create;
mod evict;
#[cfg(not(loom))]
pub mod fork;
mod free;
mod guards;
mod handle;
#[cfg(not(loom))]
mod handle_table;
#[cfg(all(test, not(loom)))]
#[path = "../tests/invariants/pool.rs"]
mod invariants;
mod mapping;
#[cfg(not(loom))]
pub mod options;
#[cfg(not(loom))]
pub mod plumbing;
mod rename;
mod shelves;
mod shrink;
mod stats;
mod tags;
mod victims;

pub use allocate::MAX_TAGGED_SIZE;
pub(crate) use compact::Allowance;
pub use compact::CompactBudget;
#[cfg(not(loom))]
pub use evict::ForeignEvict;
pub use evict::{Verdict, Victim};
pub use guards::{Mapped, MappedMut, NewObject};
pub use handle::Handle;
pub use mapping::MapMode;
pub use stats::PoolStats;

use crate::error::{Error, Result, sentence};
use crate::geometry::{CLASS_COUNT, MAX_ALLOC_SIZE};
use crate::heap;
use crate::memory::PoolMemory;
use crate::object::ObjectWord;
use crate::os::ForkGuard;
use crate::size_class::{Shelves, SizeClass};
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use crate::units::{ClassIndex, HandleIndex, PAGE, Place, pages_of};
use crate::word::{RawHandle, Word};
use compact::Compaction;
use crossbeam_utils::CachePadded;
use mapping::PAST_END;
use shrink::Reclaim;
use tags::Tag;

/// A pool of objects of 1 to [`MAX_ALLOC_SIZE`] bytes behind movable handles.
///
/// A program keeps a [`Handle`] for each object, and maps the object while it uses it. So the pool can move objects
/// together after others were freed ([`Pool::compact`]), and give memory back to the system. It keeps to a limit, and
/// at the limit it can ask the program which of the objects that were unused longest may go ([`Pool::set_evict`],
/// [`Pool::shrink`]). Objects of 500 bytes and more take hardly more memory than they have bytes; [`Pool::malloc`] says
/// what smaller ones take.
///
/// A pool is `Send` and `Sync`: share it by reference or in an `Arc`. Freeing, unmapping and mapping to read never
/// wait. Allocating and mapping to write wait for short critical sections of other threads, or the copy of one object.
/// Dropping a pool frees all its objects.
///
/// ```
/// use zsalloc::{CompactBudget, Pool, PoolOptions};
///
/// # fn main() -> zsalloc::Result<()> {
/// let pool = Pool::new("example", &PoolOptions::default())?;
/// let mut object = pool.malloc_mapped(5)?;
/// object.copy_from_slice(b"hello");
/// let handle = object.finish();
///
/// pool.compact(&CompactBudget::default())?;
/// assert_eq!(*pool.map(&handle)?, *b"hello");
/// pool.free(handle)
/// # }
/// ```
pub struct Pool {
    pub(crate) memory: PoolMemory,
    pub(crate) classes: Box<[Padded]>,
    pub(crate) shelves: Shelves,
    tag: Tag,
    hardened: bool,
    /// Bytes at the end of each slot for the tag of its object: 8, or 0 in a pool without tags.
    tag_bytes: usize,
    /// The most bytes of an object that is allocated without a look at `tag_bytes`: none in a pool with tags.
    most_untagged: usize,
    guard: Option<ForkGuard>,
    /// Keeps the memory that the caller supplied from other pools.
    #[cfg(not(loom))]
    pub(super) loan: Option<options::Loan>,
    compaction: Lock<Compaction>,
    pub(crate) reclaim: Reclaim,
    #[cfg(not(loom))]
    fork: fork::PoolFork,
    counters: PoolCounters,
    /// Pages of tables outside `memory`, which are made when the pool is created.
    fixed_pages: u64,
    /// The limit in pages that the pool was created with.
    created_pages: u64,
}

/// A class on cache lines of its own, so that threads in different classes do not disturb each other.
type Padded = CachePadded<SizeClass>;

/// Counts of events. They are Relaxed throughout, because they order nothing.
#[derive(Default)]
struct PoolCounters {
    pages_compacted: AtomicU64,
    objects_moved: AtomicU64,
    pages_reclaimed: AtomicU64,
}

const UNSET: Error = Error::Stale(sentence(&"the handle is 0: it was never set"));
const FOREIGN: Error = Error::Stale(sentence(&"the handle is not of this pool"));

impl Pool {
    pub(crate) fn with_memory(memory: PoolMemory, guard: Option<ForkGuard>, hardened: bool) -> Result<Self> {
        let classes = Self::make_classes(hardened)?;
        let compaction = Compaction::new()?;
        let shelves = Shelves::new(memory.charge.limit(), hardened)?;
        let fixed_pages = pages_of(size_of_val(&*classes) + compaction.bytes() + shelves.bytes());
        memory.charge.take(fixed_pages)?;
        let created_pages = memory.charge.limit();
        Ok(Self {
            memory,
            classes,
            shelves,
            tag: Tag::take()?,
            hardened,
            tag_bytes: 0,
            most_untagged: MAX_ALLOC_SIZE,
            guard,
            #[cfg(not(loom))]
            loan: None,
            compaction: Lock::new(Rank::Compaction, compaction),
            reclaim: Reclaim::new()?,
            #[cfg(not(loom))]
            fork: fork::PoolFork::default(),
            counters: PoolCounters::default(),
            fixed_pages: fixed_pages as u64,
            created_pages,
        })
    }

    /// Makes the classes. Not inlined: the creation of a pool has no need of its stack afterwards.
    #[inline(never)]
    fn make_classes(hardened: bool) -> Result<Box<[Padded]>> {
        heap::slice(CLASS_COUNT, |index| Ok(Padded::new(SizeClass::new(ClassIndex(index as u16), hardened))))
    }

    /// Returns the low [`crate::word::HANDLE_BITS`] bits of a handle. Only these differ within a pool, so a table can
    /// use the other bits.
    #[inline]
    pub(crate) fn short_handle(handle: u64) -> u64 {
        RawHandle { tag: 0, ..RawHandle::unpack(handle) }.pack()
    }

    /// Returns the handle of this pool that [`Pool::short_handle`] shortened.
    #[inline]
    pub(crate) fn long_handle(&self, short: u64) -> u64 {
        RawHandle { tag: self.tag.tag(), ..RawHandle::unpack(short) }.pack()
    }

    /// Returns the index, the word and the generation of a handle, if it can be one of this pool's.
    #[inline]
    fn word_of(&self, handle: u64) -> Result<(HandleIndex, ObjectWord<'_>, u16)> {
        self.check_alive()?;
        let RawHandle { index, generation, tag } = RawHandle::unpack(handle);
        if tag != self.tag.tag() || index.0 >= self.memory.word_count() {
            return Err(if handle == 0 { UNSET } else { FOREIGN });
        }
        Ok((index, self.memory.word(index), generation))
    }

    /// Refuses calls in a forked child that did not get the pool.
    #[inline]
    fn check_alive(&self) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.in_child() => Err(Error::Forked),
            _ => Ok(()),
        }
    }

    /// Makes a new pool one with tags.
    #[cfg(not(loom))]
    fn keep_tags(&mut self) {
        self.tag_bytes = allocate::TAG_BYTES;
        self.most_untagged = 0;
    }

    /// Notes that a zspage was used now, in pools with a reclaim callback.
    #[inline]
    fn stamp(&self, place: Place) {
        if let Some(epoch) = self.reclaim.epoch() {
            let stamp = &self.memory.zspage(place.zspage).epoch;
            if stamp.load(Relaxed) != epoch {
                stamp.store(epoch, Relaxed);
            }
        }
    }

    /// Sets how many bytes of memory the pool may have, with its tables. `None` means as many as it was created for. A
    /// limit below what the pool has is allowed: allocations that need memory fail until enough was freed. A limit
    /// above what the pool was created for is allowed too, but the pool has addresses for only a quarter and 64 MiB
    /// more. Costs one store. May be called from any thread and from an evict callback.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit of 0 bytes, [`Error::Forked`] in a child without the pool.
    pub fn set_max_bytes(&self, max_bytes: Option<u64>) -> Result<()> {
        const NOTHING: Error = Error::Invalid(sentence(
            &"a limit of 0 bytes lets a pool have nothing: pass None for as much as it was created for",
        ));
        self.check_alive()?;
        if max_bytes == Some(0) {
            return Err(NOTHING);
        }
        self.memory.charge.set_limit(max_bytes.map_or(self.created_pages, |bytes| bytes / PAGE as u64));
        Ok(())
    }

    /// Returns how many pages of 4096 bytes the pool has from the system, with its tables. Costs one load. May be
    /// called from any thread, from an evict callback and from a signal handler.
    pub fn total_pages(&self) -> u64 {
        self.memory.charge.used()
    }

    /// Returns the descriptor of the pool's memory file, for another process to look into. Nobody may write to the
    /// file: its bytes are the objects and tables of the pool. The pool closes the descriptor when it is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the pool is not in a memory file.
    pub fn fd(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.memory.fd().ok_or(Error::NotFound(sentence(&"the pool is not in a memory file")))
    }

    /// Returns how many mappings all objects have together.
    pub(crate) fn mappings(&self) -> u64 {
        let words = (0..self.memory.word_count()).map(|index| self.memory.word(HandleIndex(index)).peek());
        words.map(Word::pins).sum()
    }

    /// Checks that no object is mapped, as the C library does before it destroys a pool. In a forked child without the
    /// pool none is.
    ///
    /// # Errors
    /// [`Error::Busy`] if an object is mapped.
    pub(crate) fn check_unmapped(&self) -> Result<()> {
        const MAPPED: Error = Error::Busy(sentence(&"an object of the pool is still mapped"));
        if self.check_alive().is_ok() && self.mappings() > 0 { Err(MAPPED) } else { Ok(()) }
    }
}

/// Takes no lock, so that it can be printed while a thread of the program hangs or panics.
impl std::fmt::Debug for Pool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pool")
            .field("max_pages", &self.memory.charge.limit())
            .field("total_pages", &self.total_pages())
            .field("hardened", &self.hardened)
            .field("has_forked_away", &self.check_alive().is_err())
            .finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A child that never got the memory must not unmap what may lie there now.
        if self.check_alive().is_err() {
            self.memory.forget();
        }
    }
}

#[cfg(not(loom))]
static_assertions::assert_impl_all!(Pool: Send, Sync, std::fmt::Debug);
