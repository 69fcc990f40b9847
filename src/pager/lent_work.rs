//! What a lent thread does: serves touches, works on large events, evicts before touches have to, and keeps the pool
//! compact.

use super::core::Core;
use super::evict::Evicted;
use super::fault::{FEW_TRIES, FaultOutcome};
use super::forget::LOOKS;
use super::inbox::PendingTouch;
use super::lent_count::LentThread;
use super::options::Duty;
use super::spin::Spin;
use crate::os;
use crate::os::userfault::{Event, Message};
use crate::units::PAGE;
use crate::zswap::TierAccess;
use std::time::{Duration, Instant};

/// How long a lent thread sleeps before it looks for itself.
const SLEEP: Duration = Duration::from_millis(100);
/// How long a lent thread sleeps while others work on what a touch waits for.
const MOMENT: Duration = Duration::from_micros(50);
/// Pages that are written to the backing file after the pool was full.
const WRITE_AHEAD: u64 = 256;
/// Pages that are evicted before a thread looks what else there is.
const AT_ONCE: u64 = 64;

impl Core {
    /// Works for the pager until the thread is told to go.
    pub fn work(&self, lent: &LentThread<'_>) {
        let duty = lent.duty();
        if duty == Duty::Tiers {
            return self.work_for_tiers(lent);
        }
        let (serves, evicts) = (duty.serves(), duty.evicts());
        let mut spin = Spin::default();
        let mut faults = 0;
        while lent.stays() {
            let answered = self.serve_request(lent);
            let seen = std::mem::replace(&mut faults, self.counters.faults());
            if serves && self.lending.is_crowded() && seen != faults {
                // Another thread gets on with it.
                lent.sleep(&self.uffd, SLEEP, SLEEP);
                continue;
            }
            let served = serves && self.serve_waiting();
            spin.has_served |= served;
            let worked = self.do_some_work();
            let evicted = evicts && self.evict_ahead(duty);
            if !answered && !served && !worked && !evicted && !self.spin_for_touches(lent, &mut spin) {
                self.rest(lent, evicts);
            }
        }
        // No thread may be lent for a while, so this one finishes what is left.
        self.do_all_work();
    }

    fn rest(&self, lent: &LentThread<'_>, evicts: bool) {
        lent.want_no_eviction();
        // If nothing could be evicted although it was wanted, that may change soon.
        let soon = self.is_low() || self.account.is_above();
        let (began, limit) = (Instant::now(), if evicts && soon { SLEEP / 50 } else { SLEEP });
        lent.sleep(&self.uffd, limit, SLEEP);
        if began.elapsed() >= limit {
            // Nothing woke the thread: there is time to look for stale copies everywhere.
            self.kept.allow_looks(LOOKS);
        }
    }

    /// Whether less room is free than background eviction keeps.
    fn is_low(&self) -> bool {
        // If what can't leave is above the limit, only a few pages are left to evict, and touches evict those.
        let is_short = self.account.resident() + self.account.reserve() > self.account.limit();
        is_short && self.ceiling() == self.account.limit()
    }

    /// Evicts a few pages if room is low, and does what the pool needs. Returns whether anything left memory.
    fn evict_ahead(&self, duty: Duty) -> bool {
        let is_above = self.account.is_above();
        let mut effort = self.immovable.bounded_effort();
        let evicts = self.is_low() || is_above && self.immovable.may_retry(&effort);
        let pages = AT_ONCE.min(self.account.reserve());
        let mut evict = || matches!(self.evict_some(pages, &mut effort), Evicted::Pages(1..));
        let evicted = evicts && self.lending.aside(duty == Duty::All, &mut evict);
        self.write_ahead(duty);
        self.compact_if_sparse();
        evicted || self.drop_stale_copies(AT_ONCE) > 0
    }

    /// Writes pages back if the pool was full. Returns whether it was.
    pub(super) fn write_ahead(&self, duty: Duty) -> bool {
        let access = if duty.calls_tiers() { TierAccess::All } else { self.access() };
        let was_full = self.upkeep.take_full() | (duty.calls_tiers() && self.upkeep.take_wanted_tiers());
        if was_full {
            self.lending.wake_one_anyway();
            // If this frees too little, the next store will report it.
            let _ = self.zswap.shrink_with(WRITE_AHEAD, access);
        }
        was_full
    }

    /// Looks for touches again and again before the thread sleeps, for as long as that paid lately. Returns whether
    /// there is one.
    fn spin_for_touches(&self, lent: &LentThread<'_>, spin: &mut Spin) -> bool {
        if !spin.begins() || !lent.begin_spin() {
            return false;
        }
        let found = spin.watch(|| self.events.has_touches() || self.uffd.has_events());
        lent.end_spin();
        found
    }

    /// Reads a touch without the gate, and wakes another thread if there are more. None: there may be events, or
    /// touches that were read before. Some of none: there is no touch.
    fn read_freely(&self) -> Option<Option<PendingTouch>> {
        let reader = if self.events.has_touches() { None } else { self.reading.enter() }?;
        let mut message = [Message::NONE];
        let count = self.uffd.read(&mut message).unwrap_or(0);
        drop(reader);
        match message[0].event() {
            _ if count == 0 => Some(None),
            Event::Fault { at, write, .. } => {
                if self.lending.may_wake_one() && self.uffd.has_events() {
                    self.lending.wake_one();
                }
                Some(Some(PendingTouch { at, write }))
            }
            // It is of memory whose owner promised that there are none, or of a kind that is not known.
            event => {
                let mut inbox = self.events.lock();
                self.take_effect(event, &mut inbox, &self.gate.close());
                Some(None)
            }
        }
    }

    /// Reads events, and serves a touch that waits. Returns whether there was one.
    pub fn serve_waiting(&self) -> bool {
        let Some(touch) = self.read_freely().unwrap_or_else(|| self.next_touch()) else { return false };
        let page = touch.at & !(PAGE - 1);
        if self.gate.is_shut(page, page + PAGE) && self.wait_again(touch) {
            // Touches of other pages are served in between.
            if !self.do_some_work() {
                os::nap(self.backlog.word(), self.backlog.left(), MOMENT);
            }
            return true;
        }
        match self.serve_timed(FEW_TRIES, page, touch.write) {
            FaultOutcome::Done => {}
            // The page was removed meanwhile, or the system refuses a call that serving the touch needs. The woken
            // thread touches again, and its touch comes here again.
            FaultOutcome::Unknown | FaultOutcome::Failed(_) => _ = self.uffd.wake(page, PAGE),
        }
        true
    }
}
