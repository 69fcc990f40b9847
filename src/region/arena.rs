//! Runs of pages for zspages, out of chunks.
//!
//! A run goes into the open chunk whose longest free run is the shortest that fits, and among chunks with long free
//! runs into the fullest: so that sparse chunks drain and whole ones go back. A new chunk is the lowest that is
//! closed.

use super::page_map::PageMap;
use crate::error::{Error, Result};
use crate::units::CHUNK_PAGES;

/// A run longer than this is not asked for; chunks with longer ones are told apart by how full they are.
const LONGEST: usize = crate::classes::MAX_ZSPAGE_PAGES;
/// Buckets: 0 for full chunks, then by longest free run, then by free pages.
const BUCKETS: usize = LONGEST + CHUNK_PAGES / LONGEST + 1;
const NONE: u32 = u32::MAX;

/// What a chunk is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// No memory, no zspages.
    Closed,
    /// Zspages are in it, or may come.
    Open,
    /// Its memory is on its way back to the system; nothing is put into it.
    Returning,
}

/// A chunk's record. All zero is a closed chunk. Guarded by the arena's lock.
#[repr(C)]
pub struct Chunk {
    /// Its pages.
    pub map: PageMap,
    next: u32,
    prev: u32,
    /// What it is doing.
    pub state: State,
    /// Whether it was made readable and writable once.
    pub committed: bool,
    /// Whether all its pages are charged, for it has a huge page.
    pub whole: bool,
    bucket: u8,
    /// Pages taken.
    pub taken: u16,
    /// Pages of zspages that compaction emptied, still taken until their memory went back, in runs as long as can be.
    pub emptied: PageMap,
    /// How many of those are charged.
    pub emptied_charged: u16,
}

/// A run that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The chunk.
    pub chunk: usize,
    /// Its first page in the chunk.
    pub first: usize,
    /// Its pages.
    pub pages: usize,
}

/// The open chunks by how well a run would fit, and the closed ones. The records are passed in: they lie in the region.
pub struct Arena {
    heads: [u32; BUCKETS],
    /// A bit for each bucket that has chunks.
    filled: u128,
    /// No chunk below this one is closed.
    closed_from: usize,
    /// Pages of the arena; the last chunk may have fewer than the others.
    pages: usize,
    /// How many chunks are open.
    pub open: usize,
    /// Chunks from this one on were never open.
    pub end: usize,
}

impl Arena {
    /// Of `pages` pages, all closed.
    pub fn new(pages: usize) -> Self {
        Self { heads: [NONE; BUCKETS], filled: 0, closed_from: 0, pages, open: 0, end: 0 }
    }

    /// The open chunk that a run of `pages` goes into, if one has room. `not_in`: any but this one.
    pub fn find(&self, chunks: &[Chunk], pages: usize, not_in: Option<usize>) -> Option<usize> {
        let mut fits = self.filled >> pages << pages;
        while fits != 0 {
            let bucket = fits.trailing_zeros() as usize;
            let mut at = self.heads[bucket];
            while at != NONE {
                if Some(at as usize) != not_in {
                    return Some(at as usize);
                }
                at = chunks[at as usize].next;
            }
            fits &= fits - 1;
        }
        None
    }

    /// Takes a run of `pages` in a chunk that [`Arena::find`] named.
    pub fn take(&mut self, chunks: &mut [Chunk], chunk: usize, pages: usize) -> Option<Run> {
        let first = chunks[chunk].map.find(pages)?;
        self.unlink(chunks, chunk);
        chunks[chunk].map.take(first, pages);
        chunks[chunk].taken += pages as u16;
        self.link(chunks, chunk);
        Some(Run { chunk, first, pages })
    }

    /// Frees a run. True: its chunk is empty now.
    pub fn release(&mut self, chunks: &mut [Chunk], run: Run) -> bool {
        self.unlink(chunks, run.chunk);
        chunks[run.chunk].map.release(run.first, run.pages);
        chunks[run.chunk].taken -= run.pages as u16;
        self.link(chunks, run.chunk);
        self.is_empty(chunks, run.chunk)
    }

    /// Frees what was emptied in a chunk, and is gone. True: the chunk is empty now.
    pub fn release_emptied(&mut self, chunks: &mut [Chunk], chunk: usize) -> bool {
        self.unlink(chunks, chunk);
        let record = &mut chunks[chunk];
        let emptied = std::mem::replace(&mut record.emptied, PageMap::EMPTY);
        record.emptied_charged = 0;
        for (first, pages) in emptied.taken_runs() {
            record.map.release(first, pages);
            record.taken -= pages as u16;
        }
        self.link(chunks, chunk);
        self.is_empty(chunks, chunk)
    }

    /// Whether no zspage has a page of an open chunk.
    pub fn is_empty(&self, chunks: &[Chunk], chunk: usize) -> bool {
        chunks[chunk].taken as usize == CHUNK_PAGES - self.size_of(chunk)
    }

    /// The lowest closed chunk.
    pub fn lowest_closed(&mut self, chunks: &[Chunk]) -> Result<usize> {
        const NO_CHUNKS: Error =
            Error::NoMemory(&"all addresses of the pool are in use: free or compact, then try again");
        let closed = chunks[self.closed_from..].iter().position(|chunk| chunk.state == State::Closed);
        self.closed_from = closed.map_or(chunks.len(), |after| self.closed_from + after);
        if self.closed_from == chunks.len() { Err(NO_CHUNKS) } else { Ok(self.closed_from) }
    }

    /// Opens a closed chunk; `whole`: all its pages are charged already.
    pub fn open(&mut self, chunks: &mut [Chunk], chunk: usize, whole: bool) {
        let record = &mut chunks[chunk];
        debug_assert!(record.state == State::Closed);
        (record.state, record.whole, record.committed) = (State::Open, whole, true);
        // What the arena's end cuts off the last chunk counts as taken, for ever.
        let missing = CHUNK_PAGES - self.size_of(chunk);
        record.map = PageMap::EMPTY;
        record.map.take(CHUNK_PAGES - missing, missing);
        record.taken = missing as u16;
        self.open += 1;
        self.end = self.end.max(chunk + 1);
        self.link(chunks, chunk);
    }

    /// Takes an empty chunk out of use while its memory goes back.
    pub fn begin_return(&mut self, chunks: &mut [Chunk], chunk: usize) {
        self.unlink(chunks, chunk);
        chunks[chunk].state = State::Returning;
    }

    /// The memory is gone: closes the chunk.
    pub fn close(&mut self, chunks: &mut [Chunk], chunk: usize) {
        debug_assert!(chunks[chunk].state == State::Returning);
        chunks[chunk].state = State::Closed;
        self.closed_from = self.closed_from.min(chunk);
        self.open -= 1;
    }

    /// The memory stayed: the chunk is open and empty.
    pub fn reopen(&mut self, chunks: &mut [Chunk], chunk: usize) {
        debug_assert!(chunks[chunk].state == State::Returning);
        chunks[chunk].state = State::Open;
        self.link(chunks, chunk);
    }

    /// Pages of this chunk that are part of the arena.
    pub fn size_of(&self, chunk: usize) -> usize {
        (self.pages - chunk * CHUNK_PAGES).min(CHUNK_PAGES)
    }

    fn bucket_of(chunk: &Chunk) -> usize {
        let longest = chunk.map.longest();
        let free = CHUNK_PAGES - chunk.taken as usize;
        if longest < LONGEST { longest } else { LONGEST + free / LONGEST - 1 }
    }

    fn link(&mut self, chunks: &mut [Chunk], chunk: usize) {
        let bucket = Self::bucket_of(&chunks[chunk]);
        let next = self.heads[bucket];
        let record = &mut chunks[chunk];
        (record.bucket, record.next, record.prev) = (bucket as u8, next, NONE);
        if next != NONE {
            chunks[next as usize].prev = chunk as u32;
        }
        self.heads[bucket] = chunk as u32;
        self.filled |= 1 << bucket;
    }

    fn unlink(&mut self, chunks: &mut [Chunk], chunk: usize) {
        let Chunk { next, prev, bucket, .. } = chunks[chunk];
        match prev {
            NONE => self.heads[bucket as usize] = next,
            prev => chunks[prev as usize].next = next,
        }
        if next != NONE {
            chunks[next as usize].prev = prev;
        }
        if self.heads[bucket as usize] == NONE {
            self.filled &= !(1 << bucket);
        }
    }

    /// Panics if the lists and the records disagree.
    #[cfg(test)]
    pub fn check(&self, chunks: &[Chunk]) {
        let mut listed = 0;
        for bucket in 0..BUCKETS {
            assert_eq!(self.heads[bucket] != NONE, self.filled >> bucket & 1 == 1);
            let (mut at, mut prev) = (self.heads[bucket], NONE);
            while at != NONE {
                let chunk = &chunks[at as usize];
                assert_eq!((chunk.state, chunk.prev, chunk.bucket as usize), (State::Open, prev, bucket));
                assert_eq!(Self::bucket_of(chunk), bucket);
                assert_eq!(chunk.map.taken(), chunk.taken as usize);
                (prev, at, listed) = (at, chunk.next, listed + 1);
            }
        }
        let open = chunks.iter().filter(|chunk| chunk.state == State::Open).count();
        assert_eq!((listed, self.open), (open, open), "every open chunk is on one list");
        let below = &chunks[..self.closed_from.min(self.end)];
        assert!(below.iter().all(|chunk| chunk.state != State::Closed));
    }
}
