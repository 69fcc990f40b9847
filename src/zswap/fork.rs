//! Forking while other threads use a zswap: no call runs at that moment, so the child's copy is a whole one.
//!
//! Calls are counted by shards ([`super::running_calls::Shards`]), those on no area in particular as well. The thread
//! that forks lets no call begin, waits until those that run have ended, and keeps the locks of all shards across the
//! fork. So no other thread is anywhere in the zswap, and none waits while it holds a lock. The claims that callers
//! hold go on in the parent. In the child, where no thread might end them, they are ended.

use super::area::{Area, AreaState};
use super::patience::in_callback;
use super::shared::Shared;
use super::walk::Walk;
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::os;
use crate::pool::fork::{NOT_PREPARED, PREPARED};
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank, Wait};
use std::time::{Duration, Instant};

/// How long running calls may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The fork of a zswap that a thread prepares.
pub struct ForkState {
    /// The number of the thread that forks, 0 for none. Relaxed: a thread only looks for its own number.
    owner: AtomicU64,
    /// The thread that forks keeps this lock.
    before: Lock<Before>,
}

/// What is kept from before the fork until after it.
#[derive(Default)]
struct Before {
    process: i32,
    areas: Vec<Area>,
}

impl Default for ForkState {
    fn default() -> Self {
        Self { owner: AtomicU64::new(0), before: Lock::new(Rank::Fork, Before::default()) }
    }
}

const RUNNING: Error =
    Error::Again(sentence(&"a call on the zswap did not end within a second, so this is no time to fork"));
const IN_CALLBACK: Error =
    Error::Busy(sentence(&"a fork can't be prepared in a callback, whose own call would have to end first"));

/// Waits until `idle` has kept the locks of the shards, because no call runs. False: calls did not end in time.
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

impl ForkState {
    /// Does what [`crate::Zswap::prepare_fork`] says.
    pub(super) fn prepare(&self, shared: &Shared) -> Result<()> {
        shared.pool.check_usable()?;
        if !shared.pool.is_inherited() {
            return Ok(());
        }
        if in_callback() {
            return Err(IN_CALLBACK);
        }
        if self.owner.load(Relaxed) == os::this_thread() {
            return Err(PREPARED);
        }
        let until = Instant::now() + PATIENCE;
        let mut before = self.before.lock_until(until).ok_or(RUNNING)?;
        shared.calls.close();
        if !keep_when_idle(|| shared.calls.keep_if_running(0), until) {
            shared.calls.open();
            return Err(RUNNING);
        }
        // SAFETY: the shards were kept above, and this is done once.
        let open_calls = || unsafe { shared.calls.resume_all() }.open();
        // No area comes or goes from here on.
        let there = list_areas(shared).inspect_err(|_| open_calls())?;
        there.iter().for_each(|area| area.0.shards.close());
        let idle = |area: &AreaState| shared.claims.while_held(area.id, |claims| area.shards.keep_if_running(claims));
        let busy = there.iter().position(|area| !keep_when_idle(|| idle(&area.0), until));
        if let Some(busy) = busy {
            there[busy..].iter().for_each(|area| area.0.shards.open());
            // SAFETY: the shards of the areas before the busy one were kept just now.
            there[..busy].iter().for_each(|area| unsafe { area.0.shards.resume_all() }.open());
            open_calls();
            return Err(RUNNING);
        }
        *before = Before { process: os::this_process(), areas: there };
        before.keep();
        self.owner.store(os::this_thread(), Relaxed);
        Ok(())
    }

    /// Does what dropping a [`crate::Forking`] says.
    pub(super) fn end(&self, shared: &Shared) -> Result<()> {
        if !shared.pool.is_inherited() {
            return Ok(());
        }
        if self.owner.load(Relaxed) != os::this_thread() {
            return Err(NOT_PREPARED);
        }
        self.owner.store(0, Relaxed);
        // SAFETY: this thread prepared the fork and kept the lock. It was the owner until just now, so this is done
        // once.
        let mut kept = unsafe { self.before.resume() };
        let Before { process, areas } = std::mem::take(&mut *kept);
        // SAFETY: `prepare` kept the shards of all areas.
        areas.iter().for_each(|area| unsafe { area.0.shards.resume_all() }.open());
        // SAFETY: `prepare` kept these shards.
        unsafe { shared.calls.resume_all() }.open();
        drop(kept);
        if process != os::this_process() {
            areas.iter().for_each(|area| area.0.end_claims());
        }
        // Last: an area whose owners have dropped their handles meanwhile goes with this.
        drop(areas);
        Ok(())
    }
}

fn list_areas(shared: &Shared) -> Result<Vec<Area>> {
    let mut there = heap::with_capacity(shared.areas.lock().list.len())?;
    let mut listed = Ok(());
    // An area may have been added since.
    Walk::new(shared).each(|area, _| {
        if listed.is_ok() {
            listed = heap::push(&mut there, area.clone());
        }
    });
    listed.map(|()| there)
}
