//! The account of kept copies: compressed copies in zswap of pages that are in memory.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Percent of the resident limit whose clean copies are kept by default. Another tenth of the limit saved some 4 % of
/// processor time where most touches read, and cost between 1 and 2 % of the memory that the pager gains.
const PERCENT: u64 = 10;

/// State words that a search for stale copies may look at for each copy that was kept. A region may have many more
/// pages than are in memory, and most copies are not stale: a search through all of it after each touch would take
/// longer than the touch.
const LOOKS_PER_COPY: u64 = 64;

/// Counts pages that are in memory, or staged, and have a copy in zswap.
pub struct KeptCopies {
    pages: AtomicU64,
    /// Clean copies are kept while there are fewer than this percentage of the limit.
    percent: AtomicU64,
    /// The address where the next search for copies begins.
    hand: AtomicU64,
    /// State words that searches for stale copies may still look at.
    looks: AtomicU64,
}

impl Default for KeptCopies {
    fn default() -> Self {
        Self {
            pages: AtomicU64::new(0),
            percent: AtomicU64::new(PERCENT),
            hand: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }
    }
}

impl KeptCopies {
    /// Pages with a kept copy. Relaxed, here and below: a count orders nothing, and the state words say which pages.
    pub fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    /// Counts pages that came to memory and kept their copy.
    pub fn add(&self, pages: u64) {
        self.pages.fetch_add(pages, Relaxed);
        self.allow_looks(pages * LOOKS_PER_COPY);
    }

    /// Allows searches for stale copies to look at more state words. Copies that are kept pay for the searches, and so
    /// does time in which nothing else is to be done.
    pub fn allow_looks(&self, looks: u64) {
        self.looks.fetch_add(looks, Relaxed);
    }

    /// Takes all looks that are allowed, and returns how many they are, at most `most`: more are not saved up.
    /// Relaxed: a count.
    pub fn take_looks(&self, most: u64) -> u64 {
        match self.looks.load(Relaxed) {
            0 => 0,
            _ => self.looks.swap(0, Relaxed).min(most),
        }
    }

    /// Counts pages whose copy was dropped, or that left memory.
    pub fn remove(&self, pages: u64) {
        self.pages.fetch_sub(pages, Relaxed);
    }

    /// The most clean copies that are kept with this resident limit.
    pub fn most(&self, limit: u64) -> u64 {
        limit.saturating_mul(self.percent.load(Relaxed)) / 100
    }

    /// Sets how many clean copies are kept, in percent of the resident limit.
    pub fn set_percent(&self, percent: u8) {
        self.percent.store(percent.into(), Relaxed);
    }

    /// The address where the next search for copies begins. Two searches at once may both begin there.
    pub fn hand(&self) -> usize {
        self.hand.load(Relaxed) as usize
    }

    /// Notes where a search for copies ended.
    pub fn set_hand(&self, at: usize) {
        self.hand.store(at as u64, Relaxed);
    }
}
