//! What lent threads do, and what a SIGBUS of a touch does.

use super::core::{Core, Evicted};
use super::fault::{FEW_TRIES, Served, TRIES, Want};
use super::immovable::Effort;
use super::options::{Duty, FaultMode};
use crate::os;
use crate::os::bell::{wait, wake_nappers};
use crate::os::sigbus::Touch;
use crate::pool::CompactBudget;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;
use std::time::{Duration, Instant};

/// How long a lent thread sleeps before it looks for itself.
const SLEEP: Duration = Duration::from_millis(100);
/// How long it sleeps while other threads see to what a touch waits for.
const MOMENT: Duration = Duration::from_micros(50);
/// Pages that are written to the backing file once the pool was full.
const WRITE_AHEAD: u64 = 256;
/// Pages that are compressed between two looks at whether the pool is sparse.
const COMPACT_EVERY: u64 = 1024;
/// A pool is sparse that has more memory than its slots and this part of them, and its tables.
const SPARSE: u64 = 32;
/// Bytes of its tables, or some more.
const TABLES: u64 = 1 << 20;
/// What is done about it at once: touches may be waiting for what the thread does next.
const COMPACTION: CompactBudget = CompactBudget { max_bytes_moved: 1 << 20, max_microseconds: 1000 };
/// Pages that are evicted before a thread looks what else there is.
const AT_ONCE: u64 = 32;

/// A lent thread that is counted while this lives, also if it panics.
struct Lent<'a>(&'a Core, Duty);

impl<'a> Lent<'a> {
    fn new(core: &'a Core, duty: Duty) -> Self {
        core.lent.fetch_add(1, Relaxed);
        core.evictors.fetch_add(u32::from(duty != Duty::Serve), Relaxed);
        core.evicting_servers.fetch_add(u32::from(duty == Duty::All), Relaxed);
        Self(core, duty)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.evicting_servers.fetch_sub(u32::from(self.1 == Duty::All), Relaxed);
        self.0.evictors.fetch_sub(u32::from(self.1 != Duty::Serve), Relaxed);
        self.0.lent.fetch_sub(1, Relaxed);
    }
}

impl Core {
    /// What a lent thread does until it is given back.
    pub fn run(&self, duty: Duty) {
        let evicts = duty != Duty::Serve;
        let began = self.lending.load(Relaxed);
        let _lent = Lent::new(self, duty);
        while self.is_lent(began) {
            let served = duty != Duty::Evict && self.serve_waiting();
            let worked = self.do_some_work();
            let evicted = evicts && self.evict_ahead();
            if !served && !worked && !evicted {
                self.rest(duty, began);
            }
        }
        // Nobody may be lent for a while, so what is left is not left to others.
        self.do_all_work();
    }

    /// Whether a thread is still lent that was when `lending` was that.
    fn is_lent(&self, began: u64) -> bool {
        began.is_multiple_of(2) && self.lending.load(Relaxed) == began
    }

    fn rest(&self, duty: Duty, began: u64) {
        if duty != Duty::Serve {
            self.evict_wanted.store(0, Relaxed);
        }
        // Where nothing could be evicted although it was wanted, it soon may be.
        let soon = self.is_low() || self.resident() > self.limit();
        let limit = if duty != Duty::Serve && soon { SLEEP / 50 } else { SLEEP };
        if duty == Duty::Evict {
            os::nap(&self.evict_wanted, 0, limit);
        } else {
            wait(&self.uffd, &self.bell, limit);
            if self.is_lent(began) {
                self.bell.silence();
            }
        }
    }

    /// Whether a thread is lent that serves touches.
    pub fn has_servers(&self) -> bool {
        let evict_alone = self.evictors.load(Relaxed).saturating_sub(self.evicting_servers.load(Relaxed));
        self.lent.load(Relaxed) > evict_alone
    }

    /// Gives lent threads back.
    pub fn stop(&self) {
        self.lending.fetch_or(1, Relaxed);
        self.bell.ring();
        self.evict_wanted.store(1, Relaxed);
        wake_nappers(&self.evict_wanted);
    }

    /// Lets threads be lent again.
    pub fn resume(&self) {
        let next = |lending: u64| (!lending.is_multiple_of(2)).then(|| lending.wrapping_add(1));
        // Err: they may be.
        let _ = self.lending.fetch_update(Relaxed, Relaxed, next);
    }

    /// Whether less is free than should be.
    fn is_low(&self) -> bool {
        // Where what can't leave is above the limit, only a few pages are left to evict, and touches see to them.
        self.resident() + self.reserve() > self.limit() && self.ceiling() == self.limit()
    }

    fn evict_ahead(&self) -> bool {
        let is_above = self.resident() > self.limit();
        let mut effort = Effort::bounded(self);
        let evicts = self.is_low() || is_above && self.may_retry(&effort);
        let pages = AT_ONCE.min(self.reserve());
        let evicted = evicts && matches!(self.evict_some(pages, &mut effort), Evicted::Pages(1..));
        if self.pool_full.load(Relaxed) && self.pool_full.swap(false, Relaxed) {
            // Fewer than were asked for, or none, is what the next store will find out.
            let _ = self.zswap.shrink(WRITE_AHEAD);
        }
        self.compact_if_sparse();
        evicted || self.drop_copies(AT_ONCE, false) > 0
    }

    /// Compacts the pool a little, if it has much more memory than its slots: pages that come back to memory leave
    /// holes, and those that take their places are of other sizes.
    fn compact_if_sparse(&self) {
        let stored = self.counters.stored.load(Relaxed);
        if stored.wrapping_sub(self.compacted_at.load(Relaxed)) < COMPACT_EVERY {
            return;
        }
        self.compacted_at.store(stored, Relaxed);
        let used = self.zswap.used_bytes();
        let pool = self.zswap.pool();
        if pool.total_pages() * PAGE as u64 > used + used / SPARSE + TABLES {
            // None, if another thread is at it.
            let _ = pool.compact(&COMPACTION);
        }
    }

    /// Reads events, and serves a touch that waits. Whether there was one.
    pub fn serve_waiting(&self) -> bool {
        let Some(touch) = self.next_touch() else { return false };
        let page = touch.at & !(PAGE - 1);
        if self.gate.is_shut(page, page + PAGE) && self.wait_again(touch) {
            // Touches of other pages are served in between.
            if !self.do_some_work() {
                os::nap(&self.works, self.works.load(Relaxed), MOMENT);
            }
            return true;
        }
        match self.timed(FEW_TRIES, page, touch.write) {
            Served::Done => {}
            // It was removed meanwhile, or what it takes is refused: who waits touches again, and comes here again.
            Served::Unknown => _ = self.uffd.wake(page, PAGE),
            Served::Failed(_) => _ = self.uffd.wake(page, PAGE),
        }
        true
    }

    /// Serves a touch in the thread that touches, in a signal handler. None: it is not ours, or not any more. False: it
    /// can't be served.
    pub fn serve_signal(&self, touch: Touch) -> Option<bool> {
        debug_assert!(self.mode == FaultMode::Sigbus);
        if self.guard.in_child() {
            // What a child has at this address is its own.
            return None;
        }
        for _ in 0..2 {
            match self.timed(TRIES, touch.at, touch.write) {
                Served::Done => return Some(true),
                // Its event may not have been read yet.
                Served::Unknown => self.read_events(),
                Served::Failed(_) => return Some(false),
            }
        }
        None
    }

    /// Serves a touch, and notes how long every eighth took: looking at a clock twice takes 2 % of it.
    fn timed(&self, tries: u32, at: usize, write: bool) -> Served {
        let want = Want { write, hold: false };
        if !self.counters.faults.load(Relaxed).is_multiple_of(8) {
            return self.serve_within(tries, at, want);
        }
        let start = Instant::now();
        let served = self.serve_within(tries, at, want);
        self.latencies.add(start.elapsed().as_nanos() as u64);
        served
    }
}
