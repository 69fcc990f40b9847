//! What a large event left to do: which pages, and how many of them a thread takes at a time.

use crate::units::PAGE;

/// An event of more pages than this is large. Others take effect in one step.
pub const LARGE: u64 = 512;
/// Pages that a thread sees to before it looks what else there is: up to a tenth of a millisecond or two.
pub const PART: u64 = 128;
/// Large events that may wait. When there are so many, further ones take effect in one step.
pub const WORKS: usize = 16;

/// What becomes of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// They read as zero from now on. The work counts in addresses, whose range is shut under this number.
    Discard(usize),
    /// They are unmapped. The work counts in pages of the region that has this place.
    Drop(usize),
}

/// The pages of an event that have to be seen to.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub what: What,
    /// The first of them: an address, or the number of a page.
    pub start: u64,
    /// The first that no thread has taken yet.
    pub next: u64,
    /// Where they end.
    pub end: u64,
}

impl Work {
    /// Takes a part of those that no thread has taken.
    pub fn take(&mut self) -> Option<Self> {
        let unit = if matches!(self.what, What::Discard(_)) { PAGE as u64 } else { 1 };
        let next = self.end.min(self.next + PART * unit);
        let part = Self { next, end: next, start: self.next, ..*self };
        self.next = next;
        (part.start < part.end).then_some(part)
    }

    /// Whether it counts in addresses, and some of them are in a range.
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        matches!(self.what, What::Discard(_)) && self.start < end as u64 && (start as u64) < self.end
    }
}
