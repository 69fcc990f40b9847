//! Pages that the system does not let go: locked or pinned ones, ones that are shared with another process, parts of a
//! huge page that can't be split.
//!
//! Trying such a page costs as much as evicting one, and in place it is compressed for nothing. So a page that was
//! tried in vain is marked, and the clock hand passes it by. The pager counts the marked pages, and knows when there is
//! nothing left that could go: then a touch goes above the limit at once.
//!
//! What was immovable may become movable at any time, and nobody tells. So touches that need room, and threads that
//! evict in the background, try some marked pages again every [`RETRY`]. While such pages go, the next attempt follows
//! at once. A call that asks for eviction tries all of them.
//!
//! A mark is set and taken off with the page claimed, and only resident pages that are not held have one.

use super::clock;
use super::core::Core;
use super::extents::Extent;
use super::options::FaultMode;
use super::staging::BLOCK;
use super::word::{Copied, State};
use crate::os::{Advice, errno};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// Nanoseconds between two attempts to evict pages that are marked: that is 25 MiB a second of pages that stay, at less
/// than 1 % of a processor.
const RETRY: u64 = 10_000_000;
/// Pages that one touch finds immovable, at most, before it goes above the limit. Moved: some 0.2 ms.
const FAILURES: u64 = 256;
/// What a page counts that was compressed before it turned out to be immovable.
const IN_PLACE: u64 = 8;
/// Pages that may be in memory besides those that can't leave, whatever the limit is. An instruction needs several
/// pages at once, and would never get through if each one made another leave.
const FLOOR: u64 = 16;
/// Bytes that are taken from KSM together: some 1 ms if all of them were merged.
const UNMERGED: usize = 2 << 20;

/// How much one eviction may spend on pages that do not leave.
pub struct Effort {
    /// Pages that may turn out to be immovable.
    failures: u64,
    /// Marked pages that may be tried again, besides those that it is time for.
    retries: u64,
}

impl Effort {
    /// Of a touch, or a thread that evicts in the background.
    pub fn bounded(core: &Core) -> Self {
        if core.retry_is_due() {
            core.retry_budget.store(BLOCK as u64, Relaxed);
        }
        Self { failures: FAILURES, retries: 0 }
    }

    /// Of a call that asks for eviction: each page is tried once.
    pub fn full(core: &Core) -> Self {
        Self { failures: u64::MAX, retries: core.immovable() }
    }

    /// Whether no more pages are to be tried.
    pub fn is_spent(&self) -> bool {
        self.failures == 0
    }

    /// A page turned out to be immovable.
    pub(super) fn fail(&mut self, in_place: bool) {
        self.failures = self.failures.saturating_sub(if in_place { IN_PLACE } else { 1 });
    }
}

impl Core {
    /// Pages that are marked.
    pub fn immovable(&self) -> u64 {
        self.immovable.load(Relaxed)
    }

    /// Most pages that may be in memory before a touch evicts: the limit, or a little more than what can't leave.
    pub fn ceiling(&self) -> u64 {
        self.limit().max(self.held() + self.immovable() + FLOOR)
    }

    /// Whether it is time to try marked pages again. The caller does so, and nobody else for a while.
    fn retry_is_due(&self) -> bool {
        if self.immovable() == 0 {
            return false;
        }
        let (now, at) = (clock::now(), self.retry_at.load(Relaxed));
        // Relaxed: it decides who does it, and nothing is handed over.
        now >= at && self.retry_at.compare_exchange(at, now + RETRY, Relaxed, Relaxed).is_ok()
    }

    /// Whether a marked page is to be tried again.
    pub fn may_retry(&self, effort: &Effort) -> bool {
        effort.retries > 0 || self.retry_budget.load(Relaxed) > 0
    }

    /// A marked page is being tried again. The caller has the hand, so that nobody else uses the budget.
    pub(super) fn retry(&self, effort: &mut Effort) {
        if effort.retries > 0 {
            effort.retries -= 1;
        } else {
            self.retry_budget.store(self.retry_budget.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// The hand went all the way around, and there were fewer marked pages than may be tried.
    pub(super) fn end_retries(&self, effort: &mut Effort) {
        effort.retries = 0;
        self.retry_budget.store(0, Relaxed);
    }

    /// A marked page went after all: others may go as well, now.
    pub(super) fn retry_at_once(&self) {
        self.retry_at.store(0, Relaxed);
    }

    /// The word of a claimed page that could not leave.
    pub(super) fn marked(&self, was: State) -> State {
        if !was.is_immovable() {
            self.immovable.fetch_add(1, Relaxed);
        }
        was.with_mark(true)
    }

    /// The word of a claimed page without its mark, if it has one.
    pub(super) fn unmarked(&self, was: State) -> State {
        if was.is_immovable() {
            self.immovable.fetch_sub(1, Relaxed);
        }
        was.with_mark(false)
    }

    /// Makes a page movable that the system would not move as it is not this process's alone. False: there is nothing
    /// to do about it.
    #[cold]
    pub(super) fn make_movable(&self, extent: &Extent, at: usize, was: State) -> bool {
        // Merged pages. The flag stays on the range, as it does not pay: what is merged costs the limit a page each.
        let start = (at / UNMERGED * UNMERGED).max(extent.start);
        let end = ((at / UNMERGED + 1) * UNMERGED).min(extent.end);
        let _ = self.os.advise(start as *mut u8, end - start, Advice::Unmergeable);
        if was.copy() == Copied::Clean || self.mode != FaultMode::Sigbus {
            // The next call would fault for the protection; or, if the page went missing, wait for a lent thread, which
            // waits for this thread's claim.
            return true;
        }
        // Pages that are shared with a forked child.
        self.os.advise(at as *mut u8, PAGE, Advice::Unshare).is_ok()
    }
}

/// Whether a refusal says that a page can't leave for now. The others are of a moment: an event has to be read, the
/// page is not there, or the system has no memory.
pub(super) fn is_lasting(refused: i32) -> bool {
    ![errno::EAGAIN, errno::ENOENT, errno::ENOMEM, errno::EINTR].contains(&refused)
}
