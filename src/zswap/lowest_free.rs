//! Which places of a file are taken, and which free place is the lowest.
//!
//! This is a tree of bits. A bit of the lowest level says that a place is taken; a bit of each level above says that
//! all bits of one word of the level below are set. Finding, taking and releasing a place looks at one word of each
//! level.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::units::pages_of;

/// How many bits a word has. Each stands for a word of the level below.
const BITS: usize = u64::BITS as usize;
/// Most levels: enough for 2^36 places.
const LEVELS: usize = 6;

/// The shape of the tree. The caller has the words, and changes them under a lock.
pub struct LowestFree {
    /// Where the words of each level begin, lowest level first.
    starts: [usize; LEVELS],
    /// How many levels there are. The highest has a single word.
    levels: usize,
    words: usize,
}

impl LowestFree {
    /// Makes the shape for `places` places, 2^36 at most.
    pub fn new(places: usize) -> Self {
        let mut tree = Self { starts: [0; LEVELS], levels: 0, words: 0 };
        let mut bits = places;
        loop {
            bits = bits.div_ceil(BITS);
            tree.starts[tree.levels] = tree.words;
            tree.levels += 1;
            tree.words += bits;
            if bits <= 1 || tree.levels == LEVELS {
                return tree;
            }
        }
    }

    /// Returns how many words the tree has. All of them are 0 at first.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Returns how many pages of memory the words take once the lowest `places` places were taken.
    pub fn pages_touched(&self, places: usize) -> usize {
        let mut words = places;
        let of_level = |_| {
            words = words.div_ceil(BITS);
            pages_of(words * size_of::<u64>())
        };
        (0..self.levels).map(of_level).sum()
    }

    /// Takes the lowest free place. The caller knows that one is free.
    pub fn take_lowest(&self, words: &[AtomicU64]) -> usize {
        let mut at = 0;
        for level in (0..self.levels).rev() {
            let word = words[self.starts[level] + at].load(Relaxed);
            at = at * BITS + word.trailing_ones() as usize;
        }
        self.set(words, at);
        at
    }

    fn set(&self, words: &[AtomicU64], place: usize) {
        let mut at = place;
        for level in 0..self.levels {
            let word = &words[self.starts[level] + at / BITS];
            let bits = word.load(Relaxed) | 1 << (at % BITS);
            word.store(bits, Relaxed);
            if bits != u64::MAX {
                return;
            }
            at /= BITS;
        }
    }

    /// Releases a place that was taken.
    pub fn release(&self, words: &[AtomicU64], place: usize) {
        let mut at = place;
        for level in 0..self.levels {
            let word = &words[self.starts[level] + at / BITS];
            let bits = word.load(Relaxed);
            debug_assert!(bits >> (at % BITS) & 1 == 1, "a place is given back once");
            word.store(bits & !(1 << (at % BITS)), Relaxed);
            if bits != u64::MAX {
                return;
            }
            at /= BITS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_place_is_found_whatever_was_taken_and_released() {
        for places in [1, 64, 65, 4096, 4097, 300_000] {
            let tree = LowestFree::new(places);
            let words: Vec<_> = (0..tree.words()).map(|_| AtomicU64::new(0)).collect();
            assert!((0..places).all(|place| tree.take_lowest(&words) == place));
            let mut free = std::collections::BTreeSet::new();
            let mut at = 1;
            for _ in 0..10_000 {
                at = (at * 48_271 + 11) % places;
                if free.insert(at) {
                    tree.release(&words, at);
                }
                if at % 3 == 0 {
                    assert_eq!(Some(tree.take_lowest(&words)), free.pop_first());
                }
            }
            while let Some(lowest) = free.pop_first() {
                assert_eq!(tree.take_lowest(&words), lowest);
            }
            (0..places).for_each(|place| tree.release(&words, place));
            assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        }
    }

    #[test]
    fn the_shape_has_room_for_the_largest_file() {
        let tree = LowestFree::new(1 << 32);
        assert_eq!((tree.levels, tree.words), (6, (1 << 26) + (1 << 20) + (1 << 14) + (1 << 8) + 4 + 1));
        assert_eq!((tree.pages_touched(0), tree.pages_touched(65)), (0, 6));
    }
}
