//! Invariants of a region, for tests.

use super::arena::State;
use super::fifo::Fifo;
use super::layout::GROUP_CHUNKS;
use super::{Region, page_map};
use crate::units::{CHUNK_PAGES, HandleIndex, ZspageId};

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
