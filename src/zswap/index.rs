//! The page words of an area: a flat array in a reserved mapping of its own, which takes memory as it is touched.
//!
//! A stretch is 512 words, a page of the array. A bit for each stretch tells whether anything may be stored there, so
//! that walks over the area skip the others without touching their memory. The bit is set after a word was published,
//! and cleared while all words of the stretch are frozen: a stretch whose bit is clear has no published word.

use super::page::{PageCell, freeze, thaw};
use super::word::PageWord;
use crate::bitmap::{SharedBits, words_of};
use crate::error::{Error, Result, not_given};
use crate::os::{self, Backed, Mapping, Os};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::units::{PAGE, pages_of};

/// How many words a stretch has: a page of the array.
pub const STRETCH: u64 = (PAGE / size_of::<u64>()) as u64;
/// Most stretches that are given back in one call to the system. Stores to them wait for that call.
const MOST_AT_ONCE: u64 = 64;
/// The most pages that an area may have ([`crate::Zswap::add_area`]): 2^38, which is a petabyte.
pub const MAX_PAGES: u64 = 1 << 38;

/// Sets the bit of a stretch after a publish there. Returns whether it was clear.
#[inline]
pub fn note(bits: SharedBits<'_, AtomicU64>, stretch: u64) -> bool {
    // `set` looks with Relaxed: the compare-and-swap of the publish acquired the thaw, so a clear of the bit before
    // that thaw is seen. Release pairs with the Acquire in `next_touched`: a thread that sees the bit sees what was
    // published.
    bits.set(stretch as usize, Release)
}

/// Clears the bit of a stretch that is frozen. Returns whether it was set.
pub fn unnote(bits: SharedBits<'_, AtomicU64>, stretch: u64) -> bool {
    // Release pairs with the Acquire in `next_touched`.
    bits.clear(stretch as usize, Release)
}

/// The index of an area.
pub struct Index {
    mapping: Mapping,
    pages: u64,
    /// How many words of bits come before the array.
    bit_words: usize,
    /// How many stretches have their bit set.
    touched: AtomicU64,
    os: Os,
}

// SAFETY: the mapping is shared as atomics only.
unsafe impl Sync for Index {}

impl Index {
    /// Makes an index of `pages` pages, all EMPTY.
    pub fn new(os: Os, pages: u64) -> Result<Self> {
        const NO_ADDRESSES: Error =
            Error::NoMemory(not_given!("the system gives no addresses for the area, 8 bytes a page"));
        let bit_words = Self::bit_words(pages);
        let bytes = Self::array_at(bit_words) + pages_of(pages as usize * size_of::<u64>()) * PAGE;
        let mapping = os.sparse_memory(bytes).map_err(|_| NO_ADDRESSES)?;
        Ok(Self { mapping, pages, bit_words, touched: AtomicU64::new(0), os })
    }

    fn bit_words(pages: u64) -> usize {
        words_of(pages.div_ceil(STRETCH) as usize)
    }

    fn array_at(bit_words: usize) -> usize {
        pages_of(bit_words * size_of::<u64>()) * PAGE
    }

    /// Returns how many pages the area has.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Returns the bytes of memory that the index takes: its bits, and the stretches that are touched.
    pub fn bytes(&self) -> u64 {
        // A stretch may be counted as given back before the store that touched it has counted it: never below 0.
        let touched = (self.touched.load(Relaxed) as i64).max(0) as u64;
        (touched + pages_of(self.bit_words * size_of::<u64>()) as u64) * PAGE as u64
    }

    fn bits(&self) -> SharedBits<'_, AtomicU64> {
        // SAFETY: the mapping begins with this many words, is shared as atomics, and lives as long as the index.
        SharedBits(unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.bit_words) })
    }

    /// Returns all page words.
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the array follows the bits, page-aligned, with a word for each page. Zero is a valid word.
        unsafe {
            let array = self.mapping.base().as_ptr().add(Self::array_at(self.bit_words)).cast();
            std::slice::from_raw_parts(array, self.pages as usize)
        }
    }

    /// Returns the page word of an offset that the area has.
    #[inline]
    pub fn page(&self, offset: u64) -> PageCell<'_> {
        PageCell(&self.words()[offset as usize])
    }

    /// Asks the processor to fetch the page word of an offset.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        if offset < self.pages {
            os::prefetch(&self.words()[offset as usize]);
        }
    }

    /// Notes that a word was published at `offset`.
    #[inline]
    pub fn note(&self, offset: u64) {
        let stretch = offset / STRETCH;
        if note(self.bits(), stretch) {
            self.touched.fetch_add(1, Relaxed);
        }
    }

    /// Returns the first offset, from `from` on, whose stretch may hold something.
    pub fn next_touched(&self, from: u64) -> Option<u64> {
        // Acquire pairs with the Release in `note`.
        let stretch = self.bits().next_set((from / STRETCH) as usize, Acquire)? as u64;
        Some(from.max(stretch * STRETCH)).filter(|&offset| offset < self.pages)
    }

    /// Returns the first offset, from `from` on and before `end`, whose word is not EMPTY, and that word.
    pub fn next_used(&self, from: u64, end: u64) -> Option<(u64, PageWord)> {
        let mut at = from;
        while let Some(touched) = self.next_touched(at).filter(|&touched| touched < end) {
            let stop = (touched / STRETCH + 1).saturating_mul(STRETCH).min(end).min(self.pages);
            let used = (touched..stop).map(|offset| (offset, self.page(offset).peek()));
            if let Some(found) = { used }.find(|(_, word)| *word != PageWord::EMPTY && !word.is_frozen()) {
                return Some(found);
            }
            at = stop;
        }
        None
    }

    /// Gives the memory of stretches back to the system that lie between `from` and `end` and have no page.
    pub fn give_back(&self, from: u64, end: u64) {
        let last = if end >= self.pages { self.pages.div_ceil(STRETCH) } else { end / STRETCH };
        let mut stretch = from.div_ceil(STRETCH);
        while let Some(touched) = self.next_touched(stretch * STRETCH).map(|offset| offset / STRETCH) {
            if touched >= last {
                return;
            }
            let mut frozen = 0;
            while frozen < MOST_AT_ONCE && touched + frozen < last && self.freeze(touched + frozen) {
                frozen += 1;
            }
            if frozen > 0 {
                self.release(touched, frozen);
            }
            stretch = touched + frozen.max(1);
        }
    }

    fn stretch(&self, stretch: u64) -> &[AtomicU64] {
        let start = (stretch * STRETCH) as usize;
        &self.words()[start..(start + STRETCH as usize).min(self.pages as usize)]
    }

    fn freeze(&self, stretch: u64) -> bool {
        let words = self.stretch(stretch);
        // Most stretches that are not empty show it to a plain look, which costs no locked instruction.
        words.iter().all(|word| word.load(Relaxed) == PageWord::EMPTY.0) && freeze(words)
    }

    /// Gives frozen stretches back. Their words are EMPTY again when the system has taken their memory.
    #[cold]
    fn release(&self, first: u64, count: u64) {
        for stretch in first..first + count {
            // Before the words thaw: a thread that publishes after that sees the bit clear, and sets it.
            if unnote(self.bits(), stretch) {
                self.touched.fetch_sub(1, Relaxed);
            }
        }
        let at = self.stretch(first).as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the words are frozen, so nobody changes them, and they read as EMPTY once they are zero. The page of
        // the last stretch has nothing but its words.
        let gone = unsafe { self.os.release(at, count as usize * PAGE, Backed::Anonymous) };
        if gone.is_err() {
            (first..first + count).for_each(|stretch| thaw(self.stretch(stretch)));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_that_is_given_back_before_it_is_counted_takes_no_memory() {
        let index = Index::new(Os::default(), 10 * STRETCH).unwrap();
        let before = index.bytes();
        // The moment at which a store has set the bit and not yet counted it.
        index.touched.fetch_sub(1, Relaxed);
        assert_eq!(index.bytes(), before);
        index.touched.fetch_add(2, Relaxed);
        assert_eq!(index.bytes(), before + PAGE as u64);
    }
}
