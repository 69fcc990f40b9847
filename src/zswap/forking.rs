//! The calls by which a program forks beside threads that use a zswap.

use super::create::Zswap;
use crate::error::Result;
use std::marker::PhantomData;

/// A fork that [`Zswap::prepare_fork`] prepared. While it lives other threads' calls wait; drop it in the parent and in
/// the child.
#[must_use = "calls of other threads wait until it is dropped"]
pub struct Forking<'a> {
    zswap: &'a Zswap,
    /// It is the thread's that forks.
    _here: PhantomData<*const ()>,
}

impl Zswap {
    /// Makes this the moment to fork, beside threads that use the zswap: waits until no call runs, and lets none begin
    /// while what it returns lives. Drop that after the fork, in the parent and in the child. The child then has a
    /// zswap of its own with all areas and pages, and may do anything with it.
    ///
    /// This thread makes no call on the zswap or its areas in between, nor drops an area: it would wait for itself.
    /// Where several zswaps are prepared at a time, prepare them one after the other, in one order everywhere. Claims
    /// that are held are the parent's: in the child they have ended, and their pages are kept. With a backing file only
    /// one of the processes may go on with the zswap, for they share the file.
    ///
    /// For a zswap that children do not get ([`crate::PoolOptions::dont_fork`]) it does nothing.
    ///
    /// # Errors
    /// [`crate::Error::Again`] if a call did not end within a second: it may be in a callback, wait for a claim, or
    /// wait for a page of its caller's memory that another call would bring. [`crate::Error::Busy`] in a callback, or
    /// if this thread has prepared a fork of this zswap already. [`crate::Error::NoMemory`] if there is none for the
    /// list of areas. [`crate::Error::Forked`] in a child without the pool. Nothing has changed then.
    pub fn prepare_fork(&self) -> Result<Forking<'_>> {
        self.fork_prepare().map(|()| Forking { zswap: self, _here: PhantomData })
    }

    /// [`Zswap::prepare_fork`] without a guard: [`Zswap::fork_done`] ends it. For handlers of `pthread_atfork`, which
    /// can't pass a value from one to the next.
    ///
    /// # Errors
    /// As [`Zswap::prepare_fork`].
    pub fn fork_prepare(&self) -> Result<()> {
        self.0.prepare_fork()
    }

    /// Ends what [`Zswap::fork_prepare`] began: lets calls begin again, in the parent and in the child.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if this thread has prepared no fork.
    pub fn fork_done(&self) -> Result<()> {
        self.0.end_fork()
    }
}

impl Drop for Forking<'_> {
    fn drop(&mut self) {
        let done = self.zswap.fork_done();
        debug_assert!(done.is_ok(), "a fork is done once");
    }
}
