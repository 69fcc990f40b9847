//! Functions that set limits, codec and backing file, and evict on demand.

use super::zspager;
use crate::export::export;
use crate::sized::unless_zero;
use crate::structs::zs_compact_budget;
use crate::swap::options::codec as codec_of;
use crate::swap::writeback::backing_file;
use std::ffi::c_int;
use std::os::fd::AsFd;
use zsalloc::plumbing::Uncancelled;

export! {
    /// Sets how many bytes of regions and staging range may be in memory, and evicts the excess before
    /// it returns. At least 64 KiB. 0: no limit.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or bytes is less than 64 KiB but not 0: the limit is as it was.
    /// -ENOMEM: the pool is full, and nothing can be written back. The limit is in force, and the excess
    ///     leaves as soon as it can.
    /// -EAGAIN: too much is held, or pinned by the system. The limit is in force, and the excess leaves
    ///     as soon as it can.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_resident_limit(pager: *mut zspager, bytes: u64) -> c_int {
        pager.set_resident_limit(unless_zero(bytes))
    }

    /// Sets how many bytes of slots compressed pages may take, at least 4112, as zswap_set_limit() does.
    /// 0: no limit but the pool's own. When the limit is reached, pages are written to the backing file;
    /// without one they stay in memory, above the limit of resident pages if necessary.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or the limit is 1 to 4111.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_pool_limit(pager: *mut zspager, bytes: u64) -> c_int {
        pager.set_pool_limit(unless_zero(bytes))
    }

    /// Sets how many pages in memory may keep their compressed copy, in percent of the limit on resident
    /// bytes, 0 to 100. The initial value is 10. A page that kept its copy and was only read since it
    /// came back can be evicted again without compression; meanwhile its copy takes memory of the pool.
    /// A kept copy goes when the pool is full, or when its page is written or evicted. A lower
    /// percentage stops new copies from being kept, and drops none at once.
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

    /// Sets the codec for pages that are compressed from now on, as zswap_set_codec() does.
    ///
    /// codec, level: one of ZSWAP_CODEC_*, and its level.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or there is no such codec or level.
    /// -ENOMEM: no memory for Zstandard's contexts.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_codec(pager: *mut zspager, codec: u32, level: c_int) -> c_int {
        pager.set_codec(codec_of(codec, level)?)
    }

    /// Sets the file that compressed pages are written to when the pool is full, or removes it, as
    /// zswap_set_backing_file() does.
    ///
    /// fd, bytes: a regular file or block device, opened with O_RDWR and without O_APPEND, and how many
    ///     of its bytes to use, from its beginning. -1 and 0: no file any more. The rules of
    ///     zswap_set_backing_file() for the descriptor apply.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL; fd is not a descriptor, is opened in another way, or is neither a regular
    ///     file nor a block device; or bytes is less than 4096 or more than 16 TiB, or is not 0 with fd
    ///     -1.
    /// -EBUSY: pages are on the file that was set before, or are being written to it.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: no memory for the file's table, of about 8 bytes a page.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_set_backing_file(pager: *mut zspager, fd: c_int, bytes: u64) -> c_int {
        // The duplicate is closed at the end, and close() is a cancellation point.
        let _whole = Uncancelled::new();
        pager.set_backing_file(backing_file(fd, bytes)?.as_ref().map(|(file, bytes)| (file.as_fd(), *bytes)))
    }

    /// Writes compressed pages that were not used lately to the backing file, until `pages` pages have
    /// left the pool. Stores in *written how many did, which may be fewer.
    ///
    /// Errors:
    /// -EINVAL: pager or written is NULL, or there is no backing file.
    /// -EAGAIN: no page could go now: the file is full or fails, or pages are in use. The zswap's
    ///     writeback_no_space and writeback_io in the JSON of zspager_stats_json() tell which.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any, several at once; takes as long as its work. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_write_back(pager: *mut zspager, pages: u64, written: *mut u64) -> c_int {
        written.set(pager.write_back(pages)?)
    }

    /// Moves stored pages together and gives the memory that this empties back to the system, as
    /// zswap_compact() does. Stores in *pages_freed how many pages of 4096 bytes that were.
    ///
    /// budget: how much the call may do; see zs_compact().
    ///
    /// Errors:
    /// -EINVAL: pager or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
    ///     field that this library does not know.
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

    /// Evicts `pages` pages that were not used lately, now and whatever the limit. Stores in *evicted
    /// how many went, which may be fewer or a few more; 0 if none is in memory.
    ///
    /// Errors:
    /// -EINVAL: pager or evicted is NULL.
    /// -ENOMEM: none went, because the pool is full and nothing can be written back.
    /// -EAGAIN: no page in memory could go now.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any; takes as long as its work. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_evict(pager: *mut zspager, pages: u64, evicted: *mut u64) -> c_int {
        evicted.set(pager.evict(pages)?)
    }
}
