//! Questions of compaction and of the statistics about chunks, records and tables.

use super::PoolMemory;
use super::arena::{Chunk, ChunkState};
use super::groups::Group;
use crate::units::{CHUNK_PAGES, GROUP_CHUNKS, ZspageId, pages_of};

impl PoolMemory {
    /// Returns whether a zspage lies in a chunk that is committed and given back whole.
    pub fn is_whole(&self, id: ZspageId) -> bool {
        self.chunk_of(id) >= self.policy.whole_from
    }

    /// Returns whether any chunk is committed and given back whole.
    pub fn has_whole_chunks(&self) -> bool {
        self.policy.whole_from < self.layout.chunks
    }

    /// Returns the chunk that a zspage lies in.
    pub fn chunk_of(&self, id: ZspageId) -> usize {
        self.zspage(id).first_page() as usize / CHUNK_PAGES
    }

    /// Returns how empty a chunk is, from 0 to 3, by the pages that zspages have.
    pub fn emptiness(&self, chunk: usize) -> u64 {
        let mut arena = self.lock_arena();
        let taken = self.books(&mut arena).1[chunk].taken as usize;
        (3 - taken * 4 / (CHUNK_PAGES + 1)) as u64
    }

    /// Among the chunks that go back whole and sort after `tried`, returns the emptiest: its taken pages and its index.
    /// Returns none if there is none, or if the other open chunks have fewer free pages than are taken in it.
    pub fn sparse_chunk(&self, tried: Option<(u16, usize)>) -> Option<(u16, usize)> {
        let mut arena = self.lock_arena();
        let (arena, chunks) = self.books(&mut arena);
        let chunks = &chunks[..arena.end];
        let open = || chunks.iter().enumerate().filter(|(_, chunk)| chunk.state == ChunkState::Open);
        let whole = open().filter(|(_, chunk)| chunk.whole).map(|(index, chunk)| (chunk.taken, index));
        let (taken, sparsest) = whole.filter(|&key| Some(key) > tried).min()?;
        let free = |chunk: &Chunk| CHUNK_PAGES - chunk.taken as usize;
        let elsewhere: usize = open().map(|(_, chunk)| free(chunk)).sum::<usize>() - free(&chunks[sparsest]);
        (taken as usize <= elsewhere).then_some((taken, sparsest))
    }

    /// Returns a zspage in a chunk, among the records of its group from `from` on, and where to look for the next one.
    pub fn zspage_in(&self, chunk: usize, from: usize) -> Option<(ZspageId, usize)> {
        let group = chunk / GROUP_CHUNKS;
        let mut arena = self.lock_arena();
        let records = self.group(&mut arena, group);
        let id = |local| ZspageId((group * self.layout.group_records + local) as u32);
        let local = (from..records.end()).find(|&at| records.taken.is_set(at) && self.chunk_of(id(at)) == chunk)?;
        Some((id(local), local + 1))
    }

    /// Returns how many pages of the tables are charged: the first page, and those of chunks and groups that were
    /// opened so far, of records and of handle words.
    pub fn table_pages(&self) -> u64 {
        let mut arena = self.lock_arena();
        let used = arena.end;
        let groups = 0..used.div_ceil(GROUP_CHUNKS);
        let records: usize = groups.map(|group| self.group(&mut arena, group).pages as usize).sum();
        drop(arena);
        let handles = self.handle_pages();
        let tables = pages_of(used * size_of::<Chunk>()) + pages_of(used.div_ceil(GROUP_CHUNKS) * size_of::<Group>());
        (1 + tables + records + handles) as u64
    }

    /// Returns how many chunks are open, and how many of these are committed whole.
    pub fn open_chunks(&self) -> (u64, u64) {
        let mut arena = self.lock_arena();
        let open = arena.open;
        let (arena, chunks) = self.books(&mut arena);
        let chunks = &chunks[..arena.end];
        let whole = chunks.iter().filter(|c| c.whole && c.state == ChunkState::Open).count();
        (open as u64, whole as u64)
    }
}
