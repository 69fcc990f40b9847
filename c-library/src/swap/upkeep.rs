//! Functions that make room without writing back: compaction and recompression.

use super::options::codec as codec_of;
use crate::export::export;
use crate::structs::zs_compact_budget;
use crate::{zswap, zswap_area};
use std::ffi::c_int;

export! {
    /// Moves stored pages together and gives the memory that this empties back to the system, as
    /// zs_compact() does for a pool. Also gives back the parts of the areas' indexes that hold no page,
    /// and the end of the pool's table of handles, which it empties first: each page that gets another
    /// handle for that counts as 64 bytes in the budget. Stores in *pages_freed how many pages of 4096
    /// bytes the pool gave back. A store that finds the pool full does a little compaction itself.
    ///
    /// As far as the budget lasts, it then moves what is left of mostly dead extents on tiers together, and
    /// removes extents whose last page has gone.
    ///
    /// budget: how much the call may move; see zs_compact().
    ///
    /// Errors:
    /// -EINVAL: zswap or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
    ///     field that this library does not know.
    /// -EBUSY: this is a tier's own function.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_compact(
        zswap: *mut zswap,
        budget: *const zs_compact_budget,
        pages_freed: *mut u64,
    ) -> c_int {
        pages_freed.set(zswap.compact(&budget.all()?.into())?)
    }

    /// Compresses cold pages again with another codec. Looks at up to `pages` pages of the area that are
    /// in the pool, from where the last call ended, and at most once around the area. A page that was
    /// not used since the last look is compressed again, and replaced if that takes a smaller slot. A
    /// page that gains nothing is marked and not tried again. Stores in *recompressed how many became
    /// smaller.
    ///
    /// codec, level: one of ZSWAP_CODEC_*, normally ZSWAP_CODEC_ZSTD, and its level.
    ///
    /// Errors:
    /// -EINVAL: area or recompressed is NULL, or there is no such codec or level.
    /// -ENOMEM: no memory for the codec's contexts.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; takes as long as its work. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_recompress(
        area: *mut zswap_area,
        pages: u64,
        codec: u32,
        level: c_int,
        recompressed: *mut u64,
    ) -> c_int {
        recompressed.set(area.recompress(pages, codec_of(codec, level)?)?)
    }
}
