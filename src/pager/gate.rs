//! The gate between threads that read events and threads that move pages.
//!
//! The system lets an owner go on as soon as its event was read, not when the event took effect here. So while events
//! are read and take effect, nobody puts pages in their places or takes them from there. Bytes that were decoded before
//! a discard never land after it, no owner is served by a word that does not know of its discard yet, and no page is
//! taken from an address that belongs to somebody else by now.
//!
//! If an event has more pages than the gate should be closed for, its range is shut before the gate opens again. Nobody
//! puts pages of the range in their places, or takes them from there, until the range is reopened.

use super::extents::Extents;
use super::presence::{Presence, Present};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crossbeam_utils::CachePadded;

/// The most ranges that are shut at a time.
const RANGES: usize = if cfg!(loom) { 1 } else { 16 };

/// How many counts of the threads inside there are. A thread takes that of its processor, so that processors rarely
/// share one.
const COUNTS: usize = if cfg!(loom) { 2 } else { 16 };

/// Lets many threads move pages, or one read events.
#[derive(Default)]
pub struct Gate {
    /// A thread that closes the gate waits for each of them in turn.
    inside: [CachePadded<Presence>; COUNTS],
    closed: AtomicU32,
    /// How many ranges are shut. This and the ranges change while the lock of events is held.
    shut: AtomicU32,
    /// The start and end of each range; 0 and 0 if it is free.
    ranges: [[AtomicU64; 2]; RANGES],
}

/// A thread inside the gate. While this lives, no event is read.
pub struct Inside<'a> {
    _user: Present<'a>,
}

/// The closed gate. While this lives, nobody is inside.
pub struct Closed<'a>(&'a Gate);

impl Gate {
    /// Enters, if the gate is open. A thread that is inside waits for nobody.
    #[inline]
    pub fn enter(&self) -> Option<Inside<'_>> {
        self.enter_of(if cfg!(loom) { 0 } else { crate::os::current_cpu() })
    }

    /// Enters, if the gate is open, as a thread that runs on this processor.
    #[inline]
    pub fn enter_of(&self, processor: usize) -> Option<Inside<'_>> {
        if !self.is_open() {
            // The thread that closes the gate need not wait for this one as well.
            return None;
        }
        // Either `close` waits for this user, or this sees that it is closed.
        let inside = self.inside[processor % COUNTS].enter();
        // Acquire pairs with the Release in `Closed::drop`: a thread that enters sees what the events did.
        (self.closed.load(Acquire) == 0).then(|| Inside { _user: inside })
    }

    /// Whether the gate was open a moment ago. Orders nothing.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.closed.load(Relaxed) == 0
    }

    /// Enters to move pages of a range, if the gate is open, the table of extents still has this version, and no part
    /// of the range is shut. All that stays so while the caller is inside.
    #[inline]
    pub fn enter_if(&self, extents: &Extents, version: u64, (start, end): (usize, usize)) -> Option<Inside<'_>> {
        self.enter().filter(|_| extents.version() == version).filter(|_| !self.is_shut(start, end))
    }

    /// Whether a part of a range is shut. A range that is open stays so while the caller is inside.
    #[inline]
    pub fn is_shut(&self, start: usize, end: usize) -> bool {
        // Relaxed, here and in what this calls: a thread that is inside sees all that was shut before, by the Acquire
        // in `enter`. That a range was reopened says nothing of its pages: their words do.
        self.shut.load(Relaxed) != 0 && self.first_shut(start, end).is_some()
    }

    /// The end of the open part of a range whose first page is open. It stays open while the caller is inside.
    pub fn open_until(&self, start: usize, end: usize) -> usize {
        if self.shut.load(Relaxed) == 0 { end } else { self.first_shut(start, end).unwrap_or(end) }
    }

    /// The first address of a range that is shut, if any is.
    #[cold]
    fn first_shut(&self, start: usize, end: usize) -> Option<usize> {
        let overlap = |range: &[AtomicU64; 2]| {
            let [from, to] = [0, 1].map(|side: usize| range[side].load(Relaxed) as usize);
            (from.max(start) < to.min(end)).then_some(from.max(start))
        };
        self.ranges.iter().filter_map(overlap).min()
    }

    /// Opens a range that was shut. The caller holds the lock of events, and all pages of the range are discarded.
    pub fn reopen(&self, number: usize) {
        self.ranges[number].iter().for_each(|side| side.store(0, Relaxed));
        self.shut.store(self.shut.load(Relaxed) - 1, Relaxed);
    }

    /// Closes the gate, and waits until nobody is inside. The caller holds the lock of events, so one thread at a time
    /// does this.
    pub fn close(&self) -> Closed<'_> {
        // Relaxed: a thread that enters after `wait_for_all` has begun sees this store, and all others are waited for.
        self.closed.store(1, Relaxed);
        self.inside.iter().for_each(|count| count.wait_for_all());
        Closed(self)
    }
}

impl Closed<'_> {
    /// Shuts a range, which stays shut when the gate opens. Returns its number for [`Gate::reopen`], or none if as many
    /// ranges are shut as can be.
    pub fn shut(&self, start: usize, end: usize) -> Option<usize> {
        let gate = self.0;
        let number = gate.ranges.iter().position(|range| range[1].load(Relaxed) == 0)?;
        // Relaxed: the Release in `drop` makes these stores known.
        gate.ranges[number][0].store(start as u64, Relaxed);
        gate.ranges[number][1].store(end as u64, Relaxed);
        gate.shut.store(gate.shut.load(Relaxed) + 1, Relaxed);
        Some(number)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // Release pairs with the load in `enter`.
        self.0.closed.store(0, Release);
    }
}
