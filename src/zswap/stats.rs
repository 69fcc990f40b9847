//! Statistics: what a zswap and its areas hold, and what happened to their pages.

use super::word::{PageKind, PageWord};
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
            /// Adds each of `other`'s.
            pub(crate) fn add(&mut self, other: &Self) {
                // Wrapping: a part counts pages that went where another counted that they came.
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
    /// Pages that repeat one word: they take no memory of the pool.
    filled_pages,
    /// Pages on the library's own backing file.
    file_pages,
    /// Pages that were stored.
    stores,
    /// Pages that were loaded, taken ones included.
    loads,
    /// Pages that were taken: loaded and removed.
    takes,
    /// Pages that were loaded from the library's own backing file.
    file_loads,
    /// Loads of pages that are not here.
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
    /// Of these, pages refused by the estimate, before they were compressed.
    refused_early,
    /// Pages refused because the pool had no memory, after it was compacted.
    refused_memory,
    /// Pages refused because they do not compress, by an area that does not store them as they came.
    refused_incompressible,
    /// Pages removed because their successor was refused.
    removed_by_failure,
    /// Pages that were compressed.
    compressions,
    /// Of these, pages that were thrown away: refused after all, or rolled back.
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
    /// Pages that a stronger codec gained nothing for.
    recompress_useless,
    /// Pages that came back from where they were written to, as the embedder told, or from the library's own file.
    refaults,
}

impl Counts {
    /// All pages that are here or on the library's own file.
    pub fn pages(&self) -> u64 {
        self.pool_pages() + self.filled_pages + self.file_pages
    }

    /// Pages in the pool.
    pub fn pool_pages(&self) -> u64 {
        self.compressed_pages + self.raw_pages
    }

    /// Counts that `word` came.
    #[inline]
    pub(super) fn came(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_add(1);
        }
    }

    /// Counts that `word` went.
    #[inline]
    pub(super) fn went(&mut self, word: PageWord) {
        if let Some(gauge) = self.gauge(word) {
            *gauge = gauge.wrapping_sub(1);
        }
    }

    #[inline]
    fn gauge(&mut self, word: PageWord) -> Option<&mut u64> {
        match word.kind() {
            PageKind::Empty => None,
            PageKind::Filled(_) => Some(&mut self.filled_pages),
            PageKind::Stored(_) if word.is_raw() => Some(&mut self.raw_pages),
            PageKind::Stored(_) => Some(&mut self.compressed_pages),
            PageKind::Backed(_) => Some(&mut self.file_pages),
        }
    }
}

/// What a zswap has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ZswapStats {
    /// Areas.
    pub areas: u64,
    /// Pages that they have room for.
    pub area_pages: u64,
    /// The limit in bytes of slots; `u64::MAX`: none.
    pub max_bytes: u64,
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
    /// The counts of all areas, removed ones included.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What an area has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AreaStats {
    /// Which area: numbers are not used twice.
    pub area: u64,
    /// Pages it has room for.
    pub area_pages: u64,
    /// Its limit in bytes of slots; `u64::MAX`: none of its own.
    pub max_bytes: u64,
    /// Bytes of the slots of its stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of its index and counts.
    pub metadata_bytes: u64,
    /// How often its limit was met.
    pub limit_hits: u64,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}
