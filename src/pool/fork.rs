//! Forking while other threads use a pool.
//!
//! Whoever forks keeps all locks of the pool across the fork, in their order, so that the child finds nothing half done
//! that a lock guards. What frees and unmaps do takes no lock and goes on meanwhile. The child gets a part of it at
//! most, for the system copies page by page: an object whose word says that it is freed, but not that its slot is on
//! the list of those to be released, or the other way round. So the child forgets these lists. What was on them, and
//! what threads had in hand that allocated, stays taken there.

use super::Pool;
use crate::error::{Error, Result};
use crate::os;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// How long the locks may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is kept from before a fork until after it.
pub struct Fork {
    /// The number of the thread that forks, 0 for none. Relaxed: only that thread looks for its own number.
    owner: AtomicU64,
    /// The process that prepared it. The lock is kept by the thread that forks.
    process: Lock<i32>,
}

impl Default for Fork {
    fn default() -> Self {
        Self { owner: AtomicU64::new(0), process: Lock::new(Rank::Fork, 0) }
    }
}

const RUNNING: Error = Error::Again(&"a call on the pool did not end within a second, so this is no time to fork");
pub(crate) const PREPARED: Error =
    Error::Busy(&"this thread has prepared a fork already, and has not said that it is done");
pub(crate) const NOT_PREPARED: Error = Error::Invalid(&"this thread has prepared no fork");

/// A fork that [`Pool::prepare_fork`] prepared. While it lives other threads' calls may wait; drop it in the parent and
/// in the child.
#[must_use = "calls of other threads may wait until it is dropped"]
pub struct PoolForking<'a> {
    pool: &'a Pool,
    /// It is the thread's that forks.
    _here: PhantomData<*const ()>,
}

impl Pool {
    /// Makes this a moment to fork, beside threads that use the pool: takes all of its locks, and keeps them while
    /// what this returns lives. Drop that after the fork, in the parent and in the child. The child then has a pool of
    /// its own, and may do anything with it.
    ///
    /// This thread makes no call on the pool in between: it might wait for itself. Where several pools are prepared at
    /// a time, prepare them one after the other, in one order everywhere. In the child, objects that other threads had
    /// mapped stay mapped, and what they were allocating, freeing or offering to the evict callback at that moment
    /// stays taken: a few objects and zspages for each such thread.
    ///
    /// For a pool that children do not get ([`crate::PoolOptions::dont_fork`]) it does nothing.
    ///
    /// # Errors
    /// [`Error::Again`] if the locks were not had within a second: a compaction without a budget may take that long.
    /// [`Error::Busy`] if this thread has prepared a fork of this pool already. [`Error::Forked`] in a child without
    /// the pool. Nothing has changed then.
    pub fn prepare_fork(&self) -> Result<PoolForking<'_>> {
        self.fork_prepare().map(|()| PoolForking { pool: self, _here: PhantomData })
    }

    /// Whether this process can use the pool, as each call asks.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    #[inline]
    pub fn check_usable(&self) -> Result<()> {
        self.check_alive()
    }

    /// Whether forked children get the pool.
    pub(crate) fn is_inherited(&self) -> bool {
        self.guard.is_none()
    }

    /// [`Pool::prepare_fork`] without a guard: [`Pool::fork_done`] ends it. For handlers of `pthread_atfork`, which
    /// can't pass a value from one to the next.
    ///
    /// # Errors
    /// As [`Pool::prepare_fork`].
    pub fn fork_prepare(&self) -> Result<()> {
        self.check_usable()?;
        if !self.is_inherited() {
            return Ok(());
        }
        if self.fork.owner.load(Relaxed) == os::this_thread() {
            return Err(PREPARED);
        }
        self.keep_locks(Instant::now() + PATIENCE).ok_or(RUNNING)?;
        self.fork.owner.store(os::this_thread(), Relaxed);
        Ok(())
    }

    fn keep_locks(&self, until: Instant) -> Option<()> {
        let mut process = self.fork.process.lock_until(until)?;
        let compaction = self.compaction.lock_until(until)?;
        let callback = self.reclaim.callback.lock_until(until)?;
        let victims = self.reclaim.victims.lock_until(until)?;
        for (at, class) in self.classes.iter().enumerate() {
            let Some(state) = class.lock_until(&self.region, until) else {
                self.let_go_of_classes(at, false);
                return None;
            };
            state.keep();
        }
        if !self.region.keep_locks(until) {
            self.let_go_of_classes(self.classes.len(), false);
            return None;
        }
        *process = os::this_process();
        victims.keep();
        callback.keep();
        compaction.keep();
        process.keep();
        Some(())
    }

    /// Lets the locks of the first classes go, which were kept.
    fn let_go_of_classes(&self, count: usize, in_child: bool) {
        // SAFETY: this thread kept them, and lets each go once.
        self.classes[..count].iter().for_each(|class| unsafe { class.let_go(in_child) });
    }

    /// Ends what [`Pool::fork_prepare`] began: lets the locks go, in the parent and in the child.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this thread has prepared no fork.
    pub fn fork_done(&self) -> Result<()> {
        if !self.is_inherited() {
            return Ok(());
        }
        if self.fork.owner.load(Relaxed) != os::this_thread() {
            return Err(NOT_PREPARED);
        }
        self.fork.owner.store(0, Relaxed);
        // SAFETY: this thread prepared the fork, and kept it; the owner was taken off just now, so once.
        let process = unsafe { self.fork.process.resume() };
        let in_child = *process != os::this_process();
        // SAFETY: `keep_locks` kept all of these.
        unsafe {
            self.region.let_go_of_locks(in_child);
            self.let_go_of_classes(self.classes.len(), in_child);
            drop((self.reclaim.victims.resume(), self.reclaim.callback.resume(), self.compaction.resume()));
        }
        drop(process);
        Ok(())
    }
}

impl Drop for PoolForking<'_> {
    fn drop(&mut self) {
        let done = self.pool.fork_done();
        debug_assert!(done.is_ok(), "a fork is done once");
    }
}
