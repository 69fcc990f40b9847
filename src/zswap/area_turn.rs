//! An area's turn: in a shrink of all areas, or when a page of any area is claimed.
//!
//! A shrink can run in the SIGBUS handler, which must not free. So it must never drop the last handle of a removed
//! area: while the shrink has its handle a call runs, and [`Area::remove`] is refused.

use super::area::{Area, AreaState};
use super::running_calls::RunningCall;
use super::shared::{Areas, ClaimTurn};
use super::stats::Counts;
use crate::error::Result;
use crate::sync::{Lock, Ordering::Relaxed};

/// How many pages a shrink writes back of one area, or callers claim of one, before the next area has its turn.
pub const QUANTUM: u64 = 64;

/// A handle of an area, and a call that runs on it.
pub struct AreaTurn<'a> {
    areas: &'a Lock<Areas>,
    area: Option<Area>,
    /// The shard in which the call began.
    shard: usize,
}

impl<'a> AreaTurn<'a> {
    /// Takes the turn of the next area that is there, for a shrink. Also returns how many areas there are.
    pub fn to_shrink(areas: &'a Lock<Areas>) -> Option<(Self, usize)> {
        let mut locked = areas.lock();
        let count = locked.list.len();
        for _ in 0..count {
            locked.cursor = (locked.cursor + 1) % count;
            if let Some(turn) = Self::at(areas, &locked, locked.cursor) {
                return Some((turn, count));
            }
        }
        None
    }

    /// Takes a turn of the area of this number, if it is there, for a thread whose call on another area or on the zswap
    /// runs.
    pub fn of(areas: &'a Lock<Areas>, id: u64) -> Option<Self> {
        let locked = areas.lock();
        let at = locked.list.iter().position(|&(other, _)| other == id)?;
        Self::of_call(areas, &locked, at, AreaState::begin_within)
    }

    /// Takes the turn of the area at an index of the list, if it is there.
    fn at(areas: &'a Lock<Areas>, locked: &Areas, at: usize) -> Option<Self> {
        Self::of_call(areas, locked, at, AreaState::begin)
    }

    fn of_call(
        areas: &'a Lock<Areas>,
        locked: &Areas,
        at: usize,
        begin: impl FnOnce(&AreaState) -> Result<RunningCall<'_>>,
    ) -> Option<Self> {
        let area = locked.list[at].1.upgrade().map(Area)?;
        // A removed area stays in the list until the thread that removes it, which has a handle, gets the lock.
        let shard = begin(&area.0).map(RunningCall::into_shard).ok()?;
        Some(Self { areas, area: Some(area), shard })
    }

    /// Returns the area whose turn it is.
    pub fn area(&self) -> &Area {
        self.area.as_ref().expect("it is there until this is dropped")
    }

    /// Changes the area's counts.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        let call = RunningCall::resume(&self.area().0.shards, self.shard);
        call.count(count);
        call.into_shard();
    }
}

impl Drop for AreaTurn<'_> {
    fn drop(&mut self) {
        let Some(area) = self.area.take() else { return };
        let locked = self.areas.lock();
        // A thread that removes the area from here on takes this lock before it drops its own handle.
        drop(RunningCall::resume(&area.0.shards, self.shard));
        let last = area.0.into_inner();
        drop(locked);
        // If this is the last handle, because the owners dropped theirs, dropping it removes the area, which takes this
        // lock.
        drop(last);
    }
}

/// The turns of the areas for one page that is claimed of any area: first that of the area whose turn it is, then, if
/// no page of that one can be claimed, those of the areas after it, until each had one.
///
/// An area has its turn for [`QUANTUM`] pages. Then the next area that has met its own limit has its turn, until enough
/// of its pages are claimed; if there is none, the next area of the list. So an area that stores much, and meets its
/// own limit by that, gives up pages of its own, and not those of areas that store little.
pub struct ClaimTurns<'a> {
    areas: &'a Lock<Areas>,
    /// Index of the area whose turn came first.
    first: usize,
    /// How many areas had a turn.
    tried: usize,
}

impl<'a> ClaimTurns<'a> {
    /// Makes the turns for one page.
    pub fn new(areas: &'a Lock<Areas>) -> Self {
        Self { areas, first: 0, tried: 0 }
    }
}

impl<'a> Iterator for ClaimTurns<'a> {
    type Item = AreaTurn<'a>;

    fn next(&mut self) -> Option<AreaTurn<'a>> {
        // Dropped after the lock is let go: to drop the last handle of an area removes the area, which takes the lock.
        let mut gone = None;
        let mut locked = self.areas.lock();
        let count = locked.list.len();
        let mut because_full = false;
        if self.tried == 0 && count > 0 {
            (self.first, because_full) = locked.claims_next(&mut gone);
        }
        while self.tried < count {
            let at = (self.first + self.tried) % count;
            self.tried += 1;
            if let Some(turn) = AreaTurn::at(self.areas, &locked, at) {
                locked.claim_turn.give_to(at, turn.area().id(), because_full);
                return Some(turn);
            }
            because_full = false;
        }
        None
    }
}

impl ClaimTurn {
    /// Lets a page of an area be claimed. If it is another area than before, it has a turn of its own.
    fn give_to(&mut self, at: usize, area: u64, because_full: bool) {
        let left = if area == self.area { self.left.checked_sub(1) } else { None };
        *self = Self { at, area, left: left.unwrap_or(QUANTUM - 1), because_full };
    }
}

impl Areas {
    /// Returns the index of the area that a page is claimed of next, and whether that is because it has met its limit.
    /// The list has areas. An area whose last handle is here is left in `gone`.
    fn claims_next(&self, gone: &mut Option<AreaState>) -> (usize, bool) {
        let ClaimTurn { at, area, left, because_full } = self.claim_turn;
        let goes_on = left > 0 && self.list.get(at).is_some_and(|&(id, _)| id == area);
        if goes_on && (!because_full || self.has_met_its_limit(at, gone)) {
            return (at, because_full);
        }
        let count = self.list.len();
        let mut after = (at + 1..at + 1 + count).map(|next| next % count);
        let full = after.find(|&next| self.has_met_its_limit(next, gone));
        full.map_or(((at + 1) % count, false), |next| (next, true))
    }

    /// Whether an area has met its own limit, and more than the pages that are claimed has to go.
    fn has_met_its_limit(&self, at: usize, gone: &mut Option<AreaState>) -> bool {
        if gone.is_some() {
            return false;
        }
        let Some(area) = self.list[at].1.upgrade() else { return false };
        let met = !area.options.no_writeback && area.limit.bytes_to_go() > area.claimed_bytes.load(Relaxed);
        *gone = area.into_inner();
        met && gone.is_none()
    }
}
