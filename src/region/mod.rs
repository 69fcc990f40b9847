//! The memory of one pool: tables and arena, reserved at once, committed as touched, charged before it is touched.

pub mod arena;
pub mod charge;
pub mod layout;
mod page_map;
pub mod records;

use crate::classes::{Class, class};
use crate::error::{Error, Result};
use crate::os::{Advice, Errno, Kind, Mapping, Os};
use crate::sync::{AtomicU32, AtomicU64, Lock, Locked, Ordering, Rank};
use crate::units::{CHUNK, CHUNK_PAGES, ClassIndex, HandleIndex, PAGE, Place, ZspageId, pages_of};
use crate::zspage::Zspage;
use arena::{Arena, Chunk, Run, State};
use charge::Charge;
use layout::{GROUP_CHUNKS, Layout};
use records::Group;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Where the memory comes from.
pub enum Source {
    /// Private anonymous memory.
    Anonymous,
    /// A memory file of this name.
    File(String),
    /// A memory file of huge pages from the system's pool; the tables are anonymous.
    HugeFile(String),
    /// The caller's memory: address, bytes, and whether it may be given back like private anonymous memory.
    Lent(*mut u8, usize, bool),
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
    os: Os,
    layout: Layout,
    policy: Policy,
    kind: Kind,
    /// The tables, and the arena too if it has no mapping of its own.
    tables: Mapping,
    huge_arena: Option<Mapping>,
    arena_base: *mut u8,
    file: Option<OwnedFd>,
    /// What the pool has and may have.
    pub charge: Charge,
    arena: Lock<Arena>,
    handles: Lock<Handles>,
    /// Words of the handle table that were ever given out; only these are looked at.
    words: AtomicU32,
}

// SAFETY: the pointers are into mappings that live as long as the region; who may touch what is in `Region`'s methods.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The supply of handle indices, from which classes take some at a time.
struct Handles {
    /// Words never given out begin here.
    fresh: u32,
    /// Words that are readable and writable end here.
    committed: u32,
    /// Words that compaction took back from the classes.
    returned: Fifo,
}

/// Free words in a row, first in, first out, each naming the next: so that a freed index is used again as late as can be.
#[derive(Clone, Copy)]
pub struct Fifo {
    head: HandleIndex,
    tail: HandleIndex,
    /// How many.
    pub count: u32,
}

impl Fifo {
    /// None.
    pub const EMPTY: Self = Self { head: HandleIndex::NONE, tail: HandleIndex::NONE, count: 0 };

    /// Appends a free word. The word is the caller's alone, by the lock that guards this list: its stores are Relaxed,
    /// for whoever else looks at a free word finds it free and no more.
    #[inline]
    pub fn push(&mut self, region: &Region, index: HandleIndex) {
        let relink = |index: HandleIndex, next: HandleIndex| {
            let word = region.word(index);
            word.0.store(word.peek().with_link(next).0, Ordering::Relaxed);
        };
        relink(index, HandleIndex::NONE);
        match self.count {
            0 => self.head = index,
            _ => relink(self.tail, index),
        }
        self.tail = index;
        self.count += 1;
    }

    /// Takes the oldest.
    #[inline]
    pub fn pop(&mut self, region: &Region) -> Option<HandleIndex> {
        if self.count == 0 {
            return None;
        }
        let index = self.head;
        self.head = region.word(index).peek().link();
        self.count -= 1;
        Some(index)
    }

    /// Appends all of another list.
    fn append(&mut self, region: &Region, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let tail = region.word(self.tail);
        tail.0.store(tail.peek().with_link(other.head).0, Ordering::Relaxed);
        (self.tail, self.count) = (other.tail, self.count + other.count);
    }
}

/// Words of the handle table that are committed at a time: 1 MiB.
const WORD_STEP: u32 = 1 << 17;

const NO_ADDRESSES: &str =
    "the system did not reserve addresses for the pool: give a smaller max_bytes, or raise RLIMIT_AS";
const NO_TABLES: &str = "the system did not commit the pool's tables: it has no memory, or overcommits none";
const NO_ADVICE: &str = "the system refused advice about the pool's memory";

impl Region {
    /// Reserves the memory and commits the tables that are needed from the start.
    pub fn new(os: Os, source: &Source, layout: Layout, policy: Policy, limit_pages: u64) -> Result<Self> {
        let arena_bytes = layout.arena_pages * PAGE;
        let tables_end = layout.tables_end.next_multiple_of(CHUNK);
        let step = |text| move |errno: Errno| Error::system(errno, text);
        const NO_FILE: &str = "the system did not create a memory file for the pool";
        const NO_HUGE: &str = "the system has no huge-page files: it was built without hugetlbfs, or refuses them";
        let (mut file, mut huge_arena, mut kind) = (None, None, Kind::Anonymous);
        let tables = match source {
            Source::Anonymous => os.reserve(tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?,
            Source::File(name) => {
                let fd = os.memory_file(name, tables_end + arena_bytes, false).map_err(step(NO_FILE))?;
                let map = os.map_file(fd.as_raw_fd(), tables_end + arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind) = (Some(fd), Kind::File);
                map
            }
            Source::HugeFile(name) => {
                let fd = os.memory_file(name, arena_bytes, true).map_err(step(NO_HUGE))?;
                let map = os.map_file(fd.as_raw_fd(), arena_bytes, CHUNK).map_err(step(NO_ADDRESSES))?;
                (file, kind, huge_arena) = (Some(fd), Kind::File, Some(map));
                os.reserve(tables_end, CHUNK).map_err(step(NO_ADDRESSES))?
            }
            Source::Lent(base, _, releasable) => {
                kind = if *releasable { Kind::LentReleasable } else { Kind::Lent };
                Mapping::lent(std::ptr::NonNull::new(*base).ok_or(Error::Invalid("memory is NULL"))?)
            }
        };
        let arena_at = if matches!(source, Source::Lent(..)) { layout.tables_end } else { tables_end };
        let arena_base = match &huge_arena {
            Some(map) => map.base().as_ptr(),
            // SAFETY: the tables' mapping was made long enough to hold the arena after them.
            None => unsafe { tables.base().as_ptr().add(arena_at) },
        };
        let region = Self {
            os,
            layout,
            policy,
            kind,
            tables,
            huge_arena,
            arena_base,
            file,
            charge: Charge::new(limit_pages),
            arena: Lock::new(Rank::Arena, Arena::new(layout.arena_pages)),
            handles: Lock::new(Rank::Handles, Handles { fresh: 0, committed: 0, returned: Fifo::EMPTY }),
            words: AtomicU32::new(0),
        };
        region.prepare()?;
        Ok(region)
    }

    /// Gives the advice, commits the first tables, and writes the super page.
    fn prepare(&self) -> Result<()> {
        let refused = |errno| Error::system(errno, NO_ADVICE);
        let (base, arena_bytes) = (self.tables.base().as_ptr(), self.layout.arena_pages * PAGE);
        let lent = matches!(self.kind, Kind::Lent | Kind::LentReleasable);
        if self.policy.advise && self.huge_arena.is_none() {
            let small = self.policy.whole_from.saturating_mul(CHUNK).min(arena_bytes);
            // A system that never gives huge pages refuses advice about them, and so does one built without them.
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
        self.commit_table(0, self.layout.zspage_table)?;
        self.charge.take(1)?;
        // SAFETY: the super page was just committed, is aligned, and nobody else knows it.
        unsafe {
            base.cast::<SuperPage>().write(SuperPage { magic: MAGIC, version: 1, page: PAGE, layout: self.layout })
        };
        Ok(())
    }

    /// Makes a part of the tables usable, and zero.
    fn commit_table(&self, at: usize, bytes: usize) -> Result<()> {
        // SAFETY: the tables' mapping is that long.
        let at = unsafe { self.tables.base().as_ptr().add(at) };
        if matches!(self.kind, Kind::Lent | Kind::LentReleasable) {
            // SAFETY: the caller's memory, usable already; this part of it is not in use yet.
            unsafe { at.write_bytes(0, bytes) };
            return Ok(());
        }
        self.os.commit(at, bytes).map_err(|errno| Error::system(errno, NO_TABLES))
    }

    #[inline]
    fn table<T>(&self, offset: usize) -> *mut T {
        // SAFETY: offsets come from the layout, and lie inside the tables' mapping.
        unsafe { self.tables.base().as_ptr().add(offset).cast() }
    }

    /// The records of the chunks; the arena's guard shows that its lock is held.
    #[allow(clippy::mut_from_ref)]
    fn chunks(&self, _: &mut Locked<'_, Arena>) -> &mut [Chunk] {
        // SAFETY: the chunk table is committed from the start, zero is a valid record, and the lock makes this the only use.
        unsafe { std::slice::from_raw_parts_mut(self.table(self.layout.chunk_table), self.layout.chunks) }
    }

    #[allow(clippy::mut_from_ref)]
    fn group(&self, _: &mut Locked<'_, Arena>, group: usize) -> &mut Group {
        // SAFETY: as for the chunks.
        unsafe { &mut *self.table::<Group>(self.layout.group_table).add(group) }
    }

    /// The record of a zspage.
    #[inline]
    pub fn zspage(&self, id: ZspageId) -> &Zspage {
        let (group, local) = (id.0 as usize / self.layout.group_records, id.0 as usize % self.layout.group_records);
        // SAFETY: ids are given out by `acquire`, which committed the record's page; records are never unmapped before the
        // region is, and one whose page was given back reads as zero, which is a record that is not in use.
        unsafe { &*self.table(self.layout.record(group, local)) }
    }

    /// A word of the handle table, by an index that was given out.
    #[inline]
    pub fn word(&self, index: HandleIndex) -> crate::object::ObjectWord<'_> {
        debug_assert!(index.0 < self.words.load(Ordering::Relaxed));
        // SAFETY: the word is committed, and stays so for as long as the region lives.
        let word: &AtomicU64 = unsafe { &*self.table::<AtomicU64>(self.layout.handle_table).add(index.0 as usize) };
        crate::object::ObjectWord(word)
    }

    /// How many words were ever given out; an index from there on is nobody's.
    #[inline]
    pub fn word_count(&self) -> u32 {
        // Acquire pairs with the Release in `refill`: the words below are committed.
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

    /// Copies an object to another place of its class.
    ///
    /// # Safety
    /// Nobody writes the source meanwhile, and the target is the caller's alone.
    #[inline]
    pub unsafe fn copy(&self, from: Place, to: Place, bytes: usize) {
        // SAFETY: two slots of one class do not overlap, and the caller answers for the rest.
        unsafe { std::ptr::copy_nonoverlapping(self.object(from), self.object(to), bytes) };
    }

    /// Whether a zspage lies in a chunk that is committed and given back whole.
    pub fn is_whole(&self, id: ZspageId) -> bool {
        self.chunk_of(id) >= self.policy.whole_from
    }

    /// Whether any chunk is committed and given back whole.
    pub fn has_whole_chunks(&self) -> bool {
        self.policy.whole_from < self.layout.chunks
    }

    /// The chunk that a zspage lies in.
    pub fn chunk_of(&self, id: ZspageId) -> usize {
        self.zspage(id).first_page() as usize / CHUNK_PAGES
    }

    /// Makes a new zspage of `class`, empty, known to nobody else. `not_in`: only in an open
    /// chunk other than that one.
    pub fn acquire(&self, class_index: ClassIndex, epoch: u32, not_in: Option<usize>) -> Result<ZspageId> {
        let class = class(class_index);
        let mut arena = self.arena.lock();
        let run = self.take_run(&mut arena, class, not_in)?;
        let id = self.take_record(&mut arena, run.chunk / GROUP_CHUNKS).inspect_err(|_| {
            let chunks = self.chunks(&mut arena);
            // A chunk that was opened for this run stays open, empty and, unless it is whole, without memory.
            arena.release(chunks, run);
        })?;
        drop(arena);
        let touched = if run.chunk >= self.policy.whole_from { class.slots } else { 0 };
        self.zspage(id).set_up((run.chunk * CHUNK_PAGES + run.first) as u32, touched, epoch);
        Ok(id)
    }

    fn take_run(&self, arena: &mut Locked<'_, Arena>, class: Class, not_in: Option<usize>) -> Result<Run> {
        const FRAGMENTED: Error = Error::NoMemory("no run of pages is free in the chunks that are open");
        let pages = class.pages as usize;
        let chunks = self.chunks(arena);
        if let Some(chunk) = arena.find(chunks, pages, not_in) {
            return arena.take(chunks, chunk, pages).ok_or(FRAGMENTED);
        }
        if not_in.is_some() {
            return Err(FRAGMENTED);
        }
        let chunk = arena.lowest_closed(chunks)?;
        self.open_chunk(arena, chunk)?;
        arena.take(chunks, chunk, pages).ok_or(FRAGMENTED)
    }

    fn open_chunk(&self, arena: &mut Locked<'_, Arena>, chunk: usize) -> Result<()> {
        const NO_MEMORY: &str = "the system did not commit memory for the pool";
        const NO_HUGE: &str = "the system's pool of huge pages is empty: raise vm.nr_hugepages";
        let chunks = self.chunks(arena);
        let bytes = arena.size_of(chunk) * PAGE;
        let whole = chunk >= self.policy.whole_from;
        let charged = if whole { arena.size_of(chunk) } else { 0 };
        // The tables grow by what the first use of this chunk and its group touches.
        let table_pages = self.table_growth(chunks, chunk);
        self.charge.take(charged + table_pages)?;
        let open = || {
            if let (Some(file), Some(_)) = (&self.file, &self.huge_arena) {
                let taken = self.os.take_huge(file.as_raw_fd(), chunk * CHUNK, bytes);
                taken.map_err(|errno| match errno.0 {
                    crate::os::errno::ENOSPC => Error::NoMemory(NO_HUGE),
                    _ => Error::system(errno, NO_HUGE),
                })?;
            }
            if !chunks[chunk].committed && !matches!(self.kind, Kind::Lent | Kind::LentReleasable) {
                // SAFETY: the chunk lies inside the arena.
                let at = unsafe { self.arena_base.add(chunk * CHUNK) };
                self.os.commit(at, bytes).map_err(|errno| Error::system(errno, NO_MEMORY))?;
            }
            Ok(())
        };
        open().inspect_err(|_| self.charge.give_back(charged + table_pages))?;
        arena.open(chunks, chunk, whole);
        Ok(())
    }

    /// Pages of the chunk and group tables that are touched for the first time when `chunk` is.
    fn table_growth(&self, chunks: &[Chunk], chunk: usize) -> usize {
        if chunks[chunk].committed {
            return 0;
        }
        // Chunks are opened for the first time in order: the pages touched so far are those up to the chunk before.
        let pages = |count: usize, bytes: usize| pages_of(count * bytes);
        let chunk_pages = pages(chunk + 1, size_of::<Chunk>()) - pages(chunk, size_of::<Chunk>());
        let groups = |chunks: usize| chunks.div_ceil(GROUP_CHUNKS);
        let group_bytes = size_of::<Group>();
        chunk_pages + pages(groups(chunk + 1), group_bytes) - pages(groups(chunk), group_bytes)
    }

    fn take_record(&self, arena: &mut Locked<'_, Arena>, group: usize) -> Result<ZspageId> {
        const NO_RECORDS: Error =
            Error::NoMemory("the zspage table is full: the memory supplied is small for small objects");
        let record = self.group(arena, group);
        let local = record.lowest_free(self.layout.group_records).ok_or(NO_RECORDS)?;
        if !record.committed {
            self.commit_table(self.layout.record(group, 0), self.layout.group_record_bytes())?;
            record.committed = true;
        }
        let pages = pages_of((local + 1) * size_of::<Zspage>()).max(record.pages as usize);
        self.charge.take(pages - record.pages as usize)?;
        record.pages = pages as u32;
        record.take(local);
        Ok(ZspageId((group * self.layout.group_records + local) as u32))
    }

    /// Gives back a zspage that is empty and that nobody else knows. Returns the pages that the system got, or that it
    /// refused them: then the zspage stays as it is.
    pub fn release(&self, id: ZspageId, class: Class, touched: u8) -> Result<u64> {
        let zspage = self.zspage(id);
        let first = zspage.first_page() as usize;
        let run = Run { chunk: first / CHUNK_PAGES, first: first % CHUNK_PAGES, pages: class.pages as usize };
        let whole = run.chunk >= self.policy.whole_from;
        let pages = if whole { 0 } else { class.pages_of_slots(touched as usize) };
        let gone = self.return_pages(first, pages)?;
        let mut arena = self.arena.lock();
        self.group(&mut arena, run.chunk / GROUP_CHUNKS).release(id.0 as usize % self.layout.group_records);
        self.charge.give_back(pages);
        let chunks = self.chunks(&mut arena);
        if !arena.release(chunks, run) {
            return Ok(gone);
        }
        arena.begin_return(chunks, run.chunk);
        if !whole {
            arena.close(chunks, run.chunk);
            return Ok(gone);
        }
        drop(arena);
        Ok(self.return_chunk(run.chunk))
    }

    /// Gives back a chunk that is empty and marked as returning; if the system refuses, it stays open and warm.
    fn return_chunk(&self, chunk: usize) -> u64 {
        let pages = self.arena.lock().size_of(chunk);
        let result = self.return_pages(chunk * CHUNK_PAGES, pages);
        let mut arena = self.arena.lock();
        let chunks = self.chunks(&mut arena);
        match result {
            Ok(gone) => {
                arena.close(chunks, chunk);
                self.charge.give_back(pages);
                gone
            }
            Err(_) => {
                arena.reopen(chunks, chunk);
                0
            }
        }
    }

    /// Gives back the pages of an isolated zspage behind its first `keep` slots. Returns those that the system got.
    pub fn trim(&self, id: ZspageId, class: Class, keep: u8, touched: u8) -> Result<u64> {
        let (keep, touched) = (class.pages_of_slots(keep as usize), class.pages_of_slots(touched as usize));
        let gone = self.return_pages(self.zspage(id).first_page() as usize + keep, touched - keep)?;
        self.charge.give_back(touched - keep);
        Ok(gone)
    }

    /// Gives pages of the arena back to the system. They are off every list, or in no live slot.
    fn return_pages(&self, first: usize, pages: usize) -> Result<u64> {
        const REFUSED: &str = "the system did not take memory back";
        if pages == 0 {
            return Ok(0);
        }
        // SAFETY: the pages lie inside the arena, and nothing in them is live.
        let gone = unsafe { self.os.release(self.arena_base.add(first * PAGE), pages * PAGE, self.kind) };
        gone.map(|gone| if gone { pages as u64 } else { 0 }).map_err(|errno| Error::system(errno, REFUSED))
    }

    /// Gives back what is left over once compaction is through: the pages behind each group's last record, and chunks
    /// that the system would not take before. Returns the pages that it got.
    pub fn trim_leftovers(&self) -> u64 {
        let groups = self.layout.groups();
        (0..groups).map(|group| self.trim_group(group)).sum::<u64>() + self.return_empty_chunks()
    }

    fn trim_group(&self, group: usize) -> u64 {
        let mut arena = self.arena.lock();
        let record = self.group(&mut arena, group);
        let (keep, had) = (pages_of(record.end() * size_of::<Zspage>()), record.pages as usize);
        if keep >= had || record.bound != 0 {
            return 0;
        }
        // Nobody gets a record in the pages that go, until they went.
        record.bound = (keep * PAGE / size_of::<Zspage>()) as u32 + 1;
        drop(arena);
        let at = self.table(self.layout.record(group, 0) + keep * PAGE);
        let kind = if self.huge_arena.is_some() { Kind::Anonymous } else { self.kind };
        // SAFETY: no record in these pages is in use or can be given out, and an unused record is zero.
        let gone = unsafe { self.os.release(at, (had - keep) * PAGE, kind) };
        let mut arena = self.arena.lock();
        let record = self.group(&mut arena, group);
        record.bound = 0;
        if gone.is_err() {
            return 0;
        }
        record.pages = keep as u32;
        self.charge.give_back(had - keep);
        if gone == Ok(true) { (had - keep) as u64 } else { 0 }
    }

    fn return_empty_chunks(&self) -> u64 {
        let mut gone = 0;
        for chunk in 0..self.layout.chunks {
            let mut arena = self.arena.lock();
            let chunks = self.chunks(&mut arena);
            let missing = CHUNK_PAGES - arena.size_of(chunk);
            let (state, whole, taken) = (chunks[chunk].state, chunks[chunk].whole, chunks[chunk].taken as usize);
            if state != State::Open || taken != missing {
                continue;
            }
            arena.begin_return(chunks, chunk);
            if whole {
                drop(arena);
                gone += self.return_chunk(chunk);
            } else {
                arena.close(chunks, chunk);
            }
        }
        gone
    }

    /// Gives a class up to `count` free handle indices; none if the table or the pool is full.
    pub fn refill(&self, free: &mut Fifo, count: u32) -> Result<()> {
        const NO_HANDLES: Error = Error::NoMemory("all handles of the pool are in use");
        let mut handles = self.handles.lock();
        for _ in 0..count {
            let index = match handles.returned.pop(self) {
                Some(index) => index,
                None if (handles.fresh as usize) < self.layout.words => self.fresh_word(&mut handles)?,
                None => return Err(NO_HANDLES),
            };
            free.push(self, index);
        }
        Ok(())
    }

    fn fresh_word(&self, handles: &mut Locked<'_, Handles>) -> Result<HandleIndex> {
        let index = handles.fresh;
        if index == handles.committed {
            let words = WORD_STEP.min((self.layout.words as u32).saturating_sub(index));
            let bytes = pages_of(words as usize * size_of::<u64>()) * PAGE;
            self.commit_table(self.layout.handle_table + index as usize * size_of::<u64>(), bytes)?;
            handles.committed += words;
        }
        if index as usize % (PAGE / size_of::<u64>()) == 0 {
            self.charge.take(1)?;
        }
        handles.fresh += 1;
        // Release pairs with the Acquire in `word_count`.
        self.words.store(handles.fresh, Ordering::Release);
        Ok(HandleIndex(index))
    }

    /// Takes back the free indices that a class has too many of.
    pub fn take_back(&self, free: &mut Fifo) {
        self.handles.lock().returned.append(self, *free);
        *free = Fifo::EMPTY;
    }

    /// The file descriptor of a pool in a memory file.
    pub fn fd(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Lets go of the memory without unmapping it: in a child that never got it.
    pub fn forget(&mut self) {
        self.tables.forget();
        if let Some(arena) = &mut self.huge_arena {
            arena.forget();
        }
    }

    /// How empty a chunk is, from 0 to 3, by the pages that zspages have.
    pub fn emptiness(&self, chunk: usize) -> u64 {
        let mut arena = self.arena.lock();
        let taken = self.chunks(&mut arena)[chunk].taken as usize;
        (3 - taken * 4 / (CHUNK_PAGES + 1)) as u64
    }

    /// The emptiest of the chunks that go back whole, if the other open chunks have as many pages free as it has taken.
    pub fn sparse_chunk(&self) -> Option<usize> {
        let mut arena = self.arena.lock();
        let chunks = self.chunks(&mut arena);
        let open = || chunks.iter().enumerate().filter(|(_, chunk)| chunk.state == State::Open);
        let (index, sparsest) = open().filter(|(_, chunk)| chunk.whole).min_by_key(|(_, chunk)| chunk.taken)?;
        let free = |chunk: &Chunk| CHUNK_PAGES - chunk.taken as usize;
        let elsewhere: usize = open().map(|(_, chunk)| free(chunk)).sum::<usize>() - free(sparsest);
        (sparsest.taken as usize <= elsewhere).then_some(index)
    }

    /// Whether a chunk has no zspages and no memory.
    pub fn is_closed(&self, chunk: usize) -> bool {
        let mut arena = self.arena.lock();
        self.chunks(&mut arena)[chunk].state == State::Closed
    }

    /// A zspage in a chunk, among the records of its group from `from` on, and where to look for the next one.
    pub fn zspage_in(&self, chunk: usize, from: usize) -> Option<(ZspageId, usize)> {
        let group = chunk / GROUP_CHUNKS;
        let mut arena = self.arena.lock();
        let records = self.group(&mut arena, group);
        let id = |local| ZspageId((group * self.layout.group_records + local) as u32);
        let local = (from..records.end()).find(|&at| records.is_taken(at) && self.chunk_of(id(at)) == chunk)?;
        Some((id(local), local + 1))
    }

    /// Pages of the tables that are charged: those in use from the start, of the chunks and groups opened so far, of
    /// records and of handles.
    pub fn table_pages(&self) -> u64 {
        let mut arena = self.arena.lock();
        let used = self.chunks(&mut arena).iter().filter(|chunk| chunk.committed).count();
        let groups = 0..used.div_ceil(GROUP_CHUNKS);
        let records: usize = groups.map(|group| self.group(&mut arena, group).pages as usize).sum();
        drop(arena);
        let handles = pages_of(self.word_count() as usize * size_of::<u64>());
        let tables = pages_of(used * size_of::<Chunk>()) + pages_of(used.div_ceil(GROUP_CHUNKS) * size_of::<Group>());
        (1 + tables + records + handles) as u64
    }

    /// Chunks that are open, and those of them that are committed whole.
    pub fn open_chunks(&self) -> (u64, u64) {
        let mut arena = self.arena.lock();
        let open = arena.open;
        let chunks = self.chunks(&mut arena);
        let whole = chunks.iter().take(self.layout.chunks).filter(|c| c.whole && c.state == State::Open).count();
        (open as u64, whole as u64)
    }
}

#[cfg(test)]
impl Region {
    /// Panics if the arena's records disagree with each other or with `zspages`, which are all that exist. Returns the
    /// pages of the chunks that are charged whole.
    pub fn check(&self, zspages: &[ZspageId]) -> u64 {
        let mut arena = self.arena.lock();
        let chunks = self.chunks(&mut arena);
        arena.check(chunks);
        let mut maps = vec![page_map::PageMap::EMPTY; chunks.len()];
        for &id in zspages {
            let first = self.zspage(id).first_page() as usize;
            maps[first / CHUNK_PAGES].take(first % CHUNK_PAGES, self.zspage(id).class().pages as usize);
            let (group, local) = (id.0 as usize / self.layout.group_records, id.0 as usize % self.layout.group_records);
            assert_eq!(group, first / CHUNK_PAGES / GROUP_CHUNKS, "a record lies in the group of its chunk");
            assert!(self.group(&mut arena, group).is_taken(local));
        }
        for (index, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| chunk.state == State::Open) {
            let size = arena.size_of(index);
            let same = (0..size).all(|page| maps[index].is_taken(page) == chunk.map.is_taken(page));
            assert!(same, "chunk {index}: pages taken are those of its zspages");
        }
        let whole = |index: &usize| chunks[*index].whole && chunks[*index].state == State::Open;
        (0..chunks.len()).filter(whole).map(|index| arena.size_of(index) as u64).sum()
    }

    /// Every word that was given out.
    pub fn words(&self) -> impl Iterator<Item = (HandleIndex, crate::word::Word)> + '_ {
        (0..self.word_count()).map(|index| (HandleIndex(index), self.word(HandleIndex(index)).peek()))
    }

    /// The free indices that no class has.
    pub fn returned_handles(&self) -> Vec<HandleIndex> {
        self.listed(self.handles.lock().returned)
    }

    /// The indices on a list.
    pub fn listed(&self, list: Fifo) -> Vec<HandleIndex> {
        let mut copy = list;
        std::iter::from_fn(|| copy.pop(self)).collect()
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
