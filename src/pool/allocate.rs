//! malloc: finds a slot and a handle for an object.

use super::Pool;
use crate::error::{Error, Result, sentence};
use crate::geometry::{self, MAX_ALLOC_SIZE};
use crate::size_class::{Shortage, SizeClass};
use crate::units::{HandleIndex, Place};
use crate::word::RawHandle;

const ZERO: Error = Error::Invalid(sentence(&"an object of 0 bytes was asked for"));
const TOO_LARGE: Error = Error::TooLarge(sentence(&"an object has at most 4112 bytes"));

impl Pool {
    /// Allocates an object of `size` bytes and returns its handle. The bytes are undefined until they are written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes, [`Error::TooLarge`] for more than [`MAX_ALLOC_SIZE`], [`Error::Limit`] if the
    /// pool is full, [`Error::NoMemory`] if the system gives no memory. Nothing has changed then.
    pub(crate) fn malloc_raw(&self, size: usize) -> Result<u64> {
        self.allocate(size, 0).map(|(handle, _)| handle)
    }

    /// Allocates an object that is mapped to write. Nobody moves or evicts it before [`Pool::unmap_raw`].
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`].
    pub(crate) fn malloc_mapped_raw(&self, size: usize) -> Result<(u64, *mut u8)> {
        self.allocate(size, 1).map(|(handle, place)| (handle, self.memory.object(place)))
    }

    /// Returns how many bytes an object of `size` bytes takes.
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`] for a size that can't be allocated.
    pub fn class_size(&self, size: usize) -> Result<usize> {
        match size {
            0 => Err(ZERO),
            1..=MAX_ALLOC_SIZE => Ok(geometry::of(geometry::class_of(size)).slot_bytes as usize),
            _ => Err(TOO_LARGE),
        }
    }

    /// Allocates an object with this many pins. Takes one locked instruction, for the lock of the class, unless the
    /// class needs memory or handles.
    #[inline]
    pub(crate) fn allocate(&self, size: usize, pins: u64) -> Result<(u64, Place)> {
        self.check_alive()?;
        if size.wrapping_sub(1) >= MAX_ALLOC_SIZE {
            return Err(if size == 0 { ZERO } else { TOO_LARGE });
        }
        let class = &self.classes[geometry::class_of(size).0 as usize];
        let taken = class.lock(&self.memory).take(&self.memory);
        let (place, index) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => self.allocate_in_new_zspage(class)?,
            Err(Shortage::Handles(_)) => self.allocate_with_handles_of_others(class)?,
            Err(Shortage::Memory(full)) => return Err(full),
        };
        self.stamp(place);
        let generation = self.memory.word(index).publish(place, pins);
        Ok((RawHandle { index, generation, tag: self.tag.tag() }.pack(), place))
    }

    #[cold]
    fn allocate_in_new_zspage(&self, class: &SizeClass) -> Result<(Place, HandleIndex)> {
        loop {
            let id = self.memory.acquire(class.index(), self.reclaim.next_epoch(), None)?;
            let mut state = class.lock(&self.memory);
            state.add(&self.memory, id);
            match state.take(&self.memory) {
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

    /// Allocates after all classes gave back the free handles that they keep.
    #[cold]
    fn allocate_with_handles_of_others(&self, class: &SizeClass) -> Result<(Place, HandleIndex)> {
        for other in &self.classes {
            let mut state = other.lock(&self.memory);
            self.memory.take_back(state.all_handles(&self.memory));
        }
        let taken = class.lock(&self.memory).take(&self.memory).map_err(Shortage::error)?;
        taken.map_or_else(|| self.allocate_in_new_zspage(class), Ok)
    }
}
