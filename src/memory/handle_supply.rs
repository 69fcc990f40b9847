//! The supply of handle indices. Size classes take a few at a time.

use super::PoolMemory;
use super::fifo::{Fifo, Ring};
use crate::error::{Error, Limit, Result};
use crate::sync::{Locked, Ordering};
use crate::units::{HandleIndex, PAGE, pages_of};

/// The supply, which a lock guards.
pub struct Handles {
    /// The first word that was never given out.
    pub fresh: u32,
    /// The first word that is not readable and writable yet.
    pub committed: u32,
    /// Free words that compaction took back from the classes.
    pub returned: Fifo,
    /// Words before this one have their memory charged.
    pub charged: u32,
    /// Free words that were sorted: those before `end`, and those from there on.
    pub low: Fifo,
    pub high: Fifo,
    pub end: u32,
}

impl Handles {
    /// The supply of a new pool.
    pub const EMPTY: Self =
        Self { fresh: 0, committed: 0, returned: Fifo::EMPTY, charged: 0, low: Fifo::EMPTY, high: Fifo::EMPTY, end: 0 };
}

/// How many words a page of the handle table has.
pub const WORDS_OF_PAGE: u32 = (PAGE / size_of::<u64>()) as u32;
/// How many words of the handle table are committed at a time: 1 MiB.
const WORD_STEP: u32 = 1 << 17;
/// How many words a processor takes at a time: two cache lines, which processors fetch together.
const LOT: u32 = 16;

impl PoolMemory {
    /// Returns a free handle index for a class. Fails if the handle table is full, the pool is at its limit, or the
    /// system gives no memory for the table.
    pub fn fetch_handle(&self) -> Result<HandleIndex> {
        let mut handles = self.handles.lock();
        // Words with high indices come last, so that they can go.
        let free = handles.low.pop(self).or_else(|| handles.returned.pop(self)).or_else(|| handles.high.pop(self));
        free.map_or_else(|| self.fresh_word(&mut handles), Ok)
    }

    /// Puts the indices of two cache lines of words, which were never given out, into a stock. Fails if there are none.
    pub fn fetch_lot(&self, stock: &mut Ring) -> Result<()> {
        let mut handles = self.handles.lock();
        while !handles.fresh.is_multiple_of(LOT) {
            let index = self.fresh_word(&mut handles)?;
            handles.returned.push(self, index);
        }
        (0..LOT).try_for_each(|_| {
            stock.push(self.fresh_word(&mut handles)?);
            Ok(())
        })
    }

    /// Returns an index that was never given out.
    fn fresh_word(&self, handles: &mut Locked<'_, Handles>) -> Result<HandleIndex> {
        const FULL: Error = Error::Limit(Limit::Tables);
        let index = handles.fresh;
        if index as usize >= self.layout.words {
            return Err(FULL);
        }
        if index == handles.committed {
            let words = WORD_STEP.min((self.layout.words as u32).saturating_sub(index));
            let bytes = pages_of(words as usize * size_of::<u64>()) * PAGE;
            self.commit_table(self.layout.handle_table + index as usize * size_of::<u64>(), bytes)?;
            handles.committed += words;
        }
        if index == handles.charged {
            self.charge.take(1)?;
            handles.charged += WORDS_OF_PAGE;
        }
        handles.fresh += 1;
        if handles.fresh > self.words.load(Ordering::Relaxed) {
            // Release pairs with the Acquire in `word_count`.
            self.words.store(handles.fresh, Ordering::Release);
        }
        Ok(HandleIndex(index))
    }

    /// Moves the free indices of a class's list to the supply, and leaves the list empty.
    pub fn take_back(&self, free: &mut Fifo) {
        if free.count == 0 {
            return;
        }
        self.handles.lock().returned.append(self, *free);
        *free = Fifo::EMPTY;
    }
}
