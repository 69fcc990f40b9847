//! The statistics of a pager and its zswap in one value, also as JSON.

use super::counts::PagerStats;
use super::pager_calls::Pager;
use crate::error::Result;
#[cfg(feature = "json")]
use crate::json;
use crate::zswap::Snapshot;
#[cfg(feature = "json")]
use std::mem::MaybeUninit;

/// A pager's statistics, and those of the zswap that its pages are in.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PagerSnapshot {
    /// The version of this form. It changes when a field changes its meaning, not when fields are added.
    pub version: u32,
    /// The statistics of the pager itself.
    pub pager: PagerStats,
    /// The statistics of its zswap and of the areas, one for each region.
    pub zswap: Snapshot,
}

/// The current version of [`PagerSnapshot`].
const SNAPSHOT_VERSION: u32 = 1;

impl Pager {
    /// Reads [`Pager::stats`] together with the statistics of the pager's zswap.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child.
    pub fn snapshot(&self) -> Result<PagerSnapshot> {
        let core = self.call()?;
        Ok(PagerSnapshot { version: SNAPSHOT_VERSION, pager: self.stats(), zswap: core.zswap.snapshot()? })
    }

    /// Returns [`Pager::snapshot`] as JSON.
    ///
    /// [`crate::Error::Forked`] in a child, [`crate::Error::NoMemory`] if there is no memory for the text.
    #[cfg(feature = "json")]
    pub fn stats_json(&self) -> Result<String> {
        json::to_string(|text| self.write_json(text))
    }

    /// Writes [`Pager::snapshot`] as JSON to `room`, as far as there is room, and returns how many bytes the whole text
    /// has. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child.
    #[cfg(feature = "json")]
    pub fn write_stats_json(&self, room: &mut [MaybeUninit<u8>]) -> Result<usize> {
        json::write_to(room, |text| self.write_json(text))
    }

    #[cfg(feature = "json")]
    fn write_json(&self, text: &mut json::Text<'_>) -> Result<()> {
        #[derive(serde::Serialize)]
        struct PagerListing<Z> {
            version: u32,
            pager: PagerStats,
            zswap: Z,
        }
        let core = self.call()?;
        text.put(&PagerListing { version: SNAPSHOT_VERSION, pager: self.stats(), zswap: core.zswap.walked_snapshot()? })
    }
}
