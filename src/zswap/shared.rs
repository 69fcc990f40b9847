//! What the areas of a zswap share: the pool, the limit, contexts, backing, claims.

use super::area::{AreaState, REMOVED};
use super::batch::Lanes;
use super::claims::Claims;
use super::codec::{Codec, Contexts};
use super::file::BackingFile;
use super::fork::Fork;
use super::limit::{Batches, Limit};
use super::stats::{Counts, Shards, ZswapStats};
use super::walk::Walk;
use super::word::FileSlot;
use super::writeback::{Foreign, Writeback};
use crate::error::Result;
use crate::heap::{Counted, Weak};
use crate::os::Os;
use crate::pool::Pool;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use crate::units::PAGE;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// Where pages are written back to.
#[derive(Clone, Default)]
pub enum Backing {
    /// Nowhere, unless callers pull them.
    #[default]
    None,
    /// To the embedder.
    Callback(Arc<Writeback>),
    /// To an embedder in C.
    Foreign(Foreign),
    /// To the library's own file.
    File(Counted<BackingFile>),
}

/// The areas that there are, and what those did that there were.
#[derive(Default)]
pub struct Areas {
    /// Each with its number.
    pub list: Vec<(u64, Weak<AreaState>)>,
    /// The next area's number.
    pub next_id: u64,
    /// The area that the next shrink begins with.
    pub cursor: usize,
    /// Counts of the areas that were removed.
    pub past: Counts,
}

/// The parts of a zswap.
pub struct Shared {
    pub pool: Pool,
    pub contexts: Contexts,
    pub lanes: Lanes,
    pub limit: Limit,
    pub batches: Batches,
    pub claims: Claims,
    pub backing: RwLock<Backing>,
    /// Held by the thread that walks over all areas.
    pub walk: Lock<()>,
    pub areas: Lock<Areas>,
    /// Parts of an area's statistics.
    pub shards: usize,
    pub capacity_hits: AtomicU64,
    pub accept_percent: u64,
    pub headroom_percent: u64,
    pub os: Os,
    /// Calls that are on no area in particular.
    pub calls: Shards,
    pub fork: Fork,
    codec: AtomicU64,
    claim: AtomicU64,
    created: Instant,
    /// When a store last compacted without a bound and in vain, in milliseconds; 0: never.
    in_vain_at: AtomicU64,
}

/// A call that runs on a zswap, and on no area in particular.
pub struct CallOnAll<'a>(&'a Shards, usize);

impl Drop for CallOnAll<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// Milliseconds from one compaction without a bound that gave a store no room to the next.
const ALL_EVERY: u64 = 50;

impl Shared {
    /// Of these parts.
    #[expect(clippy::too_many_arguments, reason = "each is a part, and named so by its caller")]
    pub fn new(
        pool: Pool,
        contexts: Contexts,
        lanes: Lanes,
        limit: Limit,
        claims: Claims,
        areas: Lock<Areas>,
        percents: (u64, u64),
        (shards, calls): (usize, Shards),
        os: Os,
    ) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            pool,
            contexts,
            lanes,
            limit,
            batches: Batches::default(),
            claims,
            backing: RwLock::default(),
            walk: Lock::new(Rank::Walk, ()),
            areas,
            shards,
            capacity_hits: zero(),
            accept_percent: percents.0,
            headroom_percent: percents.1,
            os,
            calls,
            fork: Fork::default(),
            codec: zero(),
            claim: zero(),
            created: Instant::now(),
            in_vain_at: zero(),
        }
    }

    /// A call begins that is on no area in particular.
    pub fn begin(&self) -> Result<CallOnAll<'_>> {
        self.pool.check_usable()?;
        self.calls.begin().map(|at| CallOnAll(&self.calls, at)).ok_or(REMOVED)
    }

    /// One that may be within another.
    pub fn begin_within(&self) -> Option<CallOnAll<'_>> {
        self.calls.begin_within().map(|at| CallOnAll(&self.calls, at))
    }

    /// Whether a store compacted without a bound a moment ago, and found no room all the same. To go through the whole
    /// pool takes milliseconds, which each store into a full one would pay.
    pub fn compacted_in_vain_lately(&self) -> bool {
        let last = self.in_vain_at.load(Relaxed);
        last != 0 && self.milliseconds() < last + ALL_EVERY
    }

    /// One did just now.
    pub fn note_compacted_in_vain(&self) {
        // Relaxed: it is a hint.
        self.in_vain_at.store(self.milliseconds(), Relaxed);
    }

    /// Since some time before this was created.
    fn milliseconds(&self) -> u64 {
        1 + self.created.elapsed().as_millis() as u64
    }

    /// What new pages are compressed with.
    #[inline]
    pub fn codec(&self) -> Codec {
        // Relaxed: the contexts were prepared for every codec that was ever set, each behind its lock.
        match self.codec.load(Relaxed) {
            0 => Codec::Lz4,
            1 => Codec::Raw,
            level => Codec::Zstd(level as i32 - 2),
        }
    }

    /// Sets it. The contexts are prepared for it.
    pub fn set_codec(&self, codec: Codec) {
        let number = match codec {
            Codec::Lz4 => 0,
            Codec::Raw => 1,
            Codec::Zstd(level) => level as u64 + 2,
        };
        self.codec.store(number, Relaxed);
    }

    /// The number of the next claim.
    pub fn next_claim(&self) -> u8 {
        self.claim.fetch_add(1, Relaxed) as u8
    }

    /// As if so many claims had been made.
    #[cfg(test)]
    pub fn set_claims_made(&self, claims: u64) {
        self.claim.store(claims, Relaxed);
    }

    /// Where pages are written back to now.
    pub fn backing(&self) -> Backing {
        self.backing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The library's own file, if that is it.
    pub fn file(&self) -> Option<Counted<BackingFile>> {
        match &*self.backing.read().unwrap_or_else(PoisonError::into_inner) {
            Backing::File(file) => Some(file.clone()),
            _ => None,
        }
    }

    /// Gives a place on the library's own file back.
    #[cold]
    pub fn free_file_slot(&self, slot: FileSlot) {
        let file = self.file();
        debug_assert!(file.is_some(), "the file stays while a page is on it");
        if let Some(file) = file {
            file.release(slot);
        }
    }

    /// An area ends: what it did stays counted.
    pub fn forget_area(&self, id: u64, counts: &Counts) {
        let mut areas = self.areas.lock();
        areas.past.add(counts);
        // What is there is not what was done.
        let past = &mut areas.past;
        (past.compressed_pages, past.raw_pages, past.filled_pages, past.file_pages) = (0, 0, 0, 0);
        areas.list.retain(|(other, _)| *other != id);
    }

    /// What the zswap has, given what its areas have and did.
    pub fn stats(&self, areas: &Walk<'_>, counts: Counts) -> Result<ZswapStats> {
        let pool = self.pool.stats()?;
        // Looked at under the lock: a clone would make the file look as if it were being written to.
        let (tables, file_bytes) = match &*self.backing.read().unwrap_or_else(PoisonError::into_inner) {
            Backing::File(file) => (file.table_bytes(), file.taken() as u64 * PAGE as u64),
            _ => (0, 0),
        };
        let own = (self.contexts.bytes() + self.claims.bytes() + self.lanes.bytes() + size_of::<Self>()) as u64;
        let (mut count, mut pages, mut indexes) = (0, 0, 0);
        areas.each(|_, area| {
            count += 1;
            pages += area.area_pages;
            indexes += area.metadata_bytes;
        });
        Ok(ZswapStats {
            areas: count,
            area_pages: pages,
            max_bytes: self.limit.max(),
            used_bytes: self.limit.used(),
            pool_bytes: pool.total_pages * PAGE as u64,
            metadata_bytes: pool.metadata_pages * PAGE as u64 + own + indexes + tables,
            limit_hits: self.limit.hits(),
            capacity_hits: self.capacity_hits.load(Relaxed),
            claims: self.claims.held(),
            file_bytes,
            counts,
        })
    }
}
