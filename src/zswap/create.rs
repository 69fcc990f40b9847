//! A zswap: creation, areas, and what concerns all of them.

use super::area::{Area, AreaState};
use super::batch::Lanes;
use super::claims::{Claims, MAX_CLAIMS};
use super::codec::{Codec, Contexts, MAX_CONTEXTS};
use super::file::BackingFile;
use super::index::MAX_PAGES;
use super::limit::Limit;
use super::options::{AreaOptions, ZswapOptions};
use super::shared::{Areas, Backing, Shared};
use super::stats::{AreaStats, MAX_SHARDS, Shards, ZswapStats};
use super::turn::Turn;
use super::walk::Walk;
use super::writeback::{Foreign, NO_BACKING, Writeback};
use crate::error::{Error, Result};
use crate::heap::{self, Counted};
use crate::json;
use crate::os::{self, Os};
use crate::pool::options::{MIN_BYTES, PoolOptions};
use crate::pool::{CompactBudget, Pool, PoolStats};
use crate::sync::{Lock, Rank};
use serde::Serialize;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};

/// Pages that a shrink writes back of one area before it goes on to the next.
const QUANTUM: u64 = 64;

/// A swap layer in memory: areas of pages, compressed into one pool.
///
/// All methods may be called from any thread, and from a writeback callback. It is gone when it and its areas are
/// dropped.
pub struct Zswap(pub(super) Counted<Shared>);

impl Zswap {
    /// Creates a zswap without areas. `name` is for people: it shows as the name of a pool in a memory file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong, [`Error::NoMemory`] or [`Error::System`] when the system gives no
    /// addresses or memory; the sentence says which.
    pub fn new(name: &str, options: &ZswapOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &ZswapOptions) -> Result<Self> {
        const PERCENT: Error = Error::Invalid(&"accept_percent is 1 to 100, or 0 for 90");
        const CONTEXTS: Error = Error::Invalid(&"there are 1 to 64 contexts, or 0 for as many as processors");
        if options.accept_percent > 100 {
            return Err(PERCENT);
        }
        const CLAIMS: Error = Error::Invalid(&"there may be 1 to 65536 claims, or 0 for 1024");
        if options.contexts > MAX_CONTEXTS {
            return Err(CONTEXTS);
        }
        if options.max_claims > MAX_CLAIMS {
            return Err(CLAIMS);
        }
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let accept = or(options.accept_percent.into(), 90) as u64;
        let processors = os::processors();
        let count = or(options.contexts, processors.min(MAX_CONTEXTS));
        let contexts = Contexts::new(count)?;
        contexts.prepare(options.codec)?;
        let pool = Pool::with_os(os.clone(), name, &pool_options(options))?;
        let shared = Shared::new(
            pool,
            contexts,
            Lanes::new(&os, count)?,
            Limit::new(u64::MAX, accept),
            Claims::new(or(options.max_claims, 1024))?,
            Lock::new(Rank::Areas, Areas::default()),
            (accept, options.headroom_percent.into()),
            (processors.min(MAX_SHARDS), Shards::new(1)?),
            os,
        );
        shared.set_codec(options.codec);
        let zswap = Self(Counted::new(shared)?);
        zswap.set_limit(options.max_bytes)?;
        Ok(zswap)
    }

    /// Adds an area of so many pages. Reserves 8 bytes of addresses a page, and takes memory as it is used.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no pages or more than [`super::MAX_AREA_PAGES`], [`Error::NoMemory`] if the system gives
    /// no addresses or no memory, [`Error::Forked`] in a child without the pool.
    pub fn add_area(&self, pages: u64, options: &AreaOptions) -> Result<Area> {
        const PAGES: Error = Error::Invalid(&"an area has 1 to 2^38 pages");
        let _call = self.0.begin()?;
        if pages == 0 || pages > MAX_PAGES {
            return Err(PAGES);
        }
        let id = {
            let mut areas = self.0.areas.lock();
            areas.next_id += 1;
            areas.next_id
        };
        let area = Area(Counted::new(AreaState::new(self.0.clone(), id, pages, options.clone())?)?);
        // An area that does not get into the list ends as every other, outside the lock.
        let listed = heap::push(&mut self.0.areas.lock().list, (id, area.0.downgrade()));
        listed.map(|()| area)
    }

    /// How many areas there are.
    pub fn area_count(&self) -> usize {
        let _call = self.0.begin();
        self.0.areas.lock().list.len()
    }

    /// Checks that this process can use the zswap, as each call does.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn check_usable(&self) -> Result<()> {
        self.0.pool.check_usable()
    }

    /// The pool that the pages are in. Not for callers: its limit, its callback and its pins are this zswap's.
    #[cfg(any(test, feature = "uffd"))]
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// What the pool that the pages are in has and did.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn pool_stats(&self) -> Result<PoolStats> {
        let _call = self.0.begin()?;
        self.0.pool.stats()
    }

    /// Sets how many bytes of slots stored pages may take; 0: no limit but the pool's capacity. The pool's memory may
    /// go some way beyond ([`ZswapOptions::headroom_percent`]). Less than is stored is allowed: stores are refused
    /// until enough has gone.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn set_limit(&self, max_bytes: u64) -> Result<()> {
        self.0.pool.set_max_bytes(self.capacity(max_bytes))?;
        self.0.limit.set(if max_bytes == 0 { u64::MAX } else { max_bytes });
        Ok(())
    }

    /// What memory the pool may have for a limit.
    fn capacity(&self, max_bytes: u64) -> u64 {
        if max_bytes == 0 {
            return 0;
        }
        let headroom = match self.0.headroom_percent {
            0 => max_bytes / 8,
            percent => (u128::from(max_bytes) * u128::from(percent) / 100) as u64,
        };
        // A small pool has its tables and a partly filled zspage of each class besides.
        max_bytes.saturating_add(headroom).saturating_add(2 * MIN_BYTES)
    }

    /// Sets what pages are compressed with from now on.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the level is wrong, [`Error::NoMemory`] if there is no memory for its contexts.
    pub fn set_codec(&self, codec: Codec) -> Result<()> {
        let _call = self.0.begin();
        self.0.contexts.prepare(codec)?;
        self.0.set_codec(codec);
        Ok(())
    }

    /// Sets the callback that pages are written back by, or takes it away. A shrink that is running goes on with the
    /// one that it began with.
    ///
    /// # Errors
    /// [`Error::Busy`] while pages are on the library's own file.
    pub fn set_writeback(&self, writeback: Option<Arc<Writeback>>) -> Result<()> {
        self.set_backing(writeback.map_or(Backing::None, Backing::Callback))
    }

    /// [`Zswap::set_writeback`] with a callback of C's. Allocates nothing.
    #[doc(hidden)]
    pub fn set_foreign_writeback(&self, writeback: Option<Foreign>) -> Result<()> {
        self.set_backing(writeback.map_or(Backing::None, Backing::Foreign))
    }

    /// Lets the library write pages back itself, to the first `bytes` bytes of a regular file or a block device, which
    /// has to be open for reading and writing (`O_RDWR`), and never for appending (`O_APPEND`), which would write
    /// everything to other places. The descriptor is duplicated. Close no descriptor that is not your own: the
    /// library notices before it writes that its descriptor has become another file's, and writes nothing then. Pages
    /// on the file are loaded as all others, and stay there until they are replaced or removed. A page is written to
    /// the lowest place that is free. None: no file any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is none of these or is opened otherwise, or the bytes are less than a page or
    /// more than 16 TiB, [`Error::System`] if the descriptor can't be duplicated, [`Error::Busy`] while pages are on
    /// the file that was set before, [`Error::NoMemory`] if there is none for its table.
    pub fn set_backing_file(&self, file: Option<(BorrowedFd<'_>, u64)>) -> Result<()> {
        let backing = match file {
            Some((fd, bytes)) => Backing::File(Counted::new(BackingFile::new(self.0.os.clone(), fd, bytes)?)?),
            None => Backing::None,
        };
        self.set_backing(backing)
    }

    fn set_backing(&self, new: Backing) -> Result<()> {
        const IN_USE: Error = Error::Busy(&"pages are on the backing file, or are being written to it");
        let _call = self.0.begin()?;
        let old = {
            let mut backing = self.0.backing.write().unwrap_or_else(PoisonError::into_inner);
            if let Backing::File(file) = &*backing
                && (file.taken() > 0 || file.strong_count() > 1)
            {
                return Err(IN_USE);
            }
            std::mem::replace(&mut *backing, new)
        };
        // Dropped here, with no lock held: a callback is the user's.
        drop(old);
        Ok(())
    }

    /// Writes back pages that were not used lately, of all areas in turn, until `pages` pages have left the pool.
    /// Returns how many went, also when they are fewer than asked. Allocates nothing. Its effort is bounded: each area
    /// is swept twice at most for every 64 pages, and left after 16 refusals.
    ///
    /// # Errors
    /// [`Error::Again`] if none could go now, [`Error::NotFound`] if none is in the pool, [`Error::Invalid`] without a
    /// callback or a file, [`Error::Io`] if the library's descriptor of the file was closed or is another file's now,
    /// [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        let _call = self.0.begin()?;
        let backing = self.usable_backing()?;
        let (mut written, mut idle) = (0, 0);
        let mut failure = None;
        while written < pages {
            let Some((turn, count)) = Turn::next(&self.0.areas) else { break };
            let done = turn.area().shrink_to((pages - written).min(QUANTUM), &backing);
            // Others say that the area was removed meanwhile.
            failure = done.err().filter(|error| matches!(error, Error::Io(_))).or(failure);
            let (gone, more) = done.unwrap_or((0, false));
            written += gone;
            idle = if more && gone > 0 { 0 } else { idle + 1 };
            if idle >= count {
                break;
            }
        }
        if written > 0 || pages == 0 { Ok(written) } else { Err(failure.unwrap_or_else(|| self.why_nothing())) }
    }

    fn usable_backing(&self) -> Result<Backing> {
        match self.0.backing() {
            Backing::None => Err(NO_BACKING),
            backing => Ok(backing),
        }
    }

    fn why_nothing(&self) -> Error {
        const NOTHING: Error = Error::NotFound(&"no page is in the pool");
        const NOT_NOW: Error = Error::Again(&"no page could be written back now");
        if self.0.limit.used() == 0 { NOTHING } else { NOT_NOW }
    }

    /// How many pages are worth writing back now, of all areas: see [`Area::reclaimable_pages`].
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn reclaimable_pages(&self) -> Result<u64> {
        let _call = self.0.begin()?;
        let mut all = Ok(0);
        Walk::new(&self.0).each(|area, _| match (area.reclaimable_pages(), &mut all) {
            (Ok(pages), Ok(sum)) => *sum += pages,
            // It was removed meanwhile.
            (Err(Error::Invalid(_)), _) | (_, Err(_)) => {}
            (Err(error), _) => all = Err(error),
        });
        all
    }

    /// Moves objects together and gives the memory that becomes free back to the system, as [`Pool::compact`] does; and
    /// the parts of the areas' indexes that have no page any more. Returns the pages of 4096 bytes that the pool gave
    /// back.
    ///
    /// # Errors
    /// As [`Pool::compact`].
    pub fn compact(&self, budget: &CompactBudget) -> Result<u64> {
        let _call = self.0.begin()?;
        Walk::new(&self.0).each(|area, _| area.0.index.give_back(0, area.pages()));
        self.0.pool.compact(budget)
    }

    /// Bytes of the slots of stored pages.
    #[cfg(feature = "uffd")]
    pub(crate) fn used_bytes(&self) -> u64 {
        self.0.limit.used()
    }

    /// What it has and did, with what each area has and did, all at one moment.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool, [`Error::NoMemory`] if there is none for the list of areas.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (areas, zswap) = self.at_one_moment()?;
        let mut of_areas = heap::with_capacity(zswap.areas as usize)?;
        areas.each(|_, stats| of_areas.push(*stats));
        Ok(Snapshot { version: SNAPSHOT_VERSION, zswap, areas: of_areas })
    }

    fn at_one_moment(&self) -> Result<(Walk<'_>, ZswapStats)> {
        let call = self.0.begin()?;
        let (areas, counts) = Walk::at_one_moment(&self.0, call);
        let stats = self.0.stats(&areas, counts)?;
        Ok((areas, stats))
    }

    /// The zswap's part of [`Zswap::snapshot`]. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<ZswapStats> {
        self.at_one_moment().map(|(_, stats)| stats)
    }

    /// [`Zswap::snapshot`] as JSON.
    ///
    /// # Errors
    /// As there.
    pub fn stats_json(&self) -> Result<String> {
        json::to_string(|text| text.put(&self.listed()?))
    }

    /// Writes [`Zswap::snapshot`] as JSON to `room`, as far as there is room, and returns how many bytes the whole text
    /// has. Allocates nothing. While it writes no other thread gets statistics, nor compacts the zswap.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn write_stats_json(&self, room: &mut [MaybeUninit<u8>]) -> Result<usize> {
        json::write_to(room, |text| text.put(&self.listed()?))
    }

    /// [`Zswap::snapshot`] without memory for the list of areas. While it lives no other thread gets statistics, nor
    /// compacts the zswap.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub(crate) fn listed(&self) -> Result<impl Serialize> {
        let (areas, zswap) = self.at_one_moment()?;
        Ok(Listed { version: SNAPSHOT_VERSION, zswap, areas })
    }
}

#[cfg(test)]
impl Zswap {
    /// As if so many areas had been added, and so many claims been made; and each place in the table of claims had had
    /// so many that only so many are left.
    pub(crate) fn set_counters(&self, areas: u64, claims_made: u64, claims_left: u64) {
        self.0.areas.lock().next_id = areas;
        self.0.set_claims_made(claims_made);
        self.0.claims.set_generations_left(claims_left);
    }

    /// How many have the backing file in use at this moment, the zswap itself included.
    pub(crate) fn file_users(&self) -> usize {
        match &*self.0.backing.read().unwrap() {
            Backing::File(file) => file.strong_count() as usize,
            _ => 0,
        }
    }

    /// The number of the library's own descriptor of the backing file.
    pub(crate) fn backing_descriptor(&self) -> Option<std::os::fd::RawFd> {
        self.0.file().map(|file| file.descriptor())
    }
}

/// What a zswap and each of its areas have and did, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Of this form; it changes when a field changes its meaning, not when there are more.
    pub version: u32,
    /// The whole.
    pub zswap: ZswapStats,
    /// Each area.
    pub areas: Vec<AreaStats>,
}

/// What [`Snapshot`] says of its form.
const SNAPSHOT_VERSION: u32 = 1;

/// A [`Snapshot`] whose areas are those of a walk.
#[derive(Serialize)]
struct Listed<'a> {
    version: u32,
    zswap: ZswapStats,
    areas: Walk<'a>,
}

fn pool_options(options: &ZswapOptions) -> PoolOptions {
    let mut pool = options.pool.clone();
    let enough = options.max_bytes.saturating_add(options.max_bytes / 4);
    if pool.max_bytes == 0 && os::physical_memory().is_some_and(|memory| memory < enough) {
        // More than the machine has was asked for, as swap to a file in memory might.
        pool.max_bytes = enough;
    }
    pool
}
