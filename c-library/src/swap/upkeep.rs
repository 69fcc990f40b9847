//! Making room without writing back: compaction, and stronger codecs.

use super::options::codec as codec_of;
use crate::export::export;
use crate::structs::zs_compact_budget;
use crate::{zswap, zswap_area};
use std::ffi::c_int;

export! {
    /// Moves what is stored together and gives the memory that becomes free back to the system, as
    /// zs_compact() does for a pool; and so with the parts of the areas' indexes that have no page any
    /// more. Stores in *pages_freed how many pages of 4096 bytes the pool gave back. A store that finds
    /// the pool full does a little of it by itself.
    ///
    /// budget: as for zs_compact(), for what is moved.
    ///
    /// Errors:
    /// -EINVAL: zswap or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
    ///     is not known here.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_compact(
        zswap: *mut zswap,
        budget: *const zs_compact_budget,
        pages_freed: *mut u64,
    ) -> c_int {
        pages_freed.set(zswap.compact(&budget.all()?.into())?)
    }

    /// Looks at up to `pages` pages of the area that are in the pool, from where the last call ended,
    /// once around the area at most. Those that were not used since the last time are compressed anew,
    /// and replaced if that takes a smaller slot; others that it gains nothing for are marked, and not
    /// tried again. Stores in *recompressed how many became smaller.
    ///
    /// codec, level: one of ZSWAP_CODEC_*, and its level: normally ZSWAP_CODEC_ZSTD.
    ///
    /// Errors:
    /// -EINVAL: area or recompressed is NULL, or there is no such codec or level.
    /// -ENOMEM: there is no memory for the codec's contexts.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; takes as long as its work. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_recompress(
        area: *mut zswap_area,
        pages: u64,
        codec: u32,
        level: i32,
        recompressed: *mut u64,
    ) -> c_int {
        recompressed.set(area.recompress(pages, codec_of(codec, level)?)?)
    }
}
