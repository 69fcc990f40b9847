//! Limits in bytes of slots, which is the real cost of a page. A page is charged before it is published, so no limit is
//! ever exceeded.
//!
//! Each processor counts in words of its own, so that threads seldom write a word that others write. Without a limit
//! it adds up what comes and takes off what goes. Where there is a limit, all charges are on one word, the common one,
//! and a processor takes room ahead from that: some pages' worth is charged, and waits to be used. Pages that go give
//! their room to their processor.
//!
//! A charge that does not fit takes all room back that was taken ahead, and closes it: from then on every charge is
//! made on the common word, until much is free again. So no page is refused while another processor has room for it.
//!
//! The common word is charged by a compare-and-swap that keeps the sum of it and of all that was counted without a
//! limit within the limit. A thread that counts without a limit looks once more whether one was set meanwhile, and then
//! charges within it. What is charged is the sum of all words, less the room that waits. One by itself may be below 0,
//! and wraps: a page may come on one and go on another.

use crate::error::Result;
use crate::heap;
use crate::sync::{
    AtomicU32, AtomicU64, Lock, Locked,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    Rank, fence,
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
    /// The first one has the common word, and those of the processors follow. They are not in the limit itself: with
    /// cache lines of its own it would be large, and its creation takes several copies of it on the stack.
    parts: Box<[CachePadded<Part>]>,
    /// Held while room is taken ahead or taken back, and while the limit changes.
    ahead: Lock<()>,
    /// 1 from when the limit was met until usage fell to the accept threshold.
    full: AtomicU32,
    accept_percent: u64,
    hits: AtomicU64,
}

/// What a processor counts in.
struct Part {
    /// The bytes of the slots of stored pages that were counted here without a limit. In the first part: what is
    /// charged while there is a limit, what running batches have reserved, and what was taken ahead.
    bytes: AtomicU64,
    /// Bytes that are charged to the common word and wait to be used here, or [`CLOSED`].
    room: AtomicU64,
}

/// What stands for no limit.
const NONE: u64 = u64::MAX;
/// What stands for a processor that takes no room ahead.
const CLOSED: u64 = u64::MAX;
/// How many bytes a processor takes ahead: some forty pages.
const AHEAD: u64 = if cfg!(loom) { 1 } else { 64 << 10 };
/// The most bytes that wait on a processor.
const MOST_AHEAD: u64 = 2 * AHEAD;
/// Room is taken ahead only if as much is left, in the most that the processors may have ahead.
const DISTANCE: u64 = if cfg!(loom) { 0 } else { 2 };

impl Part {
    fn new() -> Self {
        Self { bytes: AtomicU64::new(0), room: AtomicU64::new(CLOSED) }
    }

    /// Uses `bytes` of the room that waits here. False: there is not as much.
    #[inline]
    fn take(&self, bytes: u64) -> bool {
        let mut room = self.room.load(Relaxed);
        while room >= bytes && room != CLOSED {
            // Release pairs with the Acquire of `close`: a batch that is refused sees that this one has begun. Acquire
            // pairs with the Release of `give`.
            match self.room.compare_exchange(room, room - bytes, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => room = now,
            }
        }
        false
    }

    /// Lets `bytes` wait here that are charged to the common word. Returns how many must be taken off that word
    /// instead.
    #[inline]
    fn give(&self, bytes: u64) -> u64 {
        let mut room = self.room.load(Relaxed);
        while room != CLOSED && bytes <= AHEAD {
            let back = if room + bytes > MOST_AHEAD { AHEAD } else { 0 };
            // Release pairs with the Acquires of `take` and `close`: what went from here is seen to have come before.
            match self.room.compare_exchange(room, room + bytes - back, AcqRel, Relaxed) {
                Ok(_) => return back,
                Err(now) => room = now,
            }
        }
        bytes
    }

    /// Adds what was taken ahead, and lets room wait here. The caller holds the lock, so it is not closed meanwhile.
    fn open(&self) {
        // A closed part changes no more, and an open one is changed by others. Release as in `give`.
        if self.room.compare_exchange(CLOSED, AHEAD, AcqRel, Relaxed).is_err() {
            self.room.fetch_add(AHEAD, AcqRel);
        }
    }

    /// Takes all room back, and lets none wait here any more. Returns how many bytes these were.
    fn close(&self) -> u64 {
        // Acquire pairs with the Releases of `take` and `give`. Release: the next change of the common word passes on
        // what was acquired here.
        Some(self.room.swap(CLOSED, AcqRel)).filter(|&room| room != CLOSED).unwrap_or(0)
    }

    /// Returns how many bytes wait here.
    fn waiting(&self) -> u64 {
        Some(self.room.load(Relaxed)).filter(|&room| room != CLOSED).unwrap_or(0)
    }
}

impl ByteLimit {
    /// Makes a limit of `max` bytes, or none. Once met, it refuses until usage has fallen to `accept_percent` of it.
    /// Bytes are counted in `parts` parts.
    pub fn new(max: Option<u64>, accept_percent: u64, parts: usize) -> Result<Self> {
        Ok(Self {
            max: AtomicU64::new(max.unwrap_or(NONE)),
            parts: heap::slice(1 + parts, |_| Ok(CachePadded::new(Part::new())))?,
            ahead: Lock::new(Rank::Limit, ()),
            full: AtomicU32::new(0),
            accept_percent,
            hits: AtomicU64::new(0),
        })
    }

    /// Bytes of memory that the words take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.parts)
    }

    /// Returns the word that is charged while there is a limit.
    #[inline]
    fn common(&self) -> &AtomicU64 {
        &self.parts[0].bytes
    }

    /// Returns what a processor counts in.
    #[inline]
    fn part(&self, part: usize) -> &Part {
        &self.parts[1 + part % (self.parts.len() - 1)]
    }

    /// Returns the most bytes that may be charged, if there is a limit.
    pub fn max(&self) -> Option<u64> {
        let _held = self.ahead.lock();
        Some(self.most()).filter(|&most| most != NONE)
    }

    /// Returns the most bytes that may be charged, or a number that is never reached. It is 0 for a moment while a
    /// limit is set where there was none; not while the lock is held.
    #[inline]
    fn most(&self) -> u64 {
        // Acquire pairs with the Release in `set`.
        self.max.load(Acquire)
    }

    /// Changes the most bytes that may be charged. If more is charged already, the limit refuses until enough has gone.
    pub fn set(&self, max: Option<u64>) {
        let (held, max) = (self.ahead.lock(), max.unwrap_or(NONE));
        if max != NONE && self.most() == NONE {
            // Whoever sees this charges only once the lock is free. The fence pairs with that in `charge`.
            self.max.store(0, Relaxed);
            fence(SeqCst);
        }
        // Release pairs with the Acquire in `most`: who sees the limit sees what was counted without one.
        self.max.store(max, Release);
        // What was taken ahead was within the limit of before.
        self.close(&held);
        drop(held);
        self.full.store(0, Relaxed);
    }

    /// Returns how many bytes are charged. While other threads charge, a moment's sum of several words, never below 0
    /// and never above the limit.
    pub fn used(&self) -> u64 {
        // The room is looked at last: what was taken ahead after the first look makes the sum less, and not more.
        let sum = self.common().load(Acquire).wrapping_add(self.without_limit());
        // No more than 2^63 bytes are ever stored: what looks like more is below 0.
        let sum = if sum > NONE / 2 && self.most() == NONE { 0 } else { sum };
        sum.saturating_sub(self.parts[1..].iter().map(|part| part.waiting()).sum())
    }

    /// Returns the sum of what was counted without a limit, which may wrap.
    pub fn without_limit(&self) -> u64 {
        self.parts[1..].iter().fold(0, |sum, part| sum.wrapping_add(part.bytes.load(Relaxed)))
    }

    /// Returns how many bytes have to go before pages are accepted again; 0: they are accepted. A hint: it is up to
    /// other threads what is charged by the time that it is used.
    pub fn bytes_to_go(&self) -> u64 {
        let max = self.max().unwrap_or(NONE);
        let used = self.used();
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
    pub fn admits(&self, estimate: u64, part: usize) -> bool {
        // Words that other threads write are not looked at if need not be.
        let has_room = || self.most() == NONE || self.part(part).waiting() >= estimate;
        (self.full.load(Relaxed) == 0 && has_room()) || self.admits_by_sum(estimate)
    }

    #[cold]
    fn admits_by_sum(&self, estimate: u64) -> bool {
        let max = self.max().unwrap_or(NONE);
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
        let part = self.part(part);
        if self.most() == NONE {
            part.bytes.fetch_add(bytes, Relaxed);
            // Pairs with the fence in `set`: either this thread sees that there is a limit, or threads that charge
            // within it see what was counted here.
            fence(SeqCst);
            if self.most() == NONE {
                return true;
            }
            part.bytes.fetch_sub(bytes, Relaxed);
        }
        part.take(bytes) || self.charge_common(bytes, part)
    }

    /// Charges the common word, and takes room ahead if there is much.
    #[inline(never)]
    fn charge_common(&self, bytes: u64, part: &Part) -> bool {
        if bytes <= AHEAD
            && let Some(_held) = self.ahead.try_lock()
        {
            // The limit does not change while the lock is held.
            let distance = DISTANCE * MOST_AHEAD * (self.parts.len() as u64 - 1);
            let max = self.most();
            if max != NONE && self.add(bytes + AHEAD, max.saturating_sub(distance)) {
                part.open();
                return true;
            }
        }
        self.add(bytes, self.most()) || self.charge_last(bytes)
    }

    /// Charges the common word after all room that was taken ahead is back.
    #[cold]
    fn charge_last(&self, bytes: u64) -> bool {
        let held = self.ahead.lock();
        self.close(&held);
        self.add(bytes, self.most())
    }

    /// Takes all room back that was taken ahead. None is taken while the lock is held.
    fn close(&self, _held: &Locked<'_, ()>) {
        let back = self.parts[1..].iter().map(|part| part.close()).sum();
        // Release as in `uncharge`.
        self.common().fetch_sub(back, Release);
    }

    /// Adds `bytes` to the common word, if the sum of that and of all parts is within `max` then.
    #[inline]
    fn add(&self, bytes: u64, max: u64) -> bool {
        // Acquire and the Release below pair with each other: a batch that is refused sees that the batches which hold
        // what it lacks have begun. Acquire pairs with the Release in `uncharge` as well.
        let mut used = self.common().load(Acquire);
        loop {
            let total = used.wrapping_add(self.without_limit());
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
        let part = self.part(part);
        if self.most() == NONE {
            part.bytes.fetch_sub(bytes, Relaxed);
            return;
        }
        let back = part.give(bytes);
        if back > 0 {
            // Release pairs with the Acquire in `add`.
            self.common().fetch_sub(back, Release);
        }
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
        if !self.zswap.admits(estimate, self.part) {
            return Err(OverLimit::Zswap);
        }
        if self.area.admits(estimate, self.part) { Ok(()) } else { Err(OverLimit::Area) }
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
