//! The tiers of a zswap, in the order in which pages are written to them.

use super::super::tier::MAX_TIERS;
use super::super::word::MAX_EXTENTS;
use super::store::{ExtentStore, NewTier};
use crate::error::{Error, Result, not_given, sentence};
use crate::heap::Counted;
use crate::os::Os;
use std::ops::Range;

/// How many extents a tier of any size may have. A larger one has one for each 16 blocks, half of a full extent.
const EXTENTS: u64 = 1 << 23;
const BLOCKS_OF_EXTENT: u64 = 16;

const MANY: Error = Error::Busy(sentence(&"the zswap has 8 tiers already: remove one first"));

/// The tiers of a zswap, in the order in which pages are written to them. A clone has the tiers that there were.
#[derive(Clone, Default)]
pub struct TierList {
    stores: [Option<Counted<ExtentStore>>; MAX_TIERS],
}

impl TierList {
    /// Makes a list of one tier.
    pub fn of(store: Counted<ExtentStore>) -> Self {
        let mut list = Self::default();
        list.stores[0] = Some(store);
        list
    }

    /// Returns the tiers in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Counted<ExtentStore>> {
        self.stores.iter().flatten()
    }

    /// Returns the tier of a number.
    pub fn numbered(&self, tier: u32) -> Option<&Counted<ExtentStore>> {
        self.iter().find(|store| store.tier == tier)
    }

    /// Returns the tier whose extent has a slot.
    pub fn of_slot(&self, slot: u32) -> Option<&Counted<ExtentStore>> {
        self.iter().find(|store| store.slots().contains(&slot))
    }

    /// Whether a call uses one of the tiers now, or a page is on one. The caller has removed the extents whose last
    /// page has gone.
    pub fn is_in_use(&self) -> bool {
        self.iter().any(|store| store.strong_count() > 1 || !store.is_unused())
    }

    /// Makes the store of a new tier, which [`TierList::push`] puts behind the others. Allocates.
    pub fn store_for(&self, os: &Os, new: NewTier) -> Result<Counted<ExtentStore>> {
        if self.stores.iter().all(Option::is_some) {
            return Err(MANY);
        }
        let unused = |tier: &u32| self.numbered(*tier).is_none();
        let tier = (0..MAX_TIERS as u32).find(unused).ok_or(MANY)?;
        let slots = self.slots_for(new.blocks())?;
        Counted::new(ExtentStore::new(os, new, tier, slots)?)
    }

    /// Puts a new tier behind the others, and returns its number. Gives it back if the list has changed so that its
    /// number or its slots are taken. Allocates nothing.
    pub fn push(&mut self, store: Counted<ExtentStore>) -> std::result::Result<u32, Counted<ExtentStore>> {
        let slots = store.slots();
        let meets = |other: &Counted<ExtentStore>| {
            other.tier == store.tier || other.slots().start < slots.end && slots.start < other.slots().end
        };
        if self.iter().any(meets) {
            return Err(store);
        }
        let tier = store.tier;
        let Some(free) = self.stores.iter_mut().find(|place| place.is_none()) else { return Err(store) };
        *free = Some(store);
        Ok(tier)
    }

    /// Takes a tier out. Those behind it move up.
    pub fn take(&mut self, tier: u32) -> Option<Counted<ExtentStore>> {
        let at = self.stores.iter().position(|store| store.as_ref().is_some_and(|store| store.tier == tier))?;
        self.stores[at..].rotate_left(1);
        self.stores[MAX_TIERS - 1].take()
    }

    /// Chooses slots for the extents of a tier of this many blocks: the lowest that no other tier has.
    fn slots_for(&self, blocks: u64) -> Result<Range<u32>> {
        const NO_SLOTS: Error = Error::NoMemory(not_given!(
            "the tiers have as many extents as page words can name: give the tiers fewer bytes"
        ));
        let wanted = blocks.min(EXTENTS.max(blocks / BLOCKS_OF_EXTENT)).min(MAX_EXTENTS as u64) as u32;
        let gap_from = |start: u32| {
            let taken = self.iter().map(|store| store.slots()).filter(|slots| slots.end > start);
            let end = taken.map(|slots| slots.start).min().unwrap_or(MAX_EXTENTS as u32);
            start..end.max(start)
        };
        let starts = std::iter::once(0).chain(self.iter().map(|store| store.slots().end));
        let fits = |gap: &Range<u32>| gap.len() >= wanted as usize;
        let gap = starts.map(gap_from).filter(fits).min_by_key(|gap| gap.start).ok_or(NO_SLOTS)?;
        Ok(gap.start..gap.start + wanted)
    }
}
