//! Forking while other threads use a zswap: no call runs at that moment, so the child's copy is a whole one.
//!
//! Calls are counted by the parts of an area's statistics ([`super::stats::Shards`]), and those on no area in
//! particular by one more. Whoever forks lets no call begin, waits until those that run have ended, and keeps the locks
//! of these parts across the fork: so no other thread is anywhere in the zswap, and none waits with a lock taken.
//! Claims that callers hold go on in the parent. In the child, where nobody might end them, they are ended.

use super::area::{Area, AreaState};
use super::shared::Shared;
use super::waiting::in_callback;
use super::walk::Walk;
use crate::error::{Error, Result};
use crate::heap;
use crate::os;
use crate::pool::fork::{NOT_PREPARED, PREPARED};
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank, Wait};
use std::time::{Duration, Instant};

/// How long calls that run may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is kept from before a fork until after it.
pub struct Fork {
    /// The number of the thread that forks, 0 for none. Relaxed: only that thread looks for its own number.
    owner: AtomicU64,
    /// The lock is kept by the thread that forks.
    before: Lock<Before>,
}

/// What there was before a fork.
#[derive(Default)]
struct Before {
    process: i32,
    areas: Vec<Area>,
}

impl Default for Fork {
    fn default() -> Self {
        Self { owner: AtomicU64::new(0), before: Lock::new(Rank::Fork, Before::default()) }
    }
}

const RUNNING: Error = Error::Again(&"a call on the zswap did not end within a second, so this is no time to fork");
const IN_CALLBACK: Error =
    Error::Busy(&"a fork can't be prepared in a callback, whose own call would have to end first");

/// Keeps the locks of an area's parts once no call but held claims runs. False: calls did not end in time.
fn keep_when_idle(idle: impl Fn() -> bool, until: Instant) -> bool {
    let mut wait = Wait::default();
    while !idle() {
        if Instant::now() >= until {
            return false;
        }
        wait.a_moment();
    }
    true
}

impl Shared {
    /// What [`crate::Zswap::prepare_fork`] does.
    pub(super) fn prepare_fork(&self) -> Result<()> {
        self.pool.check_usable()?;
        if !self.pool.is_inherited() {
            return Ok(());
        }
        if in_callback() {
            return Err(IN_CALLBACK);
        }
        if self.fork.owner.load(Relaxed) == os::this_thread() {
            return Err(PREPARED);
        }
        let until = Instant::now() + PATIENCE;
        let mut before = self.fork.before.lock_until(until).ok_or(RUNNING)?;
        self.calls.close();
        if !keep_when_idle(|| self.calls.keep_if_running(0), until) {
            self.calls.open();
            return Err(RUNNING);
        }
        // No area comes or goes from here on.
        let there = match self.list_areas() {
            Ok(there) => there,
            Err(error) => {
                // SAFETY: they were kept above.
                unsafe { self.calls.open_kept() };
                return Err(error);
            }
        };
        there.iter().for_each(|area| area.0.shards.close());
        let idle = |area: &AreaState| self.claims.while_held(area.id, |claims| area.shards.keep_if_running(claims));
        let busy = there.iter().position(|area| !keep_when_idle(|| idle(&area.0), until));
        if let Some(busy) = busy {
            there[busy..].iter().for_each(|area| area.0.shards.open());
            // SAFETY: those before it were kept just now.
            there[..busy].iter().for_each(|area| unsafe { area.0.shards.open_kept() });
            // SAFETY: these were kept above.
            unsafe { self.calls.open_kept() };
            return Err(RUNNING);
        }
        *before = Before { process: os::this_process(), areas: there };
        before.keep();
        self.fork.owner.store(os::this_thread(), Relaxed);
        Ok(())
    }

    fn list_areas(&self) -> Result<Vec<Area>> {
        let mut there = heap::with_capacity(self.areas.lock().list.len())?;
        let mut listed = Ok(());
        // One may have been added since.
        Walk::new(self).each(|area, _| {
            if listed.is_ok() {
                listed = heap::push(&mut there, area.clone());
            }
        });
        listed.map(|()| there)
    }

    /// What dropping a [`crate::Forking`] does.
    pub(super) fn end_fork(&self) -> Result<()> {
        if !self.pool.is_inherited() {
            return Ok(());
        }
        if self.fork.owner.load(Relaxed) != os::this_thread() {
            return Err(NOT_PREPARED);
        }
        self.fork.owner.store(0, Relaxed);
        // SAFETY: this thread prepared the fork, and kept it; the owner was taken off just now, so once.
        let mut kept = unsafe { self.fork.before.resume() };
        let Before { process, areas } = std::mem::take(&mut *kept);
        // SAFETY: `prepare_fork` kept the parts of all of them.
        areas.iter().for_each(|area| unsafe { area.0.shards.open_kept() });
        // SAFETY: as above.
        unsafe { self.calls.open_kept() };
        drop(kept);
        if process != os::this_process() {
            areas.iter().for_each(|area| area.0.end_claims());
        }
        // Last of all: an area whose owners are gone meanwhile goes with this.
        drop(areas);
        Ok(())
    }
}
