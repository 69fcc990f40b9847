//! Runs of pages for zspages, out of chunks.
//!
//! A run goes into the open chunk whose longest free run is the shortest that fits, and among chunks with long free
//! runs into the fullest. So sparse chunks drain, and whole chunks go back. A new chunk is the lowest closed one.

use crate::bitmap::Bitmap;
use crate::buckets::{Buckets, Link, Links, NONE};
use crate::error::{Error, Limit, Result};
use crate::units::CHUNK_PAGES;

/// The longest run that is asked for. Chunks with longer free runs are told apart by how full they are.
const LONGEST: usize = crate::geometry::MAX_ZSPAGE_PAGES;
/// Buckets of chunks: 0 for full chunks, then by longest free run, then by free pages.
const BUCKETS: usize = LONGEST + CHUNK_PAGES / LONGEST + 1;

/// The pages of a chunk; a set bit is a taken page.
pub type PageMap = Bitmap<{ CHUNK_PAGES / u64::BITS as usize }>;

/// The state of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ChunkState {
    /// The chunk has no memory and no zspages.
    Closed,
    /// Zspages lie in the chunk, or may come.
    Open,
    /// The memory of the chunk is on its way back to the system. No zspage may come.
    Returning,
}

/// The record of a chunk. A closed chunk is all zero. Guarded by the lock of the arena.
#[repr(C)]
pub struct Chunk {
    /// Which pages are taken.
    pub map: PageMap,
    link: Link,
    /// The state of the chunk.
    pub state: ChunkState,
    /// Whether the chunk was made readable and writable once.
    pub committed: bool,
    /// Whether all pages of the chunk are charged, because it has a huge page.
    pub whole: bool,
    bucket: u8,
    /// How many pages are taken.
    pub taken: u16,
    /// Pages of zspages that compaction emptied. They stay taken until their memory goes back, in runs as long as
    /// possible.
    pub emptied: PageMap,
    /// How many of the emptied pages are charged.
    pub emptied_charged: u16,
}

/// A run of pages in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The index of the chunk.
    pub chunk: usize,
    /// The first page, counted in the chunk.
    pub first: usize,
    /// How many pages the run has.
    pub pages: usize,
}

/// The open chunks by how well a run fits, and which chunks are closed. Callers pass the records in, because those lie
/// in the pool's memory.
pub struct Arena {
    buckets: Buckets<BUCKETS, { BUCKETS.div_ceil(u64::BITS as usize) }>,
    /// No chunk below this one is closed.
    closed_from: usize,
    /// Pages of the arena. The last chunk may have fewer than the others.
    pages: usize,
    /// How many chunks are open.
    pub open: usize,
    /// Chunks from this one on were never open.
    pub end: usize,
}

impl Arena {
    /// An arena of `pages` pages, with all chunks closed.
    pub fn new(pages: usize) -> Self {
        Self { buckets: Buckets::EMPTY, closed_from: 0, pages, open: 0, end: 0 }
    }

    /// Returns the open chunk that a run of `pages` pages goes into, if one but `not_in` has room.
    pub fn find(&self, chunks: &[Chunk], pages: usize, not_in: Option<usize>) -> Option<usize> {
        for bucket in self.buckets.filled_from(pages) {
            let mut at = self.buckets.first(bucket);
            while at != NONE {
                if Some(at as usize) != not_in {
                    return Some(at as usize);
                }
                at = chunks[at as usize].link.next();
            }
        }
        None
    }

    /// Takes a run of `pages` pages in a chunk that [`Arena::find`] returned.
    pub fn take(&mut self, chunks: &mut [Chunk], chunk: usize, pages: usize) -> Option<Run> {
        let first = chunks[chunk].map.find_clear(pages)?;
        self.unlink(chunks, chunk);
        chunks[chunk].map.set_range(first, pages);
        chunks[chunk].taken += pages as u16;
        self.link(chunks, chunk);
        Some(Run { chunk, first, pages })
    }

    /// Frees a run. Returns whether its chunk is empty then.
    pub fn release(&mut self, chunks: &mut [Chunk], run: Run) -> bool {
        self.unlink(chunks, run.chunk);
        chunks[run.chunk].map.clear_range(run.first, run.pages);
        chunks[run.chunk].taken -= run.pages as u16;
        self.link(chunks, run.chunk);
        self.is_empty(chunks, run.chunk)
    }

    /// Frees the emptied pages of a chunk, whose memory is gone. Returns whether the chunk is empty then.
    pub fn release_emptied(&mut self, chunks: &mut [Chunk], chunk: usize) -> bool {
        self.unlink(chunks, chunk);
        let record = &mut chunks[chunk];
        let emptied = std::mem::replace(&mut record.emptied, PageMap::EMPTY);
        record.emptied_charged = 0;
        for (first, pages) in emptied.runs::<true>() {
            record.map.clear_range(first, pages);
            record.taken -= pages as u16;
        }
        self.link(chunks, chunk);
        self.is_empty(chunks, chunk)
    }

    /// Returns whether no zspage has a page of an open chunk.
    pub fn is_empty(&self, chunks: &[Chunk], chunk: usize) -> bool {
        chunks[chunk].taken as usize == CHUNK_PAGES - self.size_of(chunk)
    }

    /// Returns the lowest closed chunk.
    pub fn lowest_closed(&mut self, chunks: &[Chunk]) -> Result<usize> {
        const NO_CHUNKS: Error = Error::Limit(Limit::Addresses);
        let closed = chunks[self.closed_from..].iter().position(|chunk| chunk.state == ChunkState::Closed);
        self.closed_from = closed.map_or(chunks.len(), |after| self.closed_from + after);
        if self.closed_from == chunks.len() { Err(NO_CHUNKS) } else { Ok(self.closed_from) }
    }

    /// Opens a closed chunk. With `whole`, all its pages are charged already.
    pub fn open(&mut self, chunks: &mut [Chunk], chunk: usize, whole: bool) {
        let record = &mut chunks[chunk];
        debug_assert!(record.state == ChunkState::Closed);
        (record.state, record.whole, record.committed) = (ChunkState::Open, whole, true);
        // Pages of the last chunk behind the end of the arena count as taken for ever.
        let missing = CHUNK_PAGES - self.size_of(chunk);
        record.map = PageMap::EMPTY;
        record.map.set_range(CHUNK_PAGES - missing, missing);
        record.taken = missing as u16;
        self.open += 1;
        self.end = self.end.max(chunk + 1);
        self.link(chunks, chunk);
    }

    /// Takes an empty chunk out of use while its memory goes back.
    pub fn begin_return(&mut self, chunks: &mut [Chunk], chunk: usize) {
        self.unlink(chunks, chunk);
        chunks[chunk].state = ChunkState::Returning;
    }

    /// Closes a chunk whose memory went back.
    pub fn close(&mut self, chunks: &mut [Chunk], chunk: usize) {
        debug_assert!(chunks[chunk].state == ChunkState::Returning);
        chunks[chunk].state = ChunkState::Closed;
        self.closed_from = self.closed_from.min(chunk);
        self.open -= 1;
    }

    /// Opens a chunk again whose memory did not go back. It is empty.
    pub fn reopen(&mut self, chunks: &mut [Chunk], chunk: usize) {
        debug_assert!(chunks[chunk].state == ChunkState::Returning);
        chunks[chunk].state = ChunkState::Open;
        self.link(chunks, chunk);
    }

    /// Returns how many pages of a chunk are part of the arena.
    pub fn size_of(&self, chunk: usize) -> usize {
        (self.pages - chunk * CHUNK_PAGES).min(CHUNK_PAGES)
    }

    fn bucket_of(chunk: &Chunk) -> usize {
        let longest = chunk.map.longest_clear();
        let free = CHUNK_PAGES - chunk.taken as usize;
        if longest < LONGEST { longest } else { LONGEST + free / LONGEST - 1 }
    }

    fn link(&mut self, mut chunks: &mut [Chunk], chunk: usize) {
        let bucket = Self::bucket_of(&chunks[chunk]);
        chunks[chunk].bucket = bucket as u8;
        self.buckets.push(&mut chunks, bucket, chunk as u32);
    }

    fn unlink(&mut self, mut chunks: &mut [Chunk], chunk: usize) {
        let bucket = chunks[chunk].bucket as usize;
        self.buckets.remove(&mut chunks, bucket, chunk as u32);
    }

    /// Panics if the lists and the records disagree.
    #[cfg(test)]
    pub fn check(&self, chunks: &[Chunk]) {
        let mut listed = 0;
        for bucket in 0..BUCKETS {
            for at in self.buckets.check(bucket, |at| chunks[at as usize].link) {
                let chunk = &chunks[at as usize];
                assert_eq!((chunk.state, chunk.bucket as usize), (ChunkState::Open, bucket));
                assert_eq!(Self::bucket_of(chunk), bucket);
                assert_eq!(chunk.map.count(), chunk.taken as usize);
                listed += 1;
            }
        }
        let open = chunks.iter().filter(|chunk| chunk.state == ChunkState::Open).count();
        assert_eq!((listed, self.open), (open, open), "every open chunk is on one list");
        let below = &chunks[..self.closed_from.min(self.end)];
        assert!(below.iter().all(|chunk| chunk.state != ChunkState::Closed));
    }
}

impl Links for &mut [Chunk] {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self[index as usize].link
    }
}
