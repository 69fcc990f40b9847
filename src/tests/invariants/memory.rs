//! Invariants of the memory of a pool.

use super::PoolMemory;
use super::arena::{ChunkState, PageMap};
use super::fifo::Fifo;
use crate::units::{CHUNK_PAGES, GROUP_CHUNKS, HandleIndex, PAGE, ZspageId};
use crate::zspage::Zspage;
use std::ops::Range;

impl PoolMemory {
    /// Panics if the arena's records disagree with each other or with `zspages`, which are all that exist. Returns the
    /// pages that are charged for whole chunks, and for emptied zspages whose memory did not go back yet.
    pub fn check(&self, zspages: &[ZspageId]) -> u64 {
        // A zspage that a free left, because another thread had the lock, still has its record. The lock settles it.
        let mut arena = self.lock_arena();
        let used = arena.end;
        // Chunks that were never used are not looked at, because in a memory file even a look takes memory.
        let (arena, chunks, groups) = self.all_books(&mut arena);
        let chunks = &chunks[..used];
        arena.check(chunks);
        let mut maps = vec![PageMap::EMPTY; used];
        let mut records = vec![0; used.div_ceil(GROUP_CHUNKS)];
        for &id in zspages {
            let first = self.zspage(id).first_page() as usize;
            let chunk = first / CHUNK_PAGES;
            assert!(
                chunk < used && chunks[chunk].state == ChunkState::Open,
                "{id:?} lies in chunk {chunk}, not an open one"
            );
            maps[chunk].set_range(first % CHUNK_PAGES, self.zspage(id).class().pages as usize);
            let (group, local) = (id.0 as usize / self.layout.group_records, id.0 as usize % self.layout.group_records);
            assert_eq!(group, chunk / GROUP_CHUNKS, "{id:?}: a record lies in the group of its chunk");
            records[group] += 1;
            let group = &groups[group];
            assert!(group.taken.is_set(local) && group.committed, "{id:?} is in use, and its record is free");
            let end = (local + 1) * size_of::<Zspage>();
            assert!(end <= group.pages as usize * PAGE, "{id:?}: its record is not charged");
        }
        for (index, &count) in records.iter().enumerate() {
            let group = &groups[index];
            assert_eq!(group.taken.count(), count, "group {index}: records taken are its zspages'");
        }
        for (index, (chunk, map)) in chunks.iter().zip(&mut maps).enumerate() {
            let size = arena.size_of(index);
            map.set_range(size, CHUNK_PAGES - size);
            chunk.emptied.runs::<true>().for_each(|(first, pages)| map.set_range(first, pages));
            let open = chunk.state == ChunkState::Open;
            assert!(open || chunk.state == ChunkState::Closed, "chunk {index} was left {:?}", chunk.state);
            assert!(!open || *map == chunk.map, "chunk {index}: pages taken are those of its zspages");
            assert!(open || chunk.emptied.is_empty() && chunk.emptied_charged == 0, "chunk {index}: closed too early");
            assert!(chunk.emptied_charged as usize <= chunk.emptied.count(), "chunk {index}: emptied and charged");
            let whole = index >= self.policy.whole_from;
            assert!(!open || chunk.committed && chunk.whole == whole, "chunk {index}: whole, or not");
        }
        let pages = |index: usize| match chunks[index].whole && chunks[index].state == ChunkState::Open {
            true => arena.size_of(index) as u64,
            false => chunks[index].emptied_charged as u64,
        };
        (0..used).map(pages).sum()
    }

    /// Returns every word that was given out.
    pub fn words(&self) -> impl Iterator<Item = (HandleIndex, crate::word::Word)> + '_ {
        (0..self.word_count()).map(|index| (HandleIndex(index), self.word(HandleIndex(index)).peek()))
    }

    /// Returns the free indices that no class has: those that came back, and those that were sorted.
    pub fn returned_handles(&self) -> [Fifo; 3] {
        let mut handles = self.handles.lock();
        self.settle_left(&mut handles);
        [handles.returned, handles.low, handles.high]
    }

    /// Calls `each` with the indices on a list, oldest first.
    pub fn each_listed(&self, list: Fifo, mut each: impl FnMut(HandleIndex)) {
        let (mut copy, mut last) = (list, None);
        while let Some(index) = copy.pop(self) {
            each(index);
            last = Some(index);
        }
        assert!(last == list.last(), "a free list ends elsewhere than it says: {last:?}");
    }

    /// Returns the addresses of the tables, and those of the arena.
    pub fn spans(&self) -> [Range<usize>; 2] {
        let (tables, arena) = (self.table::<u8>(0) as usize, self.arena_base as usize);
        [tables..tables + self.layout.tables_end, arena..arena + self.layout.arena_pages * PAGE]
    }
}
