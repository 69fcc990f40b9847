//! The calls that run on an area or on a zswap, and the counts that they change.
//!
//! Both are spread over shards, one for a few processors, each behind a lock. A call counts itself in the shard that it
//! begins in, and holds that lock while it changes a page word and the counts with it. A thread that holds all locks at
//! once therefore sees counts that agree with the words and with each other, and knows whether any call runs: this is
//! how statistics are read, how an area is removed, and how a fork finds its moment.

use super::patience::in_callback;
use super::stats::Counts;
use crate::error::Result;
use crate::heap;
use crate::os::current_cpu;
use crate::sync::{Lock, Locked, Rank, Wait};
use crossbeam_utils::CachePadded;

/// Most shards of an area.
pub const MAX_SHARDS: usize = 16;

/// One processor's part of the counts and of the running calls.
#[derive(Default)]
pub struct Shard {
    pub counts: Counts,
    /// Calls and claims that began here and have not ended.
    running: u64,
    gate: CallGate,
}

/// Whether calls may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum CallGate {
    /// Calls may begin.
    #[default]
    Open,
    /// Calls wait until a thread has forked. Running calls go on, and so do the calls that these make.
    Closed,
    /// No call begins any more: the area was removed.
    Removed,
}

impl Shard {
    fn turn(&mut self, from: CallGate, to: CallGate) {
        if self.gate == from {
            self.gate = to;
        }
    }
}

/// A call that is running. Dropping it ends the call. Its area can't be removed meanwhile.
pub struct RunningCall<'a> {
    shards: &'a Shards,
    shard: usize,
}

impl<'a> RunningCall<'a> {
    /// Locks the shard that the call began in.
    #[inline]
    pub fn lock(&self) -> Locked<'_, Shard> {
        self.shards.0[self.shard].lock()
    }

    /// Changes the counts of the shard.
    #[inline]
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// Leaves the call running. Returns its shard, from which [`RunningCall::resume`] makes it again.
    pub fn into_shard(self) -> usize {
        let shard = self.shard;
        std::mem::forget(self);
        shard
    }

    /// Makes the running call from what [`RunningCall::into_shard`] returned. Call it once for each.
    pub fn resume(shards: &'a Shards, shard: usize) -> Self {
        Self { shards, shard }
    }
}

impl Drop for RunningCall<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock().running -= 1;
    }
}

/// The shards of an area, or of a zswap for the calls on no area in particular.
pub struct Shards(Box<[CachePadded<Lock<Shard>>]>);

impl Shards {
    /// Makes `count` shards.
    pub fn new(count: usize) -> Result<Self> {
        let shard = |_| Ok(CachePadded::new(Lock::new(Rank::Shard, Shard::default())));
        heap::slice(count, shard).map(Self)
    }

    /// Bytes of memory that the shards take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Begins a call, or returns none if the area was removed.
    #[inline]
    pub fn begin(&self) -> Option<RunningCall<'_>> {
        let at = current_cpu() % self.0.len();
        let mut shard = self.0[at].lock();
        shard.running += 1;
        if shard.gate != CallGate::Open {
            shard.running -= 1;
            drop(shard);
            return self.begin_at_gate(at, false);
        }
        Some(RunningCall { shards: self, shard: at })
    }

    /// Begins a call within another one, or one that ends a claim. It does not wait for a fork, which waits for it.
    pub fn begin_within(&self) -> Option<RunningCall<'_>> {
        self.begin_at_gate(current_cpu() % self.0.len(), true)
    }

    #[cold]
    fn begin_at_gate(&self, at: usize, within: bool) -> Option<RunningCall<'_>> {
        let mut wait = Wait::default();
        loop {
            let mut shard = self.0[at].lock();
            match shard.gate {
                CallGate::Removed => return None,
                CallGate::Closed if !within && !in_callback() => {}
                CallGate::Open | CallGate::Closed => {
                    shard.running += 1;
                    return Some(RunningCall { shards: self, shard: at });
                }
            }
            drop(shard);
            wait.a_moment();
        }
    }

    /// Locks all shards. Every thread that holds several shards takes them in this order, and those of several areas in
    /// the order of the areas' list. So no two threads wait for each other.
    pub fn lock_all(&self) -> AllShards<'_> {
        self.0.iter().for_each(|shard| shard.lock_another().keep());
        AllShards(self)
    }

    /// Makes the guard again that [`AllShards::keep`] gave up.
    ///
    /// # Safety
    /// [`AllShards::keep`] was called for these shards by this thread, or by the one that forked this process, and this
    /// is called once for that.
    pub unsafe fn resume_all(&self) -> AllShards<'_> {
        AllShards(self)
    }

    /// Returns the counts of all shards at one moment.
    pub fn counts(&self) -> Counts {
        self.lock_all().counts()
    }

    /// Removes the area if no call runs; no call begins after this. False: calls run, or the area was removed before.
    pub fn remove(&self) -> bool {
        let mut all = self.lock_all();
        let mut idle = true;
        all.each(|shard| idle &= shard.running == 0 && shard.gate != CallGate::Removed);
        if idle {
            all.each(|shard| shard.gate = CallGate::Removed);
        }
        idle
    }

    /// Lets no call begin until [`Shards::open`], except calls made by running ones.
    pub fn close(&self) {
        self.0.iter().for_each(|shard| shard.lock().turn(CallGate::Open, CallGate::Closed));
    }

    /// Lets calls begin again.
    pub fn open(&self) {
        self.0.iter().for_each(|shard| shard.lock().turn(CallGate::Closed, CallGate::Open));
    }

    /// Locks all shards and keeps them locked if exactly `calls` calls and claims run.
    pub fn keep_if_running(&self, calls: u64) -> bool {
        let mut all = self.lock_all();
        let mut running = 0;
        all.each(|shard| running += shard.running);
        if running == calls {
            all.keep();
        }
        running == calls
    }
}

/// All shards of an area or of a zswap, locked. Dropping it lets go of the locks.
pub struct AllShards<'a>(&'a Shards);

impl AllShards<'_> {
    fn each(&mut self, mut act: impl FnMut(&mut Shard)) {
        for shard in &self.0.0 {
            // SAFETY: each shard was locked when this guard was made, and is kept locked here.
            let mut held = unsafe { shard.resume() };
            act(&mut held);
            held.keep();
        }
    }

    /// Returns the sum of the counts of all shards.
    pub fn counts(&mut self) -> Counts {
        let mut sum = Counts::default();
        self.each(|shard| sum.add(&shard.counts));
        sum
    }

    /// Lets calls begin again that [`Shards::close`] made wait.
    pub fn open(mut self) {
        self.each(|shard| shard.turn(CallGate::Closed, CallGate::Open));
    }

    /// Leaves the shards locked. [`Shards::resume_all`] makes the guard again.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for AllShards<'_> {
    fn drop(&mut self) {
        // SAFETY: each shard was locked when this guard was made, and the guard is gone after this.
        self.0.0.iter().for_each(|shard| drop(unsafe { shard.resume() }));
    }
}
