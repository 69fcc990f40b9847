//! Functions that return statistics of a pager.

use super::types::zspager_stats;
use super::zspager;
use crate::export::export;
use crate::swap::stats::put_text;
use std::ffi::{c_char, c_int};
use zsalloc::Error;
use zsalloc::plumbing::sentence;

export! {
    /// Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
    ///
    /// Errors:
    /// -EINVAL: pager or stats is NULL, or struct_size is wrong.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_stats(pager: *mut zspager, stats: *mut zspager_stats) -> c_int {
        stats.set(pager.stats().into())
    }

    /// Stores in *nanoseconds how long touches took to be served: a time that `permille` of 1000 touches
    /// did not exceed. 500 gives the median; 999 gives the time that one touch in 1000 exceeds. Every
    /// eighth touch since the pager was created is timed. The result is exact to a quarter; 0 if no
    /// touch was timed. It does not include what the system does before and after: the signal or the
    /// wake-up.
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
        const MUCH: Error = Error::Invalid(sentence(&"permille is more than 1000"));
        if permille > 1000 {
            return Err(MUCH);
        }
        nanoseconds.set(pager.stats().latencies.permille(permille.into()))
    }

    /// Writes the statistics of the pager and of its zswap to `buffer` as JSON that ends with a NUL.
    /// Stores its length in bytes, without the NUL, in *length.
    ///
    /// The JSON is an object with three members. "version" is a number that changes when a member
    /// changes its meaning. "pager" is an object with the fields of struct zspager_stats without
    /// struct_size; those that only grow are in its member "counts", and "eviction" is "in-place",
    /// "moving", "in-place-without-move" or "in-place-beside-swap". "zswap" is what zswap_stats_json()
    /// writes, with one area for each region. The pager's member "latencies" has the member "buckets",
    /// an array of 128 counts of touches, of which every eighth is timed. Bucket i begins at i
    /// nanoseconds for i up to 3, and at (4 + i % 4) << (i / 4 - 1) nanoseconds from 4 on. Later
    /// versions may add members.
    ///
    /// This version needs at most 12 KiB, and 4 KiB more for each region, and 8 KiB for each tier.
    ///
    /// Errors:
    /// -EINVAL: pager or length is NULL, or buffer is NULL and size is not 0.
    /// -ENOSPC: the text does not fit into `size` bytes, as it never does with size 0. *length is set
    ///     all the same, and buffer holds an empty string. Call again with somewhat more than *length +
    ///     1 bytes, because figures grow.
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
