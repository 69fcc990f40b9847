//! Reservations of batches: room in both limits, taken by an estimate before anything is compressed.

use super::limit::{Charged, Limits, OverLimit};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Wait,
};

/// How often a batch looks whether others have given back what it lacks: a tenth of a second or so.
const ROUNDS: u32 = 150;

/// The batches of a zswap that have reserved, and the one that may wait for the others.
///
/// A batch whose estimate was too low needs more than it reserved. If other batches hold what it lacks, it becomes the
/// patient one, or rolls back if there is a patient one already. The patient one waits until the others, which do not
/// wait, have ended, and asks again: so one of them gets through.
#[derive(Default)]
pub struct Batches {
    /// How many batches run, in the low half, and how many have ended, in the high half, which may wrap round. Each
    /// begin and each end changes the number.
    counts: AtomicU64,
    patient: AtomicU32,
}

impl Batches {
    /// One less that runs, and one more that has ended.
    const END: u64 = (1 << 32) - 1;

    /// Makes the value after `batches` batches have come and gone.
    #[cfg(any(test, loom))]
    pub fn after(batches: u64) -> Self {
        Self { counts: AtomicU64::new(batches << 32), patient: AtomicU32::new(0) }
    }

    /// A batch begins to reserve.
    fn begin(&self) -> RunningBatch<'_> {
        // Relaxed: the charge that follows releases this to a batch that is refused because of that charge.
        self.counts.fetch_add(1, Relaxed);
        RunningBatch(self)
    }

    /// A batch has given back what it reserved and does not use.
    fn end(&self) {
        // Release pairs with the Acquire in `look`: what the batch gave back is seen.
        self.counts.fetch_add(Self::END, Release);
    }

    fn look(&self) -> u64 {
        // Acquire pairs with the Release in `end`.
        self.counts.load(Acquire)
    }

    /// Retries `reserve` until it succeeds, while there are others that could give back what it lacks.
    fn reserve_patiently(&self, mut reserve: impl FnMut() -> bool) -> bool {
        // Acquire pairs with the Release of the store below: one patient batch at a time.
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
            // If this is the only batch, and none began meanwhile, waiting does not help. (The second look matters with
            // three batches; the models have two.)
            let alone = before as u32 == 1;
            if alone && self.look() == before {
                break false;
            }
            // The others may be waiting for a page of their callers' memory that this thread has to bring.
            rounds += 1;
            if rounds == ROUNDS && !cfg!(loom) {
                break false;
            }
            wait.a_moment();
        };
        self.patient.store(0, Release);
        got
    }
}

/// A batch that is running. Dropping it ends the batch.
struct RunningBatch<'a>(&'a Batches);

impl Drop for RunningBatch<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What a running batch has been granted of both limits, and how much of that it uses. Dropping it gives all back.
pub struct Reservation<'a> {
    limits: Limits<'a>,
    granted: Charged<'a>,
    used: u64,
    /// After `granted`, so that the charge is given back before the batch has ended.
    running: RunningBatch<'a>,
}

impl<'a> Reservation<'a> {
    /// Reserves what the pages are expected to take.
    pub fn new(limits: Limits<'a>, batches: &'a Batches, bytes: u64) -> Result<Self, OverLimit> {
        let running = batches.begin();
        let granted = limits.charge(bytes)?;
        Ok(Self { limits, granted, used: 0, running })
    }

    fn grow(&mut self, bytes: u64) -> Result<(), OverLimit> {
        self.granted.join(self.limits.charge(bytes)?);
        Ok(())
    }

    /// Uses `bytes` for a page. Reserves more if the estimate was too low.
    pub fn use_bytes(&mut self, bytes: u64) -> Result<(), OverLimit> {
        let missing = (self.used + bytes).saturating_sub(self.granted.bytes());
        if missing > 0
            && let Err(refused) = self.grow(missing)
        {
            let batches = self.running.0;
            if !batches.reserve_patiently(|| self.grow(missing).is_ok()) {
                return Err(refused);
            }
        }
        self.used += bytes;
        Ok(())
    }

    /// Ends the batch, all of whose pages are stored: gives back what was not used, and keeps the rest charged.
    pub fn settle(self) {
        let Self { mut granted, used, running, .. } = self;
        granted.shrink_to(used);
        granted.keep();
        drop(running);
    }
}
