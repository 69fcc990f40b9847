//! What a pager and its zswap have and did, also as JSON.

use super::counts::PagerStats;
use super::create::Pager;
use crate::error::Result;
use crate::json;
use crate::os::blocked::Blocked;
use crate::zswap::Snapshot;
use serde::Serialize;
use std::mem::MaybeUninit;

/// A pager's statistics, and those of the zswap that its pages are in.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PagerSnapshot {
    /// Of this form; it changes when a field changes its meaning, not when there are more.
    pub version: u32,
    /// The statistics of the pager itself.
    pub pager: PagerStats,
    /// Its zswap, and its areas: one for each region.
    pub zswap: Snapshot,
}

/// What [`PagerSnapshot`] says of its form.
const SNAPSHOT_VERSION: u32 = 1;

impl Pager {
    /// [`Pager::stats`], with what its zswap has and did.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child.
    pub fn snapshot(&self) -> Result<PagerSnapshot> {
        self.check()?;
        let _signals = Blocked::new();
        Ok(PagerSnapshot { version: SNAPSHOT_VERSION, pager: self.stats(), zswap: self.0.zswap.snapshot()? })
    }

    /// [`Pager::snapshot`] as JSON.
    ///
    /// # Errors
    /// As there.
    pub fn stats_json(&self) -> Result<String> {
        json::to_string(|text| self.write_json(text))
    }

    /// Writes [`Pager::snapshot`] as JSON to `room`, as far as there is room, and returns how many bytes the whole text
    /// has. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child.
    pub fn write_stats_json(&self, room: &mut [MaybeUninit<u8>]) -> Result<usize> {
        json::write_to(room, |text| self.write_json(text))
    }

    fn write_json(&self, text: &mut json::Text<'_>) -> Result<()> {
        #[derive(Serialize)]
        struct Listed<Z> {
            version: u32,
            pager: PagerStats,
            zswap: Z,
        }
        self.check()?;
        let _signals = Blocked::new();
        text.put(&Listed { version: SNAPSHOT_VERSION, pager: self.stats(), zswap: self.0.zswap.listed()? })
    }
}
