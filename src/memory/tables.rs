//! The memory of a pool, and what lies where in it.

use super::arena::{Arena, Chunk};
use super::charge::Charge;
use super::groups::Group;
use super::handle_supply::Handles;
use super::layout::Layout;
use crate::object::ObjectWord;
use crate::os::{Backed, Mapping, Os};
use crate::sync::{AtomicU32, AtomicU64, Leftovers, Lock, Locked, Ordering};
use crate::units::{HandleIndex, PAGE, Place, ZspageId};
use crate::zspage::Zspage;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Which chunks have huge pages, and what advice the system is given.
#[derive(Clone, Copy)]
pub struct Policy {
    /// Chunks from this one on have a huge page, and are committed whole. `usize::MAX` for none.
    pub whole_from: usize,
    /// Whether the system is given advice about huge pages and core dumps.
    pub advise: bool,
    /// Whether forked children do not get the memory.
    pub dont_fork: bool,
}

/// The memory of a pool.
pub struct PoolMemory {
    pub(super) os: Os,
    pub(super) layout: Layout,
    pub(super) policy: Policy,
    pub(super) kind: Backed,
    /// The tables, and the arena as well if it has no mapping of its own.
    pub(super) tables: Mapping,
    pub(super) huge_arena: Option<Mapping>,
    pub(super) arena_base: *mut u8,
    /// The zspage table.
    pub(super) zspages: *const Zspage,
    /// The handle table.
    pub(super) handle_words: *const AtomicU64,
    /// Whether the system takes many ranges back in one call.
    pub(super) many: bool,
    pub(super) file: Option<OwnedFd>,
    /// How many pages the pool has and may have.
    pub charge: Charge,
    pub(super) arena: Lock<Arena>,
    /// Zspages whose memory went back in a free that found the lock of the arena taken.
    pub(super) limbo: Leftovers,
    pub(super) handles: Lock<Handles>,
    /// Free indices for the supply, from threads that must not wait for its lock.
    pub(super) left_handles: Leftovers,
    /// How many words of the handle table were ever given out. Only these are looked at. It never falls: a word whose
    /// memory went back reads as zero, which is a free one.
    pub(super) words: AtomicU32,
}

// SAFETY: the pointers are into mappings that live as long as the memory. The methods say who may touch what.
unsafe impl Send for PoolMemory {}
// SAFETY: what the pointers lead to is atomic, or belongs to the holder of a lock, as the methods say.
unsafe impl Sync for PoolMemory {}

impl PoolMemory {
    #[inline]
    pub(super) fn table<T>(&self, offset: usize) -> *mut T {
        // SAFETY: offsets come from the layout, and lie inside the tables' mapping.
        unsafe { self.tables.base().as_ptr().add(offset).cast() }
    }

    /// Returns the arena and the records of its chunks. They are borrowed from the guard of the arena, so that nobody
    /// else changes them, and this thread has them once.
    pub(super) fn books<'g>(&'g self, arena: &'g mut Locked<'_, Arena>) -> (&'g mut Arena, &'g mut [Chunk]) {
        // SAFETY: the chunk table is committed from the start, and zero is a valid record. The guard is borrowed for as
        // long, which makes this the only use.
        let chunks = unsafe { std::slice::from_raw_parts_mut(self.table(self.layout.chunk_table), self.layout.chunks) };
        (arena, chunks)
    }

    /// Returns the arena, the records of its chunks, and those of the groups.
    #[cfg(test)]
    pub(super) fn all_books<'g>(
        &'g self,
        arena: &'g mut Locked<'_, Arena>,
    ) -> (&'g mut Arena, &'g mut [Chunk], &'g mut [Group]) {
        let groups = self.layout.chunks.div_ceil(crate::units::GROUP_CHUNKS);
        // SAFETY: as for the chunks.
        let groups = unsafe { std::slice::from_raw_parts_mut(self.table(self.layout.group_table), groups) };
        let (arena, chunks) = self.books(arena);
        (arena, chunks, groups)
    }

    /// Returns the record of a group, borrowed from the guard of the arena as [`PoolMemory::books`] is.
    pub(super) fn group<'g>(&'g self, _: &'g mut Locked<'_, Arena>, group: usize) -> &'g mut Group {
        // SAFETY: as for the chunks.
        unsafe { &mut *self.table::<Group>(self.layout.group_table).add(group) }
    }

    /// Returns the record of a zspage.
    #[inline]
    pub fn zspage(&self, id: ZspageId) -> &Zspage {
        // SAFETY: `acquire` gave the id out, and committed the record's page. Records stay mapped as long as the
        // memory. A record whose page was given back reads as zero, which is a record that is not in use.
        unsafe { &*self.zspages.add(id.0 as usize) }
    }

    /// Returns the handle word of an index that was given out.
    #[inline]
    pub fn word(&self, index: HandleIndex) -> ObjectWord<'_> {
        debug_assert!(index.0 < self.words.load(Ordering::Relaxed));
        // SAFETY: the word is committed, and stays so as long as the memory lives.
        let word = unsafe { &*self.handle_words.add(index.0 as usize) };
        ObjectWord(word)
    }

    /// Returns how many handle words were ever given out. An index from there on is not in use.
    #[inline]
    pub fn word_count(&self) -> u32 {
        // Acquire pairs with the Release in `fresh_word`: the words below are committed.
        self.words.load(Ordering::Acquire)
    }

    /// Returns where the bytes of an object are.
    #[inline]
    pub fn object(&self, place: Place) -> *mut u8 {
        let zspage = self.zspage(place.zspage);
        let offset = zspage.first_page() as usize * PAGE + zspage.class().offset(place.slot);
        // SAFETY: the zspage is inside the arena, and the slot inside the zspage.
        unsafe { self.arena_base.add(offset) }
    }

    /// Returns where the bytes of an object were when its word was read, without a pin. A hint: the zspage may be in
    /// another class by now, and the address that of other bytes, or outside the arena. Returns none if the zspage is
    /// in no class.
    #[inline]
    pub fn object_hint(&self, place: Place) -> Option<*const u8> {
        let zspage = self.zspage(place.zspage);
        let offset = zspage.first_page() as usize * PAGE + zspage.class_hint()?.offset(place.slot);
        Some(self.arena_base.wrapping_add(offset))
    }

    /// Copies an object to another place of its class.
    ///
    /// # Safety
    /// Nobody writes the source meanwhile, and the target is the caller's alone.
    #[inline]
    pub unsafe fn copy(&self, from: Place, to: Place, bytes: usize) {
        // SAFETY: two slots of one class do not overlap, and the caller vouches for the rest.
        unsafe { std::ptr::copy_nonoverlapping(self.object(from), self.object(to), bytes) };
    }

    /// Returns where the tables begin, and how many bytes they have. The arena is included if it has no mapping of its
    /// own.
    #[cfg(feature = "uffd")]
    pub fn range(&self) -> (usize, usize) {
        let start = self.tables.base().as_ptr() as usize;
        let end = match self.huge_arena {
            Some(_) => start + self.layout.tables_end,
            None => self.arena_base as usize + self.layout.arena_pages * PAGE,
        };
        (start, end - start)
    }

    /// Returns the descriptor of the memory file, if the memory is in one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Lets go of the memory without unmapping it, in a child that never got it.
    pub fn forget(&mut self) {
        self.tables.forget();
        if let Some(arena) = &mut self.huge_arena {
            arena.forget();
        }
    }
}
