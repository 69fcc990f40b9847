//! Stocks: the free handle indices of a processor, for classes that have shelves and few zspages.
//!
//! Eight handle words share a cache line, and processors fetch lines in pairs. A processor takes indices that were
//! never used in lots of two lines, and uses them again itself. So processors that allocate side by side do not write
//! to each other's lines.

use super::{ClassState, SPARE_HANDLES, Shelves, Shortage, Taken};
use crate::memory::{Fifo, PoolMemory, Ring};
use crate::sync::{Lock, Locked, Rank};
use crate::units::HandleIndex;
use crossbeam_utils::CachePadded;

/// The free indices of a processor.
pub struct Stock(CachePadded<Lock<Ring>>);

impl Stock {
    /// A stock of no indices.
    pub fn new() -> Self {
        Self(CachePadded::new(Lock::new(Rank::Stock, Ring::EMPTY)))
    }

    /// Takes its lock, if no other thread has it.
    pub(super) fn try_lock(&self) -> Option<Locked<'_, Ring>> {
        self.0.try_lock()
    }

    /// Takes its lock.
    pub fn lock(&self) -> Locked<'_, Ring> {
        self.0.lock()
    }

    /// Returns its lock.
    #[cfg(not(loom))]
    pub(super) fn raw(&self) -> &Lock<Ring> {
        &self.0
    }
}

impl Shelves {
    /// Gives the slot of a free index to another one, and puts the first into the stock, behind others. Returns none if
    /// the stock has too few, or if the index is never used again: then it goes to the class.
    #[cold]
    pub(super) fn other_index(&self, memory: &PoolMemory, processor: usize, index: HandleIndex) -> Option<HandleIndex> {
        let word = memory.word(index).peek();
        let mut stock = self.stocks()[processor].try_lock().filter(|stock| stock.count >= SPARE_HANDLES)?;
        if self.retires && word.generation() == 0 {
            return None;
        }
        let other = stock.pop()?;
        stock.push(index);
        let place = word.place();
        memory.zspage(place.zspage).set_handle(place.slot, other);
        memory.word(other).keep_for(place);
        Some(other)
    }

    /// Gives the indices of all stocks to the supply, for all processors and classes.
    pub fn return_stocks(&self, memory: &PoolMemory) {
        for stock in self.stocks() {
            let mut indices = Fifo::EMPTY;
            let mut stock = stock.lock();
            while let Some(index) = stock.pop() {
                indices.push(memory, index);
            }
            memory.take_back(&mut indices);
        }
    }
}

impl ClassState {
    /// Takes a slot as [`ClassState::take`] does, with an index of a processor's stock.
    pub(super) fn take_with(&mut self, memory: &PoolMemory, stock: &mut Ring) -> Taken {
        if self.has_many_zspages() {
            return self.take_slowly(memory);
        }
        if stock.count <= SPARE_HANDLES {
            self.stock_up(memory, stock);
        }
        if stock.count == 0 {
            return self.take_slowly(memory);
        }
        let Some(place) = self.take_place(memory)? else { return Ok(None) };
        let index = stock.pop().expect("the stock has one");
        memory.zspage(place.zspage).set_handle(place.slot, index);
        Ok(Some((place, index)))
    }

    /// Adds to a stock: with indices that the class has no room for at hand, else with a lot that was never
    /// used. If there are none, the stock stays as it is.
    fn stock_up(&mut self, memory: &PoolMemory, stock: &mut Ring) {
        for _ in 0..SPARE_HANDLES {
            let Some(index) = self.free.pop(memory) else { break };
            stock.push(index);
        }
        if stock.count <= SPARE_HANDLES {
            // A refusal shows when the class has no index either.
            let _: std::result::Result<(), Shortage> = memory.fetch_lot(stock).map_err(Shortage::Handles);
        }
    }
}
