//! Which pages of a chunk are taken: a bit each.

use crate::units::CHUNK_PAGES;

const WORDS: usize = CHUNK_PAGES / 64;

/// The pages of one chunk; a set bit is a taken page. All zero is an empty chunk.
#[repr(transparent)]
#[derive(Clone, PartialEq, Eq)]
pub struct PageMap([u64; WORDS]);

impl PageMap {
    /// None taken.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Takes the `pages` pages from `first` on, which were free.
    pub fn take(&mut self, first: usize, pages: usize) {
        self.flip(first, pages, 0);
    }

    /// Frees the `pages` pages from `first` on, which were taken.
    pub fn release(&mut self, first: usize, pages: usize) {
        self.flip(first, pages, u64::MAX);
    }

    fn flip(&mut self, first: usize, pages: usize, before: u64) {
        for page in first..first + pages {
            let bit = 1 << (page % 64);
            debug_assert_eq!(self.0[page / 64] & bit, before & bit, "page {page} was not as expected");
            self.0[page / 64] ^= bit;
        }
    }

    /// Whether none is taken.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Whether this page is taken.
    #[cfg(test)]
    pub fn is_taken(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 == 1
    }

    /// How many pages are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first run of `pages` free pages.
    pub fn find(&self, pages: usize) -> Option<usize> {
        self.runs().find(|&(_, length)| length >= pages).map(|(first, _)| first)
    }

    /// The length of the longest run of free pages.
    pub fn longest(&self) -> usize {
        self.runs().map(|(_, length)| length).max().unwrap_or(0)
    }

    /// The runs of taken pages: first page and length.
    pub fn taken_runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at, u64::MAX);
            at = self.next(first, 0);
            (first < CHUNK_PAGES).then_some((first, at - first))
        })
    }

    /// The runs of free pages: first page and length.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next(at, 0);
            at = self.next(first, u64::MAX);
            (first < CHUNK_PAGES).then_some((first, at - first))
        })
    }

    /// The first page from `from` on that is free (`flipped` 0) or taken (`flipped` all ones), or the end.
    fn next(&self, from: usize, flipped: u64) -> usize {
        let mut word = from / 64;
        let mut below = (1u64 << (from % 64)) - 1;
        while word < WORDS {
            let other = (self.0[word] ^ flipped) | below;
            if other != u64::MAX {
                return word * 64 + other.trailing_ones() as usize;
            }
            (word, below) = (word + 1, 0);
        }
        CHUNK_PAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_slow_search_finds() {
        let mut map = PageMap::EMPTY;
        let mut seed = 7u64;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (first, pages) = ((seed >> 33) as usize % CHUNK_PAGES, 1 + (seed >> 50) as usize % 64);
            let slow =
                |pages: usize| (0..=CHUNK_PAGES - pages).find(|&at| (at..at + pages).all(|page| !map.is_taken(page)));
            assert_eq!(map.find(pages), slow(pages));
            let longest = map.longest();
            assert!(longest == 0 || slow(longest).is_some());
            assert!(longest == CHUNK_PAGES || slow(longest + 1).is_none());
            match map.find(pages) {
                Some(at) => map.take(at, pages),
                None => (first..(first + pages).min(CHUNK_PAGES)).for_each(|page| {
                    if map.is_taken(page) {
                        map.release(page, 1);
                    }
                }),
            }
        }
        assert_eq!(map.taken(), (0..CHUNK_PAGES).filter(|&page| map.is_taken(page)).count());
    }
}
