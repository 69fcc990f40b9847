//! Runs of pages and records for zspages, and how their memory goes back to the system.

use super::arena::{Arena, Chunk, ChunkState, Run};
use super::groups::Group;
use super::{PoolMemory, Tail};
use crate::error::{Error, Limit, Result, Sentence, sentence};
use crate::geometry::{self, Geometry};
use crate::os::{Backed, Errno, Span, errno};
use crate::sync::Locked;
use crate::units::{CHUNK, CHUNK_PAGES, ClassIndex, GROUP_CHUNKS, HandleIndex, PAGE, ZspageId, pages_of};
use crate::zspage::Zspage;
use std::os::fd::AsRawFd;

/// How many ranges are gathered for one call.
const RETURNS: usize = 128;

const REFUSED: Sentence = sentence(&"the system did not take memory back");

/// Ranges of the arena on their way back to the system, gathered so that few calls return them. Each call interrupts
/// every processor that runs this process, to flush its caches of the page tables, which costs a reader there some 6
/// us.
struct Returns<'a> {
    memory: &'a PoolMemory,
    spans: [Span; RETURNS],
    count: usize,
    /// Whether the system got any page.
    gone: bool,
}

impl<'a> Returns<'a> {
    fn new(memory: &'a PoolMemory) -> Self {
        Self { memory, spans: [Span::new(std::ptr::null_mut(), 0); RETURNS], count: 0, gone: false }
    }

    /// Adds pages. They join the range before if they follow it.
    fn add(&mut self, first: usize, pages: usize) -> Result<()> {
        // SAFETY: pages of the arena.
        let base = unsafe { self.memory.arena_base.add(first * PAGE) };
        if let Some(last) = self.spans[..self.count].last_mut() {
            let (start, bytes) = last.parts();
            if start.wrapping_add(bytes) == base {
                *last = Span::new(start, bytes + pages * PAGE);
                return Ok(());
            }
        }
        if self.count == RETURNS {
            self.flush()?;
        }
        self.spans[self.count] = Span::new(base, pages * PAGE);
        self.count += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let (os, spans) = (&self.memory.os, &self.spans[..self.count]);
        let refused = |errno| Error::system(errno, REFUSED);
        self.count = 0;
        if self.memory.many && spans.len() > 1 {
            let bytes: usize = spans.iter().map(|span| span.parts().1).sum();
            // SAFETY: nothing in these pages is live, and nobody else uses them before they are settled.
            let gone = match unsafe { os.release_many(spans) } {
                // The process has locked its memory (mlockall), so this call did nothing. The calls one by one below
                // also take locked memory.
                Err(Errno(errno::EINVAL)) => 0,
                gone => gone.map_err(refused)?,
            };
            self.gone |= gone > 0;
            if gone == bytes {
                return Ok(());
            }
            // The system gave back fewer bytes than it was asked for. Give each range back by a call of its own, which
            // returns the error. To give a range back twice does no harm.
        }
        for (base, bytes) in spans.iter().map(Span::parts) {
            // SAFETY: nothing in these pages is live, and nobody else uses them before they are settled.
            self.gone |= unsafe { os.release(base, bytes, self.memory.kind) }.map_err(refused)?;
        }
        Ok(())
    }

    /// Gives back what is left. Returns whether the system got any page.
    fn finish(mut self) -> Result<bool> {
        self.flush()?;
        Ok(self.gone)
    }
}

impl PoolMemory {
    /// Makes a new empty zspage of a class, which only the caller knows. With `not_in`, it comes into an open chunk
    /// other than that one, or fails.
    pub fn acquire(&self, class_index: ClassIndex, epoch: u32, not_in: Option<usize>) -> Result<ZspageId> {
        let class = geometry::of(class_index);
        let mut arena = self.lock_arena();
        let run = self.take_run(&mut arena, class, not_in)?;
        let record = self.take_record(&mut arena, run.chunk / GROUP_CHUNKS);
        if record.is_err() {
            let (books, chunks) = self.books(&mut arena);
            books.release(chunks, run);
        }
        drop(arena);
        // If a chunk was opened for nothing it goes back, so that a refusal leaves nothing behind.
        let id = record.inspect_err(|_| _ = self.return_empty_chunk(run.chunk))?;
        let touched = if run.chunk >= self.policy.whole_from { class.slots } else { 0 };
        self.zspage(id).set_up((run.chunk * CHUNK_PAGES + run.first) as u32, touched, epoch);
        Ok(id)
    }

    fn take_run(&self, arena: &mut Locked<'_, Arena>, class: Geometry, not_in: Option<usize>) -> Result<Run> {
        const FRAGMENTED: Error = Error::Limit(Limit::Pool);
        let pages = class.pages as usize;
        let (books, chunks) = self.books(arena);
        if let Some(chunk) = books.find(chunks, pages, not_in) {
            return books.take(chunks, chunk, pages).ok_or(FRAGMENTED);
        }
        if not_in.is_some() {
            return Err(FRAGMENTED);
        }
        let chunk = books.lowest_closed(chunks)?;
        self.open_chunk(arena, chunk)?;
        let (books, chunks) = self.books(arena);
        books.take(chunks, chunk, pages).ok_or(FRAGMENTED)
    }

    fn open_chunk(&self, arena: &mut Locked<'_, Arena>, chunk: usize) -> Result<()> {
        const NO_MEMORY: Sentence = sentence(&"the system did not commit memory for the pool");
        const NO_HUGE: Sentence = sentence(&"the system's pool of huge pages is empty: raise vm.nr_hugepages");
        let (books, chunks) = self.books(arena);
        let bytes = books.size_of(chunk) * PAGE;
        let whole = chunk >= self.policy.whole_from;
        let charged = if whole { books.size_of(chunk) } else { 0 };
        // The tables grow by the pages that the first use of this chunk and its group touches.
        let table_pages = self.table_growth(chunks, chunk);
        self.charge.take(charged + table_pages)?;
        let open = || -> Result<()> {
            if let (Some(file), Some(_)) = (&self.file, &self.huge_arena) {
                let taken = self.os.allocate(file.as_raw_fd(), chunk * CHUNK, bytes);
                taken.map_err(|errno| match errno.0 {
                    crate::os::errno::ENOSPC => Error::NoMemory(NO_HUGE),
                    _ => Error::system(errno, NO_HUGE),
                })?;
            }
            if !chunks[chunk].committed && !matches!(self.kind, Backed::Lent | Backed::LentReleasable) {
                // SAFETY: the chunk lies inside the arena.
                let at = unsafe { self.arena_base.add(chunk * CHUNK) };
                self.os.commit(at, bytes).map_err(|errno| Error::system(errno, NO_MEMORY))?;
            }
            Ok(())
        };
        open().inspect_err(|_| self.charge.give_back(charged + table_pages))?;
        books.open(chunks, chunk, whole);
        Ok(())
    }

    /// Returns how many pages of the chunk and group tables are touched for the first time when `chunk` is opened.
    fn table_growth(&self, chunks: &[Chunk], chunk: usize) -> usize {
        if chunks[chunk].committed {
            return 0;
        }
        // Chunks are opened for the first time in order, so the pages up to the chunk before are touched.
        let pages = |count: usize, bytes: usize| pages_of(count * bytes);
        let chunk_pages = pages(chunk + 1, size_of::<Chunk>()) - pages(chunk, size_of::<Chunk>());
        let groups = |chunks: usize| chunks.div_ceil(GROUP_CHUNKS);
        let group_bytes = size_of::<Group>();
        chunk_pages + pages(groups(chunk + 1), group_bytes) - pages(groups(chunk), group_bytes)
    }

    fn take_record(&self, arena: &mut Locked<'_, Arena>, group: usize) -> Result<ZspageId> {
        const NO_RECORDS: Error = Error::Limit(Limit::Tables);
        let record = self.group(arena, group);
        let local = record.taken.lowest_clear();
        if local >= self.layout.group_records {
            return Err(NO_RECORDS);
        }
        if !record.committed {
            self.commit_table(self.layout.record(group, 0), self.layout.group_record_bytes())?;
            record.committed = true;
        }
        let pages = pages_of((local + 1) * size_of::<Zspage>()).max(record.pages as usize);
        self.charge.take(pages - record.pages as usize)?;
        record.pages = pages as u32;
        record.taken.set(local);
        Ok(ZspageId((group * self.layout.group_records + local) as u32))
    }

    /// Gives back an empty zspage that nobody else knows. Returns how many pages the system got. If the system refuses,
    /// the zspage stays as it is. Never waits for a lock, because free calls it.
    pub fn release(&self, id: ZspageId, class: Geometry, touched: u8) -> Result<u64> {
        let run = self.run_of(id, class);
        let pages = if self.is_whole(id) { 0 } else { class.pages_of_slots(touched as usize) };
        let gone = self.return_pages(run.chunk * CHUNK_PAGES + run.first, pages)?;
        self.charge.give_back(pages);
        match self.arena.try_lock() {
            Some(mut arena) => {
                self.settle_limbo(&mut arena);
                Ok(gone + self.release_run(&mut arena, id, run))
            }
            None => {
                // The zspage has no objects, so the note of its first slot can be the link.
                self.limbo.leave(id.0, |next| self.zspage(id).set_handle(0, HandleIndex(next)));
                Ok(gone)
            }
        }
    }

    /// Notes that a zspage, which nobody else knows, is empty. Its memory goes back with
    /// [`PoolMemory::return_emptied`], together with that of its neighbours.
    pub fn empty(&self, id: ZspageId, class: Geometry, touched: u8) {
        let run = self.run_of(id, class);
        let mut arena = self.lock_arena();
        if self.is_whole(id) {
            // The memory goes back only with the whole chunk, when that is empty.
            self.release_record(&mut arena, id);
            let (books, chunks) = self.books(&mut arena);
            books.release(chunks, run);
            return;
        }
        self.release_record(&mut arena, id);
        let chunk = &mut self.books(&mut arena).1[run.chunk];
        chunk.emptied.set_range(run.first, run.pages);
        chunk.emptied_charged += class.pages_of_slots(touched as usize) as u16;
    }

    fn run_of(&self, id: ZspageId, class: Geometry) -> Run {
        let first = self.zspage(id).first_page() as usize;
        Run { chunk: first / CHUNK_PAGES, first: first % CHUNK_PAGES, pages: class.pages as usize }
    }

    fn release_record(&self, arena: &mut Locked<'_, Arena>, id: ZspageId) {
        let (group, local) = (id.0 as usize / self.layout.group_records, id.0 as usize % self.layout.group_records);
        self.group(arena, group).taken.clear(local);
    }

    /// Frees the run and the record of a zspage whose memory went back, and closes its chunk if that is empty. Returns
    /// how many pages the system got of a chunk with a huge page.
    fn release_run(&self, arena: &mut Locked<'_, Arena>, id: ZspageId, run: Run) -> u64 {
        self.release_record(arena, id);
        let (books, chunks) = self.books(arena);
        if !books.release(chunks, run) {
            return 0;
        }
        books.begin_return(chunks, run.chunk);
        if !chunks[run.chunk].whole {
            books.close(chunks, run.chunk);
            return 0;
        }
        // Gives the memory back with the lock of the arena held: this may run in a free, which must not wait to take
        // the lock a second time. Returning a huge page takes 7 us.
        let gone = self.return_pages(run.chunk * CHUNK_PAGES, arena.size_of(run.chunk));
        self.end_return(arena, run.chunk, gone)
    }

    /// Closes a chunk with a huge page whose memory went back. If the system refused, the chunk stays open, empty and
    /// charged.
    fn end_return(&self, arena: &mut Locked<'_, Arena>, chunk: usize, gone: Result<u64>) -> u64 {
        let (books, chunks) = self.books(arena);
        if gone.is_ok() {
            books.close(chunks, chunk);
            self.charge.give_back(arena.size_of(chunk));
        } else {
            books.reopen(chunks, chunk);
        }
        gone.unwrap_or(0)
    }

    /// Takes the lock of the arena, and frees the runs of zspages that other threads left because they found it taken.
    pub(super) fn lock_arena(&self) -> Locked<'_, Arena> {
        let mut arena = self.arena.lock();
        self.settle_limbo(&mut arena);
        arena
    }

    /// Frees the runs and records of zspages whose memory went back in a free that found the lock taken.
    pub(super) fn settle_limbo(&self, arena: &mut Locked<'_, Arena>) {
        if self.limbo.any() {
            self.limbo.take(|index| {
                let id = ZspageId(index);
                let next = self.zspage(id).handle_at(0).0;
                self.release_run(arena, id, self.run_of(id, self.zspage(id).last_class()));
                next
            });
        }
    }

    /// Gives back the memory of emptied zspages, with that of neighbours in one call, also across chunks. A call for
    /// each zspage of some 25 pages would take 100 ns a page more, and each call interrupts every processor that runs
    /// this process. What the system refuses stays for the next time. Returns how many pages the system got.
    pub fn return_emptied(&self) -> u64 {
        // Only compaction marks pages as emptied, and one thread at a time compacts. So no other thread changes these
        // bitmaps.
        let end = self.arena.lock().end;
        let emptied = |chunk: usize| self.books(&mut self.lock_arena()).1[chunk].emptied;
        let mut returns = Returns::new(self);
        for chunk in 0..end {
            for (first, pages) in emptied(chunk).runs::<true>() {
                if returns.add(chunk * CHUNK_PAGES + first, pages).is_err() {
                    return 0;
                }
            }
        }
        let Ok(gone) = returns.finish() else { return 0 };
        // Some pages of the runs were never touched and had no memory. So the number of pages that the system got is
        // the number that was charged.
        let charged: u64 = (0..end).map(|chunk| self.settle_emptied(chunk)).sum();
        if gone { charged } else { 0 }
    }

    /// Frees the pages of emptied zspages, whose memory is gone. Returns how many of these pages were charged.
    fn settle_emptied(&self, chunk: usize) -> u64 {
        let mut arena = self.lock_arena();
        let (books, chunks) = self.books(&mut arena);
        if chunks[chunk].emptied.is_empty() {
            return 0;
        }
        let charged = chunks[chunk].emptied_charged;
        self.charge.give_back(charged as usize);
        if books.release_emptied(chunks, chunk) {
            books.begin_return(chunks, chunk);
            books.close(chunks, chunk);
        }
        charged as u64
    }

    /// Gives back the pages of isolated zspages behind the slots that they keep. Returns whether the system got any: it
    /// does not take memory that the caller of the library supplied.
    pub fn return_tails<'a>(&self, tails: impl Iterator<Item = &'a Tail>) -> Result<bool> {
        let mut returns = Returns::new(self);
        for tail in tails {
            returns.add(self.zspage(tail.id).first_page() as usize + tail.pages_kept(), tail.pages())?;
        }
        returns.finish()
    }

    /// Gives pages of the arena back to the system. No live slot lies in them. Returns how many the system got.
    fn return_pages(&self, first: usize, pages: usize) -> Result<u64> {
        if pages == 0 {
            return Ok(0);
        }
        // SAFETY: the pages lie inside the arena, and nothing in them is live.
        let gone = unsafe { self.os.release(self.arena_base.add(first * PAGE), pages * PAGE, self.kind) };
        gone.map(|gone| if gone { pages as u64 } else { 0 }).map_err(|errno| Error::system(errno, REFUSED))
    }

    /// Gives back the pages behind the last record of each group. Returns how many pages the system got.
    pub fn trim_records(&self) -> u64 {
        let groups = self.arena.lock().end.div_ceil(GROUP_CHUNKS);
        (0..groups).map(|group| self.trim_group(group)).sum()
    }

    /// Gives back the pages behind the last record of a group. It holds the lock of the arena, so that no record in
    /// these pages is given out meanwhile.
    fn trim_group(&self, group: usize) -> u64 {
        let mut arena = self.lock_arena();
        let record = self.group(&mut arena, group);
        let (keep, had) = (pages_of(record.end() * size_of::<Zspage>()), record.pages as usize);
        if keep >= had {
            return 0;
        }
        let at = self.table(self.layout.record(group, 0) + keep * PAGE);
        let kind = if self.huge_arena.is_some() { Backed::Anonymous } else { self.kind };
        // SAFETY: no record in these pages is in use, and an unused record is zero.
        let Ok(gone) = (unsafe { self.os.release(at, (had - keep) * PAGE, kind) }) else { return 0 };
        record.pages = keep as u32;
        self.charge.give_back(had - keep);
        if gone { (had - keep) as u64 } else { 0 }
    }

    /// Gives back the chunks that have no zspages. Returns how many pages the system got.
    pub fn return_empty_chunks(&self) -> u64 {
        let end = self.arena.lock().end;
        (0..end).map(|chunk| self.return_empty_chunk(chunk)).sum()
    }

    fn return_empty_chunk(&self, chunk: usize) -> u64 {
        let mut arena = self.lock_arena();
        let (books, chunks) = self.books(&mut arena);
        if chunks[chunk].state != ChunkState::Open || !books.is_empty(chunks, chunk) {
            return 0;
        }
        books.begin_return(chunks, chunk);
        if !chunks[chunk].whole {
            books.close(chunks, chunk);
            return 0;
        }
        let pages = arena.size_of(chunk);
        drop(arena);
        let gone = self.return_pages(chunk * CHUNK_PAGES, pages);
        self.end_return(&mut self.lock_arena(), chunk, gone)
    }
}
