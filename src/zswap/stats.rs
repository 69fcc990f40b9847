//! Statistics: what a zswap and its areas hold, and what happened to their pages.

use super::word::{PageWord, WordKind};

macro_rules! counts {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Counts of pages and events. In [`AreaStats`] they are of one area, and in [`ZswapStats`] of all areas,
        /// including those that were removed.
        ///
        /// The first four, `compressed_pages` to `file_pages`, say how many pages there are now. The others count what
        /// happened since the area was added or the zswap was created, and never fall.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "json", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds each count of `other`.
            pub(crate) fn add(&mut self, other: &Self) {
                // Wrapping: one shard may count that a page went which another shard counted as it came.
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

counts! {
    /// Pages that are in the pool now, and that a codec made shorter.
    compressed_pages,
    /// Pages that are in the pool now as they came, because they do not compress.
    raw_pages,
    /// Pages that are stored now and repeat one word of 8 bytes, as pages of zeros do. They take no memory of the pool.
    filled_pages,
    /// Pages that are on tiers now, the library's own file or others: see [`crate::Zswap::add_tier`].
    file_pages,
    /// Pages that were stored, in the place of an older one as well.
    stores,
    /// Pages that were loaded, those that were taken included.
    loads,
    /// Pages that were taken: loaded and removed, as by [`crate::LoadFlags::TAKE`].
    takes,
    /// Pages that were loaded from tiers. `loads` counts them as well.
    file_loads,
    /// Loads that failed with [`crate::Error::NotFound`], because no page was stored at the offset.
    absent_loads,
    /// Pages that [`crate::Area::invalidate`] removed.
    invalidated,
    /// Pages that [`crate::Area::store_pages`] stored. `stores` counts them as well.
    batch_stores,
    /// Calls of [`crate::Area::store_pages`] that failed.
    batches_failed,
    /// Pages that were not stored because of the zswap's limit.
    refused_limit,
    /// Pages that were not stored because of the area's own limit.
    refused_area_limit,
    /// Pages that were not stored because of a limit, by an estimate of their size before they were compressed.
    refused_early,
    /// Pages that were not stored because the pool had no memory for them, also after it was compacted.
    refused_memory,
    /// Pages that were not stored because they do not compress: see [`crate::AreaOptions::refuse_incompressible`].
    refused_incompressible,
    /// Pages that were removed because the store that was to replace them failed.
    removed_by_failure,
    /// Pages that were compressed.
    compressions,
    /// Pages that were compressed and thrown away: refused after that, or rolled back.
    compressions_wasted,
    /// Pages that left the pool because they were written back.
    written_back,
    /// Pages that were written back and stayed in the pool, because they were loaded meanwhile.
    rescued,
    /// Pages that were replaced or removed while they were written back.
    overtaken,
    /// Writebacks that ended with [`crate::Refusal::Exists`].
    writeback_exists,
    /// Writebacks that ended with [`crate::Refusal::Again`], claims that were dropped included.
    writeback_again,
    /// Writebacks that ended with [`crate::Refusal::NoMemory`].
    writeback_no_memory,
    /// Writebacks that ended with [`crate::Refusal::Io`].
    writeback_io,
    /// Writebacks that ended with [`crate::Refusal::NoSpace`], or found all tiers full.
    writeback_no_space,
    /// Writebacks that ended with [`crate::Refusal::Other`], or with a panic of the callback.
    writeback_other,
    /// How often a stored page was found damaged: its check failed, or it could not be decoded.
    decode_failures,
    /// Loads from tiers that failed: the file can't be read, the tier is away, or the page is damaged or lost there.
    file_read_failures,
    /// Pages that [`crate::Area::recompress`] made smaller.
    recompressed,
    /// Pages that [`crate::Area::recompress`] tried in vain to make smaller.
    recompress_useless,
    /// Pages that came back from where they were written to: from a tier, or by
    /// [`crate::Area::note_refaults`].
    refaults,
    /// Pages that were moved on a tier, so that it takes less room, or to another tier, because theirs was removed: see
    /// [`crate::Zswap::compact`] and [`crate::Zswap::remove_tier`].
    moved_on_file,
}

impl Counts {
    /// Returns how many pages are stored now: in the pool, as one repeated word, or on a tier.
    pub fn pages(&self) -> u64 {
        self.pool_pages() + self.filled_pages + self.file_pages
    }

    /// Returns how many pages are in the pool now, compressed or as they came.
    pub fn pool_pages(&self) -> u64 {
        self.compressed_pages + self.raw_pages
    }

    /// Counts a page that came, by its word.
    #[inline]
    pub(super) fn came(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_add(1);
        }
    }

    /// Counts a page that went, by its word.
    #[inline]
    pub(super) fn went(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_sub(1);
        }
    }

    #[inline]
    fn gauge(&mut self, word: PageWord) -> Option<&mut u64> {
        match word.kind() {
            WordKind::Empty => None,
            WordKind::Filled(_) => Some(&mut self.filled_pages),
            WordKind::Stored(_) if word.is_raw() => Some(&mut self.raw_pages),
            WordKind::Stored(_) => Some(&mut self.compressed_pages),
            WordKind::Backed(_) => Some(&mut self.file_pages),
        }
    }
}

/// What a zswap has, and what happened in it: what [`crate::Zswap::stats`] returns, all at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ZswapStats {
    /// How many areas there are.
    pub areas: u64,
    /// How many pages the areas have room for.
    pub area_pages: u64,
    /// The limit on `used_bytes`. `None`, in JSON null: no limit.
    pub max_bytes: Option<u64>,
    /// Bytes that stored pages take in the pool, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory that the pool has from the system, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory that are not objects: the pool's tables, the areas' indexes, contexts, claims, counts.
    pub metadata_bytes: u64,
    /// How often the limit refused a page or a batch: because it was met then, or because it had been met, and usage
    /// had not fallen far enough since. `counts.refused_limit` has the pages that it refused: all of a batch.
    pub limit_hits: u64,
    /// How often the pool had no memory for a page, and was compacted at once to make room.
    pub capacity_hits: u64,
    /// How many [`crate::Claim`]s are held now.
    pub claims: u64,
    /// Bytes of all tiers that have pages now, in whole blocks of 4096 bytes.
    pub file_bytes: u64,
    /// Bytes of these pages, compressed as they are on the tiers. `file_bytes` grows to 1.3 times as many and a MiB
    /// before shrinks move pages together.
    pub file_page_bytes: u64,
    /// The counts of all areas, including those that were removed.
    pub counts: Counts,
}

/// What an area has, and what happened in it: what [`crate::Area::stats`] returns, all at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AreaStats {
    /// The number of the area. A zswap uses no number twice.
    pub area: u64,
    /// How many pages the area has room for.
    pub area_pages: u64,
    /// The area's own limit on `used_bytes`. `None`, in JSON null: no limit of its own.
    pub max_bytes: Option<u64>,
    /// Bytes that the area's stored pages take in the pool, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of the area's index and counts.
    pub metadata_bytes: u64,
    /// How often the area's own limit refused a page or a batch: because it was met then, or because it had been met,
    /// and usage had not fallen far enough since. `counts.refused_area_limit` has the pages that it refused: all of a
    /// batch.
    pub limit_hits: u64,
    /// The area's counts.
    pub counts: Counts,
}
