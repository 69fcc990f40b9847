//! Statistics: what a zswap and its areas hold, and what happened to their pages.

use super::word::{PageWord, WordKind};
use serde::Serialize;

macro_rules! counts {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Counts of pages and events: of an area, or of all areas since the zswap was created.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Pages in the pool that a codec made shorter.
    compressed_pages,
    /// Pages in the pool that did not compress, and are stored as they came.
    raw_pages,
    /// Pages that repeat one word, and take no memory of the pool.
    filled_pages,
    /// Pages on the library's own backing file.
    file_pages,
    /// Pages that were stored.
    stores,
    /// Pages that were loaded, including those that were taken.
    loads,
    /// Pages that were taken: loaded and removed.
    takes,
    /// Pages that were loaded from the library's own backing file.
    file_loads,
    /// Loads of pages that were not stored.
    absent_loads,
    /// Pages that were removed by invalidate.
    invalidated,
    /// Pages of batches that were stored; counted in `stores` as well.
    batch_stores,
    /// Batches that failed.
    batches_failed,
    /// Pages refused because of the zswap's limit.
    refused_limit,
    /// Pages refused because of the area's limit.
    refused_area_limit,
    /// Pages refused because of a limit by their estimate, before they were compressed.
    refused_early,
    /// Pages refused because the pool had no memory, after it was compacted.
    refused_memory,
    /// Pages refused because they do not compress, by areas that refuse such pages.
    refused_incompressible,
    /// Pages removed because the store that was to replace them was refused.
    removed_by_failure,
    /// Pages that were compressed.
    compressions,
    /// Pages that were compressed and thrown away: refused after that, or rolled back.
    compressions_wasted,
    /// Pages written back.
    written_back,
    /// Pages kept because they were loaded while they were written back.
    rescued,
    /// Pages that were replaced or removed while they were written back.
    overtaken,
    /// Writebacks refused with EEXIST: the embedder has the page already.
    writeback_exists,
    /// Writebacks refused with EAGAIN.
    writeback_again,
    /// Writebacks refused with ENOMEM.
    writeback_no_memory,
    /// Writebacks refused with EIO.
    writeback_io,
    /// Writebacks refused with ENOSPC.
    writeback_no_space,
    /// Writebacks refused otherwise; a panic of the callback counts here.
    writeback_other,
    /// Entries that failed their check, or could not be decoded.
    decode_failures,
    /// Reads of the library's own backing file that failed.
    file_read_failures,
    /// Pages that were stored anew with a stronger codec.
    recompressed,
    /// Pages that a stronger codec did not make smaller.
    recompress_useless,
    /// Pages that came back from where they were written to: from the library's own file, or as the embedder noted.
    refaults,
}

impl Counts {
    /// Returns how many pages are stored, on the library's own file as well.
    pub fn pages(&self) -> u64 {
        self.pool_pages() + self.filled_pages + self.file_pages
    }

    /// Returns how many pages are in the pool.
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

/// What a zswap has, and what happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ZswapStats {
    /// How many areas there are.
    pub areas: u64,
    /// How many pages the areas have room for.
    pub area_pages: u64,
    /// The limit in bytes of slots. `None`, in JSON null: no limit.
    pub max_bytes: Option<u64>,
    /// Bytes of the slots of stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory that the pool has from the system, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory that are not objects: the pool's tables, the areas' indexes, contexts, claims, counts.
    pub metadata_bytes: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// How often the pool was compacted because it had no memory for a page.
    pub capacity_hits: u64,
    /// Claims for writeback that callers hold.
    pub claims: u64,
    /// Bytes of the library's own file that are taken.
    pub file_bytes: u64,
    /// The counts of all areas, including those that were removed.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What an area has, and what happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AreaStats {
    /// The number of the area. A zswap uses no number twice.
    pub area: u64,
    /// How many pages the area has room for.
    pub area_pages: u64,
    /// The area's limit in bytes of slots. `None`, in JSON null: no limit of its own.
    pub max_bytes: Option<u64>,
    /// Bytes of the slots of the area's stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of the area's index and counts.
    pub metadata_bytes: u64,
    /// How often the area's limit was met.
    pub limit_hits: u64,
    /// The area's counts.
    #[serde(flatten)]
    pub counts: Counts,
}
