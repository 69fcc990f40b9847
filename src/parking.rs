//! Words that threads sleep on until another thread wakes them, and a lock made of such words.
//!
//! A [`Parking`] lock is for what is held across a system call or a walk. A thread that finds it taken spins for a
//! moment, then sleeps, and the thread that lets go wakes one. Letting go of a lock that nobody waits for costs one
//! read-modify-write more than that of a [`RawLock`], which is for what is held for some ten nanoseconds.
//!
//! A thread that was woken may find the lock taken again by a thread that came later. After a few times the lock is
//! handed to it: the holder leaves the lock taken, and lets that thread have it.
//!
//! Nothing here allocates, and a thread sleeps by a futex alone: a signal handler may take such a lock if the thread
//! that it interrupts does not hold it.

use crate::sync::{
    AtomicU32, Lock, Locked,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Raw,
};
use std::ops::Deref;

#[cfg(doc)]
use crate::sync::RawLock;

/// A word that threads sleep on. Under loom the sleep is one on a condition variable, so that loom finds a thread that
/// nobody wakes.
#[derive(Default)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct Futex {
    word: AtomicU32,
    #[cfg(loom)]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Futex {
    /// A word that is 0, for statics.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Sleeps while the word is `expected`, until a thread that has changed it calls [`Futex::wake_one`] or
    /// [`Futex::wake_all`]. May return early for no reason. Orders nothing.
    #[cold]
    pub fn sleep(&self, expected: u32) {
        #[cfg(not(loom))]
        crate::os::sleep(&self.word, expected);
        #[cfg(loom)]
        {
            // The system looks at the word under a lock of its own, which the waking thread takes as well.
            let asleep = self.sleepers.0.lock().unwrap();
            if self.word.load(Relaxed) == expected {
                drop(self.sleepers.1.wait(asleep).unwrap());
            }
        }
    }

    /// Wakes a thread that sleeps, if any does.
    #[cold]
    pub fn wake_one(&self) {
        #[cfg(not(loom))]
        crate::os::wake(&self.word, 1);
        #[cfg(loom)]
        {
            drop(self.sleepers.0.lock().unwrap());
            self.sleepers.1.notify_one();
        }
    }

    /// Wakes all threads that sleep.
    #[cold]
    pub fn wake_all(&self) {
        #[cfg(not(loom))]
        crate::os::wake(&self.word, u32::MAX >> 1);
        #[cfg(loom)]
        {
            drop(self.sleepers.0.lock().unwrap());
            self.sleepers.1.notify_all();
        }
    }
}

impl Deref for Futex {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        &self.word
    }
}

/// Nobody has the lock.
const FREE: u32 = 0;
/// A thread has the lock.
const TAKEN: u32 = 1;
/// A thread has the lock, and others may sleep.
const AWAITED: u32 = 2;

/// How often a thread looks at a lock that is taken before it sleeps: some 2 us in all.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 64 };
/// How often a thread sleeps before the lock is handed to it.
const IN_VAIN: u32 = if cfg!(loom) { 1 } else { 4 };

/// A lock whose waiting threads sleep until they are woken.
#[derive(Default)]
pub struct Parking {
    state: Futex,
    /// 1 while the lock is handed over and the thread that gets it has not taken it yet. The threads that go first
    /// sleep here.
    handed: Futex,
    /// How many threads go first. The holder alone lowers it.
    first: AtomicU32,
}

impl Raw for Parking {
    #[inline]
    fn try_lock(&self) -> bool {
        // Acquire pairs with the Release in `unlock`: this thread sees what the last holder did.
        self.state.compare_exchange(FREE, TAKEN, Acquire, Relaxed).is_ok()
    }

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slowly();
        }
    }

    #[inline]
    fn unlock(&self) {
        // Release pairs with the Acquires in `try_lock` and `take_awaited`.
        if self.state.compare_exchange(TAKEN, FREE, Release, Relaxed).is_err() {
            self.unlock_awaited();
        }
    }
}

impl Parking {
    #[cold]
    fn lock_slowly(&self) {
        for _ in 0..LOOKS {
            if self.state.load(Relaxed) == FREE && self.try_lock() {
                return;
            }
            std::hint::spin_loop();
        }
        for _ in 0..IN_VAIN {
            if self.take_awaited() {
                return;
            }
            self.state.sleep(AWAITED);
        }
        self.go_first();
    }

    /// Takes the lock, which is handed to this thread unless it is free.
    fn go_first(&self) {
        // Relaxed: the Release in `take_awaited` makes it known to the holder.
        self.first.fetch_add(1, Relaxed);
        if !self.take_awaited() {
            // Acquire pairs with the Release in `hand_over`.
            while self.handed.compare_exchange(1, 0, Acquire, Relaxed).is_err() {
                self.handed.sleep(0);
            }
        }
        self.first.fetch_sub(1, Relaxed);
    }

    /// Takes the lock if it is free. In any case its holder, who may be this thread, finds that others may wait.
    fn take_awaited(&self) -> bool {
        // Acquire pairs with the Releases in `unlock` and `unlock_awaited`. Release pairs with the Acquire in
        // `unlock_awaited`: a holder that finds the lock awaited sees that this thread goes first.
        self.state.swap(AWAITED, AcqRel) == FREE
    }

    #[cold]
    fn unlock_awaited(&self) {
        // Relaxed: a thread that this misses is found below.
        while self.first.load(Relaxed) == 0 {
            // Release pairs with the Acquires in `try_lock` and `take_awaited`, Acquire with the Release there.
            self.state.swap(FREE, AcqRel);
            if self.first.load(Relaxed) == 0 {
                self.state.wake_one();
                return;
            }
            // A thread came to go first meanwhile. It sleeps until a holder hands the lock over: this thread, if it
            // gets the lock again, or another one, which finds the lock awaited.
            if !self.take_awaited() {
                return;
            }
        }
        self.hand_over();
    }

    /// Lets a thread that goes first have the lock, which stays taken.
    fn hand_over(&self) {
        // Release pairs with the Acquire in `go_first`.
        self.handed.store(1, Release);
        self.handed.wake_one();
    }
}

/// A lock around a value, for what is held across a system call or a walk.
pub type LongLock<T> = Lock<T, Parking>;
/// The value of a [`LongLock`] that is held.
pub type LongLocked<'a, T> = Locked<'a, T, Parking>;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Rank;
    use std::thread;

    #[test]
    fn many_threads_take_it_in_turn() {
        let lock = LongLock::of(Rank::Hand, 0);
        thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for round in 0..500 {
                        let mut count = lock.lock();
                        *count += 1;
                        if round % 16 == 0 {
                            // Others find it taken, and sleep.
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 4000);
        assert_eq!(lock.raw().first.load(Relaxed), 0);
    }

    /// A thread gets the lock beside one that lets it go and takes it at once.
    #[test]
    fn no_thread_is_kept_from_it_by_one_that_takes_it_again_and_again() {
        let lock = LongLock::of(Rank::Hand, 0);
        for round in 0..20 {
            let mut count = lock.lock();
            thread::scope(|threads| {
                threads.spawn(|| *lock.lock() += 1);
                while lock.raw().state.load(Relaxed) != AWAITED {
                    thread::yield_now();
                }
                // Each time that the other thread finds it taken, it sleeps in vain.
                while *count == round {
                    drop(count);
                    count = lock.lock();
                    thread::yield_now();
                }
                drop(count);
            });
        }
        assert_eq!(*lock.lock(), 20);
    }

    #[test]
    fn a_lock_that_is_handed_over_is_not_free() {
        let lock = LongLock::of(Rank::Hand, ());
        let held = lock.lock();
        thread::scope(|threads| {
            threads.spawn(|| {
                // As a thread that slept in vain.
                lock.raw().go_first();
                assert!(lock.try_lock().is_none());
                lock.raw().unlock();
            });
            while lock.raw().first.load(Relaxed) == 0 {
                thread::yield_now();
            }
            drop(held);
        });
        assert!(lock.try_lock().is_some());
    }
}
