//! The calls with which a program forks while other threads use a zswap.

use super::plumbing;
use super::zswap::Zswap;
use crate::error::Result;
use std::fmt;
use std::marker::PhantomData;

/// A fork that [`Zswap::prepare_fork`] prepared. While it lives, calls of other threads wait. Drop it in the parent and
/// in the child.
#[must_use = "calls of other threads wait until it is dropped"]
pub struct Forking<'a> {
    zswap: &'a Zswap,
    /// Not `Send`: it stays in the thread that forks.
    _here: PhantomData<*const ()>,
}

impl Zswap {
    /// Prepares a fork while other threads use the zswap: waits until no call runs, and lets none begin while the value
    /// that it returns lives. Drop that value after the fork, in the parent and in the child. The child then has a
    /// zswap of its own with all areas and pages, and may do anything with it.
    ///
    /// In between, this thread must not call the zswap or its areas, nor drop an area or a claim: it would wait for
    /// itself. If several zswaps are prepared, prepare them one after the other, in the same order everywhere. Claims
    /// that are held are the parent's: in the child they have ended, and their pages are kept. With a backing file only
    /// one of the processes may go on with the zswap, because they share the file.
    ///
    /// Does nothing for a zswap that children do not get ([`crate::PoolTuning::dont_fork`]).
    ///
    /// # Errors
    /// [`crate::Error::Again`] if a call did not end within a second: it may be in a callback, wait for a claim, or
    /// wait for a page of its caller's memory that another call would bring. [`crate::Error::Busy`] in a callback, or
    /// if this thread has prepared a fork of this zswap already. [`crate::Error::NoMemory`] if there is no memory for
    /// the list of areas. [`crate::Error::Forked`] in a child without the pool. Nothing has changed then.
    pub fn prepare_fork(&self) -> Result<Forking<'_>> {
        plumbing::fork_prepare(self).map(|()| Forking { zswap: self, _here: PhantomData })
    }
}

impl fmt::Debug for Forking<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Forking").field("zswap", &self.zswap.name()).finish_non_exhaustive()
    }
}

impl Drop for Forking<'_> {
    fn drop(&mut self) {
        let done = plumbing::fork_done(self.zswap);
        debug_assert!(done.is_ok(), "a fork is done once");
    }
}
