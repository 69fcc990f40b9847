//! map and unmap: an object stays in its place while it is mapped.

use super::Pool;
use super::allocate::NO_TAGS;
#[cfg(doc)]
use super::{Mapped, MappedMut, NewObject};
use crate::error::{Error, Result, sentence};
use crate::os;
use crate::units::Place;
use crate::word::RawHandle;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How an object is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapMode {
    /// To read and write. If compaction is copying the object, waits for that one copy.
    ReadWrite,
    /// To read. Never waits.
    Read,
    /// To write without reading. Bytes that are not written keep their values. Waits as `ReadWrite` does.
    Write,
}

pub(super) const PAST_END: Error = Error::OutOfRange(sentence(&"more bytes were asked for than the object has"));

impl Pool {
    /// Maps an object. The object stays in its place until it is unmapped as often as it was mapped.
    ///
    /// # Errors
    /// [`Error::Stale`] if the handle is stale, freed, or of another pool; [`Error::Busy`] if the object is mapped
    /// 4,095 times.
    #[inline]
    pub(crate) fn map_raw(&self, handle: u64, mode: MapMode) -> Result<*mut u8> {
        self.pin(handle, mode).map(|place| self.memory.object(place))
    }

    /// Maps an object as [`Pool::map_raw`] does, and returns also how many bytes its slot has.
    ///
    /// # Errors
    /// As [`Pool::map_raw`].
    #[inline]
    pub(crate) fn map_sized_raw(&self, handle: u64, mode: MapMode) -> Result<(*mut u8, usize)> {
        let place = self.pin(handle, mode)?;
        Ok((self.memory.object(place), self.slot_bytes(place)))
    }

    /// Pins an object. Takes one locked instruction, which adds the pin.
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

    /// Unmaps an object once. If it was freed meanwhile, the last unmap releases it. Takes one locked instruction.
    ///
    /// # Errors
    /// [`Error::Stale`] if the object is not mapped, or the handle is of another pool.
    ///
    /// # Safety
    /// The mapping is the caller's to end: no [`Mapped`], [`MappedMut`] or [`NewObject`] stands for it.
    // Inlined, because a call would be a quarter of its instructions.
    #[inline(always)]
    pub(crate) unsafe fn unmap_raw(&self, handle: u64) -> Result<()> {
        let (index, word, generation) = self.word_of(handle)?;
        if let Some(place) = word.unpin(generation)? {
            self.release_unmapped(index, place);
        }
        Ok(())
    }

    /// Copies the first `size` bytes of an object to `buffer`, which others may be writing.
    ///
    /// # Errors
    /// As [`Pool::map_raw`], and [`Error::OutOfRange`] if `size` is more than the object's slot has, less
    /// the tag.
    ///
    /// # Safety
    /// `size` bytes can be written at `buffer`. Nobody writes the object meanwhile.
    pub(crate) unsafe fn read_to(&self, handle: u64, buffer: *mut u8, size: usize) -> Result<()> {
        self.copy_with(handle, MapMode::Read, size, |object| {
            // SAFETY: the object is pinned and that long. The caller vouches for the buffer.
            unsafe { std::ptr::copy_nonoverlapping(object, buffer, size) };
        })
    }

    /// Copies `size` bytes from `buffer`, which others may be writing, to the front of an object.
    ///
    /// # Errors
    /// As [`Pool::map_raw`], and [`Error::OutOfRange`] if `size` is more than the object's slot has, less
    /// the tag.
    ///
    /// # Safety
    /// `size` bytes can be read at `buffer`. No [`Mapped`] or [`MappedMut`] of this object exists.
    pub(crate) unsafe fn write_from(&self, handle: u64, buffer: *const u8, size: usize) -> Result<()> {
        self.copy_with(handle, MapMode::Write, size, |object| {
            // SAFETY: the object is pinned and that long. The caller vouches for the buffer.
            unsafe { std::ptr::copy_nonoverlapping(buffer, object, size) };
        })
    }

    fn copy_with(&self, handle: u64, mode: MapMode, size: usize, copy: impl FnOnce(*mut u8)) -> Result<()> {
        let place = self.pin(handle, mode)?;
        let fits = size <= self.usable_bytes(place);
        if fits {
            copy(self.memory.object(place));
        }
        // SAFETY: the mapping was made here.
        unsafe { self.unmap_raw(handle) }?;
        if fits { Ok(()) } else { Err(PAST_END) }
    }

    /// Returns how many bytes of the slot at `place` the caller of an allocation may use.
    pub(super) fn usable_bytes(&self, place: Place) -> usize {
        self.slot_bytes(place) - self.tag_bytes
    }

    /// Returns the tag of the object at `place`, in a pool with tags. The caller has a pin, or has just taken the slot.
    pub(super) fn tag_at(&self, place: Place) -> &AtomicU64 {
        debug_assert!(self.tag_bytes > 0);
        // SAFETY: slots have more bytes than a tag, and begin and end at multiples of 16. The last bytes of a slot are
        // accessed only here, and by the copy and the wiping of whole slots, which are not read here: the caller's pin
        // or its new slot keeps them out. The copy of a move that began before the pin only reads.
        unsafe { AtomicU64::from_ptr(self.memory.object(place).add(self.usable_bytes(place)).cast()) }
    }

    /// Returns the tag that an object was allocated with.
    ///
    /// # Errors
    /// As [`Pool::map_raw`], and [`Error::Invalid`] if the pool has no tags.
    pub(crate) fn tag_raw(&self, handle: u64) -> Result<u64> {
        let place = self.pin(handle, MapMode::Read)?;
        let tag = if self.tag_bytes == 0 { Err(NO_TAGS) } else { Ok(self.tag_at(place).load(Relaxed)) };
        // SAFETY: the mapping was made here.
        unsafe { self.unmap_raw(handle) }?;
        tag
    }

    pub(super) fn slot_bytes(&self, place: Place) -> usize {
        self.memory.zspage(place.zspage).class().slot_bytes as usize
    }

    /// Asks the processor to fetch what mapping this handle will read first. A hint: any number is allowed.
    #[inline]
    pub(crate) fn prefetch(&self, handle: u64) {
        let index = RawHandle::unpack(handle).index;
        if index.0 < self.memory.word_count() {
            os::prefetch(self.memory.word(index).0);
        }
    }

    /// Asks the processor to fetch the record of an object's zspage.
    #[cfg(feature = "uffd")]
    #[inline]
    pub(crate) fn prefetch_record(&self, handle: u64) {
        let RawHandle { index, generation, .. } = RawHandle::unpack(handle);
        if index.0 < self.memory.word_count() {
            let word = self.memory.word(index).peek();
            if word.is_held_by(generation) {
                os::prefetch(self.memory.zspage(word.place().zspage));
            }
        }
    }

    /// Asks the processor to fetch the first `bytes` bytes of an object whose handle was [`Pool::prefetch`]ed a moment
    /// ago. A hint: any number is allowed.
    #[inline]
    pub(crate) fn prefetch_object(&self, handle: u64, bytes: usize) {
        let RawHandle { index, generation, .. } = RawHandle::unpack(handle);
        if index.0 < self.memory.word_count() {
            let word = self.memory.word(index).peek();
            if word.is_held_by(generation)
                && let Some(object) = self.memory.object_hint(word.place())
            {
                os::prefetch_bytes(object, bytes);
            }
        }
    }
}
