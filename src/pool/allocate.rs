//! malloc: finds a slot and a handle for an object.

use super::Pool;
use crate::error::{Error, Result, sentence};
use crate::geometry::{self, MAX_ALLOC_SIZE};
use crate::size_class::{Shortage, SizeClass, Taken};
use crate::units::{HandleIndex, Place};
use crate::word::RawHandle;
use std::sync::atomic::Ordering::Relaxed;

const ZERO: Error = Error::Invalid(sentence(&"an object of 0 bytes was asked for"));
const TOO_LARGE: Error = Error::TooLarge(sentence(&"an object has at most 4112 bytes"));
const TOO_LARGE_TAGGED: Error =
    Error::TooLarge(sentence(&"an object has at most 4104 bytes in a pool with tags, which take 8"));
pub(super) const NO_TAGS: Error =
    Error::Invalid(sentence(&"the pool was created without tags: ask for them in its options"));

/// Bytes of a tag, at the end of its object's slot.
pub const TAG_BYTES: usize = 8;

/// The largest object in a pool with tags, in bytes.
pub const MAX_TAGGED_SIZE: usize = MAX_ALLOC_SIZE - TAG_BYTES;

impl Pool {
    /// Allocates an object of `size` bytes and returns its handle. The bytes are undefined until they are written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes, [`Error::TooLarge`] for more than [`MAX_ALLOC_SIZE`], [`Error::Limit`] if the
    /// pool is full, [`Error::NoMemory`] if the system gives no memory. Nothing has changed then.
    pub(crate) fn malloc_raw(&self, size: usize) -> Result<u64> {
        self.check_alive()?;
        if size.wrapping_sub(1) >= self.most_untagged {
            return self.malloc_otherwise(size);
        }
        self.allocate_slot(size, 0, None).map(|(handle, _)| handle)
    }

    /// Allocates in a pool with tags, or refuses a size that is wrong. Returns no more than the handle, in registers,
    /// so that the common case stores nothing for it.
    #[cold]
    fn malloc_otherwise(&self, size: usize) -> Result<u64> {
        self.allocate_tagged(size, 0, 0).map(|(handle, _)| handle)
    }

    /// Allocates an object that is mapped to write. Nobody moves or evicts it before [`Pool::unmap_raw`].
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`].
    pub(crate) fn malloc_mapped_raw(&self, size: usize) -> Result<(u64, *mut u8)> {
        self.allocate(size, 1).map(|(handle, place)| (handle, self.memory.object(place)))
    }

    /// Allocates an object with a tag, mapped to write, as [`Pool::malloc_tagged`] does.
    ///
    /// # Errors
    /// As [`Pool::malloc_tagged`].
    pub(crate) fn malloc_tagged_raw(&self, size: usize, tag: u64) -> Result<(u64, *mut u8)> {
        self.check_alive()?;
        if self.tag_bytes == 0 {
            return Err(NO_TAGS);
        }
        self.allocate_tagged(size, 1, tag).map(|(handle, place)| (handle, self.memory.object(place)))
    }

    /// Returns how many bytes an object could have that takes as much memory as one of `size` bytes: `size`, rounded up
    /// to its size class.
    ///
    /// Sizes from 1 to 64 are one class. Above that classes are 16 bytes apart, and above 2048 bytes 32. In a pool with
    /// tags these are the sizes with the tag of 8 bytes, so that the first class ends at 56. May be called from any
    /// thread, from an evict callback and from a signal handler.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes, [`Error::TooLarge`] for more bytes than an object can have.
    pub fn class_size(&self, size: usize) -> Result<usize> {
        self.check_size(size)?;
        Ok(geometry::of(geometry::class_of(size + self.tag_bytes)).slot_bytes as usize - self.tag_bytes)
    }

    fn check_size(&self, size: usize) -> Result<()> {
        match size {
            0 => Err(ZERO),
            _ if size <= MAX_ALLOC_SIZE - self.tag_bytes => Ok(()),
            _ => Err(if self.tag_bytes == 0 { TOO_LARGE } else { TOO_LARGE_TAGGED }),
        }
    }

    /// Allocates an object with this many pins. Takes one locked instruction, for the lock of the class, unless the
    /// class needs memory or handles.
    #[inline]
    pub(crate) fn allocate(&self, size: usize, pins: u64) -> Result<(u64, Place)> {
        self.check_alive()?;
        if size.wrapping_sub(1) >= self.most_untagged {
            // A size that is wrong, or a pool with tags.
            return self.allocate_tagged(size, pins, 0);
        }
        self.allocate_slot(size, pins, None)
    }

    #[inline(never)]
    fn allocate_tagged(&self, size: usize, pins: u64, tag: u64) -> Result<(u64, Place)> {
        self.check_size(size)?;
        self.allocate_slot(size + self.tag_bytes, pins, Some(tag))
    }

    /// Allocates a slot of at least `bytes` bytes, with a tag at its end if there is one.
    #[inline(always)]
    fn allocate_slot(&self, bytes: usize, pins: u64, tag: Option<u64>) -> Result<(u64, Place)> {
        let class = &self.classes[geometry::class_of(bytes).0 as usize];
        let taken = if self.shelves.are_in_use(class.index()) {
            class.take_from_shelf(&self.memory, &self.shelves)
        } else {
            class.lock_to_take(&self.memory, &self.shelves).take(&self.memory)
        };
        let (place, index) = match taken {
            Ok(Some(taken)) => taken,
            shortage => self.allocate_more(class, shortage)?,
        };
        self.stamp(place);
        if let Some(tag) = tag {
            // Nobody can offer or map the object before it is published, which orders this store before that.
            self.tag_at(place).store(tag, Relaxed);
        }
        let generation = self.memory.word(index).publish(place, pins);
        Ok((RawHandle { index, generation, tag: self.tag.tag() }.pack(), place))
    }

    /// Allocates in a class that has no slot, or none that it may use. Before it fails, all that is on shelves goes
    /// back: that may be the memory, or the handles, that are missing.
    #[cold]
    fn allocate_more(&self, class: &SizeClass, taken: Taken) -> Result<(Place, HandleIndex)> {
        let allocated = self.allocate_elsewhere(class, taken);
        if allocated.is_ok() || !self.give_shelves_up() {
            return allocated;
        }
        let taken = class.lock(&self.memory).take_slowly(&self.memory);
        self.allocate_elsewhere(class, taken)
    }

    fn allocate_elsewhere(&self, class: &SizeClass, taken: Taken) -> Result<(Place, HandleIndex)> {
        match taken {
            Ok(Some(taken)) => Ok(taken),
            Ok(None) => self.allocate_in_new_zspage(class),
            Err(Shortage::Handles(_)) => self.allocate_with_handles_of_others(class),
            Err(Shortage::Memory(full)) => Err(full),
        }
    }

    #[cold]
    fn allocate_in_new_zspage(&self, class: &SizeClass) -> Result<(Place, HandleIndex)> {
        loop {
            let id = self.memory.acquire(class.index(), self.reclaim.next_epoch(), None)?;
            let mut state = class.lock(&self.memory);
            state.add(&self.memory, id);
            match state.take_slowly(&self.memory) {
                Ok(Some(taken)) => return Ok(taken),
                // Other threads have taken all its slots already.
                Ok(None) => {}
                Err(shortage) => {
                    // A refusal changes nothing, so the zspage goes back unless another thread uses it.
                    let unused = state.isolate(&self.memory, id).then(|| state.end_isolation(&self.memory, id));
                    drop(state);
                    self.give_back(class, unused.flatten());
                    return Err(shortage.error());
                }
            }
        }
    }

    /// Allocates after all classes and processors gave back the free handles that they keep.
    #[cold]
    fn allocate_with_handles_of_others(&self, class: &SizeClass) -> Result<(Place, HandleIndex)> {
        for other in &self.classes {
            let mut state = other.lock(&self.memory);
            self.memory.take_back(state.all_handles(&self.memory));
        }
        self.shelves.return_stocks(&self.memory);
        let taken = class.lock(&self.memory).take_slowly(&self.memory).map_err(Shortage::error)?;
        taken.map_or_else(|| self.allocate_in_new_zspage(class), Ok)
    }
}
