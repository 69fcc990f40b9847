//! How many pages a pool may have, and has. Every page is charged before it is touched and given back after it is gone,
//! so that the limit holds for what the system sees, not only for what the pool believes.

use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The pages of a pool against its limit. Counters carry no data with them: all accesses are Relaxed.
pub struct Charge {
    used: AtomicU64,
    limit: AtomicU64,
    /// Pages of zspages that are kept empty with their memory, for the next object of their class.
    warm: AtomicU64,
}

/// Pages that may be kept warm in a pool of any size: a zspage. Beyond that, a hundredth of the pool.
const WARM_PAGES: u64 = 64;

const FULL: Error = Error::NoMemory(&"the pool is at its limit: free, compact or shrink, then try again");

impl Charge {
    /// Nothing charged yet.
    pub fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit), warm: AtomicU64::new(0) }
    }

    /// Charges `pages`, or nothing.
    pub fn take(&self, pages: usize) -> Result<()> {
        let limit = self.limit.load(Relaxed);
        let fits = |used: u64| used.checked_add(pages as u64).filter(|&sum| sum <= limit);
        if pages == 0 {
            return Ok(());
        }
        self.used.fetch_update(Relaxed, Relaxed, fits).map(|_| ()).map_err(|_| FULL)
    }

    /// Takes `pages` off the account.
    pub fn give_back(&self, pages: usize) {
        if pages > 0 {
            let before = self.used.fetch_sub(pages as u64, Relaxed);
            debug_assert!(before >= pages as u64);
        }
    }

    /// Whether `pages` more may be kept warm.
    pub fn keep_warm(&self, pages: usize) -> bool {
        let most = (self.used() / 100).max(WARM_PAGES);
        let fits = |warm: u64| Some(warm + pages as u64).filter(|&sum| sum <= most);
        self.warm.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// They are used again, or gone.
    pub fn end_warm(&self, pages: usize) {
        self.warm.fetch_sub(pages as u64, Relaxed);
    }

    /// Pages kept warm.
    pub fn warm(&self) -> u64 {
        self.warm.load(Relaxed)
    }

    /// Pages charged.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Pages that may be charged.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Sets the limit, also below what is used: then nothing more is charged until enough was given back.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Relaxed);
    }
}
