//! Tiers of the model: some of the tests' own that are full, away or lose what they have for a while, and a file among
//! them.

use super::callback::lock;
use super::run::Run;
use super::world::{BackingKind, World};
use crate::os::Os;
use crate::tests::zswap::own_tier::{OwnTier, OwnTierState};
use crate::{Error, PAGE_SIZE, Result, TierOptions};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Most tiers at a time.
const MOST: usize = 4;

/// A tier of the zswap, and what it does wrong if it is the tests' own.
pub struct ModelTier {
    number: u32,
    own: Option<Arc<OwnTierState>>,
}

impl World {
    /// Whether a load from a tier may fail with this error now.
    pub fn may_fail_on_tier(&self, error: Error) -> bool {
        let own = |of: fn(&OwnTierState) -> bool| self.tiers.iter().flat_map(|tier| &tier.own).any(|state| of(state));
        match error {
            Error::Again(_) => own(|state| state.away.load(SeqCst)),
            Error::Io(_) => self.armed || own(|state| state.lost.load(SeqCst)),
            _ => false,
        }
    }

    /// Adds a tier behind the others.
    fn add_tier(&mut self) -> Result<()> {
        let bytes = self.rng.between(PAGE_SIZE, 1 << 20) as u64;
        let (number, own) = if self.rng.chance(25) {
            let file = File::from(Os::default().memory_file("tier", 0, false).expect("the test has memory"));
            (self.zswap.add_file_tier("file", file.as_fd(), bytes), None)
        } else {
            let state = Arc::<OwnTierState>::default();
            let options = TierOptions { name: "own".into(), max_bytes: bytes };
            (self.zswap.add_tier(OwnTier(state.clone()), &options), Some(state))
        };
        if let Err(error) = number {
            assert!(self.armed && !matches!(error, Error::Busy(_) | Error::Invalid(_)), "{error}");
        }
        let number = number?;
        assert!(self.tiers.iter().all(|tier| tier.number != number));
        self.tiers.push(ModelTier { number, own });
        self.backing = BackingKind::Tiers;
        Ok(())
    }

    fn remove_tier(&mut self, at: usize) -> Result<()> {
        let number = self.tiers[at].number;
        let removed = self.zswap.remove_tier(number);
        match removed {
            Ok(()) => {
                let ModelTier { own, .. } = self.tiers.remove(at);
                assert!(own.is_none_or(|state| Arc::strong_count(&state) == 1), "the tier was not dropped");
            }
            Err(error) => {
                let left = self.zswap.tier_stats(number).expect("it is there still").pages;
                assert!(matches!(error, Error::Busy(_)) && left > 0, "{error}");
            }
        }
        removed
    }

    /// Lets all tiers work again.
    pub fn heal_tiers(&mut self) {
        for state in self.tiers.iter().flat_map(|tier| &tier.own) {
            [&state.away, &state.full, &state.lost].iter().for_each(|flag| flag.store(false, SeqCst));
        }
    }

    /// Checks that the pages on tiers are those that the areas have there.
    pub fn check_tiers(&self, file_pages: u64) {
        let pages = |tier: &ModelTier| self.zswap.tier_stats(tier.number).expect("the tier is there").pages;
        if self.backing == BackingKind::Tiers {
            assert_eq!(self.tiers.iter().map(pages).sum::<u64>(), file_pages);
        }
    }
}

impl Run {
    /// Sets a tier in place of what there is. Refused while pages are on another.
    pub fn back_by_tiers(&mut self) -> Result<()> {
        let mut world = lock(&self.world);
        if world.backing != BackingKind::Tiers {
            world.zswap.clear_writeback()?;
            (world.backing, world.tiers) = (BackingKind::Nothing, Vec::new());
            return world.add_tier();
        }
        Ok(())
    }

    /// Lets a tier fail or work, or adds or removes one.
    pub fn change_tiers(&mut self) -> Result<()> {
        let mut world = lock(&self.world);
        if world.backing != BackingKind::Tiers {
            return Ok(());
        }
        let World { tiers, rng, .. } = &mut *world;
        let at = rng.below(tiers.len());
        match rng.below(10) {
            0 if tiers.len() < MOST => return world.add_tier(),
            1 if tiers.len() > 1 => return world.remove_tier(at),
            2..4 => world.heal_tiers(),
            _ => {
                if let Some(state) = &tiers[at].own {
                    let flag = rng.pick(&[&state.away, &state.full, &state.lost, &state.full]);
                    flag.store(rng.chance(50), SeqCst);
                }
            }
        }
        Ok(())
    }
}
