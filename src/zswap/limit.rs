//! Limits in bytes of slots, which is the real cost of a page. A page is charged before it is published, so no limit is
//! ever exceeded.
//!
//! Where there is no limit, each processor counts in a part of its own, so that threads share no word that they write.
//! Where there is one, all charges are made on one word, by a compare-and-swap that keeps the sum of it and of all
//! parts within the limit. The parts only change then by threads that have not seen yet that there is a limit. What is
//! charged is the sum of all words. One by itself may be below 0, and wraps: a page may come on one and go on another.

use crate::error::Result;
use crate::heap;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crossbeam_utils::CachePadded;

/// Which limit refused a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverLimit {
    /// That of the zswap.
    Zswap,
    /// That of the area.
    Area,
}

/// A limit, and how many bytes are charged to it.
pub struct ByteLimit {
    max: AtomicU64,
    /// Together, the bytes of the slots of stored pages, and what running batches have reserved. The first word is the
    /// one for charges while there is a limit, and the parts follow. They are not in the limit itself: with cache lines
    /// of its own it would be large, and its creation takes several copies of it on the stack.
    words: Box<[CachePadded<AtomicU64>]>,
    /// 1 from when the limit was met until usage fell to the accept threshold.
    full: AtomicU32,
    accept_percent: u64,
    hits: AtomicU64,
}

/// What stands for no limit.
const NONE: u64 = u64::MAX;

impl ByteLimit {
    /// Makes a limit of `max` bytes, or none. Once met, it refuses until usage has fallen to `accept_percent` of it.
    /// Without a limit, bytes are counted in `parts` parts.
    pub fn new(max: Option<u64>, accept_percent: u64, parts: usize) -> Result<Self> {
        Ok(Self {
            max: AtomicU64::new(max.unwrap_or(NONE)),
            words: heap::slice(1 + parts, |_| Ok(CachePadded::new(AtomicU64::new(0))))?,
            full: AtomicU32::new(0),
            accept_percent,
            hits: AtomicU64::new(0),
        })
    }

    /// Bytes of memory that the words take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Returns the word that is charged while there is a limit.
    #[inline]
    fn common(&self) -> &AtomicU64 {
        &self.words[0]
    }

    /// Returns the word that a processor charges while there is no limit.
    #[inline]
    fn part(&self, part: usize) -> &AtomicU64 {
        &self.words[1 + part % (self.words.len() - 1)]
    }

    /// Returns the most bytes that may be charged, if there is a limit.
    pub fn max(&self) -> Option<u64> {
        Some(self.most()).filter(|&most| most != NONE)
    }

    /// Returns the most bytes that may be charged, or a number that is never reached.
    #[inline]
    fn most(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Changes the most bytes that may be charged. If more is charged already, the limit refuses until enough has gone.
    pub fn set(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(NONE), Relaxed);
        self.full.store(0, Relaxed);
    }

    /// Returns how many bytes are charged. While other threads charge, a moment's sum of several words, never below 0.
    pub fn used(&self) -> u64 {
        let used = self.common().load(Relaxed).wrapping_add(self.of_parts());
        // No more than 2^63 bytes are ever stored: what looks like more is below 0.
        if used > NONE / 2 && self.most() == NONE { 0 } else { used }
    }

    /// Returns the sum of the parts, which may wrap.
    fn of_parts(&self) -> u64 {
        self.words[1..].iter().fold(0, |sum, part| sum.wrapping_add(part.load(Relaxed)))
    }

    /// Returns how many bytes have to go before pages are accepted again; 0: they are accepted. A hint: it is up to
    /// other threads what is charged by the time that it is used.
    pub fn bytes_to_go(&self) -> u64 {
        let (used, max) = (self.used(), self.most());
        // A limit that was lowered below what is charged is not marked as met before it refuses the first page.
        let refuses = self.full.load(Relaxed) != 0 || used >= max;
        if refuses { used.saturating_sub(Self::percent(max, self.accept_percent)) } else { 0 }
    }

    /// Returns how often the limit was met.
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// Whether pages that are expected to take `estimate` bytes may be tried. Charges nothing.
    #[inline]
    pub fn admits(&self, estimate: u64) -> bool {
        let max = self.most();
        if max == NONE && self.full.load(Relaxed) == 0 {
            // Words that other threads write are not looked at.
            return true;
        }
        let used = self.used();
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

    /// Charges `bytes` if they fit. Without a limit, to this part.
    #[inline]
    pub fn charge(&self, bytes: u64, part: usize) -> bool {
        let max = self.most();
        if max == NONE {
            self.part(part).fetch_add(bytes, Relaxed);
            return true;
        }
        // Acquire pairs with the Release in `uncharge`. The parts are looked at after that: whatever was taken off this
        // word is seen to have come on a part before. Acquire and the Release below also pair with each other: a batch
        // that is refused sees that the batches which hold what it lacks have begun.
        let mut used = self.common().load(Acquire);
        loop {
            let total = used.wrapping_add(self.of_parts());
            if total.checked_add(bytes).is_none_or(|total| total > max) {
                return false;
            }
            match self.common().compare_exchange(used, used.wrapping_add(bytes), AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
    }

    /// Takes a charge back. Without a limit, from this part.
    #[inline]
    pub fn uncharge(&self, bytes: u64, part: usize) {
        if self.most() == NONE {
            self.part(part).fetch_sub(bytes, Relaxed);
            return;
        }
        // Release pairs with the Acquire in `charge`.
        self.common().fetch_sub(bytes, Release);
    }

    /// Notes that a page of `page_bytes` did not fit. The limit then refuses until usage falls to the threshold.
    #[cold]
    fn meet(&self, page_bytes: u64) {
        self.hits.fetch_add(1, Relaxed);
        if self.used().saturating_add(page_bytes) > self.most() {
            self.full.store(1, Relaxed);
        }
    }
}

/// The two limits that each page of an area is charged to.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    pub zswap: &'a ByteLimit,
    pub area: &'a ByteLimit,
    /// The part of this processor.
    pub part: usize,
}

impl<'a> Limits<'a> {
    /// Refuses pages that are not expected to fit. Charges nothing.
    #[inline]
    pub fn admit(self, estimate: u64) -> Result<(), OverLimit> {
        if !self.zswap.admits(estimate) {
            return Err(OverLimit::Zswap);
        }
        if self.area.admits(estimate) { Ok(()) } else { Err(OverLimit::Area) }
    }

    /// Charges both limits, or neither.
    #[inline]
    pub fn charge(self, bytes: u64) -> Result<Charged<'a>, OverLimit> {
        if !self.zswap.charge(bytes, self.part) {
            return Err(OverLimit::Zswap);
        }
        if !self.area.charge(bytes, self.part) {
            self.zswap.uncharge(bytes, self.part);
            return Err(OverLimit::Area);
        }
        Ok(Charged { limits: self, bytes })
    }

    /// Takes a charge back from both limits.
    #[inline]
    pub fn uncharge(self, bytes: u64) {
        self.zswap.uncharge(bytes, self.part);
        self.area.uncharge(bytes, self.part);
    }

    /// Notes that a limit refused a page of `page_bytes`.
    #[cold]
    pub fn meet(self, refused: OverLimit, page_bytes: u64) {
        match refused {
            OverLimit::Zswap => self.zswap.meet(page_bytes),
            OverLimit::Area => self.area.meet(page_bytes),
        }
    }
}

/// Bytes that are charged to both limits. Dropping it takes the charge back.
#[must_use = "dropping it takes the charge back"]
pub struct Charged<'a> {
    limits: Limits<'a>,
    bytes: u64,
}

impl Charged<'_> {
    /// Keeps the charge: a page that is stored takes these bytes now. [`Limits::uncharge`] takes them back when the
    /// page goes.
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Returns how many bytes are charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds another charge to this one.
    pub fn join(&mut self, other: Self) {
        self.bytes += other.bytes;
        other.keep();
    }

    /// Takes the charge back but for `bytes` of it.
    pub fn shrink_to(&mut self, bytes: u64) {
        self.limits.uncharge(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for Charged<'_> {
    #[inline]
    fn drop(&mut self) {
        self.limits.uncharge(self.bytes);
    }
}
