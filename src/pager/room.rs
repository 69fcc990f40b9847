//! Room for a page that a touch brings to memory: it is charged before the page is claimed, and given back if the page
//! does not come.

use super::account::{Account, Fit, PATIENCE};
use super::core::Core;
use super::counts::add;
use super::evict::Evicted;
use super::immovable::Effort;
use super::region::RegionState;
use crate::sync::{Ordering::Relaxed, Wait};
use crate::zswap::TierAccess;

/// How many pages a touch evicts at once when it must make room itself, if no other thread does.
const FEW: u64 = 8;
/// How many it evicts at once for each processor, at most, if others evict as well: 16 on two processors, [`MANY`] on
/// eight. A batch interrupts the other processors a few times, and so has to be larger where there are more of them.
/// The touch that evicts waits for the whole batch, some 7 us a page.
const PER_PROCESSOR: u64 = 8;
/// How many it evicts at once on however many processors, at most.
const MANY: u64 = 64;
/// The part of the limit that all threads which make room may evict at once.
const SHARE: u64 = 64;
/// Pages that may be in memory besides those that can't leave, whatever the limit is. An instruction needs several
/// pages at once, and would never get through if each one made another leave.
const FLOOR: u64 = 16;

/// The charge of one page that is about to come. Dropping it gives the charge back.
pub struct PageCharge<'a>(&'a Account);

impl PageCharge<'_> {
    /// The page came: it stays charged.
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for PageCharge<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.uncharge(1);
    }
}

impl Core {
    /// Charges a page of a region, and evicts others first if need be. If that is impossible, charges it all the same,
    /// and counts that. The caller has claimed no page: evicting takes its time, and others may wait for a claimed one.
    /// `tiers`: those that the thread may use.
    #[inline]
    pub fn room_for(&self, region: &RegionState, tiers: TierAccess) -> PageCharge<'_> {
        if region.closing.load(Relaxed) {
            // The region is being removed, and its pages are not the pager's any more in a moment.
            self.account.charge_above(1);
            return PageCharge(&self.account);
        }
        match self.account.try_charge(1) {
            Fit::Ample => {}
            Fit::Scarce => self.lending.want_eviction(),
            Fit::Over => self.charge_slowly(tiers),
        }
        PageCharge(&self.account)
    }

    #[cold]
    fn charge_slowly(&self, tiers: TierAccess) {
        add(&self.counters.direct_reclaims, 1);
        self.lending.want_eviction();
        if !self.make_room(tiers) {
            self.account.charge_above(1);
            add(&self.counters.over_limit, 1);
        }
    }

    /// Evicts until there is room for a page, and charges it. Returns false if there is none, because what is in memory
    /// can't leave, or not in time.
    fn make_room(&self, tiers: TierAccess) -> bool {
        let mut effort = self.immovable.bounded_effort();
        let mut wait = Wait::default();
        let patience = self.account.patience();
        let mut fruitless = 0;
        // Other threads may take what this one evicts. That has an end, too.
        for _ in 0..PATIENCE {
            let wanted = self.account.resident() + 1;
            let is_above = wanted > self.account.limit() && wanted <= self.ceiling();
            let is_hopeless = is_above && !self.immovable.may_retry(&effort);
            // Pages of a large event stay charged until they are discarded or dropped.
            if is_hopeless && !self.do_some_work() {
                return false;
            }
            let evicted = self.evict_directly(&mut effort);
            if self.account.try_charge(1) != Fit::Over {
                self.compact_alone();
                return true;
            }
            match evicted {
                Evicted::Pages(_) => {
                    self.account.be_patient();
                    wait = Wait::default();
                }
                Evicted::None | Evicted::Full if self.do_some_work() => wait = Wait::default(),
                Evicted::Full if self.room_on_tiers(tiers) => wait = Wait::default(),
                Evicted::None | Evicted::Full => return false,
                // Others may be waiting for an event that nobody has read.
                Evicted::Busy => {
                    fruitless += 1;
                    if fruitless == patience {
                        break;
                    }
                    self.read_events();
                    wait.a_moment();
                }
            }
        }
        if fruitless == patience {
            self.account.lose_patience(patience);
        }
        false
    }

    /// The most pages that a touch evicts at once, on a machine with this many processors.
    pub fn most_at_once(processors: usize) -> u64 {
        (processors as u64 * PER_PROCESSOR).clamp(FEW, MANY)
    }

    /// Evicts some pages: more if other threads do so as well, because each call that takes pages away interrupts the
    /// processors of all threads.
    fn evict_directly(&self, effort: &mut Effort) -> Evicted {
        let evicting = self.evicting.fetch_add(1, Relaxed) + 1;
        let pages = match evicting {
            1 => FEW,
            _ => (self.account.limit() / SHARE / evicting).clamp(FEW, self.most_at_once),
        };
        let evicted = self.evict_some(pages, effort);
        self.evicting.fetch_sub(1, Relaxed);
        evicted
    }

    /// The most pages that may be in memory before a touch evicts: the limit, or a little more than what can't leave.
    pub fn ceiling(&self) -> u64 {
        self.account.limit().max(self.holds.pages() + self.immovable.pages() + FLOOR)
    }
}
