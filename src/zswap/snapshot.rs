//! Snapshots: what a zswap and all of its areas have and did, at one moment, as values or as JSON.

use super::extents::tier_stats::TierStats;
use super::shared::{Shared, WritebackTarget};
use super::stats::{AreaStats, Counts, ZswapStats};
use super::tier::MAX_TIERS;
use super::walk::Walk;
use super::zswap::Zswap;
use crate::error::Result;
use crate::heap;
#[cfg(feature = "json")]
use crate::json;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;
#[cfg(feature = "json")]
use std::mem::MaybeUninit;

/// What a zswap and each of its areas have and did, at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of this form. It changes when a field changes its meaning, and not when fields are added.
    pub version: u32,
    /// The name of the zswap.
    pub name: String,
    /// The whole zswap.
    pub zswap: ZswapStats,
    /// Each area, in the order in which they were added.
    pub areas: Vec<AreaSnapshot>,
    /// Each tier, in the order in which pages are written to them. They are read after the rest.
    pub tiers: Vec<TierSnapshot>,
}

/// What a tier has, and what happened on it, in a [`Snapshot`], with its name.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TierSnapshot {
    /// The name of the tier ([`crate::TierOptions::name`]), its first 256 bytes at most. Empty: it has none.
    pub name: String,
    /// Its statistics. In JSON they are beside the name.
    #[cfg_attr(feature = "json", serde(flatten))]
    pub stats: TierStats,
}

/// What an area has and did, in a [`Snapshot`], with its name.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AreaSnapshot {
    /// The name of the area ([`crate::Area::name`]). Empty: it has none.
    pub name: String,
    /// Its statistics. In JSON they are beside the name.
    #[cfg_attr(feature = "json", serde(flatten))]
    pub stats: AreaStats,
}

/// The version of the form of a [`Snapshot`].
const SNAPSHOT_VERSION: u32 = 1;

/// A [`Snapshot`] without memory for the list of areas: they are those of a walk.
#[cfg(feature = "json")]
#[derive(serde::Serialize)]
struct WalkedSnapshot<'a> {
    version: u32,
    name: &'a str,
    zswap: ZswapStats,
    areas: Walk<'a>,
    tiers: TiersInJson<'a>,
}

/// The tiers of a [`WalkedSnapshot`], read one after the other as they are written.
#[cfg(feature = "json")]
struct TiersInJson<'a>(&'a Shared);

/// The form of [`TierSnapshot`], without memory for the name.
#[cfg(feature = "json")]
#[derive(serde::Serialize)]
struct NamedTier<'a> {
    name: &'a str,
    #[serde(flatten)]
    stats: TierStats,
}

#[cfg(feature = "json")]
impl serde::Serialize for TiersInJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(None)?;
        for (name, stats) in (0..MAX_TIERS).map_while(|at| tier_at(self.0, at)) {
            sequence.serialize_element(&NamedTier { name: name.text(), stats })?;
        }
        sequence.end()
    }
}

/// Most bytes of a tier's name that a snapshot shows.
const NAME: usize = 256;

/// A copy of a tier's name, or of as much of it as there is room for.
struct TierName {
    bytes: [u8; NAME],
    length: usize,
}

impl TierName {
    fn of(name: &str) -> Self {
        let mut length = name.len().min(NAME);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        let mut bytes = [0; NAME];
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { bytes, length }
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// Returns the name and the statistics of a tier, by its place in the order. They are copied under the lock, and what
/// is done with them comes after: memory of the program's may be under a pager, whose touches take this lock. A clone
/// of the list would count as a user of the tiers.
fn tier_at(shared: &Shared, at: usize) -> Option<(TierName, TierStats)> {
    let target = shared.read_target();
    let WritebackTarget::Tiers(tiers) = &*target else { return None };
    tiers.iter().nth(at).map(|store| (TierName::of(&store.name), store.stats()))
}

impl Zswap {
    /// Returns what the zswap has and did, and what each area has and did, all at one moment.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool, [`crate::Error::NoMemory`] if there is no memory for the
    /// list of areas and their names.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (areas, zswap) = self.at_one_moment()?;
        let mut of_areas = heap::with_capacity(zswap.areas as usize)?;
        let mut listed = Ok(());
        areas.each(|area, &stats| match heap::text(area.name()) {
            Ok(name) => of_areas.push(AreaSnapshot { name, stats }),
            Err(error) => listed = Err(error),
        });
        listed?;
        let name = heap::text(self.name())?;
        Ok(Snapshot { version: SNAPSHOT_VERSION, name, zswap, areas: of_areas, tiers: self.tier_snapshots()? })
    }

    fn tier_snapshots(&self) -> Result<Vec<TierSnapshot>> {
        let mut of_tiers = heap::with_capacity(MAX_TIERS)?;
        for (name, stats) in (0..MAX_TIERS).map_while(|at| tier_at(&self.shared, at)) {
            of_tiers.push(TierSnapshot { name: heap::text(name.text())?, stats });
        }
        Ok(of_tiers)
    }

    /// Returns the zswap's part of [`Zswap::snapshot`]. Allocates nothing.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<ZswapStats> {
        self.at_one_moment().map(|(_, stats)| stats)
    }

    /// Returns [`Zswap::snapshot`] as JSON.
    ///
    /// # Errors
    /// Those of [`Zswap::snapshot`].
    #[cfg(feature = "json")]
    pub fn stats_json(&self) -> Result<String> {
        json::to_string(|text| text.put(&self.walked_snapshot()?))
    }

    /// Writes [`Zswap::snapshot`] as JSON to `room`, as much of it as there is room for. Returns how many bytes the
    /// whole text has. Allocates nothing. While it writes, no other thread gets statistics or compacts the zswap.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    #[cfg(feature = "json")]
    pub fn write_stats_json(&self, room: &mut [MaybeUninit<u8>]) -> Result<usize> {
        json::write_to(room, |text| text.put(&self.walked_snapshot()?))
    }

    /// Takes [`Zswap::snapshot`] without memory for the list of areas. While the snapshot lives, no other thread gets
    /// statistics or compacts the zswap.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    #[cfg(feature = "json")]
    pub(crate) fn walked_snapshot(&self) -> Result<impl serde::Serialize> {
        let (areas, zswap) = self.at_one_moment()?;
        let tiers = TiersInJson(&self.shared);
        Ok(WalkedSnapshot { version: SNAPSHOT_VERSION, name: self.name(), zswap, areas, tiers })
    }

    fn at_one_moment(&self) -> Result<(Walk<'_>, ZswapStats)> {
        let call = self.shared.begin()?;
        let (areas, counts) = Walk::at_one_moment(&self.shared, call);
        let stats = stats_of(&self.shared, &areas, counts)?;
        Ok((areas, stats))
    }
}

/// Returns what a zswap has and did, given what its areas have and did.
fn stats_of(shared: &Shared, areas: &Walk<'_>, counts: Counts) -> Result<ZswapStats> {
    let pool = shared.pool.stats()?;
    let (mut tables, mut file_bytes, mut file_page_bytes) = (0, 0, 0);
    // Read under the lock: a clone of the list would count as a user of the tiers.
    if let WritebackTarget::Tiers(tiers) = &*shared.read_target() {
        for store in tiers.iter() {
            tables += store.memory_bytes();
            file_bytes += store.bytes();
            file_page_bytes += store.page_bytes();
        }
    }
    let own = (shared.contexts.bytes() + shared.claims.bytes() + shared.lanes.bytes() + size_of::<Shared>()) as u64;
    let (mut count, mut pages, mut indexes) = (0, 0, 0);
    areas.each(|_, area| {
        count += 1;
        pages += area.area_pages;
        indexes += area.metadata_bytes;
    });
    Ok(ZswapStats {
        areas: count,
        area_pages: pages,
        max_bytes: shared.limit.max(),
        used_bytes: shared.limit.used(),
        pool_bytes: pool.total_pages * PAGE as u64,
        metadata_bytes: pool.metadata_pages * PAGE as u64 + own + indexes + tables,
        limit_hits: shared.limit.hits(),
        capacity_hits: shared.capacity_hits.load(Relaxed),
        claims: shared.claims.held(),
        file_bytes,
        file_page_bytes,
        counts,
    })
}
