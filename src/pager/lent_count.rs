//! The threads that the program lends to the pager: how many there are, what wakes them, and what gives them back.

use super::options::Duty;
use crate::os;
use crate::os::bell::{Bell, wait, wake_nappers};
use crate::os::userfault::Userfault;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

/// Counts lent threads, and wakes them.
pub struct Lending {
    /// Odd after [`Lending::stop`]. It changes at every stop and resume, so a lent thread that remembers it notices a
    /// stop even if a resume followed at once.
    round: AtomicU64,
    /// Lent threads of every duty.
    lent: AtomicU32,
    /// Lent threads that evict.
    evictors: AtomicU32,
    /// Lent threads that evict, and serve as well.
    evicting_servers: AtomicU32,
    /// 1 while threads that evict in the background are wanted. They sleep on this word.
    evict_wanted: AtomicU32,
    /// Wakes threads that wait for events and touches.
    bell: Bell,
}

/// Counts a thread while it is lent, also if it panics.
pub struct LentThread<'a> {
    lending: &'a Lending,
    duty: Duty,
    round: u64,
}

impl Lending {
    /// No thread is lent.
    pub fn new(bell: Bell) -> Self {
        Self {
            round: AtomicU64::new(0),
            lent: AtomicU32::new(0),
            evictors: AtomicU32::new(0),
            evicting_servers: AtomicU32::new(0),
            evict_wanted: AtomicU32::new(0),
            bell,
        }
    }

    /// Counts the calling thread as lent until the returned guard is dropped.
    pub fn lend(&self, duty: Duty) -> LentThread<'_> {
        let round = self.round.load(Relaxed);
        self.lent.fetch_add(1, Relaxed);
        self.evictors.fetch_add(u32::from(duty != Duty::Serve), Relaxed);
        self.evicting_servers.fetch_add(u32::from(duty == Duty::All), Relaxed);
        LentThread { lending: self, duty, round }
    }

    /// Returns how many threads are lent to the pager.
    pub fn threads(&self) -> u32 {
        // Acquire pairs with the Release in `LentThread::drop`: a thread that is no longer counted has left the pager.
        self.lent.load(Acquire)
    }

    /// Whether a lent thread evicts.
    pub fn has_evictors(&self) -> bool {
        self.evictors.load(Relaxed) > 0
    }

    /// Whether a lent thread serves touches.
    pub fn has_servers(&self) -> bool {
        let evict_alone = self.evictors.load(Relaxed).saturating_sub(self.evicting_servers.load(Relaxed));
        self.lent.load(Relaxed) > evict_alone
    }

    /// Gives all lent threads back, and those that are lent later at once, until [`Lending::resume`].
    pub fn stop(&self) {
        self.round.fetch_or(1, Relaxed);
        self.bell.ring();
        self.evict_wanted.store(1, Relaxed);
        wake_nappers(&self.evict_wanted);
    }

    /// Lets threads be lent again. Does nothing if they may be.
    pub fn resume(&self) {
        let next = |round: u64| (!round.is_multiple_of(2)).then(|| round.wrapping_add(1));
        let _ = self.round.fetch_update(Relaxed, Relaxed, next);
    }

    /// Wakes the threads that evict in the background.
    #[inline]
    pub fn want_eviction(&self) {
        if self.evict_wanted.load(Relaxed) == 0 && self.has_evictors() {
            self.evict_wanted.store(1, Relaxed);
            wake_nappers(&self.evict_wanted);
            if self.evicting_servers.load(Relaxed) > 0 {
                self.bell.ring();
            }
        }
    }

    /// Wakes the threads that serve touches.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Closes the descriptor that wakes threads, in a forked child.
    ///
    /// # Safety
    /// Nobody uses this any more, and it is never dropped.
    pub unsafe fn abandon(&self) {
        // SAFETY: the caller vouches that nobody uses or drops the bell again.
        drop(unsafe { std::ptr::from_ref(&self.bell).read() });
    }

    /// Lets a test start the rounds of stop and resume near their wrap.
    #[cfg(test)]
    pub fn set_round(&self, round: u64) {
        self.round.store(round, Relaxed);
    }

    /// Lent threads that evict, for tests.
    #[cfg(test)]
    pub fn evictors(&self) -> u32 {
        self.evictors.load(Relaxed)
    }
}

impl LentThread<'_> {
    /// Whether no stop was called since the thread was lent.
    pub fn stays(&self) -> bool {
        self.round.is_multiple_of(2) && self.lending.round.load(Relaxed) == self.round
    }

    /// Sleeps until there may be something to do, or for `limit`.
    pub fn sleep(&self, uffd: &Userfault, limit: Duration) {
        if self.duty == Duty::Evict {
            os::nap(&self.lending.evict_wanted, 0, limit);
        } else {
            wait(uffd, &self.lending.bell, limit);
            if self.stays() {
                self.lending.bell.silence();
            }
        }
    }

    /// Notes, before a last look for pages to evict, that eviction is not wanted any more.
    pub fn want_no_eviction(&self) {
        if self.duty != Duty::Serve {
            self.lending.evict_wanted.store(0, Relaxed);
        }
    }
}

impl Drop for LentThread<'_> {
    fn drop(&mut self) {
        self.lending.evicting_servers.fetch_sub(u32::from(self.duty == Duty::All), Relaxed);
        self.lending.evictors.fetch_sub(u32::from(self.duty != Duty::Serve), Relaxed);
        // Release pairs with the Acquire in `Lending::threads`.
        self.lending.lent.fetch_sub(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Os;

    #[test]
    fn a_thread_that_panics_is_no_longer_counted() {
        let lending = Lending::new(Bell::new(&Os::default()).unwrap());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _lent = lending.lend(Duty::All);
            assert_eq!(lending.threads(), 2, "the test asked for it");
        }));
        assert!(panicked.is_err());
        assert!(lending.threads() == 0 && !lending.has_evictors() && !lending.has_servers());
    }
}
