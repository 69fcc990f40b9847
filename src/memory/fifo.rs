//! Free handle indices: a few at hand in a ring, and any number in a list that is linked through their words.

use super::PoolMemory;
use crate::sync::Ordering::Relaxed;
use crate::units::HandleIndex;

/// A list of free words, first in, first out, so that a freed index is used again as late as possible. Each word names
/// the next one.
#[derive(Clone, Copy)]
pub struct Fifo {
    head: HandleIndex,
    tail: HandleIndex,
    /// How many words are on the list.
    pub count: u32,
}

impl Fifo {
    /// A list of no words.
    pub const EMPTY: Self = Self { head: HandleIndex::NONE, tail: HandleIndex::NONE, count: 0 };

    /// Appends a free word. The lock that guards this list makes the word the caller's alone. Its stores are Relaxed,
    /// because any other thread that looks at it learns only that it is free.
    #[inline]
    pub fn push(&mut self, memory: &PoolMemory, index: HandleIndex) {
        let relink = |index: HandleIndex, next: HandleIndex| {
            let word = memory.word(index);
            word.0.store(word.peek().with_link(next).0, Relaxed);
        };
        relink(index, HandleIndex::NONE);
        match self.count {
            0 => self.head = index,
            _ => relink(self.tail, index),
        }
        self.tail = index;
        self.count += 1;
    }

    /// Takes the oldest word.
    #[inline]
    pub fn pop(&mut self, memory: &PoolMemory) -> Option<HandleIndex> {
        if self.count == 0 {
            return None;
        }
        let index = self.head;
        self.head = memory.word(index).peek().link();
        self.count -= 1;
        Some(index)
    }

    /// Appends all words of another list.
    pub fn append(&mut self, memory: &PoolMemory, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let tail = memory.word(self.tail);
        tail.0.store(tail.peek().with_link(other.head).0, Relaxed);
        (self.tail, self.count) = (other.tail, self.count + other.count);
    }

    /// Returns the newest word.
    #[cfg(all(test, not(loom)))]
    pub fn last(&self) -> Option<HandleIndex> {
        (self.count > 0).then_some(self.tail)
    }
}

/// The free indices that a class has at hand, first in, first out. Putting one in or taking one out touches no word.
pub struct Ring {
    indices: [u32; Self::SIZE as usize],
    first: u32,
    /// How many indices there are.
    pub count: u32,
}

impl Ring {
    const SIZE: u32 = 32;

    /// A ring of no indices.
    pub const EMPTY: Self = Self { indices: [0; Self::SIZE as usize], first: 0, count: 0 };

    /// Appends an index. Returns false if the ring is full.
    #[inline]
    pub fn push(&mut self, index: HandleIndex) -> bool {
        if self.count == Self::SIZE {
            return false;
        }
        self.indices[((self.first + self.count) % Self::SIZE) as usize] = index.0;
        self.count += 1;
        true
    }

    /// Takes the oldest index.
    #[inline]
    pub fn pop(&mut self) -> Option<HandleIndex> {
        let count = self.count.checked_sub(1)?;
        let index = self.oldest();
        (self.first, self.count) = ((self.first + 1) % Self::SIZE, count);
        Some(index)
    }

    /// Returns the oldest index. If there is none, returns one that was there before, or 0.
    #[inline]
    pub fn oldest(&self) -> HandleIndex {
        HandleIndex(self.indices[(self.first % Self::SIZE) as usize])
    }

    /// Returns all indices, oldest first.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = HandleIndex> + '_ {
        (0..self.count).map(|at| HandleIndex(self.indices[((self.first + at) % Self::SIZE) as usize]))
    }
}
