//! The clock hand: an address that all evicting threads move on together. A thread takes the next stretch of addresses
//! for itself, and looks for pages to evict there while others look elsewhere.
//!
//! A thread that looks has a *lane* until what it picked is protected from writes. Another thread that has changed a
//! page, by holding it for example, waits for each lane once: whoever picked before has protected its pages by then,
//! and whoever picks later sees the change.

use super::extents::{Extent, Extents};
use crate::error::Result;
use crate::per_processor::{Lease, PerProcessor};
use crate::sync::{AtomicU64, Ordering::Relaxed, Rank};
use crate::units::PAGE;

/// The least pages of a stretch.
const LEAST: usize = if cfg!(loom) { 1 } else { 64 };
/// The most pages of a stretch.
const MOST: usize = if cfg!(loom) { 1 } else { 4096 };

/// The clock hand of a pager: the address from which on threads look for the next pages to evict. All threads move it
/// on together, and each of them has a [`HandLane`] while it looks.
pub struct Hand {
    /// The address where the next stretch begins.
    at: AtomicU64,
    lanes: PerProcessor<HandLane>,
}

/// What one thread needs to move the clock hand on: how many pages it takes at a time. It is locked from before the
/// thread picks pages until these are protected from writes, so that others can wait for that.
pub struct HandLane {
    /// How many pages its next stretch has.
    pages: usize,
}

/// Addresses that the clock hand has passed and one thread looks at, all of one extent.
#[derive(Clone, Copy)]
pub struct Stretch {
    /// The extent.
    pub extent: Extent,
    /// The first address.
    pub from: usize,
    /// The address after the last.
    pub end: usize,
}

impl HandLane {
    /// Lets the next stretches have more pages: the last one had fewer to pick than were wanted.
    pub fn widen(&mut self) {
        self.pages = (self.pages * 2).min(MOST);
    }

    /// Lets the next stretches have fewer pages: the last one had more to pick than were wanted.
    pub fn narrow(&mut self) {
        self.pages = (self.pages / 2).max(LEAST);
    }
}

impl Hand {
    /// A hand at the lowest address, with lanes for this many threads at once.
    pub fn new(lanes: usize) -> Result<Self> {
        let lanes = PerProcessor::new(Rank::Hand, lanes, || Ok(HandLane { pages: LEAST }))?;
        Ok(Self { at: AtomicU64::new(0), lanes })
    }

    /// Takes a lane, which the calling thread has until it drops it.
    #[cfg(not(loom))]
    pub fn lane(&self) -> Lease<'_, HandLane> {
        self.lanes.take()
    }

    /// Takes a lane: the one with this number, if it is free.
    #[cfg(loom)]
    pub fn lane_from(&self, first: usize) -> Lease<'_, HandLane> {
        self.lanes.take_from(first)
    }

    /// Waits until each thread that has a lane now has dropped it: what it picked is protected from writes then. A
    /// thread that takes a lane later sees what the caller did before.
    pub fn wait_for_lanes(&self) {
        self.lanes.each(|_| ());
    }

    /// Takes the next stretch, and goes on at the lowest address after the last. Returns none if there is no extent.
    pub fn take(&self, extents: &Extents, lane: &HandLane) -> Option<Stretch> {
        loop {
            // Relaxed, here and below: the hand hands nothing over. The state words say what becomes of a page.
            let at = self.at.load(Relaxed);
            let extent = extents.next(at as usize).or_else(|| extents.next(0))?;
            if let Some(stretch) = self.take_of(&extent, at, lane) {
                return Some(stretch);
            }
        }
    }

    /// Takes the next stretch if it is of the same extent as `last`, and behind it.
    pub fn take_next(&self, last: &Stretch, lane: &HandLane) -> Option<Stretch> {
        let at = self.at.load(Relaxed);
        let goes_on = (last.end..last.extent.end).contains(&(at as usize));
        if goes_on { self.take_of(&last.extent, at, lane) } else { None }
    }

    /// Takes a stretch of an extent if the hand still stands at `at`.
    fn take_of(&self, extent: &Extent, at: u64, lane: &HandLane) -> Option<Stretch> {
        let from = if (at as usize) < extent.end { extent.start.max(at as usize) } else { extent.start };
        let end = extent.end.min(from + lane.pages * PAGE);
        let taken = self.at.compare_exchange(at, end as u64, Relaxed, Relaxed);
        taken.is_ok().then_some(Stretch { extent: *extent, from, end })
    }

    /// Gives the part of a stretch from `at` on back. Returns false if others went on behind it: nobody else looks at
    /// the part on this way around.
    pub fn give_back(&self, stretch: &Stretch, at: usize) -> bool {
        self.at.compare_exchange(stretch.end as u64, at as u64, Relaxed, Relaxed).is_ok()
    }

    /// Moves the hand past the extent of a stretch, if it is there still.
    pub fn pass_by(&self, stretch: &Stretch) {
        let at = self.at.load(Relaxed);
        if (stretch.end..stretch.extent.end).contains(&(at as usize)) {
            let _ = self.at.compare_exchange(at, stretch.extent.end as u64, Relaxed, Relaxed);
        }
    }
}

/// Counts how often the hand went around, as one thread sees it by the stretches that it takes.
#[derive(Default)]
pub struct Laps {
    /// Where the thread's last stretch began.
    last: Option<usize>,
    /// How often the hand began anew.
    pub done: u32,
}

impl Laps {
    /// Notes a stretch that the thread took.
    pub fn note(&mut self, stretch: &Stretch) {
        self.done += u32::from(self.last.is_some_and(|last| stretch.from <= last));
        self.last = Some(stretch.from);
    }
}
