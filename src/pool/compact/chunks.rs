//! The second step of compaction, on chunks that have huge pages: the last zspages move out of the emptiest ones.

use super::{Candidate, Drained, Pool, Run};
use crate::sync::Ordering::Relaxed;
use crate::units::ZspageId;

/// Chunks with something mapped that a call looks at, so that a pool full of them does not cost a look at all it has.
const MOST_HELD: usize = 64;

impl Pool {
    /// Moves the zspages of the emptiest whole chunks into other chunks, while those have room for all of one. Chunks
    /// in which something is mapped would stay all the same, and are passed by.
    pub(super) fn empty_sparse_chunks(&self, run: &mut Run) {
        let (mut tried, mut held) = (None, 0);
        while let Some((taken, chunk)) = self.region.sparse_chunk(tried) {
            tried = Some((taken, chunk));
            if self.is_held(chunk) {
                held += 1;
            } else if !self.empty_chunk(chunk, run) {
                return;
            }
            if held == MOST_HELD {
                return;
            }
        }
    }

    /// Whether something in a chunk is mapped, or in the hands of a shrink; as far as can be told.
    fn is_held(&self, chunk: usize) -> bool {
        let mut from = 0;
        while let Some((id, next)) = self.region.zspage_in(chunk, from) {
            from = next;
            let Some(class) = self.region.zspage(id).owner().map(|index| &self.classes[index.0 as usize]) else {
                continue;
            };
            let state = class.lock(&self.region);
            if !self.region.zspage(id).is_of(class.index()) {
                continue;
            }
            let slots = *state.peek(&self.region, id);
            let handles = (0..slots.end()).filter(|slot| slots.taken >> slot & 1 == 1);
            let mut words = handles.map(|slot| self.region.zspage(id).handle_at(slot));
            let words_end = self.region.word_count();
            if slots.isolated || words.any(|index| index.0 < words_end && self.region.word(index).peek().pins() > 0) {
                return true;
            }
        }
        false
    }

    /// Moves all zspages out of a chunk. False: there is no room, or the budget is spent.
    fn empty_chunk(&self, chunk: usize, run: &mut Run) -> bool {
        let mut from = 0;
        while let Some((id, next)) = self.region.zspage_in(chunk, from) {
            from = next;
            if run.is_spent() || !self.relocate(id, chunk, run) {
                return false;
            }
        }
        run.pages += self.region.return_empty_chunks();
        true
    }

    /// Moves a zspage out of `chunk`. False: there is no room.
    fn relocate(&self, id: ZspageId, chunk: usize, run: &mut Run) -> bool {
        let Some(class) = self.region.zspage(id).owner().map(|index| &self.classes[index.0 as usize]) else {
            return true;
        };
        // As old as it was: that it moved says nothing of its use.
        let epoch = self.region.zspage(id).epoch.load(Relaxed);
        let Ok(new) = self.region.acquire(class.index(), epoch, Some(chunk)) else { return false };
        class.lock(&self.region).add(&self.region, new);
        let target = [Candidate::new(0, 0, 0, new)];
        let drained = run.unbounded(|run| self.drain(class, id, &target, &mut 0, run));
        // What was not needed after all goes back.
        let mut state = class.lock(&self.region);
        let unused = state.is_empty(&self.region, new) && state.isolate(&self.region, new);
        let emptied = unused.then(|| state.end_isolation(&self.region, new)).flatten();
        drop(state);
        self.give_back(class, emptied);
        drained == Drained::Done
    }
}
