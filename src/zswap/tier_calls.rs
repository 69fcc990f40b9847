//! The calls on a zswap that concern its tiers.

use super::extents::store::{ExtentStore, NewTier};
use super::extents::tier_list::TierList;
use super::extents::tier_stats::TierStats;
use super::patience::check_not_in_tier;
use super::shared::WritebackTarget;
use super::tier::{Tier, TierOptions};
use super::zswap::Zswap;
use crate::error::{Error, Result, sentence};
use crate::heap::{self, Counted};
use crate::sync::Wait;
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;

const NO_TIER: Error = Error::NotFound(sentence(&"the zswap has no tier of this number"));

const CHANGED: Error = Error::Busy(sentence(&"another thread replaced all tiers meanwhile: try again"));

/// How often a removal looks whether the calls that use the tier have ended.
const LOOKS: usize = 1000;

impl Zswap {
    /// Adds a tier of the program's own behind those that there are, in place of a writeback callback. Returns its
    /// number, which is the lowest of 0 to 7 that no other tier has. Shrinks write each extent to the first tier that
    /// takes it, in the order in which the tiers were added: one that is full or away is passed by. An area may use
    /// fewer ([`crate::AreaOptions::tiers`]). Loads read a page from where it is, and leave it there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong, [`Error::Busy`] if there are 8 tiers or in a call of a tier,
    /// [`Error::NoMemory`] if there is none for its tables, [`Error::Forked`] in a child without the pool.
    pub fn add_tier(&self, tier: impl Tier + 'static, options: &TierOptions) -> Result<u32> {
        let tier: Box<dyn Tier> = heap::boxed(tier)?;
        self.push_tier(NewTier::of_own(&self.shared.os, tier, options)?)
    }

    /// Adds the first `bytes` bytes of a file or a block device as a tier, as [`Zswap::set_backing_file`] says, behind
    /// the tiers that there are. Returns its number. `name` is for people.
    ///
    /// # Errors
    /// Those of [`Zswap::set_backing_file`], and [`Error::Busy`] if there are 8 tiers or in a call of a tier.
    pub fn add_file_tier(&self, name: &str, file: BorrowedFd<'_>, bytes: u64) -> Result<u32> {
        self.push_tier(NewTier::of_file(&self.shared.os, heap::text(name)?, file, bytes)?)
    }

    fn push_tier(&self, new: NewTier) -> Result<u32> {
        let _call = self.shared.begin()?;
        check_not_in_tier()?;
        // One thread at a time adds a tier. The store is made before the lock of the target is taken, which touches
        // take: they may be of memory that this thread needs.
        let alone = self.shared.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.shared.tiers().store_for(&self.shared.os, new)?;
        let (added, replaced) = {
            let mut target = self.shared.target.write().unwrap_or_else(PoisonError::into_inner);
            if let WritebackTarget::Tiers(tiers) = &mut *target {
                (tiers.push(store), None)
            } else {
                let tier = store.tier;
                (Ok(tier), Some(std::mem::replace(&mut *target, WritebackTarget::Tiers(TierList::of(store)))))
            }
        };
        drop(alone);
        // Dropped with no lock held, because dropping a callback or a tier runs code of the user's.
        drop(replaced);
        added.map_err(|_| CHANGED)
    }

    /// Removes a tier. Moves the pages that are on it to the others first, as far as these have room and the pages'
    /// areas may use them. Takes as long as that. A tier of the program's own is dropped. Extents that it could not
    /// remove, because it was away, are left to it.
    ///
    /// # Errors
    /// [`Error::Busy`] if pages are left on the tier, or calls go on using it, or in a call of a tier: it stays, with
    /// the pages that could not be moved. Invalidate them, or make room on other tiers. [`Error::NotFound`] if there is
    /// no such tier, [`Error::Forked`] in a child without the pool.
    pub fn remove_tier(&self, tier: u32) -> Result<()> {
        const IN_USE: Error = Error::Busy(sentence(
            &"pages are left on the tier, or calls use it: invalidate the pages, or make room for them on other tiers",
        ));
        let _call = self.shared.begin()?;
        check_not_in_tier()?;
        {
            let tiers = self.shared.tiers();
            let store = tiers.numbered(tier).ok_or(NO_TIER)?;
            store.set_leaving(true);
            self.shared.empty_tier(store, &tiers);
        }
        let mut wait = Wait::default();
        for _ in 0..LOOKS {
            if let Some(taken) = self.take_if_unused(tier)? {
                // Dropping it runs code of the user's.
                drop(taken);
                return Ok(());
            }
            wait.a_moment();
        }
        if let Some(store) = self.shared.tiers().numbered(tier) {
            store.set_leaving(false);
        }
        Err(IN_USE)
    }

    /// Takes a tier out of the list if no page is on it and no call uses it. If it was the last one, there is no target
    /// of writeback any more.
    fn take_if_unused(&self, tier: u32) -> Result<Option<Counted<ExtentStore>>> {
        // Its last extents are removed here: under the lock no code of the user's may run.
        self.shared.tiers().numbered(tier).ok_or(NO_TIER)?.end_dying();
        let mut target = self.shared.target.write().unwrap_or_else(PoisonError::into_inner);
        let WritebackTarget::Tiers(tiers) = &mut *target else { return Err(NO_TIER) };
        let store = tiers.numbered(tier).ok_or(NO_TIER)?;
        if store.strong_count() > 1 || !store.is_unused() {
            return Ok(None);
        }
        let taken = tiers.take(tier);
        if tiers.iter().next().is_none() {
            *target = WritebackTarget::None;
        }
        Ok(taken)
    }

    /// Returns what a tier has, and what happened on it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tier, [`Error::Forked`] in a child without the pool.
    pub fn tier_stats(&self, tier: u32) -> Result<TierStats> {
        let _call = self.shared.begin()?;
        match &*self.shared.read_target() {
            WritebackTarget::Tiers(tiers) => tiers.numbered(tier).map(|store| store.stats()).ok_or(NO_TIER),
            _ => Err(NO_TIER),
        }
    }
}
