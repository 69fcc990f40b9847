//! Storing a page in zswap, and making room for it there.

use super::core::Core;
use super::counts::add;
use super::options::FaultMode;
use super::region::RegionState;
use super::state::PageState;
use crate::error::Error;
use crate::zswap::{NotStored, OverLimit, TierAccess};

/// Pages that are written to the backing file at once when the pool is full.
pub(super) const WRITE_BACK: u64 = 64;
/// How often a store into a full pool is tried. Between two tries other pages are written back.
const STORES: u32 = 4;

/// Which limit keeps a page from being stored, when nothing can be written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// The limit of the pool.
    Pool,
    /// The limit of the page's own region.
    Area,
}

impl Core {
    /// Stores a page. If there is no room, drops kept copies and writes other pages back first.
    ///
    /// # Safety
    /// A page of the pager's own can be read at `from`, and nobody changes it meanwhile.
    pub(super) unsafe fn store(&self, region: &RegionState, page: u64, from: *const u8) -> Result<(), NoRoom> {
        for _ in 0..STORES {
            // SAFETY: the caller vouches for the page.
            match region.area.store_own(page, unsafe { &*from.cast() }) {
                Ok(()) => {
                    add(&self.counters.stored, 1);
                    return Ok(());
                }
                Err(NotStored::Over(_) | NotStored::Failed(Error::NoMemory(_) | Error::Limit(_)))
                    if self.drop_kept_copies(WRITE_BACK) > 0 => {}
                // Writing back takes long, and touches may come meanwhile.
                Err(NotStored::Over(OverLimit::Area)) => {
                    match self.calling(|| region.area.shrink_with(WRITE_BACK, self.access())) {
                        Ok(1..) | Err(Error::NotFound(_)) => {}
                        _ => {
                            self.want_tiers();
                            region.note_full();
                            return Err(NoRoom::Area);
                        }
                    }
                }
                Err(NotStored::Over(OverLimit::Zswap) | NotStored::Failed(Error::NoMemory(_) | Error::Limit(_))) => {
                    match self.calling(|| self.zswap.shrink_with(WRITE_BACK, self.access())) {
                        Ok(1..) => {
                            self.upkeep.note_full();
                            self.want_tiers();
                        }
                        // Other threads were faster and wrote back all there was, so there is room by now. If they
                        // are still writing, the page stays: that looks the same as a full file, and a wait would cost
                        // every store into a pool that is full for good.
                        Err(Error::NotFound(_)) => {}
                        _ => {
                            self.want_tiers();
                            return Err(NoRoom::Pool);
                        }
                    }
                }
                Err(_) => return Err(NoRoom::Pool),
            }
        }
        Err(NoRoom::Pool)
    }

    /// Returns which tiers a thread may use of which nothing is known: it may be in a signal handler.
    pub(super) fn access(&self) -> TierAccess {
        if self.mode == FaultMode::Sigbus { TierAccess::SignalSafe } else { TierAccess::All }
    }

    /// Tells a thread that calls tiers that pages have to go there, if this one might not call them.
    fn want_tiers(&self) {
        if self.access() == TierAccess::SignalSafe && self.upkeep.want_tiers() {
            self.lending.call_for_tiers();
        }
    }

    /// Does what takes long, and wakes a thread that serves touches before, if one sleeps.
    fn calling<R>(&self, act: impl FnOnce() -> R) -> R {
        self.lending.wake_one_anyway();
        act()
    }

    /// The state of a page that leaves memory. Keeps its age and the departure count, so that `age_of` can tell a quick
    /// return.
    pub(super) fn stored(&self, was: PageState) -> PageState {
        PageState::stored(was.age(), self.account.depart())
    }
}
