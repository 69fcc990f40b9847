//! Forking while other threads use a pool.
//!
//! The thread that forks keeps all locks of the pool across the fork, in their order. So the child finds nothing half
//! done that a lock guards. Frees and unmaps take no lock and go on meanwhile. The system copies page by page, so the
//! child may get a part of what they do: a word that says that its object is freed, but not that its slot is on the
//! list of slots to release, or the other way round. So the child forgets these lists. What was on them stays taken
//! there, and so does what threads were allocating.

use super::Pool;
use crate::error::{Error, Result, sentence};
use crate::os;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// How long taking all locks may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a pool keeps from before a fork until after it.
pub struct PoolFork {
    /// The number of the thread that forks, or 0. Relaxed, because only that thread looks for its own number.
    owner: AtomicU64,
    /// The process that prepared the fork. The thread that forks keeps the lock.
    process: Lock<i32>,
}

impl Default for PoolFork {
    fn default() -> Self {
        Self { owner: AtomicU64::new(0), process: Lock::new(Rank::Fork, 0) }
    }
}

const RUNNING: Error =
    Error::Again(sentence(&"a call on the pool did not end within a second, so this is no time to fork"));
pub(crate) const PREPARED: Error =
    Error::Busy(sentence(&"this thread has prepared a fork already, and has not said that it is done"));
pub(crate) const NOT_PREPARED: Error = Error::Invalid(sentence(&"this thread has prepared no fork"));

/// A fork that [`Pool::prepare_fork`] prepared. Calls of other threads may wait while it lives. Drop it in the parent
/// and in the child.
#[derive(Debug)]
#[must_use = "calls of other threads may wait until it is dropped"]
pub struct PoolForking<'a> {
    pool: &'a Pool,
    /// Keeps it in the thread that forks.
    _here: PhantomData<*const ()>,
}

impl Pool {
    /// Prepares a fork while other threads use the pool: takes all locks of the pool, and keeps them while the returned
    /// value lives. Drop that value after the fork, in the parent and in the child. The child then has a pool of its
    /// own, and may do anything with it.
    ///
    /// This thread makes no call on the pool in between, because it might wait for itself. To prepare several pools at
    /// a time, prepare them one after the other, in the same order everywhere. In the child, objects that other threads
    /// had mapped stay mapped. What they were allocating, freeing or offering to the evict callback at that moment
    /// stays taken: a few objects and zspages for each such thread.
    ///
    /// Does nothing for a pool that children do not get ([`crate::PoolTuning::dont_fork`]).
    ///
    /// # Errors
    /// [`Error::Again`] if taking the locks took more than a second, as a compaction without a budget may.
    /// [`Error::Busy`] if this thread has prepared a fork of this pool already. [`Error::Forked`] in a child without
    /// the pool. Nothing has changed then.
    pub fn prepare_fork(&self) -> Result<PoolForking<'_>> {
        self.fork_prepare().map(|()| PoolForking { pool: self, _here: PhantomData })
    }

    /// Checks that this process can use the pool, as each call does.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    #[inline]
    pub(crate) fn check_usable(&self) -> Result<()> {
        self.check_alive()
    }

    /// Returns whether forked children get the pool.
    pub(crate) fn is_inherited(&self) -> bool {
        self.guard.is_none()
    }

    /// Prepares a fork as [`Pool::prepare_fork`] does, until [`Pool::fork_done`]. For handlers of `pthread_atfork`,
    /// which can't pass a value from one to the next.
    ///
    /// # Errors
    /// As [`Pool::prepare_fork`].
    pub(crate) fn fork_prepare(&self) -> Result<()> {
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
            let Some(state) = class.lock_until(&self.memory, until) else {
                self.let_go_of_classes(at, false);
                return None;
            };
            state.keep();
        }
        if !self.shelves.keep_locks(until) {
            self.let_go_of_classes(self.classes.len(), false);
            return None;
        }
        if !self.memory.keep_locks(until) {
            // SAFETY: this thread kept them just now, and lets each go once.
            unsafe { self.shelves.let_go_of_locks() };
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

    /// Lets the kept locks of the first `count` classes go.
    fn let_go_of_classes(&self, count: usize, in_child: bool) {
        // SAFETY: this thread kept them, and lets each go once.
        self.classes[..count].iter().for_each(|class| unsafe { class.let_go(in_child) });
    }

    /// Ends a fork that [`Pool::fork_prepare`] prepared: lets the locks go, in the parent and in the child.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this thread has prepared no fork.
    pub(crate) fn fork_done(&self) -> Result<()> {
        if !self.is_inherited() {
            return Ok(());
        }
        if self.fork.owner.load(Relaxed) != os::this_thread() {
            return Err(NOT_PREPARED);
        }
        self.fork.owner.store(0, Relaxed);
        // SAFETY: this thread prepared the fork, and kept the lock. It cleared `owner` just now, so this happens once.
        let process = unsafe { self.fork.process.resume() };
        let in_child = *process != os::this_process();
        // SAFETY: `keep_locks` kept all of these.
        unsafe {
            self.memory.let_go_of_locks(in_child);
            self.shelves.let_go_of_locks();
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
