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
        // Acquire and Release pair with each other: a batch that is refused sees that those others began who hold what
        // it lacks.
        self.used.fetch_update(AcqRel, Acquire, |used| used.checked_add(bytes).filter(|&total| total <= max)).is_ok()
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

/// How often a batch looks whether others have given back what it lacks: a tenth of a second or so.
const PATIENCE: u32 = 150;

/// Batches that have reserved by their estimate, and the one that may wait for the others.
///
/// A batch whose estimate was too low needs more than it reserved. If there is no more because others hold it, it
/// becomes the patient one, or rolls back if there is one already. The patient one waits until the others, which do not
/// wait, have ended, and asks again: so one of them gets through.
#[derive(Default)]
pub struct Batches {
    /// Batches that run, in the low half, and how many ended, in the high half, which may wrap round. Each beginning
    /// and each end makes it another number.
    counts: AtomicU64,
    patient: AtomicU32,
}

impl Batches {
    /// One less that runs, and one more that ended.
    const END: u64 = (1 << 32) - 1;

    /// What it is after so many batches have come and gone.
    #[cfg(any(test, loom))]
    pub fn after(batches: u64) -> Self {
        Self { counts: AtomicU64::new(batches << 32), patient: AtomicU32::new(0) }
    }

    /// A batch begins to reserve.
    fn begin(&self) {
        // Relaxed: the charge that follows releases it to whoever is refused because of that charge.
        self.counts.fetch_add(1, Relaxed);
    }

    /// A batch has given back what it reserved and does not use.
    fn end(&self) {
        // Release pairs with the Acquire in `look`: what it gave back is seen.
        self.counts.fetch_add(Self::END, Release);
    }

    fn look(&self) -> u64 {
        // Acquire pairs with the Release in `end`.
        self.counts.load(Acquire)
    }

    /// Asks once more for what there was not enough of, after those that could give it back.
    fn reserve_patiently(&self, mut reserve: impl FnMut() -> bool) -> bool {
        // Acquire and Release pair with each other: one at a time.
        if self.patient.compare_exchange(0, 1, AcqRel, Relaxed).is_err() {
            return false;
        }
        let mut wait = Wait::default();
        let mut rounds = 0;
        let got = loop {
            let before = self.look();
            if reserve() {
                break true;
            }
            // Nobody else held anything when this was refused, nor does since. The models, of two batches, do not show
            // the second look to be necessary: it takes one more that begins in between.
            let alone = before as u32 == 1;
            if alone && self.look() == before {
                break false;
            }
            // Others may be waiting for a page of their caller's, which this thread may have to bring.
            rounds += 1;
            if rounds == PATIENCE && !cfg!(loom) {
                break false;
            }
            wait.a_moment();
        };
        self.patient.store(0, Release);
        got
    }
}

/// What a running batch has been granted of each limit, and uses.
pub struct Reservation<'a> {
    limits: [&'a Limit; 2],
    batches: &'a Batches,
    granted: u64,
    used: u64,
}

impl<'a> Reservation<'a> {
    /// Reserves what the pages will take by the estimate. `Err`: which limit refused.
    pub fn new(limits: [&'a Limit; 2], batches: &'a Batches, bytes: u64) -> Result<Self, usize> {
        batches.begin();
        // Dropped on a refusal, which ends it.
        let mut reservation = Self { limits, batches, granted: 0, used: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    fn grow(&mut self, bytes: u64) -> Result<(), usize> {
        charge_both(self.limits, bytes)?;
        self.granted += bytes;
        Ok(())
    }

    /// Uses `bytes` for a page; reserves more if the estimate was too low. `Err`: which limit refused.
    pub fn use_bytes(&mut self, bytes: u64) -> Result<(), usize> {
        let missing = (self.used + bytes).saturating_sub(self.granted);
        if missing > 0
            && let Err(refused) = self.grow(missing)
        {
            let batches = self.batches;
            if !batches.reserve_patiently(|| self.grow(missing).is_ok()) {
                return Err(refused);
            }
        }
        self.used += bytes;
        Ok(())
    }

    /// All pages are stored: what was not used goes back.
    pub fn settle(mut self) {
        self.give_back(self.granted - self.used);
        self.granted = 0;
    }

    fn give_back(&self, bytes: u64) {
        self.limits.iter().for_each(|limit| limit.uncharge(bytes));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.give_back(self.granted);
        self.batches.end();
    }
}

/// Charges both limits, or neither. `Err`: which of them refused.
#[inline]
pub fn charge_both(limits: [&Limit; 2], bytes: u64) -> Result<(), usize> {
    if !limits[0].charge(bytes) {
        return Err(0);
    }
    if !limits[1].charge(bytes) {
        limits[0].uncharge(bytes);
        return Err(1);
    }
    Ok(())
}
