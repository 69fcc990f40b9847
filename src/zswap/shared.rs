//! What the areas of a zswap share: the pool, the limit, contexts, claims, the target of writeback, and the list of the
//! areas.

use super::area::{Area, AreaState};
use super::claims::Claims;
use super::codec::{CodecCell, Contexts};
use super::compaction_backoff::CompactedInVain;
use super::extents::store::ExtentStore;
use super::extents::tier_list::TierList;
use super::lanes::Lanes;
use super::limit::ByteLimit;
use super::reservation::Batches;
use super::running_calls::{RunningCall, Shards};
use super::stats::Counts;
use super::word::ExtentEntry;
use super::writeback_refusal::Refusal;
use crate::error::{Error, Result, sentence};
use crate::heap::{Counted, Weak};
use crate::os::Os;
use crate::pool::Pool;
use crate::sync::{AtomicU32, AtomicU64, Lock, Ordering::Relaxed};
use crate::units::PAGE;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Writes a page to where the embedder keeps pages, as [`crate::Zswap::set_writeback`] says.
pub type Writeback = dyn Fn(&Area, u64, &[u8; PAGE]) -> Result<(), Refusal> + Send + Sync;

/// A writeback callback of C's, which takes no memory: a function, its context, and what calls it.
#[derive(Clone, Copy, Debug)]
pub struct ForeignWriteback {
    /// Calls the function with a page that is to go.
    pub caller: fn(&Self, &Area, u64, &[u8; PAGE]) -> Result<(), Refusal>,
    /// The function, of a type that `caller` knows.
    pub function: *const (),
    /// The first argument of the function.
    pub context: *mut (),
}

// SAFETY: the header says that the callback runs in any thread that shrinks; the C program guards its context.
unsafe impl Send for ForeignWriteback {}
// SAFETY: several threads may call it at once, as the header says; the C program guards its context.
unsafe impl Sync for ForeignWriteback {}

impl ForeignWriteback {
    /// Calls the function with a page.
    pub(super) fn call(&self, area: &Area, offset: u64, page: &[u8; PAGE]) -> Result<(), Refusal> {
        (self.caller)(self, area, offset, page)
    }
}

/// Where pages are written back to.
#[derive(Clone, Default)]
pub enum WritebackTarget {
    /// Nowhere, unless callers pull them.
    #[default]
    None,
    /// To a callback of the embedder's.
    Callback(Counted<Box<Writeback>>),
    /// To a callback of C's.
    Foreign(ForeignWriteback),
    /// As extents, to tiers. The library's own file is one.
    Tiers(TierList),
}

/// The areas of a zswap, and the counts of those that were removed.
#[derive(Default)]
pub struct Areas {
    /// Each area with its number.
    pub list: Vec<(u64, Weak<AreaState>)>,
    /// The number of the area that was added last.
    pub last_id: u64,
    /// Index of the area that shrank last.
    pub cursor: usize,
    /// The turn of the area that callers claim pages of, if they claim of all areas.
    pub claim_turn: ClaimTurn,
    /// Counts of the areas that were removed.
    pub past: Counts,
}

/// The turn of the area that callers claim pages of.
#[derive(Clone, Copy, Default)]
pub struct ClaimTurn {
    /// Index of the area.
    pub at: usize,
    /// Number of the area, because another one may have its index now; 0: none.
    pub area: u64,
    /// How many more pages may be claimed of it.
    pub left: u64,
    /// Whether it has the turn because it has met its own limit. The turn ends when enough of its pages are claimed.
    pub because_full: bool,
}

/// Where the walk goes on that gives stored pages low handle indices. Only the thread that walks over the areas uses
/// it.
#[derive(Default)]
pub struct PackingHand {
    /// Where the handle table is going to end; 0: no walk is under way.
    pub end: AtomicU32,
    /// The area and the offset that come next.
    pub area: AtomicU64,
    pub offset: AtomicU64,
}

/// The parts of a zswap.
pub struct Shared {
    pub name: String,
    pub pool: Pool,
    pub contexts: Contexts,
    pub lanes: Lanes,
    pub limit: ByteLimit,
    pub batches: Batches,
    pub claims: Claims,
    pub target: RwLock<WritebackTarget>,
    /// Held by a thread that adds a tier.
    pub adding: Mutex<()>,
    /// Held by the thread that walks over all areas.
    pub walk: Lock<()>,
    pub areas: Lock<Areas>,
    /// How many shards an area has.
    pub shards: usize,
    pub capacity_hits: AtomicU64,
    pub accept_percent: u64,
    pub headroom_percent: Option<u8>,
    pub os: Os,
    /// The calls that are on no area in particular.
    pub calls: Shards,
    pub codec: CodecCell,
    pub packing: PackingHand,
    pub compacted_in_vain: CompactedInVain,
    /// Number of claims so far.
    pub next_claim: AtomicU64,
}

impl Shared {
    /// Begins a call that is on no area in particular.
    pub fn begin(&self) -> Result<RunningCall<'_>> {
        self.pool.check_usable()?;
        self.calls.begin().ok_or(Error::Removed)
    }

    /// Begins a call that may be within another one.
    pub fn begin_within(&self) -> Option<RunningCall<'_>> {
        self.calls.begin_within()
    }

    /// Returns the number of the next claim.
    pub fn next_claim(&self) -> u8 {
        self.next_claim.fetch_add(1, Relaxed) as u8
    }

    /// Locks the target of writeback. A panic of another thread while it held this lock changed nothing by halves.
    pub fn read_target(&self) -> RwLockReadGuard<'_, WritebackTarget> {
        self.target.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where pages are written back to now.
    pub fn writeback_target(&self) -> Result<WritebackTarget> {
        const NO_TARGET: Error = Error::Invalid(sentence(
            &"the zswap has no writeback callback, backing file or other tier: set one, or claim pages and write them",
        ));
        match &*self.read_target() {
            WritebackTarget::None => Err(NO_TARGET),
            target => Ok(target.clone()),
        }
    }

    /// Returns the tier that has an extent's slot.
    pub fn tier_of(&self, at: ExtentEntry) -> Option<Counted<ExtentStore>> {
        match &*self.read_target() {
            WritebackTarget::Tiers(tiers) => tiers.of_slot(at.slot).cloned(),
            _ => None,
        }
    }

    /// Returns the tiers that there are now.
    pub fn tiers(&self) -> TierList {
        match &*self.read_target() {
            WritebackTarget::Tiers(tiers) => tiers.clone(),
            _ => TierList::default(),
        }
    }

    /// Drops an entry of an extent. The caller has removed the only page word that named it.
    #[cold]
    pub fn drop_entry(&self, at: ExtentEntry) {
        let store = self.tier_of(at);
        debug_assert!(store.is_some(), "a tier stays while a page is on it");
        if let Some(store) = store {
            store.drop_entry(at);
        }
    }

    /// Takes an area out of the list. What it did stays counted.
    pub fn forget_area(&self, id: u64, counts: &Counts) {
        let mut areas = self.areas.lock();
        areas.past.add(counts);
        // The pages that the area had are gone, and no longer counted.
        let past = &mut areas.past;
        (past.compressed_pages, past.raw_pages, past.filled_pages, past.file_pages) = (0, 0, 0, 0);
        areas.list.retain(|(other, _)| *other != id);
    }
}
