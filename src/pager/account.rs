//! The account of pages in memory: how many there are, how many there may be, and how long a touch waits for room.

use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How often a touch that must make room looks again while other threads evict, before it gives up: some 150 ms.
pub const PATIENCE: u32 = 200;
/// The least that patience shrinks to after other threads gave up in vain: some 10 ms.
const LEAST_PATIENCE: u32 = 20;

/// Counts the pages of regions and of the staging range that are in memory, against a limit.
pub struct Account {
    /// Pages that are in memory, or about to be.
    resident: AtomicU64,
    /// The most of them that the owner of the pager allows.
    limit: AtomicU64,
    /// How often a touch that finds others evicting looks again before it goes above the limit.
    patience: AtomicU32,
    /// Pages that left memory since the pager was created.
    departures: AtomicU64,
}

/// Whether pages fit below the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// They fit, and enough is left free.
    Ample,
    /// They fit, but less than half of the reserve is left free.
    Scarce,
    /// They do not fit, and were not charged.
    Over,
}

impl Account {
    /// An account without pages.
    pub fn new(limit: u64) -> Self {
        Self {
            resident: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            patience: AtomicU32::new(PATIENCE),
            departures: AtomicU64::new(0),
        }
    }

    /// Pages in memory. Relaxed, here and below: a count orders nothing, and the state words say where pages are.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// The most pages that may be in memory.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit. What is above the new one is evicted later.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Relaxed);
    }

    /// Whether more is in memory than the limit allows.
    pub fn is_above(&self) -> bool {
        self.resident() > self.limit()
    }

    /// Pages that background eviction keeps free, so that touches need not evict.
    pub fn reserve(&self) -> u64 {
        (self.limit() / 32).clamp(1, 1024)
    }

    /// Charges pages that are about to be in memory, if the limit allows them.
    #[inline]
    pub fn try_charge(&self, pages: u64) -> Fit {
        let after = self.resident.fetch_add(pages, Relaxed) + pages;
        let limit = self.limit();
        if after > limit {
            self.resident.fetch_sub(pages, Relaxed);
            Fit::Over
        } else if after + self.reserve() / 2 > limit {
            Fit::Scarce
        } else {
            Fit::Ample
        }
    }

    /// Charges pages that are in memory already, or will be whatever the limit says.
    #[inline]
    pub fn charge_above(&self, pages: u64) {
        self.resident.fetch_add(pages, Relaxed);
    }

    /// Takes pages that left memory off the account.
    #[inline]
    pub fn uncharge(&self, pages: u64) {
        self.resident.fetch_sub(pages, Relaxed);
    }

    /// How often a touch looks again while others evict.
    pub fn patience(&self) -> u32 {
        self.patience.load(Relaxed)
    }

    /// Restores full patience, because eviction gets through.
    pub fn be_patient(&self) {
        self.patience.store(PATIENCE, Relaxed);
    }

    /// Halves the patience that a touch began with and used up in vain. If others never get through, waiting as long
    /// at each touch would bring all to a halt.
    pub fn lose_patience(&self, began: u32) {
        let less = (began / 2).max(LEAST_PATIENCE);
        let _ = self.patience.compare_exchange(began, less, Relaxed, Relaxed);
    }

    /// Pages that left memory so far, as far as a state word has bits for.
    pub fn departures(&self) -> u32 {
        self.departures.load(Relaxed) as u32
    }

    /// Counts a page that leaves memory. Returns how many left before it.
    pub fn depart(&self) -> u32 {
        self.departures.fetch_add(1, Relaxed) as u32
    }

    /// Lets a test start the count of departures near its wrap, and read all of it.
    #[cfg(test)]
    pub fn all_departures(&self) -> &AtomicU64 {
        &self.departures
    }
}
