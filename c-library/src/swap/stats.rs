//! Functions that return statistics of zswaps and areas.

use super::types::{zswap_area_stats, zswap_stats, zswap_usage};
use crate::export::{Out, export};
use crate::limits::{ZSWAP_LIMIT_AREA, ZSWAP_LIMIT_NONE, ZSWAP_LIMIT_ZSWAP};
use crate::structs::zs_pool_stats;
use crate::{zswap, zswap_area};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;
use zsalloc::plumbing::sentence;
use zsalloc::plumbing::zswap::usage_of_all;
use zsalloc::{Error, Result};

export! {
    /// Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
    ///
    /// Errors:
    /// -EINVAL: zswap or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; holds up the counters of all areas for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_stats(zswap: *mut zswap, stats: *mut zswap_stats) -> c_int {
        stats.set(zswap.stats()?.into())
    }

    /// Fills *usage with how full the zswap is. Set its struct_size first. Costs a few loads from memory,
    /// and stops no other thread, so it may be called before each store.
    ///
    /// Errors:
    /// -EINVAL: zswap or usage is NULL, or struct_size is wrong.
    ///
    /// Threads: any; never waits. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_usage(zswap: *mut zswap, usage: *mut zswap_usage) -> c_int {
        let of_zswap = zswap.usage();
        let refuses = if of_zswap.bytes_to_go > 0 { ZSWAP_LIMIT_ZSWAP } else { ZSWAP_LIMIT_NONE };
        usage.set(zswap_usage::of(of_zswap, of_zswap.bytes_to_go, refuses))
    }

    /// Fills *usage with how full the area is, and whether its own limit or the zswap's refuses its
    /// stores now. used_bytes and max_bytes are the area's. bytes_to_go is of the limit that refused_by
    /// names: with ZSWAP_LIMIT_ZSWAP so many bytes have to go from the areas together, from any of them.
    /// max_bytes is UINT64_MAX if the area has no limit of its own. If both limits refuse, refused_by is
    /// ZSWAP_LIMIT_ZSWAP, which a store meets first. So ask again once that many bytes have gone.
    ///
    /// Set its struct_size first. Costs a few loads from memory, and stops no other thread, so it may be
    /// called before each store.
    ///
    /// Errors:
    /// -EINVAL: area or usage is NULL, or struct_size is wrong.
    ///
    /// Threads: any; never waits. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_usage(area: *mut zswap_area, usage: *mut zswap_usage) -> c_int {
        let (own, all) = (area.usage(), usage_of_all(&area));
        // In the order of a store.
        let (refuses, to_go) = match (all.bytes_to_go, own.bytes_to_go) {
            (0, 0) => (ZSWAP_LIMIT_NONE, 0),
            (0, own) => (ZSWAP_LIMIT_AREA, own),
            (all, _) => (ZSWAP_LIMIT_ZSWAP, all),
        };
        usage.set(zswap_usage::of(own, to_go, refuses))
    }

    /// Fills *stats with the statistics of one area. Set its struct_size first. Fields that this library
    /// does not know become 0.
    ///
    /// Errors:
    /// -EINVAL: area or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; holds up the counters of the area for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_stats(area: *mut zswap_area, stats: *mut zswap_area_stats) -> c_int {
        stats.set(area.stats()?.into())
    }

    /// Fills *stats with the statistics of the zswap's pool, as zs_pool_stats() does for a pool.
    ///
    /// Errors:
    /// -EINVAL: zswap or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_pool_stats(zswap: *mut zswap, stats: *mut zs_pool_stats) -> c_int {
        stats.set(zswap.pool_stats()?.into())
    }

    /// Writes the statistics of the zswap and of all its areas, taken at one moment, and those of its
    /// tiers to `buffer` as JSON that ends with a NUL. Stores its length in bytes, without the NUL, in
    /// *length.
    ///
    /// The JSON is an object with five members. "version" is a number that changes when a member changes
    /// its meaning. "name" is the zswap's name. "zswap" is an object, and "areas" and "tiers" are arrays of
    /// objects. Their members are the fields of struct zswap_stats, struct zswap_area_stats and struct
    /// zswap_tier_stats, without struct_size; "counts" is an object. "max_bytes" is null where the field
    /// is UINT64_MAX. Each area and each tier also has its "name". The tiers are in the order in which
    /// pages are written to them; "is_file" is true or false, and "load_latencies" has the member
    /// "buckets", as that of zspager_stats_json() has for touches. Later versions may add members.
    ///
    /// This version needs at most 4 KiB, and 4 KiB more for each area, and 8 KiB for each tier.
    ///
    /// Errors:
    /// -EINVAL: zswap or length is NULL, or buffer is NULL and size is not 0.
    /// -ENOSPC: the text does not fit into `size` bytes, as it never does with size 0. *length is set
    ///     all the same, and buffer holds an empty string. Call again with somewhat more than *length +
    ///     1 bytes, because figures grow.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, one at a time: other calls for statistics of this zswap, and zswap_compact(), wait.
    /// So a thread that brings in a missing page of `buffer`, under a userfaultfd for example, must call
    /// neither. Holds up the counters of all areas for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_stats_json(
        zswap: *mut zswap,
        buffer: *mut c_char,
        size: usize,
        length: *mut usize,
    ) -> c_int {
        // SAFETY: the caller has room for `size` bytes.
        unsafe { put_text(buffer.room_for(size)?, size, &length, |room| zswap.write_stats_json(room)) }
    }
}

/// Writes a text to the caller's buffer, if it fits, and reports its length.
///
/// # Safety
/// `size` bytes can be written at `buffer`.
pub unsafe fn put_text(
    buffer: *mut u8,
    size: usize,
    length: &Out<usize>,
    write: impl Fn(&mut [MaybeUninit<u8>]) -> Result<usize>,
) -> Result<()> {
    const TOO_SMALL: Error =
        Error::TooLarge(sentence(&"the buffer is too small for the statistics: *length has the size they need"));
    let bytes: *mut MaybeUninit<u8> = if size == 0 { NonNull::dangling().as_ptr() } else { buffer.cast() };
    // SAFETY: the caller promises `size` writable bytes.
    let room = unsafe { slice::from_raw_parts_mut(bytes, size) };
    // Measure first, so that a text that does not fit leaves the buffer alone.
    let mut written = write(&mut [])?;
    if written < size {
        // Figures may have grown since the text was measured.
        written = write(room)?;
    }
    length.set(written)?;
    // The NUL must fit as well.
    let end = if written < size { written } else { 0 };
    if let Some(nul) = room.get_mut(end) {
        nul.write(0);
    }
    if written < size { Ok(()) } else { Err(TOO_SMALL) }
}
