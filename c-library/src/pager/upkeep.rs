//! Limits, codec, backing file, and eviction on demand.

use super::zspager;
use crate::export::export;
use crate::structs::zs_compact_budget;
use crate::swap::options::codec as codec_of;
use crate::swap::writeback::backing_file;
use std::ffi::c_int;
use std::os::fd::AsFd;
use zsalloc::plumbing::Uncancelled;

export! {
    /// Sets the limit: how many bytes of pages of regions and the staging range may be in memory; 0: no
    /// limit; less than 64 KiB: 64 KiB. Evicts what is above it before it returns.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -ENOMEM: the pool is full, and nothing can be written back. The limit holds from then on, and
    ///     what is above it goes as soon as it can.
    /// -EAGAIN: too much is held, or pinned by the system. The limit holds as with -ENOMEM.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_resident_limit(pager: *mut zspager, bytes: u64) -> c_int {
        pager.set_resident_limit(bytes)
    }

    /// Sets how many bytes of slots the compressed pages may take, as zswap_set_limit(); 0: no limit but
    /// the pool's own. Once it is met pages are written to the backing file; without one they stay in
    /// memory, above the limit of resident pages if need be.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_pool_limit(pager: *mut zspager, bytes: u64) -> c_int {
        pager.set_pool_limit(bytes)
    }

    /// Sets for how many pages that are in memory a compressed copy may be kept, in percent of the limit
    /// on resident bytes, 0 to 100; 10 at first. A page that was only read since it came back is evicted
    /// again without being compressed, if its copy was kept; the copy takes memory of the pool
    /// meanwhile. Copies that are kept go when the pool is full, or their pages are written or evicted:
    /// a lower percentage keeps no new ones, and drops none at once.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or percent is more than 100.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_kept_copies(pager: *mut zspager, percent: u32) -> c_int {
        pager.set_kept_copies(u8::try_from(percent).unwrap_or(u8::MAX))
    }

    /// Sets what pages are compressed with from now on, as zswap_set_codec().
    ///
    /// codec, level: one of ZSWAP_CODEC_*, and its level.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or there is no such codec or level.
    /// -ENOMEM: there is no memory for what Zstandard needs.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_codec(pager: *mut zspager, codec: u32, level: i32) -> c_int {
        pager.set_codec(codec_of(codec, level)?)
    }

    /// Sets the file that compressed pages are written to when the pool is full, or none any more, as
    /// zswap_set_backing_file().
    ///
    /// fd, bytes: as there: a regular file or a block device, opened with O_RDWR and without O_APPEND,
    ///     and its first `bytes` bytes. -1 and 0: no file any more.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, the descriptor is none, is opened otherwise, or is not one of a regular
    ///     file or a block device, or bytes is less than 4096 or more than 16 TiB, or not 0 with -1.
    /// -EBUSY: pages are on the file that was set before, or are being written to it.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: there is no memory for its table, of some 8 bytes a page.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_backing_file(pager: *mut zspager, fd: i32, bytes: u64) -> c_int {
        // A descriptor is closed when this returns, where a thread could be cancelled.
        let _whole = Uncancelled::new();
        pager.set_backing_file(backing_file(fd, bytes)?.as_ref().map(|(file, bytes)| (file.as_fd(), *bytes)))
    }

    /// Writes compressed pages that were not used lately to the backing file, until `pages` pages have
    /// left the pool. Stores in *written how many did, which can be fewer than asked.
    ///
    /// Errors:
    /// -EINVAL: pager or written is NULL, or there is no backing file.
    /// -EAGAIN: no page could go now: the file is full or fails, or pages are in use. In the JSON of
    ///     zspager_stats_json() the zswap's writeback_no_space and writeback_io tell which.
    /// -EIO: the library's descriptor of the backing file was closed, or is another file's now. Nothing
    ///     was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any, several at once; takes as long as its work. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_write_back(pager: *mut zspager, pages: u64, written: *mut u64) -> c_int {
        written.set(pager.write_back(pages)?)
    }

    /// Moves what is in the pool together and gives the memory that becomes free back to the system, as
    /// zswap_compact(). Stores in *pages_freed how many pages of 4096 bytes that were.
    ///
    /// budget: as for zs_compact().
    ///
    /// Errors:
    /// -EINVAL: pager or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
    ///     is not known here.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_compact(
        pager: *mut zspager,
        budget: *const zs_compact_budget,
        pages_freed: *mut u64,
    ) -> c_int {
        pages_freed.set(pager.compact(&budget.all()?.into())?)
    }

    /// Evicts `pages` pages now, of those that were not used lately, whatever the limit says. Stores in
    /// *evicted how many went, which can be fewer or a few more than asked: 0, if none is in memory.
    ///
    /// Errors:
    /// -EINVAL: pager or evicted is NULL.
    /// -ENOMEM: none went, for the pool is full, and nothing can be written back.
    /// -EAGAIN: none of those in memory could go now.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any; takes as long as its work. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_evict(pager: *mut zspager, pages: u64, evicted: *mut u64) -> c_int {
        evicted.set(pager.evict(pages)?)
    }
}
