//! What a pager consists of, and its account of resident pages.

use super::clock;
use super::counts::{Counters, add};
use super::events::Inbox;
use super::evict::Hand;
use super::extents::Extents;
use super::gate::{Gate, Inside};
use super::immovable::Effort;
use super::options::FaultMode;
use super::place::Place;
use super::region::{Region, Serials};
use super::scratch::Scratch;
use super::staging::Staging;
use super::users::Users;
use crate::error::Result;
use crate::heap;
use crate::latency::Latencies;
use crate::os::bell::{Bell, wake_nappers};
use crate::os::own_memory::OwnMemory;
use crate::os::userfault::Userfault;
use crate::os::{ForkGuard, Os};
use crate::sync::{AtomicU32, AtomicU64, Lock, Ordering::Relaxed, Wait};
use crate::zswap::Zswap;
use std::sync::atomic::AtomicBool;

/// How many pages a thread that faults evicts at once, when it must make room itself.
const DIRECT: u64 = 8;
/// Percent of the limit whose clean copies are kept, at first. A tenth more of it saved some 4 % of processor time
/// where most touches read, and cost between 1 and 2 % of the memory that the pager gains.
const KEPT_PERCENT: u64 = 10;
/// How often who has to make room looks again while others are evicting, before it gives up: some 150 ms.
pub const PATIENCE: u32 = 200;
/// How often at least, after others gave up in vain: some 10 ms.
const LEAST_PATIENCE: u32 = 20;

/// The parts of a pager.
pub struct Core {
    pub os: Os,
    pub zswap: Zswap,
    pub mode: FaultMode,
    pub uffd: Userfault,
    /// Pages of private memory are moved; otherwise copied and dropped.
    pub moves: bool,
    pub staging: Staging,
    pub scratch: Scratch,
    pub extents: Extents,
    pub places: Box<[Place<Region>]>,
    pub serials: Serials,
    pub hand: Lock<Hand>,
    pub inbox: Lock<Inbox>,
    /// Threads that wait for its lock: who takes it again and again lets them have it in between.
    pub readers: AtomicU32,
    /// How often a thread that gives way to them found that lock free.
    #[cfg(test)]
    pub gave_way: AtomicU32,
    pub gate: Gate,
    /// Large events whose pages have not all been seen to, and threads that are seeing to some.
    pub works: AtomicU32,
    pub working: Users,
    pub bell: Bell,
    /// Tells forked children, who have the descriptors and none of the memory.
    pub guard: ForkGuard,
    /// Odd while lent threads are given back, and another number each time: who is lent sees that it was one of those,
    /// also if threads may be lent again by then.
    pub lending: AtomicU64,
    /// What regions have is read and written by this, where no page is to be waited for.
    pub own: OwnMemory,
    /// 1 while threads that evict in the background are wanted.
    pub evict_wanted: AtomicU32,
    /// Threads that are lent: whatever they do.
    pub lent: AtomicU32,
    /// How many of those that evict there are, and how many of them serve as well.
    pub evictors: AtomicU32,
    pub evicting_servers: AtomicU32,
    /// The pool was full: more is to be written back before the next one finds it so.
    pub pool_full: AtomicBool,
    /// Pages of regions and the staging range that are in memory, or about to be.
    resident: AtomicU64,
    /// Most of them.
    limit: AtomicU64,
    /// How often a touch that finds others evicting looks again before it goes above the limit.
    pub patience: AtomicU32,
    /// Pages that could not leave when they were tried last; when some of them are to be tried again, in nanoseconds of
    /// the pager's clock; and how many are left to try until then.
    pub immovable: AtomicU64,
    pub retry_at: AtomicU64,
    pub retry_budget: AtomicU64,
    /// Pages that left memory since the pager was created.
    pub departures: AtomicU64,
    /// Percent of the limit that may be staged.
    pub staged_percent: AtomicU64,
    /// Pages that are resident or staged and have a copy in zswap.
    pub copies: AtomicU64,
    /// Clean copies are kept while there are fewer than this percentage of the limit.
    pub kept_percent: AtomicU64,
    /// Where the search for copies stands: an address.
    pub copies_hand: AtomicU64,
    /// How many pages were compressed when the pool was compacted last.
    pub compacted_at: AtomicU64,
    /// Pages that are held, and most of them.
    pub held: AtomicU64,
    pub max_held: u64,
    pub counters: Counters,
    pub latencies: Latencies,
}

/// How an attempt to evict ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evicted {
    /// So many pages went.
    Pages(u64),
    /// None could go now, but some may in a moment: others have them claimed, or are reading events.
    Busy,
    /// None can go: all are held or immovable, or as many were tried as the effort allows.
    None,
    /// The pool is full, and nothing can be written back.
    Full,
}

impl Core {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        os: Os,
        zswap: Zswap,
        (mode, moves): (FaultMode, bool),
        uffd: Userfault,
        staging: Staging,
        scratch: Scratch,
        (bell, guard, own): (Bell, ForkGuard, OwnMemory),
        (limit, staged_percent, max_held, max_regions): (u64, u64, u64, usize),
    ) -> Result<Self> {
        clock::start();
        Ok(Self {
            os,
            zswap,
            mode,
            uffd,
            moves,
            staging,
            scratch,
            extents: Extents::new(max_regions)?,
            places: heap::slice(max_regions, |_| Ok(Place::default()))?,
            serials: Serials::default(),
            hand: Hand::locked(),
            inbox: Inbox::locked()?,
            readers: AtomicU32::new(0),
            #[cfg(test)]
            gave_way: AtomicU32::new(0),
            gate: Gate::default(),
            works: AtomicU32::new(0),
            working: Users::default(),
            bell,
            guard,
            lending: AtomicU64::new(0),
            own,
            evict_wanted: AtomicU32::new(0),
            lent: AtomicU32::new(0),
            evictors: AtomicU32::new(0),
            evicting_servers: AtomicU32::new(0),
            pool_full: AtomicBool::new(false),
            resident: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            patience: AtomicU32::new(PATIENCE),
            immovable: AtomicU64::new(0),
            retry_at: AtomicU64::new(0),
            retry_budget: AtomicU64::new(0),
            departures: AtomicU64::new(0),
            staged_percent: AtomicU64::new(staged_percent),
            copies: AtomicU64::new(0),
            kept_percent: AtomicU64::new(KEPT_PERCENT),
            copies_hand: AtomicU64::new(0),
            compacted_at: AtomicU64::new(0),
            held: AtomicU64::new(0),
            max_held,
            counters: Counters::default(),
            latencies: Latencies::default(),
        })
    }

    /// Keeps events from being read, if the table of extents is still of that version and no event has yet to take
    /// effect on a part of a range: pages of the range may be moved where the table says.
    #[inline]
    pub fn enter(&self, version: u64, start: usize, end: usize) -> Option<Inside<'_>> {
        self.gate.enter_if(&self.extents, version, (start, end))
    }

    /// Pages that are in memory.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Most of them.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Sets it.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Relaxed);
    }

    /// Pages that background eviction keeps free, so that faults need not evict.
    pub fn reserve(&self) -> u64 {
        (self.limit() / 32).clamp(1, 1024)
    }

    /// Most pages that wait in the staging range.
    pub fn staged_target(&self) -> u64 {
        // Of what there is, if that is less: what is to be evicted beyond the limit's needs is compressed, too.
        let target = self.limit().min(self.resident()) * self.staged_percent.load(Relaxed) / 100;
        target.clamp(1, self.staging.room())
    }

    /// Charges pages that are about to be in memory. Makes room first, if need be; should that be impossible, charges
    /// them all the same, and counts that. The caller has claimed no page.
    #[inline]
    pub fn charge(&self, pages: u64) {
        let before = self.resident.fetch_add(pages, Relaxed);
        let limit = self.limit();
        if before + pages > limit {
            self.resident.fetch_sub(pages, Relaxed);
            self.charge_slow(pages);
        } else if before + pages + self.reserve() / 2 > limit {
            self.want_eviction();
        }
    }

    #[cold]
    fn charge_slow(&self, pages: u64) {
        add(&self.counters.direct_reclaims, 1);
        self.want_eviction();
        if !self.make_room(pages) {
            self.charge_above(pages);
            add(&self.counters.over_limit, pages);
        }
    }

    /// Evicts until there is room for some pages, and charges them. False: there is none, for what is in memory can't
    /// leave, or not in time.
    fn make_room(&self, pages: u64) -> bool {
        let mut effort = Effort::bounded(self);
        let mut wait = Wait::default();
        let patience = self.patience.load(Relaxed);
        let mut fruitless = 0;
        // Others may take what this thread evicts: that has an end, too.
        for _ in 0..PATIENCE {
            let wanted = self.resident() + pages;
            let is_hopeless = wanted > self.limit() && wanted <= self.ceiling() && !self.may_retry(&effort);
            // Pages of a large event may be charged until they were seen to.
            if is_hopeless && !self.do_some_work() {
                return false;
            }
            let evicted = self.evict_some(DIRECT.max(pages), &mut effort);
            let before = self.resident.fetch_add(pages, Relaxed);
            if before + pages <= self.limit() {
                return true;
            }
            self.resident.fetch_sub(pages, Relaxed);
            match evicted {
                Evicted::Pages(_) => {
                    self.patience.store(PATIENCE, Relaxed);
                    wait = Wait::default();
                }
                Evicted::None | Evicted::Full if self.do_some_work() => wait = Wait::default(),
                Evicted::None | Evicted::Full => return false,
                // An event that is waiting to be read may be what others wait for.
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
            // Where others never get through, waiting as long at each touch would bring all to a halt.
            let less = (patience / 2).max(LEAST_PATIENCE);
            let _ = self.patience.compare_exchange(patience, less, Relaxed, Relaxed);
        }
        false
    }

    /// Charges pages that are in memory already, or will be whatever the limit says.
    pub fn charge_above(&self, pages: u64) {
        self.resident.fetch_add(pages, Relaxed);
    }

    /// Pages went from memory.
    #[inline]
    pub fn uncharge(&self, pages: u64) {
        self.resident.fetch_sub(pages, Relaxed);
    }

    /// Calls the threads that evict in the background.
    #[inline]
    pub fn want_eviction(&self) {
        if self.evict_wanted.load(Relaxed) == 0 && self.evictors.load(Relaxed) > 0 {
            self.evict_wanted.store(1, Relaxed);
            wake_nappers(&self.evict_wanted);
            if self.evicting_servers.load(Relaxed) > 0 {
                self.bell.ring();
            }
        }
    }
}
