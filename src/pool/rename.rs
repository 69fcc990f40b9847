//! Another handle index for an object, so that the handle table can become shorter.
//!
//! A renamed object has two handle words for a while. The new one has a pin of its own until the old one has no pin any
//! more: so the object stays where it is, and its slot taken, while a reader has it pinned under the old handle. The
//! slot's note names the new word. The last unmap of the old word sees that, releases the old index alone, and takes
//! the pin off the new word.

use super::Pool;
use crate::error::Result;
use crate::object::Freed;
use crate::units::HandleIndex;
use crate::word::RawHandle;

impl Pool {
    /// Gives an object that the caller has pinned under `handle` the index `to`, which is free and the caller's.
    /// `replace` puts the new handle in the place of the old one, wherever the owner of the object keeps it, and
    /// returns whether it did. If so, the old handle is stale: the caller's pin under it still has to be unmapped.
    /// Otherwise `to` is still the caller's. One thread at a time renames the objects of a pool.
    ///
    /// An object that others have pinned keeps its handle: one of the pins may be that of an earlier renaming.
    ///
    /// # Errors
    /// [`crate::Error::Stale`] with a handle that is not of this pool.
    pub(crate) fn rename(&self, handle: u64, to: HandleIndex, replace: impl FnOnce(u64) -> bool) -> Result<bool> {
        let (_, old, generation) = self.word_of(handle)?;
        let seen = old.peek();
        if seen.pins() != 1 {
            return Ok(false);
        }
        // The caller's pin keeps the object there.
        let place = seen.place();
        let new = self.memory.word(to);
        let renamed = RawHandle { index: to, generation: new.publish(place, 1), tag: self.tag.tag() };
        if !replace(renamed.pack()) {
            new.withdraw();
            return Ok(false);
        }
        // Before the caller unmaps the old handle: the Release of that orders the note before the last unmap.
        self.memory.zspage(place.zspage).set_handle(place.slot, to);
        let freed = old.free(generation)?;
        debug_assert_eq!(freed, Freed::Later, "the caller has it pinned");
        Ok(true)
    }

    /// Releases the old index of an object that was renamed to `now`, after the last unmap of the old word.
    pub(super) fn end_rename(&self, old: HandleIndex, now: HandleIndex) {
        self.memory.leave_handle(old);
        let word = self.memory.word(now);
        // The pin that the renaming left keeps the word from being used again.
        let unpinned = word.unpin(word.peek().generation());
        debug_assert!(unpinned.is_ok());
        if let Ok(Some(place)) = unpinned {
            self.release_unmapped(now, place);
        }
    }
}
