//! Pages that the system does not let go: locked or pinned ones, ones that are shared with another process, parts of a
//! huge page that can't be split.
//!
//! Trying such a page costs as much as evicting one, and in place it is compressed for nothing. So a page that was
//! tried in vain is marked, and the clock hand passes it by. The pager counts the marked pages, and so knows when
//! nothing is left that could leave: then a touch goes above the limit at once.
//!
//! An immovable page may become movable at any time, and nobody tells the pager. So touches that need room, and threads
//! that evict in the background, try some marked pages again every [`RETRY`]. While such pages leave, the next attempt
//! follows at once. A call that asks for eviction tries all of them.
//!
//! A mark is set and removed with the page claimed. Only resident pages that are not held have one.

use super::staging::BLOCK;
use super::state::PageState;
use super::time;
use crate::os::errno;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds between two attempts to evict marked pages. That is 25 MiB a second of pages that stay, at less than 1 %
/// of a processor.
const RETRY: u64 = 10_000_000;
/// Pages that one touch may find immovable before it goes above the limit. By moving, that takes some 0.2 ms. As many
/// marked pages may stay when it tries them again. They do not count as found: otherwise a touch that finds them due
/// would evict nothing else, and touches that come as slowly as that would all go above the limit.
const FAILURES: u64 = 256;
/// What a page counts in an [`Effort`] if it was compressed before it turned out to be immovable.
const IN_PLACE: u64 = 8;

/// How many pages are marked, and when they are tried again.
#[derive(Default)]
pub struct Immovable {
    /// Marked pages.
    pages: AtomicU64,
    /// When some are tried again, in nanoseconds of the pager's clock.
    retry_at: AtomicU64,
    /// How many may be tried until then.
    budget: AtomicU64,
}

/// How much one eviction may spend on pages that do not leave.
pub struct Effort {
    /// Pages that may turn out to be immovable.
    failures: u64,
    /// Marked pages that may turn out to be immovable still.
    failed_retries: u64,
    /// Marked pages that may be tried again, besides those that are due.
    retries: u64,
}

impl Effort {
    /// Whether no more pages are tried.
    pub fn is_spent(&self) -> bool {
        self.failures == 0
    }

    /// Counts a page that turned out to be immovable. `retried`: it had the mark.
    pub fn fail(&mut self, in_place: bool, retried: bool) {
        let left = if retried { &mut self.failed_retries } else { &mut self.failures };
        *left = left.saturating_sub(if in_place { IN_PLACE } else { 1 });
    }
}

impl Immovable {
    /// Marked pages. Relaxed, here and below: a count orders nothing, and the state words have the marks.
    pub fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    /// The effort of a touch, or of a thread that evicts in the background.
    pub fn bounded_effort(&self) -> Effort {
        if self.retry_is_due() {
            self.budget.store(BLOCK as u64, Relaxed);
        }
        Effort { failures: FAILURES, failed_retries: FAILURES, retries: 0 }
    }

    /// The effort of a call that asks for eviction: each page is tried once.
    pub fn full_effort(&self) -> Effort {
        Effort { failures: u64::MAX, failed_retries: u64::MAX, retries: self.pages() }
    }

    /// Whether it is time to try marked pages again. The caller does so, and nobody else for a while.
    fn retry_is_due(&self) -> bool {
        if self.pages() == 0 {
            return false;
        }
        let (now, at) = (time::now(), self.retry_at.load(Relaxed));
        // Relaxed: it decides which thread tries, and hands nothing over.
        now >= at && self.retry_at.compare_exchange(at, now + RETRY, Relaxed, Relaxed).is_ok()
    }

    /// Whether a marked page may be tried again.
    pub fn may_retry(&self, effort: &Effort) -> bool {
        effort.retries > 0 || effort.failed_retries > 0 && self.budget.load(Relaxed) > 0
    }

    /// Pays for a marked page that is tried again.
    pub fn retry(&self, effort: &mut Effort) {
        if effort.retries > 0 {
            effort.retries -= 1;
        } else {
            let _ = self.budget.fetch_update(Relaxed, Relaxed, |budget| budget.checked_sub(1));
        }
    }

    /// Ends the retries after the hand went all the way around. It met fewer marked pages than may be tried, unless the
    /// effort was used up before. Then the rest of the budget is left for other threads.
    pub fn end_retries(&self, effort: &mut Effort) {
        effort.retries = 0;
        if effort.failed_retries > 0 {
            self.budget.store(0, Relaxed);
        }
    }

    /// Makes the next attempt due now, because a marked page left after all and others may as well.
    pub fn retry_at_once(&self) {
        self.retry_at.store(0, Relaxed);
    }

    /// Marks a claimed page that could not leave, and counts it. Returns its new state.
    pub fn marked(&self, was: PageState) -> PageState {
        if !was.is_immovable() {
            self.pages.fetch_add(1, Relaxed);
        }
        was.with_mark(true)
    }

    /// Removes the mark of a claimed page, if it has one. Returns its new state.
    pub fn unmarked(&self, was: PageState) -> PageState {
        if was.is_immovable() {
            self.pages.fetch_sub(1, Relaxed);
        }
        was.with_mark(false)
    }
}

/// Whether a refusal says that a page can't leave for now. The others pass in a moment: an event has to be read, the
/// page is not there, or the system has no memory.
pub fn is_lasting(refused: i32) -> bool {
    ![errno::EAGAIN, errno::ENOENT, errno::ENOMEM, errno::EINTR].contains(&refused)
}
