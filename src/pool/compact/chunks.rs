//! The second step of compaction: the last zspages move out of the emptiest chunks that have huge pages.

use super::{Candidate, Drained, Pass, Pool};
use crate::sync::Ordering::Relaxed;
use crate::units::ZspageId;

/// The most chunks with a mapped object that a call looks at, so that it ends soon in a pool that is full of them.
const MOST_HELD: usize = 64;

impl Pool {
    /// Moves the zspages of the emptiest chunks with huge pages into other chunks, while those have room for a whole
    /// chunk's. Chunks with a mapped object are passed by, because they could not go back.
    pub(super) fn empty_sparse_chunks(&self, pass: &mut Pass) {
        let (mut tried, mut held) = (None, 0);
        while let Some((taken, chunk)) = self.memory.sparse_chunk(tried) {
            tried = Some((taken, chunk));
            if self.is_held(chunk) {
                held += 1;
            } else if !self.empty_chunk(chunk, pass) {
                return;
            }
            if held == MOST_HELD {
                return;
            }
        }
    }

    /// Returns whether an object in a chunk is mapped, or a zspage isolated. A hint, because other threads go on.
    fn is_held(&self, chunk: usize) -> bool {
        let mut from = 0;
        while let Some((id, next)) = self.memory.zspage_in(chunk, from) {
            from = next;
            let Some(class) = self.memory.zspage(id).owner().map(|index| &self.classes[index.0 as usize]) else {
                continue;
            };
            let state = class.lock(&self.memory);
            if !self.memory.zspage(id).is_of(class.index()) {
                continue;
            }
            let slots = *state.peek(&self.memory, id);
            let handles = slots.taken.iter().map(|slot| slot as u8);
            let mut words = handles.map(|slot| self.memory.zspage(id).handle_at(slot));
            let words_end = self.memory.word_count();
            if slots.isolated || words.any(|index| index.0 < words_end && self.memory.word(index).peek().pins() > 0) {
                return true;
            }
        }
        false
    }

    /// Moves all zspages out of a chunk. Returns false if there is no room, or the budget is spent.
    fn empty_chunk(&self, chunk: usize, pass: &mut Pass) -> bool {
        let mut from = 0;
        while let Some((id, next)) = self.memory.zspage_in(chunk, from) {
            from = next;
            if pass.left.is_spent() || !self.relocate(id, chunk, pass) {
                return false;
            }
        }
        pass.pages += self.memory.return_empty_chunks();
        true
    }

    /// Moves a zspage out of `chunk`. Returns false if there is no room.
    fn relocate(&self, id: ZspageId, chunk: usize, pass: &mut Pass) -> bool {
        let Some(class) = self.memory.zspage(id).owner().map(|index| &self.classes[index.0 as usize]) else {
            return true;
        };
        let _paused = self.pause_shelves(class);
        // The zspage keeps its age, because moving it says nothing about its use.
        let epoch = self.memory.zspage(id).epoch.load(Relaxed);
        let Ok(new) = self.memory.acquire(class.index(), epoch, Some(chunk)) else { return false };
        class.lock(&self.memory).add(&self.memory, new);
        let target = [Candidate::new(0, 0, 0, new)];
        let drained = pass.unbounded(|pass| self.drain(class, id, &target, &mut 0, pass));
        // If the new zspage was not needed it goes back.
        let mut state = class.lock(&self.memory);
        let unused = state.is_empty(&self.memory, new) && state.isolate(&self.memory, new);
        let emptied = unused.then(|| state.end_isolation(&self.memory, new)).flatten();
        drop(state);
        self.give_back(class, emptied);
        drained == Drained::Done
    }
}
