//! The threads that the program lends to the pager: how many there are, what wakes them, and what gives them back.

use super::options::Duty;
use super::serving_threads::{Found, ServingThreads, Sleep};
use super::tier_requests::{TakenRequest, TierRequests};
use crate::os;
use crate::os::event_fd::{EventFd, wait, wake_nappers};
use crate::os::userfault::Userfault;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    Wait,
};
use std::time::{Duration, Instant};

/// Counts lent threads, and wakes them.
pub struct Lending {
    /// Odd after [`Lending::stop`]. It changes at every stop and resume, so a lent thread that remembers it notices a
    /// stop even if a resume followed at once.
    round: AtomicU64,
    /// Lent threads of every duty.
    lent: AtomicU32,
    /// Lent threads that evict.
    evictors: AtomicU32,
    /// Lent threads that serve touches.
    servers: AtomicU32,
    /// Lent threads that evict, and serve as well.
    evicting_servers: AtomicU32,
    /// Lent threads that do nothing but call tiers.
    tier_threads: AtomicU32,
    /// Threads that are going to serve touches, and are not counted yet, because they have not begun. Threads that wait
    /// for one to begin sleep on this word.
    promised: AtomicU32,
    /// Threads that are going to call tiers, and are not counted yet.
    promised_tiers: AtomicU32,
    /// What touches ask of threads that call tiers, and what these sleep on.
    pub requests: TierRequests,
    /// 1 while threads that evict in the background are wanted. They sleep on this word.
    evict_wanted: AtomicU32,
    /// What each of the threads that serve touches does.
    serving: ServingThreads,
    /// 1 while threads that serve touches get into each other's way: one does what it can before another is woken.
    alone: AtomicU32,
    /// Wakes the thread that polls.
    event_fd: EventFd,
}

/// A thread that is counted as lent, and is told to go by a stop after this.
#[derive(Clone, Copy)]
pub struct Ticket {
    duty: Duty,
    round: u64,
}

/// Tells one lent thread to go, and tells others that it went.
#[derive(Default)]
pub struct Leave(AtomicU32);

/// A thread that works.
const STAYS: u32 = 0;
/// A thread that is to go.
const GOES: u32 = 1;
/// A thread that uses the pager no more.
const WENT: u32 = 2;
/// How long to wait for a thread that goes before it is woken again: another thread may have cleared the eventfd.
const A_WAIT: Duration = Duration::from_millis(1);

/// Counts a thread while it is lent, also if it panics.
pub struct LentThread<'a> {
    lending: &'a Lending,
    ticket: Ticket,
    leave: &'a Leave,
}

impl Lending {
    /// No thread is lent.
    pub fn new(event_fd: EventFd) -> Self {
        Self {
            round: AtomicU64::new(0),
            lent: AtomicU32::new(0),
            evictors: AtomicU32::new(0),
            servers: AtomicU32::new(0),
            evicting_servers: AtomicU32::new(0),
            tier_threads: AtomicU32::new(0),
            promised: AtomicU32::new(0),
            promised_tiers: AtomicU32::new(0),
            requests: TierRequests::default(),
            evict_wanted: AtomicU32::new(0),
            serving: ServingThreads::default(),
            alone: AtomicU32::new(0),
            event_fd,
        }
    }

    /// Counts a thread as lent, before it begins or when it does. The ticket goes to [`Lending::at_work`] or to
    /// [`Lending::uncount`].
    pub fn count(&self, duty: Duty) -> Ticket {
        let round = self.round.load(Relaxed);
        self.lent.fetch_add(1, Relaxed);
        self.evictors.fetch_add(u32::from(duty.evicts()), Relaxed);
        self.servers.fetch_add(u32::from(duty.serves()), Relaxed);
        self.evicting_servers.fetch_add(u32::from(duty == Duty::All), Relaxed);
        self.tier_threads.fetch_add(u32::from(duty == Duty::Tiers), Relaxed);
        Ticket { duty, round }
    }

    /// Counts a thread as lent no more.
    pub fn uncount(&self, ticket: Ticket) {
        self.tier_threads.fetch_sub(u32::from(ticket.duty == Duty::Tiers), Relaxed);
        self.evicting_servers.fetch_sub(u32::from(ticket.duty == Duty::All), Relaxed);
        self.servers.fetch_sub(u32::from(ticket.duty.serves()), Relaxed);
        self.evictors.fetch_sub(u32::from(ticket.duty.evicts()), Relaxed);
        if ticket.duty.calls_tiers() {
            // What this thread was woken for is left to the others.
            self.call_for_tiers();
        }
        // Release pairs with the Acquire in `Lending::threads`.
        self.lent.fetch_sub(1, Release);
    }

    /// The calling thread is the one of the ticket until the returned guard is dropped. It goes when it is told to by
    /// [`Lending::stop`], or by [`Lending::tell`] of the same `leave`.
    pub fn at_work<'a>(&'a self, ticket: Ticket, leave: &'a Leave) -> LentThread<'a> {
        if ticket.duty.serves() {
            self.serving.begin();
        }
        LentThread { lending: self, ticket, leave }
    }

    /// Tells the one thread that works with `leave` to go.
    pub fn tell(&self, leave: &Leave) {
        // Relaxed: the thread goes, and reads nothing by this. Fails if the thread has gone.
        let _ = leave.0.compare_exchange(STAYS, GOES, Relaxed, Relaxed);
        self.wake_all();
    }

    /// Waits until the thread that works with `leave`, which was told to go, uses the pager no more.
    pub fn wait_for(&self, leave: &Leave) {
        // Acquire pairs with the Release in `Leave::went`.
        while leave.0.load(Acquire) != WENT {
            self.wake_all();
            os::nap(&leave.0, GOES, A_WAIT);
        }
    }

    /// Wakes all lent threads, so that they look whether they are to go.
    fn wake_all(&self) {
        self.event_fd.signal();
        self.serving.unpark_all();
        self.evict_wanted.store(1, Relaxed);
        wake_nappers(&self.evict_wanted);
        self.requests.ring_all();
    }

    /// Returns how many threads are lent to the pager.
    pub fn threads(&self) -> u32 {
        // Acquire pairs with the Release in `Lending::uncount`: a thread that is no longer counted has left the pager.
        self.lent.load(Acquire)
    }

    /// Whether a lent thread evicts.
    pub fn has_evictors(&self) -> bool {
        self.evictors.load(Relaxed) > 0
    }

    /// Whether a lent thread serves touches.
    pub fn has_servers(&self) -> bool {
        self.servers.load(Relaxed) > 0
    }

    /// Whether a lent thread calls tiers.
    pub fn has_tier_threads(&self) -> bool {
        self.tier_threads.load(Relaxed) + self.evicting_servers.load(Relaxed) > 0
    }

    /// Wakes a thread that calls tiers, if one sleeps: there is something for it to do.
    pub fn call_for_tiers(&self) {
        self.requests.ring();
        self.call_servers_for_tiers();
    }

    /// Wakes the threads that do everything, if only these call tiers.
    pub fn call_servers_for_tiers(&self) {
        if self.tier_threads.load(Relaxed) == 0 && self.evicting_servers.load(Relaxed) > 0 {
            // Of the threads that serve, the one that is woken might not call tiers.
            self.serving.unpark_all();
            self.event_fd.signal();
        }
    }

    /// A thread is going to do this duty, once it begins. [`Lending::end_promise`] is called then.
    pub fn promise(&self, duty: Duty) {
        self.promised.fetch_add(u32::from(duty.serves()), Relaxed);
        self.promised_tiers.fetch_add(u32::from(duty.calls_tiers()), Relaxed);
    }

    /// A thread that was promised is counted now, or will not begin any more.
    pub fn end_promise(&self, duty: Duty) {
        // Release pairs with the Acquire in `Lending::await_server`, which sees the thread counted then.
        self.promised.fetch_sub(u32::from(duty.serves()), Release);
        // Release pairs with the Acquire in `Lending::await_tier_thread`.
        self.promised_tiers.fetch_sub(u32::from(duty.calls_tiers()), Release);
        os::wake(&self.promised, u32::MAX >> 1);
    }

    /// Whether a lent thread calls tiers. If threads are promised that will, or `unpromised`, waits for one to begin,
    /// for `limit` at most.
    pub fn await_tier_thread(&self, limit: Duration, unpromised: bool) -> bool {
        let begin = Instant::now();
        let mut wait = Wait::default();
        loop {
            // Acquire pairs with the Release in `Lending::end_promise`.
            let promised = self.promised_tiers.load(Acquire);
            if self.has_tier_threads() {
                return true;
            }
            if promised == 0 && !unpromised || begin.elapsed() >= limit {
                return false;
            }
            wait.a_moment();
        }
    }

    /// Whether threads are promised that have not begun.
    pub fn is_promised(&self) -> bool {
        self.promised.load(Relaxed) > 0
    }

    /// Whether a lent thread serves touches. If threads are promised that will, waits for one to begin, for `limit` at
    /// most.
    pub fn await_server(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            // Acquire pairs with the Release in `Lending::end_promise`.
            let promised = self.promised.load(Acquire);
            if self.has_servers() {
                return true;
            }
            let left = limit.saturating_sub(begin.elapsed());
            if promised == 0 || left.is_zero() {
                return false;
            }
            os::nap(&self.promised, promised, left);
        }
    }

    /// Gives all lent threads back, and those that are lent later at once, until [`Lending::resume`].
    pub fn stop(&self) {
        self.round.fetch_or(1, Relaxed);
        self.wake_all();
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
            let both = self.evicting_servers.load(Relaxed);
            if self.evictors.load(Relaxed) > both {
                wake_nappers(&self.evict_wanted);
            }
            if both > 0 {
                self.wake_evicting_server(both);
            }
        }
    }

    /// Wakes a thread that evicts and serves. One that is awake looks whether to evict before it sleeps.
    fn wake_evicting_server(&self, evicting: u32) {
        if self.servers.load(Relaxed) > evicting {
            // The one thread that is woken might not evict.
            self.serving.unpark_all();
            self.event_fd.signal();
        } else {
            self.wake_one();
        }
    }

    /// Wakes the thread that polls: no lent thread knows what the caller leaves to them.
    pub fn wake_poller(&self) {
        self.event_fd.signal();
    }

    /// Wakes a thread that serves touches, if one sleeps, because there is more to do than those that are awake can do.
    pub fn wake_one(&self) {
        if !(self.is_alone() && self.serving.awake() > 0) {
            self.wake_one_anyway();
        }
    }

    /// Wakes a thread that serves touches, if one sleeps, because the caller may be busy for long.
    pub fn wake_one_anyway(&self) {
        if self.serving.unpark_one() == Found::Poller {
            self.event_fd.signal();
        }
    }

    /// Calls `act`, which takes long, in a thread that serves touches or in another one. If it serves, and all others
    /// that do sleep, one of them is woken for the touches that come meanwhile.
    pub fn aside<R>(&self, serves: bool, act: impl FnOnce() -> R) -> R {
        let steps = serves && !self.is_alone();
        if steps {
            self.serving.end();
        }
        let result = act();
        if steps {
            self.serving.begin();
        }
        result
    }

    /// Whether a thread that serves touches sleeps and [`Lending::wake_one`] would wake it. A hint.
    pub fn may_wake_one(&self) -> bool {
        !self.is_alone() && self.serving.may_unpark()
    }

    /// Whether one thread serves as long as it can.
    fn is_alone(&self) -> bool {
        // Relaxed: it is a hint.
        self.alone.load(Relaxed) != 0
    }

    /// Whether more threads are awake than should be.
    pub fn is_crowded(&self) -> bool {
        self.is_alone() && self.serving.awake() > 1
    }

    /// Says whether threads that serve touches get into each other's way.
    pub fn set_alone(&self, alone: bool) {
        self.alone.store(u32::from(alone), Relaxed);
    }

    /// Closes the descriptor that wakes threads, in a forked child.
    ///
    /// # Safety
    /// Nobody uses this any more, and it is never dropped.
    pub unsafe fn abandon(&self) {
        // SAFETY: the caller vouches that nobody uses or drops the eventfd again.
        drop(unsafe { std::ptr::from_ref(&self.event_fd).read() });
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

impl Leave {
    /// Whether the thread was told to go.
    pub fn is_told(&self) -> bool {
        // Relaxed: a thread that sees it late is woken again, or looks for itself.
        self.0.load(Relaxed) != STAYS
    }

    /// Notes that the thread uses the pager no more.
    pub fn went(&self) {
        // Release pairs with the Acquire in `Lending::wait_for`.
        self.0.store(WENT, Release);
        os::wake(&self.0, u32::MAX >> 1);
    }
}

impl LentThread<'_> {
    /// Whether nobody has told the thread to go since it was lent.
    pub fn stays(&self) -> bool {
        let round = self.ticket.round;
        !self.leave.is_told() && round.is_multiple_of(2) && self.lending.round.load(Relaxed) == round
    }

    /// What the thread does.
    pub fn duty(&self) -> Duty {
        self.ticket.duty
    }

    /// Takes a request of a touch, if this thread may serve any.
    pub fn take_request(&self) -> Option<TakenRequest<'_>> {
        if self.ticket.duty.calls_tiers() { self.lending.requests.take() } else { None }
    }

    /// Whether a request waits that this thread may serve.
    fn is_asked(&self) -> bool {
        self.ticket.duty == Duty::All && self.lending.requests.any()
    }

    /// Sleeps until there may be something to do, or for `limit`; if others are awake that see to it, for `longest`.
    pub fn sleep(&self, uffd: &Userfault, limit: Duration, longest: Duration) {
        let Lending { serving, event_fd, evict_wanted, .. } = self.lending;
        if self.ticket.duty == Duty::Evict {
            os::nap(evict_wanted, 0, limit);
            return;
        }
        let sleep = serving.begin_sleep();
        // A thread that tells others to leave wakes those that began to sleep before that, and so does one that asks
        // for something.
        if !self.stays() || self.is_asked() {
            return serving.cancel_sleep(sleep);
        }
        match sleep {
            Sleep::Park => serving.park(longest),
            Sleep::Poll => {
                let signalled = wait(uffd, event_fd, limit);
                serving.end_poll();
                if signalled && self.stays() {
                    event_fd.clear();
                }
            }
        }
    }

    /// Makes the thread the one that spins. Returns false if another one spins or polls, and so waits for
    /// touches that come.
    pub fn begin_spin(&self) -> bool {
        self.lending.serving.begin_spin()
    }

    /// Ends what [`LentThread::begin_spin`] began.
    pub fn end_spin(&self) {
        self.lending.serving.end_spin();
    }

    /// Notes, before a last look for pages to evict, that eviction is not wanted any more.
    pub fn want_no_eviction(&self) {
        if self.ticket.duty.evicts() {
            self.lending.evict_wanted.store(0, Relaxed);
        }
    }
}

impl Drop for LentThread<'_> {
    fn drop(&mut self) {
        if self.ticket.duty.serves() {
            self.lending.serving.end();
        }
        self.lending.uncount(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Os;

    #[test]
    fn a_thread_that_panics_is_no_longer_counted() {
        let lending = Lending::new(EventFd::new(&Os::default()).unwrap());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let leave = Leave::default();
            let _lent = lending.at_work(lending.count(Duty::All), &leave);
            assert_eq!(lending.threads(), 2, "the test asked for it");
        }));
        assert!(panicked.is_err());
        assert!(lending.threads() == 0 && !lending.has_evictors() && !lending.has_servers());
    }
}
