//! The pages of large events that no thread has discarded or dropped yet, and the threads that are doing so.

use super::presence::{Presence, Present};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::units::PAGE;

/// An event of more pages than this is large. Smaller ones take effect in one step.
pub const LARGE: u64 = 512;
/// Pages that a thread takes at a time, before it looks what else there is: one or two tenths of a millisecond.
pub const PART: u64 = 128;
/// Large events that may wait. While that many wait, further ones take effect in one step.
pub const WORKS: usize = 16;

/// What becomes of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkKind {
    /// They read as zero from now on. The work counts in addresses, whose range is shut under this number.
    Discard(usize),
    /// They are unmapped. The work counts in pages of the region that has this place.
    Drop(usize),
}

/// The pages of one large event.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub what: WorkKind,
    /// The first page: its address, or its number.
    pub start: u64,
    /// The first page that no thread has taken yet.
    pub next: u64,
    /// The end of the pages.
    pub end: u64,
}

impl Work {
    /// Takes a part of the pages that no thread has taken.
    pub fn take(&mut self) -> Option<Self> {
        let unit = if matches!(self.what, WorkKind::Discard(_)) { PAGE as u64 } else { 1 };
        let next = self.end.min(self.next + PART * unit);
        let part = Self { next, end: next, start: self.next, ..*self };
        self.next = next;
        (part.start < part.end).then_some(part)
    }

    /// Whether the work counts in addresses, and some of them are in a range.
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        matches!(self.what, WorkKind::Discard(_)) && self.start < end as u64 && (start as u64) < self.end
    }
}

/// How many large events have pages left, and who works on them. The works themselves are in the inbox.
#[derive(Default)]
pub struct Backlog {
    left: AtomicU32,
    working: Presence,
}

impl Backlog {
    /// Large events with pages left. Relaxed: a thread that needs the work done looks again until there is none.
    pub fn left(&self) -> u32 {
        self.left.load(Relaxed)
    }

    /// The word that holds [`Backlog::left`], to sleep until it changes.
    pub fn word(&self) -> &AtomicU32 {
        &self.left
    }

    /// Counts a large event. The caller holds the lock of events.
    pub fn add_one(&self) {
        self.left.fetch_add(1, Relaxed);
    }

    /// Counts a large event whose pages are all done. The caller holds the lock of events.
    pub fn remove_one(&self) {
        self.left.fetch_sub(1, Relaxed);
    }

    /// Counts the calling thread as working on a part. It holds the lock of events: a thread that settles work holds
    /// that lock while it waits for this one.
    pub fn begin(&self) -> Present<'_> {
        self.working.enter()
    }

    /// Whether no thread works on a part. Orders nothing.
    pub fn is_idle(&self) -> bool {
        self.working.is_empty()
    }

    /// Waits until no thread works on a part that it took before.
    pub fn wait_until_idle(&self) {
        self.working.wait_for_all();
    }
}
