//! All areas of a zswap, one after the other, without memory for a list of them.
//!
//! A walk chains the areas through themselves and keeps them until it ends. One thread at a time walks; the others
//! wait. Areas come and go meanwhile: a walk has those that were there when it began.

use super::area::Area;
use super::shared::{CallOnAll, Shared};
use super::stats::{AreaStats, Counts};
use crate::sync::Locked;
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// An area's part of a walk.
#[derive(Default)]
pub struct Step {
    next: Option<Area>,
    /// What the area had and did when the walk began, if it is for statistics.
    stats: AreaStats,
}

/// The areas that were there when it began.
pub struct Walk<'a> {
    _alone: Locked<'a, ()>,
    first: Option<Area>,
    /// The last of all, for an area that goes with the walk goes in this call.
    _call: Option<CallOnAll<'a>>,
}

impl<'a> Walk<'a> {
    /// Begins a walk, in a call on the zswap that goes on until the walk has ended.
    pub fn new(shared: &'a Shared) -> Self {
        let mut walk = Self { _alone: shared.walk.lock(), first: None, _call: None };
        walk.chain(shared);
        walk
    }

    /// Begins a walk in this call, and notes what each area has and did, all at one moment. Also returns what all areas
    /// did, those included that are gone.
    pub fn at_one_moment(shared: &'a Shared, call: CallOnAll<'a>) -> (Self, Counts) {
        let mut walk = Self { _alone: shared.walk.lock(), first: None, _call: Some(call) };
        // No area is removed from the list, nor counted as past, while this is held.
        let areas = walk.chain(shared);
        let mut counts = areas.past;
        walk.each(|area, _| area.0.shards.hold());
        walk.each(|area, _| {
            // SAFETY: they are held since the round before, and are let go in the next one.
            let stats = area.0.stats_of(unsafe { area.0.shards.held_counts() });
            counts.add(&stats.counts);
            area.0.step.lock_another().stats = stats;
        });
        // SAFETY: as above.
        walk.each(|area, _| unsafe { area.0.shards.let_go() });
        drop(areas);
        (walk, counts)
    }

    /// Chains the areas that there are, in the list's order. Returns the list, which is locked.
    fn chain<'s>(&mut self, shared: &'s Shared) -> Locked<'s, super::shared::Areas> {
        let areas = shared.areas.lock();
        for area in areas.list.iter().rev().filter_map(|(_, area)| area.upgrade()).map(Area) {
            let next = self.first.take();
            area.0.step.lock_another().next = next;
            self.first = Some(area);
        }
        areas
    }

    /// Acts on each area, with what was noted of it.
    pub fn each(&self, mut act: impl FnMut(&Area, &AreaStats)) {
        let mut at = self.first.clone();
        while let Some(area) = at {
            let (next, stats) = {
                let step = area.0.step.lock_another();
                (step.next.clone(), step.stats)
            };
            act(&area, &stats);
            at = next;
        }
    }
}

impl Serialize for Walk<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        self.each(|_, stats| {
            if written.is_ok() {
                written = sequence.serialize_element(stats);
            }
        });
        written?;
        sequence.end()
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        let mut at = self.first.take();
        while let Some(area) = at {
            // The area may go here, if its owners let it go meanwhile.
            at = area.0.step.lock_another().next.take();
        }
    }
}
