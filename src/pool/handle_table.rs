//! What the owner of a pool's handles needs to make the handle table shorter: which end it could have, free indices
//! before that end, and the end itself. A program that has handles of its own never sees them change: only a zswap,
//! whose page words are the only place of its handles, renames objects.

use super::Pool;
use crate::units::HandleIndex;
use crate::word::RawHandle;

/// How many indices beyond the objects' the table keeps, so that the next allocations need no new end.
const SPARE: u32 = if cfg!(test) { 4 } else { 128 };
/// How many words have to go for the work to pay: some pages.
const WORTH: u32 = if cfg!(test) { 4 } else { 4096 };

impl Pool {
    /// Returns where the handle table could end, if so much of it would go that the work pays: an eighth, and some
    /// pages. A hardened pool never forgets the generation of an index, so its table stays.
    pub(crate) fn shorter_handle_table(&self) -> Option<u32> {
        let end = u32::try_from(self.object_count()).ok()?.checked_add(SPARE)?;
        let now = self.memory.handle_end();
        (!self.hardened && now.checked_sub(end)? >= WORTH.max(now / 8)).then_some(end)
    }

    /// Takes the free indices of all classes and processors back, so that those before the end can be given out.
    pub(crate) fn gather_handles(&self) {
        self.give_shelves_up();
        self.shelves.return_stocks(&self.memory);
        for class in &self.classes {
            let mut state = class.lock(&self.memory);
            self.memory.take_back(state.all_handles(&self.memory));
        }
    }

    /// Sorts up to `most` free indices into those before `end` and the others. Returns whether all are sorted.
    pub(crate) fn sort_handles(&self, end: u32, most: u32) -> bool {
        self.memory.sort_handles(end, most)
    }

    /// Returns whether a short handle has an index from `end` on.
    pub(crate) fn is_behind(short_handle: u64, end: u32) -> bool {
        RawHandle::unpack(short_handle).index.0 >= end
    }

    /// Takes a free index before the end that the indices were sorted for.
    pub(crate) fn low_handle(&self) -> Option<HandleIndex> {
        self.memory.low_handle()
    }

    /// Gives back an index that [`Pool::low_handle`] returned.
    pub(crate) fn leave_handle(&self, index: HandleIndex) {
        self.memory.leave_handle(index);
    }

    /// Returns `end`, or the end of the words in use if that lies after it.
    pub(crate) fn used_handle_end(&self, end: u32) -> u32 {
        self.memory.used_handle_end(end)
    }

    /// Ends the handle table at the end that the indices were sorted for, if all indices from there on are free, and
    /// gives its memory back. Returns how many pages the system got, or none if an index is in use.
    pub(crate) fn end_handle_table(&self, end: u32) -> Option<u64> {
        self.memory.end_handles(end).then(|| self.memory.release_handles())
    }
}

#[cfg(test)]
impl Pool {
    /// Returns how many pages of the handle table are charged.
    pub(crate) fn handle_table_pages(&self) -> usize {
        self.memory.handle_pages()
    }
}
