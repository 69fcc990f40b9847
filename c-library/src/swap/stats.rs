//! What a zswap and its areas have and did.

use super::types::{zswap_area_stats, zswap_stats};
use crate::export::{Out, export};
use crate::structs::zs_pool_stats;
use crate::{zswap, zswap_area};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::slice;
use zsalloc::{Error, Result};

export! {
    /// Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
    ///
    /// Errors:
    /// -EINVAL: zswap or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; stops the counting of all areas for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_stats(zswap: *mut zswap, stats: *mut zswap_stats) -> c_int {
        stats.set(zswap.stats()?.into())
    }

    /// Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
    ///
    /// Errors:
    /// -EINVAL: area or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; stops the counting of the area for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_stats(area: *mut zswap_area, stats: *mut zswap_area_stats) -> c_int {
        stats.set(area.stats()?.into())
    }

    /// Fills *stats with what the zswap's pool has, as zs_pool_stats() does for a pool.
    ///
    /// Errors:
    /// -EINVAL: zswap or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_pool_stats(zswap: *mut zswap, stats: *mut zs_pool_stats) -> c_int {
        stats.set(zswap.pool_stats()?.into())
    }

    /// Writes the statistics of the zswap and of each area, at one moment, to `buffer` as JSON, ended
    /// with a NUL, and stores in *length how many bytes it has without the NUL. It is an object with
    /// the members "version", a number that changes when a member changes its meaning; "zswap", an
    /// object; and "areas", an array of objects. Those objects have as members the fields of struct
    /// zswap_stats and struct zswap_area_stats without struct_size, those of counts directly among
    /// them. Later versions can have more members.
    ///
    /// Errors:
    /// -EINVAL: zswap or length is NULL, or buffer is NULL and size is not 0.
    /// -ENOSPC: it does not fit into `size` bytes; with size 0 it never does. *length is set all the
    ///     same, and buffer is an empty string. Come back with some more than *length + 1 bytes, for
    ///     figures grow.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any, one at a time: others that ask for statistics of the zswap, or compact it, wait. So
    /// a thread that brings a missing page of `buffer`, as under a userfaultfd, must do neither. Stops
    /// the counting of all areas for a moment. Callbacks: allowed.
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

/// Puts a text where it is wanted, if it fits, and tells its length.
///
/// # Safety
/// `size` bytes can be written at `buffer`.
pub unsafe fn put_text(
    buffer: *mut u8,
    size: usize,
    length: &Out<usize>,
    write: impl Fn(&mut [MaybeUninit<u8>]) -> Result<usize>,
) -> Result<()> {
    const TOO_SMALL: Error = Error::NoSpace(&"the buffer is too small for the statistics");
    let bytes: *mut MaybeUninit<u8> = if size == 0 { NonNull::dangling().as_ptr() } else { buffer.cast() };
    // SAFETY: the caller vouches for `size` bytes.
    let room = unsafe { slice::from_raw_parts_mut(bytes, size) };
    // Measured first, so that what does not fit leaves the buffer alone.
    let mut written = write(&mut [])?;
    if written < size {
        // Figures grow from one time to the next.
        written = write(room)?;
    }
    length.set(written)?;
    // The NUL has to fit as well.
    let end = if written < size { written } else { 0 };
    if let Some(nul) = room.get_mut(end) {
        nul.write(0);
    }
    if written < size { Ok(()) } else { Err(TOO_SMALL) }
}
