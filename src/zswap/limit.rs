//! Limits in bytes of slots: what a page really costs. Charged before a page is published, so that it is never
//! exceeded.

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Wait,
};

/// How much may be stored, and how much is.
pub struct Limit {
    max: AtomicU64,
    /// Bytes of the slots of stored pages, and what running batches have reserved.
    used: AtomicU64,
    /// 1 from when the limit was met until usage fell to the accept threshold.
    full: AtomicU32,
    accept_percent: u64,
    hits: AtomicU64,
}

impl Limit {
    /// So many bytes, `u64::MAX` for none; refused once full until `accept_percent` of it is used.
    pub fn new(max: u64, accept_percent: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { max: AtomicU64::new(max), used: zero(), full: AtomicU32::new(0), accept_percent, hits: zero() }
    }

    /// The limit.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Changes it. Less than what is stored is allowed: then nothing more comes in until enough has gone.
    pub fn set(&self, max: u64) {
        self.max.store(max, Relaxed);
        self.full.store(0, Relaxed);
    }

    /// What is charged.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// How often it was met.
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// Whether pages that take `estimate` bytes may be tried: a look, without a charge.
    #[inline]
    pub fn admits(&self, estimate: u64) -> bool {
        let (used, max) = (self.used(), self.max());
        if self.full.load(Relaxed) != 0 {
            if used > Self::percent(max, self.accept_percent) {
                return false;
            }
            self.full.store(0, Relaxed);
        }
        used.saturating_add(estimate) <= max
    }

    fn percent(max: u64, percent: u64) -> u64 {
        (u128::from(max) * u128::from(percent) / 100) as u64
    }

    /// Charges `bytes` if they fit.
    #[inline]
    pub fn charge(&self, bytes: u64) -> bool {
        let max = self.max();
        // Relaxed: it is a count, and orders nothing.
        self.used.fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|&total| total <= max)).is_ok()
    }

    /// Takes a charge back.
    #[inline]
    pub fn uncharge(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Relaxed);
        debug_assert!(before >= bytes);
    }

    /// Notes that `page_bytes` more did not fit: from here on nothing is taken until usage falls to the threshold.
    #[cold]
    pub fn meet(&self, page_bytes: u64) {
        self.hits.fetch_add(1, Relaxed);
        if self.used().saturating_add(page_bytes) > self.max() {
            self.full.store(1, Relaxed);
        }
    }
}

/// Batches that have reserved by their estimate, and the one that may wait for the others.
///
/// A batch whose estimate was too low needs more than it reserved. If there is no more because others hold it, it
/// becomes the patient one, or rolls back if there is one already. The patient one waits until the others, which do not
/// wait, have ended, and asks again: so one of them gets through.
#[derive(Default)]
pub struct Batches {
    running: AtomicU32,
    patient: AtomicU32,
}

impl Batches {
    /// A batch begins to reserve.
    pub fn begin(&self) {
        // Relaxed: who waits sees it once it has reserved, by the charge that it waits for.
        self.running.fetch_add(1, Relaxed);
    }

    /// A batch has given back what it reserved and does not use.
    pub fn end(&self) {
        // Release pairs with the Acquire in `reserve_patiently`: what it gave back is seen.
        self.running.fetch_sub(1, Release);
    }

    /// Asks once more for what there was not enough of, after those that could give it back.
    pub fn reserve_patiently(&self, mut reserve: impl FnMut() -> bool) -> bool {
        // Acquire and Release pair with each other: one at a time.
        if self.patient.compare_exchange(0, 1, AcqRel, Relaxed).is_err() {
            return false;
        }
        let mut wait = Wait::default();
        let got = loop {
            // Acquire pairs with the Release in `end`.
            let alone = self.running.load(Acquire) == 1;
            if reserve() {
                break true;
            }
            if alone {
                break false;
            }
            wait.a_moment();
        };
        self.patient.store(0, Release);
        got
    }
}
