//! Lists of free handle indices: a few at hand, and any number linked through their words.

use super::Region;
use crate::sync::Ordering::Relaxed;
use crate::units::HandleIndex;

/// Free words in a row, first in, first out, each naming the next: so that a freed index is used again as late as can
/// be.
#[derive(Clone, Copy)]
pub struct Fifo {
    head: HandleIndex,
    tail: HandleIndex,
    /// How many.
    pub count: u32,
}

impl Fifo {
    /// None.
    pub const EMPTY: Self = Self { head: HandleIndex::NONE, tail: HandleIndex::NONE, count: 0 };

    /// Appends a free word. The word is the caller's alone, by the lock that guards this list: its stores are Relaxed,
    /// for whoever else looks at a free word finds it free and no more.
    #[inline]
    pub fn push(&mut self, region: &Region, index: HandleIndex) {
        let relink = |index: HandleIndex, next: HandleIndex| {
            let word = region.word(index);
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

    /// Takes the oldest.
    #[inline]
    pub fn pop(&mut self, region: &Region) -> Option<HandleIndex> {
        if self.count == 0 {
            return None;
        }
        let index = self.head;
        self.head = region.word(index).peek().link();
        self.count -= 1;
        Some(index)
    }

    /// Appends all of another list.
    pub fn append(&mut self, region: &Region, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other;
            return;
        }
        let tail = region.word(self.tail);
        tail.0.store(tail.peek().with_link(other.head).0, Relaxed);
        (self.tail, self.count) = (other.tail, self.count + other.count);
    }

    /// The newest.
    #[cfg(all(test, not(loom)))]
    pub fn last(&self) -> Option<HandleIndex> {
        (self.count > 0).then_some(self.tail)
    }
}

/// The free indices that a class has at hand, first in, first out. No word is touched to put one in or take one out.
pub struct Ring {
    indices: [u32; Self::SIZE as usize],
    first: u32,
    /// How many.
    pub count: u32,
}

impl Ring {
    const SIZE: u32 = 32;

    /// None.
    pub const EMPTY: Self = Self { indices: [0; Self::SIZE as usize], first: 0, count: 0 };

    /// Appends one, unless it is full.
    #[inline]
    pub fn push(&mut self, index: HandleIndex) -> bool {
        if self.count == Self::SIZE {
            return false;
        }
        self.indices[((self.first + self.count) % Self::SIZE) as usize] = index.0;
        self.count += 1;
        true
    }

    /// Takes the oldest.
    #[inline]
    pub fn pop(&mut self) -> Option<HandleIndex> {
        let count = self.count.checked_sub(1)?;
        let index = self.oldest();
        (self.first, self.count) = ((self.first + 1) % Self::SIZE, count);
        Some(index)
    }

    /// The oldest, if there is one.
    #[inline]
    pub fn oldest(&self) -> HandleIndex {
        HandleIndex(self.indices[(self.first % Self::SIZE) as usize])
    }

    /// All of them, for tests.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = HandleIndex> + '_ {
        (0..self.count).map(|at| HandleIndex(self.indices[((self.first + at) % Self::SIZE) as usize]))
    }
}
