//! Lists of free handle words.

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
}
