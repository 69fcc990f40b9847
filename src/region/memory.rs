//! The region itself: how it is reserved and prepared, and what lies where in it.

use super::arena::{Arena, Chunk};
use super::charge::Charge;
use super::fifo::Fifo;
use super::handles::Handles;
use super::layout::Layout;
use super::records::Group;
use crate::error::{Error, Result, Sentence, not_given};
use crate::os::{Advice, Backed, Errno, Mapping, Os};
use crate::sync::{AtomicU32, AtomicU64, Leftovers, Lock, Locked, Ordering, Rank};
use crate::units::{CHUNK, HandleIndex, PAGE, Place, ZspageId};
use crate::zspage::Zspage;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where the memory comes from.
pub enum Source<'a> {
    /// Private anonymous memory.
    Anonymous,
    /// A memory file of this name.
    File(&'a str),
    /// A memory file of huge pages from the system's pool; the tables are anonymous.
    HugeFile(&'a str),
    /// The caller's memory, which the layout was made for, and whether it may be given back like private anonymous
    /// memory.
    Lent(*mut u8, bool),
}

/// From which chunk on new chunks have huge pages, and what advice the system is given.
#[derive(Clone, Copy)]
pub struct Policy {
    /// Chunks from this one on are committed whole; `usize::MAX`: none.
    pub whole_from: usize,
    /// Whether any advice is given: huge pages, core dumps.
    pub advise: bool,
    /// Whether forked children do not get the memory.
    pub dont_fork: bool,
}

/// The memory of a pool.
pub struct Region {
    pub(super) os: Os,
    pub(super) layout: Layout,
    pub(super) policy: Policy,
    pub(super) kind: Backed,
    /// The tables, and the arena too if it has no mapping of its own.
    tables: Mapping,
    pub(super) huge_arena: Option<Mapping>,
    pub(super) arena_base: *mut u8,
    /// The zspage table and the handle table.
    zspages: *const Zspage,
    handle_words: *const AtomicU64,
    /// Whether the system takes many ranges back in one call.
    pub(super) many: bool,
    pub(super) file: Option<OwnedFd>,
    /// What the pool has and may have.
    pub charge: Charge,
    pub(super) arena: Lock<Arena>,
    /// Zspages whose memory went back in a free that found the arena's lock taken.
    pub(super) limbo: Leftovers,
    pub(super) handles: Lock<Handles>,
    /// Words of the handle table that were ever given out; only these are looked at.
    pub(super) words: AtomicU32,
}

// SAFETY: the pointers are into mappings that live as long as the region; who may touch what is in `Region`'s methods.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

const NO_ADDRESSES: Sentence =
    not_given!("the system did not reserve addresses for the pool; a smaller max_bytes takes fewer");
const NO_FILE: Sentence = &"the system did not create a memory file for the pool";
const NO_HUGE: Sentence = &"the system has no huge-page files: it was built without hugetlbfs, or refuses them";
const NO_SEAL: Sentence = &"the system did not seal the size of the pool's memory file";
const NO_TABLES: Sentence = not_given!("the system did not commit the pool's tables");
const NO_ADVICE: Sentence = &"the system refused advice about the pool's memory";

impl Drop for Region {
    fn drop(&mut self) {
        let lent = matches!(self.kind, Backed::Lent | Backed::LentReleasable);
        if lent && self.policy.dont_fork {
            // The memory goes on without the pool. A refusal, as in a child that never got it, changes nothing.
            let _ = self.os.advise(self.arena_base, self.layout.arena_pages * PAGE, Advice::Fork);
        }
    }
}

impl Region {
    /// Reserves the memory and commits the tables that are needed from the start.
    pub fn new(os: Os, source: &Source<'_>, layout: Layout, policy: Policy, limit_pages: u64) -> Result<Self> {
        let arena_bytes = layout.arena_pages * PAGE;
        let tables_end = layout.tables_end.next_multiple_of(CHUNK);
        let step = |text: Sentence| move |errno: Errno| Error::system(errno, text);
        let (mut file, mut huge_arena, mut kind) = (None, None, Backed::Anonymous);
        let tables = match source {
            Source::Anonymous => os.reserve(tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?,
            Source::File(name) => {
                let fd = os.memory_file(name, tables_end + arena_bytes, false).map_err(step(NO_FILE))?;
                os.seal_size(&fd).map_err(step(NO_SEAL))?;
                let map = os.map_file(fd.as_raw_fd(), tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind) = (Some(fd), Backed::File);
                map
            }
            Source::HugeFile(name) => {
                let fd = os.memory_file(name, arena_bytes, true).map_err(step(NO_HUGE))?;
                os.seal_size(&fd).map_err(step(NO_SEAL))?;
                let map = os.map_file(fd.as_raw_fd(), arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind, huge_arena) = (Some(fd), Backed::File, Some(map));
                os.reserve(tables_end, CHUNK).map_err(step(NO_ADDRESSES))?
            }
            Source::Lent(base, releasable) => {
                kind = if *releasable { Backed::LentReleasable } else { Backed::Lent };
                Mapping::lent(std::ptr::NonNull::new(*base).ok_or(Error::Invalid(&"memory is NULL"))?)
            }
        };
        let arena_at = if matches!(source, Source::Lent(..)) { layout.tables_end } else { tables_end };
        let arena_base = match &huge_arena {
            Some(map) => map.base().as_ptr(),
            // SAFETY: the tables' mapping was made long enough to hold the arena after them.
            None => unsafe { tables.base().as_ptr().add(arena_at) },
        };
        // SAFETY: both tables lie inside the tables' mapping.
        let (zspages, handle_words) = unsafe {
            (tables.base().as_ptr().add(layout.zspage_table), tables.base().as_ptr().add(layout.handle_table))
        };
        let mut region = Self {
            os,
            layout,
            zspages: zspages.cast(),
            handle_words: handle_words.cast(),
            policy,
            kind,
            tables,
            huge_arena,
            arena_base,
            many: false,
            file,
            charge: Charge::new(limit_pages),
            arena: Lock::new(Rank::Arena, Arena::new(layout.arena_pages)),
            handles: Lock::new(Rank::Handles, Handles { fresh: 0, committed: 0, returned: Fifo::EMPTY }),
            limbo: Leftovers::default(),
            words: AtomicU32::new(0),
        };
        region.prepare()?;
        // SAFETY: nothing was ever in the arena. A jail that forbids advice is not asked for a call that it may not
        // know.
        region.many = kind == Backed::Anonymous && policy.advise && unsafe { region.os.can_release_many(arena_base) };
        Ok(region)
    }

    /// Gives the advice, commits the first tables, and writes the super page.
    fn prepare(&self) -> Result<()> {
        let refused = |errno| Error::advice(errno, NO_ADVICE);
        let (base, arena_bytes) = (self.tables.base().as_ptr(), self.layout.arena_pages * PAGE);
        let lent = matches!(self.kind, Backed::Lent | Backed::LentReleasable);
        if !self.policy.advise && !lent && self.huge_arena.is_none() {
            // Pages that the system adds unasked, where it makes huge pages of everything, would be charged to nobody.
            let _ = self.os.advise(base, self.layout.tables_end, Advice::NotHuge);
            let _ = self.os.advise(self.arena_base, arena_bytes, Advice::NotHuge);
        }
        if self.policy.advise && self.huge_arena.is_none() {
            let small = self.policy.whole_from.saturating_mul(CHUNK).min(arena_bytes);
            // A system that never gives huge pages refuses advice about them, and so does one built without them.
            // Where it gives them unasked, a table would take 2 MiB for the first page that is touched, and 4 KiB were
            // charged.
            let _ = self.os.advise(base, self.layout.tables_end, Advice::NotHuge);
            let _ = self.os.advise(self.arena_base, small, Advice::NotHuge);
            if small < arena_bytes {
                // SAFETY: `small` lies inside the arena.
                let _ = self.os.advise(unsafe { self.arena_base.add(small) }, arena_bytes - small, Advice::Huge);
            }
        }
        if self.policy.advise {
            self.os.advise(self.arena_base, arena_bytes, Advice::DontDump).map_err(refused)?;
        }
        if self.policy.dont_fork {
            self.os.advise(self.arena_base, arena_bytes, Advice::DontFork).map_err(refused)?;
            if !lent {
                self.os.advise(base, self.layout.tables_end, Advice::DontFork).map_err(refused)?;
            }
        }
        if let (Some(_), Some(file)) = (&self.huge_arena, &self.file) {
            self.check_huge(file)?;
        }
        self.commit_table(0, self.layout.zspage_table)?;
        self.charge.take(1)?;
        // SAFETY: the super page was just committed, is aligned, and nobody else knows it.
        unsafe {
            base.cast::<SuperPage>().write(SuperPage { magic: MAGIC, version: 1, page: PAGE, layout: self.layout })
        };
        Ok(())
    }

    /// Whether the system has a huge page at all, which a pool that is made of them finds out best at its creation.
    fn check_huge(&self, file: &OwnedFd) -> Result<()> {
        const NONE: Error = Error::NoMemory(&"the system has no huge page of 2 MiB to give: raise vm.nr_hugepages");
        self.os.allocate(file.as_raw_fd(), 0, CHUNK).map_err(|_| NONE)?;
        // The first object needs a page: one that the system did not take back is used then.
        // SAFETY: nothing was ever in the arena.
        let _ = unsafe { self.os.release(self.arena_base, CHUNK, Backed::File) };
        Ok(())
    }

    /// Makes a part of the tables usable, and zero.
    pub(super) fn commit_table(&self, at: usize, bytes: usize) -> Result<()> {
        // SAFETY: the tables' mapping is that long.
        let at = unsafe { self.tables.base().as_ptr().add(at) };
        if matches!(self.kind, Backed::Lent | Backed::LentReleasable) {
            // SAFETY: the caller's memory, usable already; this part of it is not in use yet.
            unsafe { at.write_bytes(0, bytes) };
            return Ok(());
        }
        self.os.commit(at, bytes).map_err(|errno| Error::system(errno, NO_TABLES))
    }

    #[inline]
    pub(super) fn table<T>(&self, offset: usize) -> *mut T {
        // SAFETY: offsets come from the layout, and lie inside the tables' mapping.
        unsafe { self.tables.base().as_ptr().add(offset).cast() }
    }

    /// The arena and the records of its chunks. Borrowed from the arena's guard, so that nobody else changes either,
    /// and this thread has them once.
    pub(super) fn books<'g>(&'g self, arena: &'g mut Locked<'_, Arena>) -> (&'g mut Arena, &'g mut [Chunk]) {
        // SAFETY: the chunk table is committed from the start, zero is a valid record, and the guard, which is borrowed
        // for as long, makes this the only use.
        let chunks = unsafe { std::slice::from_raw_parts_mut(self.table(self.layout.chunk_table), self.layout.chunks) };
        (arena, chunks)
    }

    /// The same with the records of the groups.
    #[cfg(test)]
    pub(super) fn all_books<'g>(
        &'g self,
        arena: &'g mut Locked<'_, Arena>,
    ) -> (&'g mut Arena, &'g mut [Chunk], &'g mut [Group]) {
        let groups = self.layout.chunks.div_ceil(super::layout::GROUP_CHUNKS);
        // SAFETY: as for the chunks.
        let groups = unsafe { std::slice::from_raw_parts_mut(self.table(self.layout.group_table), groups) };
        let (arena, chunks) = self.books(arena);
        (arena, chunks, groups)
    }

    /// The record of a group, borrowed from the arena's guard as well.
    pub(super) fn group<'g>(&'g self, _: &'g mut Locked<'_, Arena>, group: usize) -> &'g mut Group {
        // SAFETY: as for the chunks.
        unsafe { &mut *self.table::<Group>(self.layout.group_table).add(group) }
    }

    /// The record of a zspage.
    #[inline]
    pub fn zspage(&self, id: ZspageId) -> &Zspage {
        // SAFETY: ids are given out by `acquire`, which committed the record's page; records are never unmapped before
        // the region is, and one whose page was given back reads as zero, which is a record that is not in use.
        unsafe { &*self.zspages.add(id.0 as usize) }
    }

    /// A word of the handle table, by an index that was given out.
    #[inline]
    pub fn word(&self, index: HandleIndex) -> crate::object::ObjectWord<'_> {
        debug_assert!(index.0 < self.words.load(Ordering::Relaxed));
        // SAFETY: the word is committed, and stays so for as long as the region lives.
        let word = unsafe { &*self.handle_words.add(index.0 as usize) };
        crate::object::ObjectWord(word)
    }

    /// How many words were ever given out; an index from there on is nobody's.
    #[inline]
    pub fn word_count(&self) -> u32 {
        // Acquire pairs with the Release in `fresh_word`: the words below are committed.
        self.words.load(Ordering::Acquire)
    }

    /// Where an object's bytes are.
    #[inline]
    pub fn object(&self, place: Place) -> *mut u8 {
        let zspage = self.zspage(place.zspage);
        let offset = zspage.first_page() as usize * PAGE + zspage.class().offset(place.slot);
        // SAFETY: the zspage is inside the arena, and the slot inside the zspage.
        unsafe { self.arena_base.add(offset) }
    }

    /// Where an object's bytes were when its word was looked at, without a pin: for hints. None: the zspage is in no
    /// class any more. It may be in another by now, and the address that of other bytes, or outside the arena.
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
        // SAFETY: two slots of one class do not overlap, and the caller answers for the rest.
        unsafe { std::ptr::copy_nonoverlapping(self.object(from), self.object(to), bytes) };
    }

    /// Where its tables, and the arena if that has no mapping of its own, lie, and their bytes.
    #[cfg(feature = "uffd")]
    pub fn range(&self) -> (usize, usize) {
        let start = self.tables.base().as_ptr() as usize;
        let end = match self.huge_arena {
            Some(_) => start + self.layout.tables_end,
            None => self.arena_base as usize + self.layout.arena_pages * PAGE,
        };
        (start, end - start)
    }

    /// The file descriptor of a pool in a memory file.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Lets go of the memory without unmapping it: in a child that never got it.
    pub fn forget(&mut self) {
        self.tables.forget();
        if let Some(arena) = &mut self.huge_arena {
            arena.forget();
        }
    }
}

/// Says what a memory file holds.
#[repr(C)]
struct SuperPage {
    magic: u64,
    version: u32,
    page: usize,
    layout: Layout,
}

const MAGIC: u64 = u64::from_le_bytes(*b"zsalloc\x01");
