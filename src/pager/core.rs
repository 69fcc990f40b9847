//! What a pager consists of. The parts are values with methods, each in a file of its own. The verbs on all of them,
//! such as serving a touch or evicting, are methods of [`Core`] in the files above this one.

use super::account::Account;
use super::backlog::Backlog;
use super::counts::Counters;
use super::extents::Extents;
use super::free_reading::FreeReading;
use super::gate::{Gate, Inside};
use super::hand::Hand;
use super::hold_count::Holds;
use super::immovable::Immovable;
use super::inbox::EventLock;
use super::kept_copies::KeptCopies;
use super::lent_count::Lending;
use super::options::{EvictionInUse, FaultMode};
use super::region::{RegionState, Serials};
use super::removable::Removable;
use super::scratch::Scratch;
use super::staging::Staging;
use super::state::PageKind;
use super::upkeep::Upkeep;
use crate::latency::Latencies;
use crate::os::own_memory::OwnMemory;
use crate::os::userfault::Userfault;
use crate::os::{ForkGuard, Os};
use crate::parking::LongLock;
use crate::sync::AtomicU64;
use crate::zswap::Zswap;

/// The parts of a pager.
pub struct Core {
    pub os: Os,
    pub zswap: Zswap,
    pub mode: FaultMode,
    /// How pages of private memory are evicted, and why.
    pub eviction: EvictionInUse,
    /// Pages of private memory are moved; otherwise they are copied and dropped.
    pub moves: bool,
    /// The userfaultfd of the regions.
    pub uffd: Userfault,
    /// Reads and writes regions where the thread must not wait for a page.
    pub own: OwnMemory,
    /// Tells forked children, which have the descriptors and none of the memory.
    pub guard: ForkGuard,
    /// Which addresses belong to which region.
    pub extents: Extents,
    /// The regions. An extent names one by its place here.
    pub places: Box<[Removable<RegionState>]>,
    pub serials: Serials,
    /// Pages in memory, and their limit.
    pub account: Account,
    pub holds: Holds,
    pub kept: KeptCopies,
    pub immovable: Immovable,
    pub hand: Hand,
    /// Touches and holds that evict right now to make room for themselves.
    pub evicting: AtomicU64,
    /// The most pages that one of them evicts at once.
    pub most_at_once: u64,
    /// The right to move pages to the staging range.
    pub moving: LongLock<()>,
    pub staging: Staging,
    pub scratch: Scratch,
    /// In memory of its own: a core is copied on the stack when it is made.
    pub gate: Box<Gate>,
    pub reading: FreeReading,
    pub events: EventLock,
    pub backlog: Backlog,
    pub lending: Lending,
    pub upkeep: Upkeep,
    pub counters: Counters,
    pub latencies: Latencies,
}

impl Core {
    /// Keeps events from being read, if the table of extents still has this version and no event has yet to take effect
    /// on a part of the range. While the returned guard lives, pages of the range may be moved where the table says.
    #[inline]
    pub fn enter(&self, version: u64, start: usize, end: usize) -> Option<Inside<'_>> {
        self.gate.enter_if(&self.extents, version, (start, end))
    }

    /// What the state word says of the page of an address, if that is in a region.
    pub fn kind_at(&self, at: usize) -> Option<PageKind> {
        let extent = self.extents.find(at)?;
        let page = extent.page_at(at);
        // Another region, and a smaller one, may have the place by now.
        let region = self.places[extent.region].enter().filter(|region| page < region.pages())?;
        Some(region.page(page).peek().kind())
    }

    /// The pages that should wait in the staging range, at most.
    pub fn staged_target(&self) -> u64 {
        // A share of what is in memory, if that is below the limit: what is evicted beyond the limit's needs is
        // compressed as well.
        self.staging.target(self.account.limit().min(self.account.resident()))
    }
}
