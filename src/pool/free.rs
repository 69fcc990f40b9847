//! free: ends an object, and a zspage that has no object left.

use super::Pool;
#[cfg(doc)]
use super::{Error, Handle};
use crate::error::Result;
use crate::geometry;
use crate::object::Freed;
use crate::size_class::{Emptied, SizeClass};
use crate::units::{HandleIndex, Place};

impl Pool {
    /// Frees an object. If the object is mapped, its last unmap releases it.
    ///
    /// # Errors
    /// [`Error::Stale`] if the handle is stale, freed already, or of another pool.
    ///
    /// # Safety
    /// No [`Handle`] of this object is used any more, nor a raw handle passed to [`Handle::from_raw`].
    // Inlined, because a call would be a part of it that `cargo bench --features uffd --bench instructions` shows.
    #[inline(always)]
    pub(crate) unsafe fn free_raw(&self, handle: u64) -> Result<()> {
        let (index, word, generation) = self.word_of(handle)?;
        match word.free(generation)? {
            Freed::Now(place) => self.release_freed(index, place),
            Freed::Later => {}
        }
        Ok(())
    }

    /// Frees an object as [`Pool::free_raw`] does, and returns how many bytes its slot had.
    ///
    /// # Errors
    /// As [`Pool::free_raw`], and [`Error::Busy`] if the object is mapped 4,095 times, which changes nothing.
    ///
    /// # Safety
    /// As [`Pool::free_raw`].
    pub(crate) unsafe fn free_sized_raw(&self, handle: u64) -> Result<usize> {
        let (index, word, generation) = self.word_of(handle)?;
        if let Some(place) = word.free_if_idle(generation) {
            let bytes = self.slot_bytes(place);
            self.release_freed(index, place);
            return Ok(bytes);
        }
        // The object is mapped or moving. Only a pin keeps its slot from becoming another class's meanwhile.
        let bytes = self.slot_bytes(word.pin_to_read(generation)?);
        let freed = word.free(generation);
        if let Some(place) = word.unpin(generation)? {
            self.release_unmapped(index, place);
        }
        freed?;
        Ok(bytes)
    }

    /// Releases an object that its last unpin made FREE. If the object was renamed, only its old index is released.
    #[cold]
    pub(super) fn release_unmapped(&self, index: HandleIndex, place: Place) {
        // The slot is still taken, so its note is the object's.
        let now = self.memory.zspage(place.zspage).handle_at(place.slot);
        if now != index {
            return self.end_rename(index, now);
        }
        if self.hardened {
            self.wipe(place);
        }
        self.release(self.class_of(place), index, place);
    }

    /// Releases the slot and the handle of an object whose word the caller made FREE.
    // Inlined, because a call would be a part of a free that `cargo bench --features uffd --bench instructions` shows.
    #[inline(always)]
    fn release_freed(&self, index: HandleIndex, place: Place) {
        if self.hardened {
            self.wipe(place);
        }
        let class = self.class_of(place);
        if self.shelves.are_in_use(class.index()) && self.release_to_shelf(class, index) {
            return;
        }
        self.release(class, index, place);
    }

    /// Returns the class of a slot that is still taken.
    #[inline]
    fn class_of(&self, place: Place) -> &SizeClass {
        &self.classes[self.memory.zspage(place.zspage).class_index().0 as usize]
    }

    #[inline(always)]
    fn release(&self, class: &SizeClass, index: HandleIndex, place: Place) {
        let emptied = class.release(&self.memory, place, index);
        if emptied.is_some() {
            self.give_back(class, emptied);
        }
    }

    #[cold]
    pub(super) fn wipe(&self, place: Place) {
        let bytes = self.memory.zspage(place.zspage).class().slot_bytes as usize;
        // SAFETY: the slot is still taken, and its object is gone, so nobody else uses its bytes.
        unsafe { self.memory.object(place).write_bytes(0, bytes) };
    }

    /// Gives back a zspage that no class has. Returns how many pages the system got, or none if there was no zspage, or
    /// the system refused.
    #[cold]
    pub(super) fn give_back(&self, class: &SizeClass, emptied: Option<Emptied>) -> Option<u64> {
        let Emptied { id, touched } = emptied?;
        let gone = self.memory.release(id, geometry::of(class.index()), touched).ok();
        if gone.is_none() {
            // The zspage stays charged, and the class's, until compaction tries again.
            class.lock(&self.memory).add(&self.memory, id);
        }
        gone
    }
}
