//! Bitmaps: plain ones, and ones in memory that threads share.
//!
//! [`Bitmap`] is changed through `&mut`. [`SharedBits`] are words that threads change at once, wherever they lie: in a
//! static, or in a mapping that takes memory as it is touched.

use crate::sync::Ordering;

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// Bits in words of their own: an array, or a box of words. All zero is an empty bitmap.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits<S>(S);

/// A bitmap of `WORDS` times 64 bits.
pub type Bitmap<const WORDS: usize> = Bits<[u64; WORDS]>;

impl<const WORDS: usize> Bitmap<WORDS> {
    /// No bit is set.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// How many bits there are.
    pub const LEN: usize = WORDS * BITS;
}

/// Where a bit of `words` words lies. If there is one word alone, which is known at compile time for an array, the bit
/// is in that: there is nothing to look up, and nothing to check.
#[inline]
const fn at(words: usize, bit: usize) -> (usize, u64) {
    (if words == 1 { 0 } else { bit / BITS }, 1 << (bit % BITS))
}

impl<S: AsRef<[u64]>> Bits<S> {
    /// The bits of `words`, as they are.
    #[cfg(any(test, feature = "uffd"))]
    pub fn of(words: S) -> Self {
        Self(words)
    }

    /// Returns how many bits there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.as_ref().len() * BITS
    }

    /// Returns whether a bit is set.
    #[inline]
    pub fn is_set(&self, bit: usize) -> bool {
        let (word, mask) = at(self.0.as_ref().len(), bit);
        self.0.as_ref()[word] & mask != 0
    }

    /// Returns whether no bit is set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().iter().all(|&word| word == 0)
    }

    /// Returns how many bits are set.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.as_ref().iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the bit `from` and those after it in the same word, lowest first.
    #[inline]
    pub fn rest_of_word(&self, from: usize) -> u64 {
        self.0.as_ref()[from / BITS] >> (from % BITS)
    }

    /// Returns the lowest bit that is clear, or how many bits there are.
    #[inline]
    pub fn lowest_clear(&self) -> usize {
        match self.0.as_ref() {
            [word] => word.trailing_ones() as usize,
            _ => self.next::<false>(0),
        }
    }

    /// Returns the lowest bit from `from` on that is set.
    #[inline]
    pub fn next_set(&self, from: usize) -> Option<usize> {
        Some(self.next::<true>(from)).filter(|&bit| bit < self.len())
    }

    /// Returns the lowest bit from `from` on that is clear, or how many bits there are.
    #[cfg(any(test, feature = "uffd"))]
    #[inline]
    pub fn next_clear(&self, from: usize) -> usize {
        self.next::<false>(from)
    }

    /// Returns the highest bit that is set.
    #[inline]
    pub fn highest_set(&self) -> Option<usize> {
        self.highest_set_below(self.len())
    }

    /// Returns the highest bit below `end` that is set.
    #[inline]
    pub fn highest_set_below(&self, end: usize) -> Option<usize> {
        for word in (0..end.div_ceil(BITS)).rev() {
            let above = (end - word * BITS).min(BITS);
            let below = self.0.as_ref()[word] & (u64::MAX >> (BITS - above));
            if below != 0 {
                return Some(word * BITS + below.ilog2() as usize);
            }
        }
        None
    }

    /// Returns the bits that are set, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let bit = self.next_set(from)?;
            from = bit + 1;
            Some(bit)
        })
    }

    /// Returns the runs of bits that are set (`SET`) or clear: the first bit and the length of each, lowest first.
    pub fn runs<const SET: bool>(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next::<SET>(at);
            at = if SET { self.next::<false>(first) } else { self.next::<true>(first) };
            (first < self.len()).then_some((first, at - first))
        })
    }

    /// Returns where the first run of `length` clear bits begins.
    pub fn find_clear(&self, length: usize) -> Option<usize> {
        self.runs::<false>().find(|run| run.1 >= length).map(|run| run.0)
    }

    /// Returns the length of the longest run of clear bits.
    pub fn longest_clear(&self) -> usize {
        self.runs::<false>().map(|run| run.1).max().unwrap_or(0)
    }

    /// Returns the lowest bit from `from` on that is set (`SET`) or clear, or how many bits there are.
    #[inline]
    fn next<const SET: bool>(&self, from: usize) -> usize {
        let words = self.0.as_ref();
        let mut word = from / BITS;
        let mut wanted = u64::MAX << (from % BITS);
        while word < words.len() {
            let found = (if SET { words[word] } else { !words[word] }) & wanted;
            if found != 0 {
                return word * BITS + found.trailing_zeros() as usize;
            }
            (word, wanted) = (word + 1, u64::MAX);
        }
        self.len()
    }
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> Bits<S> {
    /// Sets a bit.
    #[inline]
    pub fn set(&mut self, bit: usize) {
        let (word, mask) = at(self.0.as_ref().len(), bit);
        self.0.as_mut()[word] |= mask;
    }

    /// Clears a bit.
    #[inline]
    pub fn clear(&mut self, bit: usize) {
        let (word, mask) = at(self.0.as_ref().len(), bit);
        self.0.as_mut()[word] &= !mask;
    }

    /// Sets `count` bits from `first` on, which were clear.
    pub fn set_range(&mut self, first: usize, count: usize) {
        for bit in first..first + count {
            debug_assert!(!self.is_set(bit), "bit {bit} was set already");
            self.set(bit);
        }
    }

    /// Clears `count` bits from `first` on, which were set.
    pub fn clear_range(&mut self, first: usize, count: usize) {
        for bit in first..first + count {
            debug_assert!(self.is_set(bit), "bit {bit} was clear already");
            self.clear(bit);
        }
    }
}

/// A word of bits that threads share. Models have atomics of their own, which no static can hold.
pub trait SharedWord {
    /// Loads the word.
    fn load(&self, order: Ordering) -> u64;
    /// Sets bits, and returns the word as it was.
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    /// Keeps these bits only, and returns the word as it was.
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
}

macro_rules! shared_word {
    ($atomic:ty) => {
        impl SharedWord for $atomic {
            #[inline]
            fn load(&self, order: Ordering) -> u64 {
                self.load(order)
            }
            #[inline]
            fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
                self.fetch_or(bits, order)
            }
            #[inline]
            fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
                self.fetch_and(bits, order)
            }
        }
    };
}

shared_word!(crate::sync::AtomicU64);
#[cfg(loom)]
shared_word!(std::sync::atomic::AtomicU64);

/// Bits in words that threads share. The caller says how each change and each look is ordered.
#[derive(Clone, Copy)]
pub struct SharedBits<'a, W>(pub &'a [W]);

/// Returns how many words `bits` bits take.
pub const fn words_of(bits: usize) -> usize {
    bits.div_ceil(BITS)
}

impl<W: SharedWord> SharedBits<'_, W> {
    #[inline]
    fn at(&self, bit: usize) -> (&W, u64) {
        (&self.0[bit / BITS], 1 << (bit % BITS))
    }

    /// Sets a bit. Returns whether it was clear. A bit that is set already costs a look, and no locked instruction.
    #[inline]
    pub fn set(&self, bit: usize, order: Ordering) -> bool {
        let (word, mask) = self.at(bit);
        word.load(Ordering::Relaxed) & mask == 0 && word.fetch_or(mask, order) & mask == 0
    }

    /// Clears a bit. Returns whether it was set.
    #[inline]
    pub fn clear(&self, bit: usize, order: Ordering) -> bool {
        let (word, mask) = self.at(bit);
        word.fetch_and(!mask, order) & mask != 0
    }

    /// Returns the lowest bit from `from` on that is set.
    pub fn next_set(&self, from: usize, order: Ordering) -> Option<usize> {
        let mut wanted = u64::MAX << (from % BITS);
        for (at, word) in self.0.iter().enumerate().skip(from / BITS) {
            let found = word.load(order) & wanted;
            if found != 0 {
                return Some(at * BITS + found.trailing_zeros() as usize);
            }
            wanted = u64::MAX;
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    const LEN: usize = Bitmap::<8>::LEN;

    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as usize
    }

    /// A bitmap with runs of all lengths, beside the list of its bits.
    fn filled(seed: &mut u64) -> (Bitmap<8>, Vec<bool>) {
        let (mut map, mut bits) = (Bitmap::EMPTY, vec![false; LEN]);
        for _ in 0..random(seed) % 40 {
            let first = random(seed) % LEN;
            let count = (random(seed) % 130).min(LEN - first);
            if bits[first..first + count].iter().all(|set| !set) {
                map.set_range(first, count);
                bits[first..first + count].fill(true);
            }
        }
        (map, bits)
    }

    #[test]
    fn a_bitmap_finds_what_a_slow_search_finds() {
        let mut seed = 7;
        for _ in 0..300 {
            let (map, bits) = filled(&mut seed);
            let from = random(&mut seed) % (LEN + 1);
            assert_eq!(map.count(), bits.iter().filter(|set| **set).count());
            assert_eq!(map.is_empty(), map.count() == 0);
            assert!((0..LEN).all(|bit| map.is_set(bit) == bits[bit]));
            assert_eq!(map.lowest_clear(), bits.iter().position(|set| !set).unwrap_or(LEN));
            assert_eq!(map.next_set(from), (from..LEN).find(|&bit| bits[bit]));
            assert_eq!(map.highest_set_below(from), (0..from).rev().find(|&bit| bits[bit]));
            assert_eq!(map.highest_set(), (0..LEN).rev().find(|&bit| bits[bit]));
            assert!(map.iter().eq((0..LEN).filter(|&bit| bits[bit])));
            assert_eq!(Bits::of(vec![u64::MAX; 2]).lowest_clear(), 128);
            let clear = |length: usize| (0..=LEN - length).find(|&at| bits[at..at + length].iter().all(|set| !set));
            let length = 1 + random(&mut seed) % 64;
            assert_eq!(map.find_clear(length), clear(length));
            let longest = map.longest_clear();
            assert!(clear(longest).is_some() && (longest == LEN || clear(longest + 1).is_none()));
            assert!(from == LEN || map.rest_of_word(from) & 1 == u64::from(bits[from]));
        }
    }

    #[test]
    fn runs_of_set_and_clear_bits_alternate_and_cover_the_bitmap() {
        let mut seed = 11;
        for _ in 0..300 {
            let (map, bits) = filled(&mut seed);
            let mut runs: Vec<_> = map.runs::<true>().map(|run| (run, true)).collect();
            runs.extend(map.runs::<false>().map(|run| (run, false)));
            runs.sort_unstable();
            let mut end = 0;
            for ((first, length), set) in runs {
                assert_eq!(first, end);
                assert!(length > 0 && bits[first..first + length].iter().all(|bit| *bit == set));
                assert!(first == 0 || bits[first - 1] != set);
                end += length;
            }
            assert_eq!(end, LEN);
        }
    }

    #[test]
    fn a_range_that_is_cleared_leaves_its_neighbours() {
        let mut map = Bitmap::<2>::EMPTY;
        map.set_range(0, 128);
        assert_eq!((map.lowest_clear(), map.highest_set()), (128, Some(127)));
        map.clear_range(60, 8);
        assert_eq!((map.next_clear(3), map.next_clear(61), map.next_clear(68)), (60, 61, 128));
        assert_eq!((map.lowest_clear(), map.count(), map.next_set(60)), (60, 120, Some(68)));
        assert!(map.runs::<false>().eq([(60, 8)]));
        let mut one = Bitmap::<1>::EMPTY;
        (0..64).for_each(|bit| one.set(bit));
        assert_eq!((one.lowest_clear(), one.highest_set_below(64), one.next_set(63)), (64, Some(63), Some(63)));
        one.clear(63);
        assert_eq!((one.lowest_clear(), one.highest_set(), one.next_set(63)), (63, Some(62), None));
    }

    #[test]
    fn shared_bits_say_who_changed_them() {
        let words: Vec<_> = (0..words_of(130)).map(|_| AtomicU64::new(0)).collect();
        let bits = SharedBits(&words);
        assert_eq!(words.len(), 3);
        assert!(bits.set(129, Relaxed) && !bits.set(129, Relaxed) && bits.set(3, Relaxed));
        assert_eq!((bits.next_set(0, Relaxed), bits.next_set(4, Relaxed)), (Some(3), Some(129)));
        assert_eq!((bits.next_set(130, Relaxed), bits.next_set(1000, Relaxed)), (None, None));
        assert!(bits.clear(129, Relaxed) && !bits.clear(129, Relaxed));
        assert_eq!(bits.next_set(4, Relaxed), None);
    }
}
