//! What each of the threads that serve touches does: it is awake, it is parked, or it polls.
//!
//! The system wakes every thread that polls a userfaultfd for each touch, and one is enough. So at most one thread, the
//! poller, polls. The others are parked: each sleeps until a thread that is awake unparks it, because there is more to
//! do than the awake threads can do. The last thread that goes to sleep becomes the poller. So as long as there are
//! such threads, one is awake or polls.
//!
//! A thread that is awake is responsible for all touches that it has read or could read, until it goes to sleep: it
//! looks once more before that. A thread of another kind that leaves work to these threads signals an eventfd, which
//! the poller polls too.

use crate::field::Field;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// Threads that are awake, also those that were unparked and have not noticed.
const AWAKE: Field = Field::first(24);
/// Threads that are parked and were not unparked.
const PARKED: Field = AWAKE.then(24);
/// Whether a thread polls.
const POLLER: Field = PARKED.then(1);
/// Whether a thread that is awake spins: it looks for touches again and again.
const SPINNER: Field = POLLER.then(1);

/// Counts the threads that serve touches by what they do.
#[derive(Default)]
pub struct ServingThreads {
    word: AtomicU64,
    /// One for each thread that was unparked and has not noticed. Parked threads sleep on this word.
    tokens: AtomicU32,
}

/// How a thread sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// The thread polls, and calls [`ServingThreads::end_poll`] afterwards.
    Poll,
    /// The thread sleeps in [`ServingThreads::park`].
    Park,
}

/// Which thread [`ServingThreads::unpark_one`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// One that was parked, or one that spins.
    Thread,
    /// Only the poller sleeps. The caller signals its eventfd if it has to wake.
    Poller,
    /// All threads are awake.
    AllAwake,
}

impl ServingThreads {
    /// Changes the word to what `next` makes of it. Returns what it was, or none if `next` returned none.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        // AcqRel pairs with itself: a thread that goes to sleep after another one looked at the word sees what that one
        // did before, such as telling it to leave.
        self.word.fetch_update(AcqRel, Acquire, next).ok()
    }

    /// Counts the calling thread as awake, when it begins to serve.
    pub fn begin(&self) {
        self.change(|word| Some(AWAKE.set(word, AWAKE.get(word) + 1)));
    }

    /// Counts the calling thread, which is awake, no more: it is gone, or does something else for a while until it
    /// calls [`ServingThreads::begin`]. If no other thread is awake or polls, unparks one.
    pub fn end(&self) {
        let left = |word| AWAKE.set(word, AWAKE.get(word) - 1);
        let was = self.change(|word| Some(left(word)));
        let now = left(was.unwrap_or_default());
        if AWAKE.get(now) == 0 && POLLER.get(now) == 0 {
            self.unpark_one();
        }
    }

    /// Counts the calling thread, which is awake, as one that sleeps, and returns how it is to sleep. Before it does,
    /// it looks whether it is to leave: then it calls [`ServingThreads::cancel_sleep`] instead.
    pub fn begin_sleep(&self) -> Sleep {
        let is_last = |word| AWAKE.get(word) == 1 && POLLER.get(word) == 0;
        let was = self.change(|word| {
            let next = AWAKE.set(word, AWAKE.get(word) - 1);
            Some(if is_last(word) { POLLER.set(next, 1) } else { PARKED.set(next, PARKED.get(word) + 1) })
        });
        if was.is_some_and(is_last) { Sleep::Poll } else { Sleep::Park }
    }

    /// Counts the poller as awake.
    pub fn end_poll(&self) {
        self.change(|word| Some(AWAKE.set(POLLER.set(word, 0), AWAKE.get(word) + 1)));
    }

    /// Unparks a thread, if one is parked and none spins.
    pub fn unpark_one(&self) -> Found {
        // Looks first: most calls find no thread parked, and change nothing.
        let seen = self.word.load(Relaxed);
        if SPINNER.get(seen) == 1 {
            return Found::Thread;
        }
        if PARKED.get(seen) > 0 && self.count_unparked() {
            self.give_token();
            return Found::Thread;
        }
        if POLLER.get(seen) == 1 { Found::Poller } else { Found::AllAwake }
    }

    /// Unparks all threads that are parked. The poller sleeps on.
    pub fn unpark_all(&self) {
        // Adds nothing, but has its place among the changes of the word: a thread that begins to sleep later sees what
        // the caller did before.
        self.word.fetch_add(0, AcqRel);
        while self.count_unparked() {
            self.give_token();
        }
    }

    /// Whether a thread is parked that [`ServingThreads::unpark_one`] would unpark. A hint.
    pub fn may_unpark(&self) -> bool {
        let word = self.word.load(Relaxed);
        PARKED.get(word) > 0 && SPINNER.get(word) == 0
    }

    /// How many threads are awake. A hint.
    pub fn awake(&self) -> u64 {
        AWAKE.get(self.word.load(Relaxed))
    }

    /// Counts a parked thread as awake. Returns false if none is parked.
    fn count_unparked(&self) -> bool {
        let up = |word| PARKED.set(AWAKE.set(word, AWAKE.get(word) + 1), PARKED.get(word) - 1);
        self.change(|word| (PARKED.get(word) > 0).then(|| up(word))).is_some()
    }

    /// Wakes a parked thread that was counted as awake.
    fn give_token(&self) {
        // Release pairs with the Acquire in `take_token`: the thread sees what it was unparked for.
        self.tokens.fetch_add(1, Release);
        #[cfg(not(loom))]
        crate::os::wake(&self.tokens, 1);
    }

    /// Takes a token, if there is one.
    fn take_token(&self) -> bool {
        // Acquire pairs with the Release in `give_token`.
        self.tokens.fetch_update(Acquire, Relaxed, |tokens| tokens.checked_sub(1)).is_ok()
    }

    /// Sleeps until another thread unparks this one, or for `limit`. The calling thread is awake afterwards.
    #[cfg(not(loom))]
    pub fn park(&self, limit: Duration) {
        let begin = Instant::now();
        while !self.take_token() {
            let left = limit.saturating_sub(begin.elapsed());
            // If all parked threads were counted as awake meanwhile, a token for this one is on its way.
            if left.is_zero() && self.count_unparked() {
                return;
            }
            crate::os::nap(&self.tokens, 0, left.max(Duration::from_micros(10)));
        }
    }

    /// Sleeps until another thread unparks this one.
    #[cfg(loom)]
    pub fn park(&self) {
        while !self.take_token() {
            loom::thread::yield_now();
        }
    }

    /// Counts the calling thread as awake again, if it began to sleep and finds that it must not.
    pub fn cancel_sleep(&self, sleep: Sleep) {
        match sleep {
            Sleep::Poll => self.end_poll(),
            Sleep::Park if self.count_unparked() => {}
            // All parked threads were counted as awake, so a token for this one is there, or will be in a moment.
            Sleep::Park => {
                while !self.take_token() {
                    crate::sync::Wait::default().a_moment();
                }
            }
        }
    }

    /// Makes the calling thread the one that spins. Returns false if there is one, or if a thread polls: one that
    /// waits for the next touch is enough.
    pub fn begin_spin(&self) -> bool {
        let is_free = |word| POLLER.get(word) == 0 && SPINNER.get(word) == 0;
        is_free(self.word.load(Relaxed)) && self.change(|word| is_free(word).then(|| SPINNER.set(word, 1))).is_some()
    }

    /// The calling thread spins no more.
    pub fn end_spin(&self) {
        self.change(|word| Some(SPINNER.set(word, 0)));
    }

    /// Threads that are awake, and whether one polls, for models.
    #[cfg(loom)]
    pub fn awake_and_poller(&self) -> (u64, u64) {
        let word = self.word.load(Relaxed);
        (AWAKE.get(word), POLLER.get(word))
    }
}
