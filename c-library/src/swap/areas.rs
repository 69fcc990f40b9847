//! Zswaps and areas: creation, destruction, limits.

use super::options::{codec as codec_of, convert, convert_area};
use super::pointers::{AreaPointer, ZswapPointer};
use super::types::{zswap_area_options, zswap_options};
use crate::export::export;
use crate::{options, zswap, zswap_area};
use std::ffi::{c_int, c_void};
use zsalloc::plumbing::Uncancelled;
use zsalloc::{Error, Zswap};

export! {
    /// Creates a zswap, without areas, and stores it in *zswap.
    ///
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or an option is wrong or contradicts another.
    /// -ENOMEM: the system gives no addresses (give a smaller pool->max_bytes, or raise RLIMIT_AS), or
    ///     no memory for the tables.
    /// Others come from the system, as those of zs_create_pool().
    /// If options->message is set, a sentence there says what it was, unless zswap is NULL or
    /// struct_size is wrong.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_create(options: *const zswap_options, zswap: *mut *mut zswap) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the caller answers for what the options point to.
        let converted = unsafe { convert(&options) };
        let created = converted.and_then(|(name, converted)| Zswap::new(name, &converted));
        let created = created.and_then(ZswapPointer::give);
        let known = options.known();
        // SAFETY: the caller answers for the room for the message.
        let created = created.inspect_err(|&e| unsafe { options::tell(known.message, known.message_size, e) })?;
        zswap.set(created)
    }

    /// Destroys a zswap, and gives its memory back. The context of zswap_set_writeback() is not used
    /// any more. Remove its areas first.
    ///
    /// No other call on the zswap may be running, and none may come after it. In a forked child that
    /// did not get the pool it frees what the child has of it, whether areas are left or not.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EBUSY: it has areas. It stays as it was.
    ///
    /// Threads: one, when no other uses the zswap. Callbacks: -EBUSY in one of its own, since the page
    /// is in an area.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_destroy(zswap: *mut zswap) -> c_int {
        const HAS_AREAS: Error = Error::Busy(&"the zswap has areas: remove them first");
        // A child without the pool can't remove pages; areas that it does not let go are lost with it.
        if zswap.check_usable().is_ok() && zswap.area_count() != 0 {
            return Err(HAS_AREAS);
        }
        let _whole = Uncancelled::new();
        // SAFETY: the caller uses it no more.
        unsafe { zswap.destroy() };
        Ok(())
    }

    /// Makes this a moment to fork while other threads use the zswap: waits until no call on it or on its
    /// areas runs, and lets none begin before zswap_fork_done(). Call that after fork(), in the parent
    /// and in the child, by the thread that called this. This thread makes no other call on the zswap or
    /// its areas in between: it would wait for itself. Where several are prepared at a time, do so in one
    /// order everywhere. The pair may be called by handlers of pthread_atfork().
    ///
    /// After zswap_fork_done() the child has a whole copy: all areas, with the pages that they had, and
    /// it may call every function on them. Claims (zswap_writeback_begin()) that are held are the parent's:
    /// in the child they have ended, and their pages are kept. With a backing file only one of the
    /// processes may go on with the zswap: see FORK.
    ///
    /// For a zswap that children do not get (see FORK) both do nothing and return 0, and the child's
    /// calls are -EPERM as ever.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EAGAIN: a call did not end within a second. It may be in a callback that takes so long, wait for
    ///     a claim to end, or touch memory of its caller's whose fault another call would have to serve.
    /// -EBUSY: this thread has called it already, without zswap_fork_done(); or it is in a callback,
    ///     whose own call would have to end first.
    /// -ENOMEM: there is no memory for the list of areas.
    /// -EPERM: this process is a forked child that did not get the pool.
    /// If it fails, nothing has changed: a child that is forked nevertheless leaves the zswap alone.
    ///
    /// Threads: any. Callbacks: -EBUSY.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_fork_prepare(zswap: *mut zswap) -> c_int {
        zswap.fork_prepare()
    }

    /// Ends what zswap_fork_prepare() began, after fork(), in the parent and in the child.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or this thread has not called zswap_fork_prepare().
    ///
    /// Threads: the one that called zswap_fork_prepare(). Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_fork_done(zswap: *mut zswap) -> c_int {
        zswap.fork_done()
    }

    /// Adds an area of `pages` pages, which have the offsets 0 to pages - 1, and stores it in *area.
    /// What a swap device or the memory of a guest is, is an area. It reserves 8 bytes of addresses a
    /// page, and takes memory for them as it is used.
    ///
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: zswap or area is NULL, pages is 0 or more than ZSWAP_MAX_AREA_PAGES, or an option is
    ///     wrong.
    /// -ENOMEM: the system gives no addresses, or malloc() no memory.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_add_area(
        zswap: *mut zswap,
        pages: u64,
        options: *const zswap_area_options,
        area: *mut *mut zswap_area,
    ) -> c_int {
        let _whole = Uncancelled::new();
        area.set(AreaPointer::give(zswap.add_area(pages, &convert_area(&options)?)?))
    }

    /// Removes an area with all its pages, those on the backing file included, and frees it: no other
    /// call on it may begin at the same time or later. Calls on the zswap may: they pass the area by,
    /// unless they are at it already, such as a zswap_shrink(), which is -EBUSY. It waits for nobody.
    ///
    /// In a forked child that did not get the pool it frees what the child has of the area.
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EBUSY: a call on the area is running, or a claim of zswap_writeback_begin() was not ended. The
    ///     area stays as it was.
    ///
    /// Threads: one, when no other uses the area. Callbacks: allowed for other areas than the one whose
    /// page it was called with; for that one -EBUSY.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_remove_area(area: *mut zswap_area) -> c_int {
        let _whole = Uncancelled::new();
        match area.remove() {
            Ok(()) | Err(Error::Forked) => area.let_go(),
            refused => return refused,
        }
        Ok(())
    }

    /// The context that the area was given in zswap_area_options.context. NULL for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_context(area: *mut zswap_area) -> *mut c_void {
        Ok(std::ptr::with_exposed_provenance_mut(area.context()))
    }

    /// The number of the area, by which the statistics tell areas apart. A zswap gives none twice. 0
    /// for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_id(area: *mut zswap_area) -> u64 {
        Ok(area.id())
    }

    /// How many pages the area was added with. 0 for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_pages(area: *mut zswap_area) -> u64 {
        Ok(area.pages())
    }

    /// Sets the limit: how many bytes of slots the stored pages of all areas may take; 0: no limit but
    /// the pool's own. The pool's memory may go some way beyond it, as zswap_options.headroom_percent
    /// says. Less than is stored is allowed: stores are -ENOMEM then, until enough has gone. Nothing is
    /// written back by this: call zswap_shrink().
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_limit(zswap: *mut zswap, max_bytes: u64) -> c_int {
        zswap.set_limit(max_bytes)
    }

    /// Sets the area's own limit: how many bytes of slots its pages may take; 0: none of its own. Less
    /// than they take is allowed, as for zswap_set_limit().
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_set_limit(area: *mut zswap_area, max_bytes: u64) -> c_int {
        area.set_limit(max_bytes)
    }

    /// Sets what pages are compressed with from now on. Those that are stored keep what they were
    /// compressed with, and are loaded as before. Only the first use of a level of ZSWAP_CODEC_ZSTD
    /// takes memory from malloc().
    ///
    /// codec, level: one of ZSWAP_CODEC_*, and its level.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or there is no such codec or level.
    /// -ENOMEM: there is no memory for what Zstandard needs.
    ///
    /// Threads: any; waits until each context was idle for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_codec(zswap: *mut zswap, codec: u32, level: i32) -> c_int {
        zswap.set_codec(codec_of(codec, level)?)
    }
}
