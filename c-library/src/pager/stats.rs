//! What a pager has and did.

use super::types::zspager_stats;
use super::zspager;
use crate::export::export;
use crate::swap::stats::put_text;
use std::ffi::{c_char, c_int};
use zsalloc::Error;

export! {
    /// Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
    ///
    /// Errors:
    /// -EINVAL: pager or stats is NULL, or struct_size is wrong.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_stats(pager: *mut zspager, stats: *mut zspager_stats) -> c_int {
        stats.set(pager.stats().into())
    }

    /// Stores in *nanoseconds a time that `permille` of 1000 touches did not take longer than to be
    /// served: 500 is the median, 999 what one of 1000 exceeds. Every eighth touch is timed, since the
    /// pager was created. It is right to a quarter. 0: none was timed. What the system does before and
    /// after, the signal or the wake-up, is not in it.
    ///
    /// Errors:
    /// -EINVAL: pager or nanoseconds is NULL, or permille is more than 1000.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_latency_permille(
        pager: *mut zspager,
        permille: u32,
        nanoseconds: *mut u64,
    ) -> c_int {
        const MUCH: Error = Error::Invalid(&"permille is more than 1000");
        if permille > 1000 {
            return Err(MUCH);
        }
        nanoseconds.set(pager.stats().latencies.permille(permille.into()))
    }

    /// Writes the statistics of the pager and of its zswap to `buffer` as JSON, ended with a NUL, and
    /// stores in *length how many bytes it has without the NUL. It is an object with the members
    /// "version", a number that changes when a member changes its meaning; "pager", an object with the
    /// fields of struct zspager_stats without struct_size, those that only grow inside of its member
    /// "counts"; and "zswap", what zswap_stats_json() writes, with an area for each region. The pager's
    /// member "latencies" has the member "buckets", an array of 128 counts of touches, of which every
    /// eighth is timed. Bucket i begins at i nanoseconds up to 3, and at (4 + i % 4) << (i / 4 - 1) from
    /// 4 on. Later versions can have more members.
    ///
    /// Errors:
    /// -EINVAL: pager or length is NULL, or buffer is NULL and size is not 0.
    /// -ENOSPC: it does not fit into `size` bytes; with size 0 it never does. *length is set all the
    ///     same, and buffer is an empty string. Come back with some more than *length + 1 bytes, for
    ///     figures grow.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_stats_json(
        pager: *mut zspager,
        buffer: *mut c_char,
        size: usize,
        length: *mut usize,
    ) -> c_int {
        // SAFETY: the caller has room for `size` bytes.
        unsafe { put_text(buffer.room_for(size)?, size, &length, |room| pager.write_stats_json(room)) }
    }
}
