//! How many pages are held, and how many may be.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Counts held pages. A page that is held several times counts once.
pub struct Holds {
    pages: AtomicU64,
    max: u64,
}

impl Holds {
    /// No page is held, and at most `max` may be.
    pub fn new(max: u64) -> Self {
        Self { pages: AtomicU64::new(0), max }
    }

    /// Pages that are held. Relaxed, here and below: a count orders nothing, and the state words say which pages.
    pub fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    /// Whether no further page may be held.
    pub fn is_full(&self) -> bool {
        self.pages() >= self.max
    }

    /// Counts a page that is held for the first time.
    pub fn add_one(&self) {
        self.pages.fetch_add(1, Relaxed);
    }

    /// Counts a page that is no longer held.
    pub fn remove_one(&self) {
        self.pages.fetch_sub(1, Relaxed);
    }
}
