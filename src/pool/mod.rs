//! The pool: the control flow of malloc, map and free, calling what lies below and called by nothing there.

#[cfg(all(test, not(loom)))]
mod check;
pub mod compact;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
pub mod fork;
mod handle;
#[cfg(not(loom))]
pub mod options;
mod shrink;
mod stats;
mod tags;
mod victims;

pub use compact::CompactBudget;
pub(crate) use compact::Compacted;
pub use handle::{Handle, Mapped, MappedMut, NewObject};
pub use shrink::Evict;
#[cfg(not(loom))]
pub use shrink::Foreign;
pub use stats::PoolStats;

use crate::class::{Emptied, SizeClass};
use crate::classes::{self, CLASS_COUNT, MAX_ALLOC_SIZE};
use crate::error::{Error, Result};
use crate::heap;
use crate::object::{Freed, ObjectWord};
use crate::os::{self, ForkGuard};
use crate::region::{NO_HANDLES, Region};
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use crate::units::{ClassIndex, HandleIndex, PAGE, Place, pages_of};
use crate::word::{RawHandle, Word};
use compact::Compaction;
use crossbeam_utils::CachePadded;
use shrink::Reclaim;
use tags::Tag;

/// How an object is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapMode {
    /// To read and write; waits for a compactor that is copying the object, for one copy.
    ReadWrite,
    /// To read; never waits.
    Read,
    /// To write without reading; what is not written keeps what it held. Waits as `ReadWrite` does.
    Write,
}

/// A pool of objects of 1 to [`MAX_ALLOC_SIZE`] bytes behind movable handles.
///
/// All methods may be called from any thread. `free`, `unmap` and mapping to read never wait; `malloc` and mapping to
/// write wait for at most one other short critical section or copy.
///
/// The raw methods (`malloc_raw`, `map_raw`, ...) take and give handles as 64-bit numbers, as C does; the others take
/// [`Handle`]s, which the compiler keeps unique.
pub struct Pool {
    pub(crate) region: Region,
    pub(crate) classes: Box<[Padded]>,
    tag: Tag,
    hardened: bool,
    guard: Option<ForkGuard>,
    /// The memory, if it is the caller's.
    #[cfg(not(loom))]
    pub(super) loan: Option<options::Loan>,
    compaction: Lock<Compaction>,
    pub(crate) reclaim: Reclaim,
    #[cfg(not(loom))]
    fork: fork::Fork,
    counters: Counters,
    /// Pages of what is set aside at creation outside the region.
    fixed_pages: u64,
    /// The limit that it was created with.
    created_pages: u64,
}

/// A class has cache lines of its own, so that threads in different classes do not disturb each other.
type Padded = CachePadded<SizeClass>;

/// Counts of events; Relaxed throughout, for they order nothing.
#[derive(Default)]
struct Counters {
    pages_compacted: AtomicU64,
    objects_moved: AtomicU64,
    pages_reclaimed: AtomicU64,
}

const FOREIGN: Error = Error::Invalid(&"the handle is not of this pool");
const ZERO: Error = Error::Invalid(&"an object of 0 bytes was asked for");
const TOO_LARGE: Error = Error::NoSpace(&"the object is larger than ZS_MAX_ALLOC_SIZE");
const PAST_END: Error = Error::Invalid(&"more bytes were asked for than the object has");

impl Pool {
    pub(crate) fn in_region(region: Region, guard: Option<ForkGuard>, hardened: bool) -> Result<Self> {
        let class = |index| Ok(Padded::new(SizeClass::new(ClassIndex(index as u16), hardened)));
        let classes = heap::slice(CLASS_COUNT, class)?;
        let compaction = Compaction::new()?;
        let fixed_pages = pages_of(size_of_val(&*classes) + compaction.bytes());
        region.charge.take(fixed_pages)?;
        let created_pages = region.charge.limit();
        Ok(Self {
            region,
            classes,
            tag: Tag::take()?,
            hardened,
            guard,
            #[cfg(not(loom))]
            loan: None,
            compaction: Lock::new(Rank::Compaction, compaction),
            reclaim: Reclaim::new(),
            #[cfg(not(loom))]
            fork: fork::Fork::default(),
            counters: Counters::default(),
            fixed_pages: fixed_pages as u64,
            created_pages,
        })
    }

    /// Allocates an object of `size` bytes and returns its handle. What the bytes hold is undefined until written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes, [`Error::NoSpace`] for more than [`MAX_ALLOC_SIZE`], [`Error::NoMemory`] when
    /// the pool is full; nothing has changed then.
    pub fn malloc_raw(&self, size: usize) -> Result<u64> {
        self.allocate(size, 0).map(|(handle, _)| handle)
    }

    /// Allocates an object and maps it to write, in one: nobody moves or evicts it before [`Pool::unmap_raw`].
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`].
    pub fn malloc_mapped_raw(&self, size: usize) -> Result<(u64, *mut u8)> {
        self.allocate(size, 1).map(|(handle, place)| (handle, self.region.object(place)))
    }

    /// malloc: a locked instruction for the class's lock, and no other unless the class needs memory or handles.
    #[inline]
    pub(crate) fn allocate(&self, size: usize, pins: u64) -> Result<(u64, Place)> {
        self.check_alive()?;
        if size.wrapping_sub(1) >= MAX_ALLOC_SIZE {
            return Err(if size == 0 { ZERO } else { TOO_LARGE });
        }
        let class = &self.classes[classes::class_of(size).0 as usize];
        let taken = class.lock(&self.region).take(&self.region);
        let (place, index) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => self.allocate_in_new_zspage(class)?,
            Err(refused) => self.allocate_with_handles_of_others(class, refused)?,
        };
        self.stamp(place);
        let generation = self.region.word(index).publish(place, pins);
        Ok((RawHandle { index, generation, tag: self.tag.tag() }.pack(), place))
    }

    #[cold]
    fn allocate_in_new_zspage(&self, class: &SizeClass) -> Result<(Place, HandleIndex)> {
        loop {
            let id = self.region.acquire(class.index(), self.reclaim.next_epoch(), None)?;
            let mut state = class.lock(&self.region);
            state.add(&self.region, id);
            match state.take(&self.region) {
                Ok(Some(taken)) => return Ok(taken),
                // Others took all of it already.
                Ok(None) => {}
                Err(error) => {
                    // Nothing is to have changed: what nobody else used meanwhile goes back.
                    let unused = state.isolate(&self.region, id).then(|| state.end_isolation(&self.region, id));
                    drop(state);
                    self.give_back(class, unused.flatten());
                    return Err(error);
                }
            }
        }
    }

    /// The class got no handle: those that lie unused with others come to it, if that is why.
    #[cold]
    fn allocate_with_handles_of_others(&self, class: &SizeClass, refused: Error) -> Result<(Place, HandleIndex)> {
        if refused != NO_HANDLES {
            return Err(refused);
        }
        for other in &self.classes {
            let mut state = other.lock(&self.region);
            self.region.take_back(state.all_handles(&self.region));
        }
        let taken = class.lock(&self.region).take(&self.region)?;
        taken.map_or_else(|| self.allocate_in_new_zspage(class), Ok)
    }

    /// Frees an object. If it is mapped, its last unmap releases it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the handle is stale, freed already, or of another pool.
    ///
    /// # Safety
    /// No [`Handle`] of this object is used any more, nor a raw handle passed to [`Handle::from_raw`].
    pub unsafe fn free_raw(&self, handle: u64) -> Result<()> {
        let (index, word, generation) = self.word_of(handle)?;
        match word.free(generation)? {
            Freed::Now(place) => self.release(index, place),
            Freed::Later => {}
        }
        Ok(())
    }

    /// [`Pool::free_raw`], and how many bytes the object's slot had: what a table of handles that limits itself by
    /// bytes gets back.
    ///
    /// # Errors
    /// As [`Pool::free_raw`], and [`Error::Busy`] if it is mapped 4,095 times, which changes nothing.
    ///
    /// # Safety
    /// As [`Pool::free_raw`].
    pub unsafe fn free_sized_raw(&self, handle: u64) -> Result<usize> {
        let (index, word, generation) = self.word_of(handle)?;
        if let Some(place) = word.free_if_idle(generation) {
            let bytes = self.slot_bytes(place);
            self.release(index, place);
            return Ok(bytes);
        }
        // Somebody has it mapped, or is moving it: only a pin keeps its slot from becoming another class's meanwhile.
        let bytes = self.slot_bytes(word.pin_to_read(generation)?);
        let freed = word.free(generation);
        if let Some(place) = word.unpin(generation)? {
            self.release(index, place);
        }
        freed.map(|_| bytes)
    }

    /// Releases the slot and the handle of an object whose word the caller made FREE.
    #[inline]
    fn release(&self, index: HandleIndex, place: Place) {
        if self.hardened {
            self.wipe(place);
        }
        let class = &self.classes[self.region.zspage(place.zspage).class_index().0 as usize];
        let emptied = class.release(&self.region, place, index);
        if emptied.is_some() {
            self.give_back(class, emptied);
        }
    }

    #[cold]
    fn wipe(&self, place: Place) {
        let bytes = self.region.zspage(place.zspage).class().slot_bytes as usize;
        // SAFETY: the slot is still taken, and its object is gone: nobody else uses its bytes.
        unsafe { self.region.object(place).write_bytes(0, bytes) };
    }

    /// Gives a zspage that is off the books back. Returns the pages that the system got; none if
    /// there was no zspage, or the system refused.
    #[cold]
    fn give_back(&self, class: &SizeClass, emptied: Option<Emptied>) -> Option<u64> {
        let Emptied { id, touched } = emptied?;
        let gone = self.region.release(id, classes::class(class.index()), touched).ok();
        if gone.is_none() {
            // The system would not take its memory: it stays charged, and the class's, until compaction tries again.
            class.lock(&self.region).add(&self.region, id);
        }
        gone
    }

    /// Maps an object: it stays where it is until it is unmapped as often as it was mapped.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the handle is stale, freed, or of another pool; [`Error::Busy`] if it is mapped 4,095
    /// times.
    #[inline]
    pub fn map_raw(&self, handle: u64, mode: MapMode) -> Result<*mut u8> {
        self.pin(handle, mode).map(|place| self.region.object(place))
    }

    /// [`Pool::map_raw`], and how many bytes the object's slot has.
    ///
    /// # Errors
    /// As [`Pool::map_raw`].
    #[inline]
    pub fn map_sized_raw(&self, handle: u64, mode: MapMode) -> Result<(*mut u8, usize)> {
        let place = self.pin(handle, mode)?;
        Ok((self.region.object(place), self.slot_bytes(place)))
    }

    /// Asks the processor to fetch what mapping this handle will look at first. A hint: any number will do.
    #[inline]
    pub fn prefetch(&self, handle: u64) {
        let index = RawHandle::unpack(handle).index;
        if index.0 < self.region.word_count() {
            os::prefetch(self.region.word(index).0);
        }
    }

    /// Asks the processor to fetch the first `bytes` bytes of an object whose handle was [`Pool::prefetch`]ed a moment
    /// ago. A hint: any number will do.
    #[inline]
    pub fn prefetch_object(&self, handle: u64, bytes: usize) {
        let RawHandle { index, generation, .. } = RawHandle::unpack(handle);
        if index.0 < self.region.word_count() {
            let word = self.region.word(index).peek();
            if word.is_held_by(generation)
                && let Some(object) = self.region.object_hint(word.place())
            {
                os::prefetch_bytes(object, bytes);
            }
        }
    }

    /// The bits of a handle that differ within a pool: the low [`crate::HANDLE_BITS`], for tables that have other uses
    /// for the rest.
    #[inline]
    pub fn short_handle(handle: u64) -> u64 {
        RawHandle { tag: 0, ..RawHandle::unpack(handle) }.pack()
    }

    /// The handle of this pool that [`Pool::short_handle`] shortened.
    #[inline]
    pub fn long_handle(&self, short: u64) -> u64 {
        RawHandle { tag: self.tag.tag(), ..RawHandle::unpack(short) }.pack()
    }

    /// map: one locked instruction, which adds the pin.
    #[inline]
    pub(crate) fn pin(&self, handle: u64, mode: MapMode) -> Result<Place> {
        let (_, word, generation) = self.word_of(handle)?;
        let place = match mode {
            MapMode::Read => word.pin_to_read(generation)?,
            MapMode::ReadWrite | MapMode::Write => word.pin_to_write(generation)?,
        };
        self.stamp(place);
        Ok(place)
    }

    /// Unmaps an object once. If it was freed meanwhile, the last unmap releases it. One locked instruction.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not mapped, or the handle is of another pool.
    ///
    /// # Safety
    /// The mapping is the caller's to end: not one that a [`Mapped`], [`MappedMut`] or [`NewObject`] stands for.
    // A call would be a quarter of its instructions.
    #[inline(always)]
    pub unsafe fn unmap_raw(&self, handle: u64) -> Result<()> {
        let (index, word, generation) = self.word_of(handle)?;
        if let Some(place) = word.unpin(generation)? {
            self.release(index, place);
        }
        Ok(())
    }

    /// Copies the first bytes of an object into `buffer`.
    ///
    /// # Errors
    /// As [`Pool::map_raw`], and [`Error::Invalid`] if `buffer` is longer than the object's slot.
    ///
    /// # Safety
    /// Nobody writes the object meanwhile: no [`MappedMut`] or [`NewObject`] of it exists, and no other thread has it
    /// mapped to write.
    pub unsafe fn read_raw(&self, handle: u64, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: `buffer` is that long; the caller vouches for the object.
        unsafe { self.read_to(handle, buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Copies `bytes` into the front of an object.
    ///
    /// # Errors
    /// As [`Pool::map_raw`], and [`Error::Invalid`] if `bytes` are more than the object's slot has.
    ///
    /// # Safety
    /// No [`Mapped`] or [`MappedMut`] of this object exists, for it would see its bytes change.
    pub unsafe fn write_raw(&self, handle: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: `bytes` are that many.
        unsafe { self.write_from(handle, bytes.as_ptr(), bytes.len()) }
    }

    /// [`Pool::read_raw`], with its errors, to memory that another party may be writing.
    ///
    /// # Safety
    /// `size` bytes can be written at `buffer`. Nobody writes the object meanwhile.
    pub unsafe fn read_to(&self, handle: u64, buffer: *mut u8, size: usize) -> Result<()> {
        self.copy_with(handle, MapMode::Read, size, |object| {
            // SAFETY: the object is pinned and that long; the caller answers for the buffer.
            unsafe { std::ptr::copy_nonoverlapping(object, buffer, size) };
        })
    }

    /// [`Pool::write_raw`], with its errors, from memory that another party may be writing.
    ///
    /// # Safety
    /// `size` bytes can be read at `buffer`. No [`Mapped`] or [`MappedMut`] of this object exists.
    pub unsafe fn write_from(&self, handle: u64, buffer: *const u8, size: usize) -> Result<()> {
        self.copy_with(handle, MapMode::Write, size, |object| {
            // SAFETY: the object is pinned and that long; the caller answers for the buffer.
            unsafe { std::ptr::copy_nonoverlapping(buffer, object, size) };
        })
    }

    fn copy_with(&self, handle: u64, mode: MapMode, size: usize, copy: impl FnOnce(*mut u8)) -> Result<()> {
        let place = self.pin(handle, mode)?;
        let fits = size <= self.slot_bytes(place);
        if fits {
            copy(self.region.object(place));
        }
        // SAFETY: the mapping was made here.
        unsafe { self.unmap_raw(handle) }?;
        if fits { Ok(()) } else { Err(PAST_END) }
    }

    fn slot_bytes(&self, place: Place) -> usize {
        self.region.zspage(place.zspage).class().slot_bytes as usize
    }

    /// The word that a handle names, if the handle can be one of this pool's.
    #[inline]
    fn word_of(&self, handle: u64) -> Result<(HandleIndex, ObjectWord<'_>, u16)> {
        self.check_alive()?;
        let RawHandle { index, generation, tag } = RawHandle::unpack(handle);
        if tag != self.tag.tag() || index.0 >= self.region.word_count() {
            return Err(FOREIGN);
        }
        Ok((index, self.region.word(index), generation))
    }

    /// Refuses calls in a forked child that did not get the pool.
    #[inline]
    fn check_alive(&self) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.in_child() => Err(Error::Forked),
            _ => Ok(()),
        }
    }

    /// Notes that a zspage was used now, in pools with a reclaim callback.
    #[inline]
    fn stamp(&self, place: Place) {
        if let Some(epoch) = self.reclaim.epoch() {
            let stamp = &self.region.zspage(place.zspage).epoch;
            if stamp.load(Relaxed) != epoch {
                stamp.store(epoch, Relaxed);
            }
        }
    }

    /// Sets how many bytes of memory the pool may have, tables included; 0: as many as it was created for. A limit
    /// below what it has is allowed: allocations that need memory fail until enough was freed.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn set_max_bytes(&self, max_bytes: u64) -> Result<()> {
        self.check_alive()?;
        let pages = if max_bytes == 0 { self.created_pages } else { max_bytes / PAGE as u64 };
        self.region.charge.set_limit(pages);
        Ok(())
    }

    /// Pages of 4096 bytes that the pool has from the system, tables included.
    pub fn total_pages(&self) -> u64 {
        self.region.charge.used()
    }

    /// The descriptor of the memory file of a pool that has one; the pool closes it when it is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the pool is not in a memory file.
    pub fn fd(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.region.fd().ok_or(Error::NotFound(&"the pool is not in a memory file"))
    }

    /// The bytes that an object of `size` bytes takes.
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`] for a size that can't be allocated.
    pub fn class_size(&self, size: usize) -> Result<usize> {
        match size {
            0 => Err(ZERO),
            1..=MAX_ALLOC_SIZE => Ok(classes::class(classes::class_of(size)).slot_bytes as usize),
            _ => Err(TOO_LARGE),
        }
    }

    /// How many objects are mapped, and how many mappings they have.
    pub(crate) fn mappings(&self) -> u64 {
        let words = (0..self.region.word_count()).map(|index| self.region.word(HandleIndex(index)).peek());
        words.map(Word::pins).sum()
    }

    /// Checks that no object is mapped, as [`Pool::destroy`] does first. In a forked child without the pool nothing is.
    ///
    /// # Errors
    /// [`Error::Busy`] if an object is mapped.
    pub fn check_unmapped(&self) -> Result<()> {
        const MAPPED: Error = Error::Busy(&"an object of the pool is still mapped");
        if self.check_alive().is_ok() && self.mappings() > 0 { Err(MAPPED) } else { Ok(()) }
    }

    /// Destroys the pool and all its objects, unless something is mapped: then the pool comes back.
    ///
    /// # Errors
    /// [`Error::Busy`] with the pool, if anything is mapped.
    #[allow(clippy::result_large_err)] // It is the pool, and comes back as it went in.
    pub fn destroy(self) -> std::result::Result<(), (Self, Error)> {
        match self.check_unmapped() {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A child that never got the memory must not unmap what may lie there now.
        if self.check_alive().is_err() {
            self.region.forget();
        }
    }
}

#[cfg(not(loom))]
static_assertions::assert_impl_all!(Pool: Send, Sync);
