//! Which of the threads that serve touches are awake, and which one the system wakes.
//!
//! The system wakes every thread that polls a userfaultfd for each touch, and one is enough. So at most one thread, the
//! sentry, polls. The others sleep until a thread that is awake calls them, one at a time, because it has more than it
//! can do. The last thread that goes to sleep becomes the sentry. So as long as there are such threads, one is awake or
//! polls.
//!
//! A thread that is awake is responsible for all touches that it has read or could read, until it goes to sleep: it
//! looks once more before that. A thread of another kind that leaves work to these threads rings their bell, which the
//! next sentry hears.

use crate::field::Field;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

/// Threads that are awake, also those that were called and have not noticed.
const AWAKE: Field = Field::first(24);
/// Threads that sleep and were not called.
const ASLEEP: Field = AWAKE.then(24);
/// Whether a thread polls.
const SENTRY: Field = ASLEEP.then(1);
/// Whether a thread that is awake looks for touches again and again.
const LOOKOUT: Field = SENTRY.then(1);

/// Counts threads by what they do.
#[derive(Default)]
pub struct Roster {
    word: AtomicU64,
    /// Calls that no thread has followed yet. The sleeping threads sleep on this word.
    calls: AtomicU32,
}

/// How a thread goes to sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Post {
    /// It polls, and then calls [`Roster::rise`].
    Sentry,
    /// It calls [`Roster::sleep`].
    Bed,
}

/// Whom a call reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// A thread that slept, or one that is looking for touches.
    Thread,
    /// Nobody sleeps but the sentry: the caller rings the bell if it matters.
    Sentry,
    /// All are awake.
    Nobody,
}

impl Roster {
    /// Changes the word to what `next` makes of it. Returns what it was, or none if `next` returned none.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        // AcqRel pairs with itself: a thread that goes to sleep after another one looked at the word sees what that one
        // did before, such as telling it to leave.
        self.word.fetch_update(AcqRel, Acquire, next).ok()
    }

    /// Counts the calling thread as awake, when it begins.
    pub fn begin(&self) {
        self.change(|word| Some(AWAKE.set(word, AWAKE.get(word) + 1)));
    }

    /// Counts the calling thread, which is awake, no more: it is gone, or does something else for a while until it
    /// calls [`Roster::begin`]. If nobody else is awake and nobody polls, calls a thread.
    pub fn end(&self) {
        let left = |word| AWAKE.set(word, AWAKE.get(word) - 1);
        let was = self.change(|word| Some(left(word)));
        let now = left(was.unwrap_or_default());
        if AWAKE.get(now) == 0 && SENTRY.get(now) == 0 {
            self.call();
        }
    }

    /// Decides how the calling thread, which is awake, sleeps. It looks afterwards whether it is to leave, and goes to
    /// sleep then.
    pub fn lie_down(&self) -> Post {
        let is_last = |word| AWAKE.get(word) == 1 && SENTRY.get(word) == 0;
        let was = self.change(|word| {
            let next = AWAKE.set(word, AWAKE.get(word) - 1);
            Some(if is_last(word) { SENTRY.set(next, 1) } else { ASLEEP.set(next, ASLEEP.get(word) + 1) })
        });
        if was.is_some_and(is_last) { Post::Sentry } else { Post::Bed }
    }

    /// The sentry is awake.
    pub fn rise(&self) {
        self.change(|word| Some(AWAKE.set(SENTRY.set(word, 0), AWAKE.get(word) + 1)));
    }

    /// Wakes a thread that sleeps, if no thread looks for touches anyway.
    pub fn call(&self) -> Reached {
        // Looks first: most calls find nobody asleep, and change nothing.
        let seen = self.word.load(Relaxed);
        if LOOKOUT.get(seen) == 1 {
            return Reached::Thread;
        }
        if ASLEEP.get(seen) > 0 && self.count_awake() {
            // Release pairs with the Acquire in `follow`: the thread sees what it was called for.
            self.calls.fetch_add(1, Release);
            wake(&self.calls, 1);
            return Reached::Thread;
        }
        if SENTRY.get(seen) == 1 { Reached::Sentry } else { Reached::Nobody }
    }

    /// Wakes all threads that sleep, and not the sentry.
    pub fn call_all(&self) {
        // Adds nothing, but has its place among the changes of the word: a thread that lies down later sees what the
        // caller did before.
        self.word.fetch_add(0, AcqRel);
        while self.count_awake() {
            // Release as in `call`.
            self.calls.fetch_add(1, Release);
            wake(&self.calls, 1);
        }
    }

    /// Whether a thread sleeps that a call would wake, and no thread looks for touches. A hint.
    pub fn may_call(&self) -> bool {
        let word = self.word.load(Relaxed);
        ASLEEP.get(word) > 0 && LOOKOUT.get(word) == 0
    }

    /// How many threads are awake. A hint.
    pub fn awake(&self) -> u64 {
        AWAKE.get(self.word.load(Relaxed))
    }

    /// Counts a thread that sleeps as awake. Returns false if none sleeps.
    fn count_awake(&self) -> bool {
        let up = |word| ASLEEP.set(AWAKE.set(word, AWAKE.get(word) + 1), ASLEEP.get(word) - 1);
        self.change(|word| (ASLEEP.get(word) > 0).then(|| up(word))).is_some()
    }

    /// Follows a call, if there is one that no other thread follows.
    fn follow(&self) -> bool {
        // Acquire pairs with the Release in `call`.
        self.calls.fetch_update(Acquire, Relaxed, |calls| calls.checked_sub(1)).is_ok()
    }

    /// Sleeps until a call, or for `limit`. The thread is awake afterwards.
    #[cfg(not(loom))]
    pub fn sleep(&self, limit: Duration) {
        let begin = Instant::now();
        while !self.follow() {
            let left = limit.saturating_sub(begin.elapsed());
            // If the thread was counted as awake meanwhile, its call is on its way.
            if left.is_zero() && self.count_awake() {
                return;
            }
            crate::os::nap(&self.calls, 0, left.max(Duration::from_micros(10)));
        }
    }

    /// Wakes a thread that went to bed and will not sleep: it has found something to do.
    pub fn stay_up(&self, post: Post) {
        match post {
            Post::Sentry => self.rise(),
            Post::Bed if self.count_awake() => {}
            // It was called, so there is a call to follow, now or in a moment.
            Post::Bed => {
                while !self.follow() {
                    crate::sync::Wait::default().a_moment();
                }
            }
        }
    }

    /// Sleeps until a call.
    #[cfg(loom)]
    pub fn sleep(&self) {
        while !self.follow() {
            loom::thread::yield_now();
        }
    }

    /// Makes the calling thread the one that looks for touches again and again. Returns false if there is one, or if a
    /// thread polls: then that one is enough.
    pub fn look_out(&self) -> bool {
        let is_free = |word| SENTRY.get(word) == 0 && LOOKOUT.get(word) == 0;
        is_free(self.word.load(Relaxed)) && self.change(|word| is_free(word).then(|| LOOKOUT.set(word, 1))).is_some()
    }

    /// The calling thread looks for touches no more.
    pub fn end_look_out(&self) {
        self.change(|word| Some(LOOKOUT.set(word, 0)));
    }

    /// Threads that are awake, and whether one polls, for models.
    #[cfg(loom)]
    pub fn awake_and_sentry(&self) -> (u64, u64) {
        let word = self.word.load(Relaxed);
        (AWAKE.get(word), SENTRY.get(word))
    }
}

/// Wakes threads that sleep on a word.
fn wake(word: &AtomicU32, threads: u32) {
    #[cfg(not(loom))]
    crate::os::wake(word, threads);
    #[cfg(loom)]
    let _ = (word, threads);
}
