//! Fetching what the next moves touch while an object is copied.
//!
//! A copy ends in a locked instruction, which waits for all stores of the copy. Without this the mover would wait for
//! the memory of one object after the other.

use crate::memory::PoolMemory;
use crate::size_class::ClassState;
use crate::units::Place;
use crate::zspage::FULL;

/// How many slots ahead of the copy handle words are fetched: they may be anywhere in the handle table.
const WORDS_AHEAD: u8 = 6;

/// What the moves after this one will touch, as far as it is known.
#[cfg_attr(loom, allow(dead_code))]
pub struct NextMoves {
    /// A slot whose object's word will be needed.
    word_of: Place,
    /// The next object to move.
    source: Option<Place>,
    /// The next slot to move to.
    target: Option<Place>,
}

impl NextMoves {
    /// The moves after the one from `from` to `to`.
    pub fn new(state: &ClassState, memory: &PoolMemory, from: Place, to: Place) -> Self {
        let slots = state.peek(memory, from.zspage);
        let word_of = slots.taken_from((from.slot + WORDS_AHEAD).min(63)).unwrap_or(from.slot);
        let source = slots.taken_from(from.slot + 1).map(|slot| Place { slot, ..from });
        let slots = state.peek(memory, to.zspage);
        let target = (slots.list != FULL).then(|| Place { slot: slots.lowest_free(), ..to });
        Self { word_of: Place { slot: word_of, ..from }, source, target }
    }

    /// Asks the processor for it; an object has `bytes` bytes.
    #[cfg(not(loom))]
    pub fn fetch(&self, memory: &PoolMemory, bytes: usize) {
        use crate::os;
        let later = memory.zspage(self.word_of.zspage).handle_at(self.word_of.slot);
        if later.0 < memory.word_count() {
            os::prefetch(memory.word(later).0);
        }
        if let Some(source) = self.source {
            os::prefetch_bytes(memory.object(source), bytes);
        }
        if let Some(target) = self.target {
            os::prefetch_bytes_to_write(memory.object(target), bytes);
        }
    }

    /// Models have no caches.
    #[cfg(loom)]
    #[allow(clippy::unused_self)]
    pub fn fetch(&self, _: &PoolMemory, _: usize) {}
}
