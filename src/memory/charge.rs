//! How many pages a pool may have, and how many it has.
//!
//! A page is charged before it is touched and given back after it is gone. So the limit holds for the memory that the
//! system sees.

use crate::error::{Error, Limit, Result};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The pages of a pool and their limit. These counters carry no data: all accesses are Relaxed.
pub struct Charge {
    used: AtomicU64,
    limit: AtomicU64,
    /// Pages of zspages that are empty and keep their memory for the next object of their class.
    warm: AtomicU64,
}

/// How many pages may be kept warm in a small pool: those of a zspage. A large pool may keep a hundredth of its pages.
const WARM_PAGES: u64 = 64;

const FULL: Error = Error::Limit(Limit::Pool);

impl Charge {
    /// An account of no pages.
    pub fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit), warm: AtomicU64::new(0) }
    }

    /// Charges `pages` pages, or fails and charges none.
    pub fn take(&self, pages: usize) -> Result<()> {
        let limit = self.limit.load(Relaxed);
        let fits = |used: u64| used.checked_add(pages as u64).filter(|&sum| sum <= limit);
        if pages == 0 {
            return Ok(());
        }
        self.used.fetch_update(Relaxed, Relaxed, fits).map(|_| ()).map_err(|_| FULL)
    }

    /// Gives back `pages` pages that were charged.
    pub fn give_back(&self, pages: usize) {
        if pages > 0 {
            let before = self.used.fetch_sub(pages as u64, Relaxed);
            debug_assert!(before >= pages as u64);
        }
    }

    /// Counts `pages` more pages as warm, if so many may be. Returns whether it did.
    pub fn keep_warm(&self, pages: usize) -> bool {
        let most = (self.used() / 100).max(WARM_PAGES);
        let fits = |warm: u64| Some(warm + pages as u64).filter(|&sum| sum <= most);
        self.warm.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Counts `pages` fewer pages as warm.
    pub fn end_warm(&self, pages: usize) {
        self.warm.fetch_sub(pages as u64, Relaxed);
    }

    /// Returns how many pages are kept warm.
    pub fn warm(&self) -> u64 {
        self.warm.load(Relaxed)
    }

    /// Returns how many pages are charged.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Returns how many pages may be charged.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Sets the limit. It may be below what is used: then nothing more is charged until enough was given back.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Relaxed);
    }
}
