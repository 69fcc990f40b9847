//! All areas of a zswap, one after the other, without memory for a list of them.
//!
//! A walk chains the areas through themselves and keeps them alive until it ends. One thread at a time walks, and the
//! others wait. Areas may come and go meanwhile: a walk visits those that were there when it began.

use super::area::Area;
use super::running_calls::RunningCall;
use super::shared::{Areas, Shared};
use super::stats::{AreaStats, Counts};
use crate::sync::Locked;
#[cfg(feature = "json")]
use serde::Serialize;
#[cfg(feature = "json")]
use serde::ser::{SerializeSeq, Serializer};

/// The areas that were there when the walk began.
pub struct Walk<'a> {
    _alone: Locked<'a, ()>,
    first: Option<Area>,
    /// Dropped after the areas: if the walk holds an area's last handle, the area is freed while this call still runs.
    _call: Option<RunningCall<'a>>,
}

impl<'a> Walk<'a> {
    /// Begins a walk, within a call on the zswap that outlives the walk.
    pub fn new(shared: &'a Shared) -> Self {
        let mut walk = Self { _alone: shared.walk.lock(), first: None, _call: None };
        walk.chain(shared);
        walk
    }

    /// Begins a walk in this call, and notes what each area has and did, all at one moment. Also returns what all areas
    /// did, including those that are gone.
    pub fn at_one_moment(shared: &'a Shared, call: RunningCall<'a>) -> (Self, Counts) {
        let mut walk = Self { _alone: shared.walk.lock(), first: None, _call: Some(call) };
        // While this list is locked, no area is removed from it or added to `past`.
        let areas = walk.chain(shared);
        let mut counts = areas.past;
        walk.each(|area, _| area.0.shards.lock_all().keep());
        walk.each(|area, _| {
            // SAFETY: the round before kept these shards locked; they stay so until the next round.
            let mut all = unsafe { area.0.shards.resume_all() };
            let stats = area.0.stats_of(all.counts());
            all.keep();
            counts.add(&stats.counts);
            area.0.step.lock_another().stats = stats;
        });
        // SAFETY: the round before kept these shards locked.
        walk.each(|area, _| drop(unsafe { area.0.shards.resume_all() }));
        drop(areas);
        (walk, counts)
    }

    /// Chains the areas that there are, in the list's order. Returns the list, locked.
    fn chain<'s>(&mut self, shared: &'s Shared) -> Locked<'s, Areas> {
        let areas = shared.areas.lock();
        for area in areas.list.iter().rev().filter_map(|(_, area)| area.upgrade()).map(Area) {
            let next = self.first.take();
            area.0.step.lock_another().next = next;
            self.first = Some(area);
        }
        areas
    }

    /// Acts on each area, with the statistics that were noted of it.
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

/// The form of [`super::snapshot::AreaSnapshot`], without memory for the name.
#[cfg(feature = "json")]
#[derive(Serialize)]
struct NamedStats<'a> {
    name: &'a str,
    #[serde(flatten)]
    stats: AreaStats,
}

#[cfg(feature = "json")]
impl Serialize for Walk<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        self.each(|area, &stats| {
            if written.is_ok() {
                written = sequence.serialize_element(&NamedStats { name: area.name(), stats });
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
            // The area goes here if its owners let go of it meanwhile.
            at = area.0.step.lock_another().next.take();
        }
    }
}
