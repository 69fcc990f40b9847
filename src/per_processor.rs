//! Values that one thread at a time may have, one for each processor: a thread takes that of its processor, else any
//! free one, else it waits or goes without.
//!
//! A thread that waits sleeps until a value is given back, or for a millisecond. One that slept in vain a few times
//! goes first: until it has a value, threads that come later wait behind it.
//!
//! Nothing here allocates but [`PerProcessor::new`], and a thread sleeps by a futex alone: a signal handler may take a
//! value and wait for one. Under loom a thread that waits yields, and nobody goes first.

use crate::error::Result;
use crate::heap;
#[cfg(not(loom))]
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::sync::{Lock, Locked, Rank};
use crossbeam_utils::CachePadded;
use std::ops::{Deref, DerefMut};

/// The values, and the threads that wait for one.
pub struct PerProcessor<T> {
    values: Box<[CachePadded<Lock<T>>]>,
    #[cfg(not(loom))]
    waiters: Waiters,
}

/// The threads that wait for a value. Relaxed throughout: these numbers decide which threads sleep and which are woken.
/// The locks of the values hand the values over.
#[cfg(not(loom))]
#[derive(Default)]
struct Waiters {
    /// How many threads sleep, or are about to, and were not woken.
    asleep: AtomicU32,
    /// The waiting threads that go first.
    first: AtomicU32,
    /// How many values were given back while threads waited. They sleep on this word.
    returned: AtomicU32,
}

/// A value that this thread has. Dropping it gives the value back.
pub struct Lease<'a, T> {
    #[cfg(not(loom))]
    waiters: &'a Waiters,
    // Only the pager asks which value it has.
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    index: usize,
    /// Present until the drop.
    value: Option<Locked<'a, T>>,
}

impl<T> PerProcessor<T> {
    /// Makes `count` values, each behind a lock of this rank.
    pub fn new(rank: Rank, count: usize, make: impl Fn() -> Result<T>) -> Result<Self> {
        let values = heap::slice(count, |_| Ok(CachePadded::new(Lock::new(rank, make()?))))?;
        Ok(Self {
            values,
            #[cfg(not(loom))]
            waiters: Waiters::default(),
        })
    }

    /// Returns how many values there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Takes this processor's value, or one that nobody has. If all are taken, takes the next one that is given back.
    #[inline]
    pub fn take(&self) -> Lease<'_, T> {
        self.take_from(crate::os::current_cpu() % self.values.len())
    }

    /// Takes this processor's value, or one that nobody has. Returns none if all are taken.
    #[inline]
    pub fn try_take(&self) -> Option<Lease<'_, T>> {
        self.try_take_from(crate::os::current_cpu() % self.values.len())
    }

    fn lease<'a>(&'a self, index: usize, value: Locked<'a, T>) -> Lease<'a, T> {
        Lease {
            #[cfg(not(loom))]
            waiters: &self.waiters,
            index,
            value: Some(value),
        }
    }

    fn try_take_from(&self, first: usize) -> Option<Lease<'_, T>> {
        let mut order = (first..self.values.len()).chain(0..first);
        order.find_map(|index| Some(self.lease(index, self.values[index].try_lock()?)))
    }
}

#[cfg(loom)]
impl<T> PerProcessor<T> {
    /// Acts on each value in turn.
    pub fn each(&self, mut act: impl FnMut(&mut T)) {
        self.values.iter().for_each(|value| act(&mut value.lock()));
    }

    /// Takes the value at `first`, or one that nobody has. If all are taken, takes the next one that is given back.
    pub fn take_from(&self, first: usize) -> Lease<'_, T> {
        loop {
            if let Some(lease) = self.try_take_from(first) {
                return lease;
            }
            crate::sync::Wait::default().a_moment();
        }
    }
}

#[cfg(not(loom))]
impl<T> PerProcessor<T> {
    /// Sleeps in vain after which a thread goes first.
    const IN_VAIN: u32 = 2;
    /// The longest sleep. A thread that began to wait just after the last look was not woken: it looks by itself.
    const NAP: std::time::Duration = std::time::Duration::from_millis(1);

    /// Takes the value at `first`, or one that nobody has. If all are taken, takes the next one that is given back.
    #[inline]
    pub fn take_from(&self, first: usize) -> Lease<'_, T> {
        self.values[first].check_rank();
        if self.waiters.first.load(Relaxed) == 0
            && let Some(value) = self.values[first].try_lock()
        {
            return self.lease(first, value);
        }
        self.wait_for_any(first)
    }

    /// Acts on each value in turn. The caller goes first at every value, so that threads which take values again and
    /// again do not keep it from any.
    pub fn each(&self, mut act: impl FnMut(&mut T)) {
        (0..self.count()).for_each(|index| act(&mut self.wait_for(index)));
    }

    /// Acts on each value in turn until that fails for one.
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    pub fn try_each(&self, mut act: impl FnMut(&mut T) -> Result<()>) -> Result<()> {
        (0..self.count()).try_for_each(|index| act(&mut self.wait_for(index)))
    }

    /// Takes this very value.
    fn wait_for(&self, index: usize) -> Lease<'_, T> {
        self.values[index].check_rank();
        self.waiters.first.fetch_add(1, Relaxed);
        let value = loop {
            let locked = self.waiters.sleep_unless(Self::NAP, || self.values[index].try_lock());
            if let Some(value) = locked {
                break value;
            }
        };
        self.waiters.first.fetch_sub(1, Relaxed);
        self.lease(index, value)
    }

    #[cold]
    fn wait_for_any(&self, first: usize) -> Lease<'_, T> {
        let waiters = &self.waiters;
        if waiters.first.load(Relaxed) == 0
            && let Some(lease) = self.try_take_from(first)
        {
            return lease;
        }
        let mut slept = 0;
        loop {
            let is_first = slept > Self::IN_VAIN;
            let may_take = || is_first || waiters.first.load(Relaxed) == 0;
            let taken = waiters.sleep_unless(Self::NAP, || may_take().then(|| self.try_take_from(first)).flatten());
            if let Some(lease) = taken {
                waiters.first.fetch_sub(u32::from(is_first), Relaxed);
                return lease;
            }
            slept += 1;
            if slept == Self::IN_VAIN + 1 {
                waiters.first.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(not(loom))]
impl Waiters {
    /// Takes a value as `take` does, or sleeps until one is given back, for at most `limit`.
    fn sleep_unless<V>(&self, limit: std::time::Duration, take: impl FnOnce() -> Option<V>) -> Option<V> {
        self.asleep.fetch_add(1, Relaxed);
        let returned = self.returned.load(Relaxed);
        let taken = take();
        // The thread that wakes this one takes it off the count.
        if taken.is_some() || !crate::os::nap(&self.returned, returned, limit) {
            self.asleep.fetch_sub(1, Relaxed);
        }
        taken
    }

    /// Wakes a thread that sleeps, if any does. Threads that were woken and have not run yet cost no system call.
    #[cold]
    fn wake(&self) {
        self.returned.fetch_add(1, Relaxed);
        // A thread that goes first may sleep behind others.
        let threads = if self.first.load(Relaxed) > 0 { u32::MAX >> 1 } else { 1 };
        self.asleep.fetch_sub(crate::os::wake(&self.returned, threads), Relaxed);
    }
}

impl<T> Lease<'_, T> {
    /// Returns which of the values it is.
    #[inline]
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    pub fn index(&self) -> usize {
        self.index
    }
}

impl<T> Drop for Lease<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.value.take());
        #[cfg(not(loom))]
        if self.waiters.asleep.load(Relaxed) > 0 {
            self.waiters.wake();
        }
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value.as_ref().expect("present until the drop")
    }
}

impl<T> DerefMut for Lease<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("present until the drop")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32 as Count, Ordering::SeqCst};
    use std::thread;

    #[test]
    fn a_value_is_had_by_one_thread_and_the_others_are_free() {
        let values = PerProcessor::new(Rank::Context, 3, || Ok(0)).unwrap();
        assert_eq!(values.count(), 3);
        let first = values.take_from(2);
        let second = values.try_take_from(2).unwrap();
        assert_eq!((first.index(), second.index()), (2, 0));
        let third = values.try_take().unwrap();
        assert_eq!(third.index(), 1);
        assert!(values.try_take().is_none());
        drop(second);
        assert_eq!(values.try_take().unwrap().index(), 0);
    }

    #[test]
    fn threads_that_are_more_than_the_values_wait() {
        let values = PerProcessor::new(Rank::Context, 2, || Ok(0_u32)).unwrap();
        let inside = Count::new(0);
        thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    for _ in 0..500 {
                        let mut value = values.take();
                        assert!(inside.fetch_add(1, SeqCst) < 2);
                        *value += 1;
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        let mut sum = 0;
        values.each(|value| sum += *value);
        assert_eq!(sum, 3000);
    }

    /// A thread that wants each value in turn gets it beside a thread that gives it back and takes it at once.
    #[test]
    fn no_thread_is_kept_from_a_value_by_one_that_takes_it_again_and_again() {
        let values = PerProcessor::new(Rank::Context, 1, || Ok(0)).unwrap();
        for round in 0..20 {
            let held = AtomicBool::new(false);
            let mut times = 0;
            thread::scope(|threads| {
                threads.spawn(|| {
                    while !held.load(SeqCst) {
                        thread::yield_now();
                    }
                    values.each(|value| *value += 1);
                });
                let mut value = values.take();
                held.store(true, SeqCst);
                while values.waiters.asleep.load(Relaxed) == 0 {
                    thread::yield_now();
                }
                while *value == round {
                    drop(value);
                    value = values.take();
                    times += 1;
                }
            });
            // Each time the thread slept three times for a millisecond, while the other one had no processor.
            assert!(times < 100, "it was had {times} times before");
        }
        assert_eq!(*values.take(), 20);
    }
}
