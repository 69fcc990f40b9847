//! Functions that create, destroy and limit zswaps and areas.

use super::options::{codec as codec_of, convert, convert_area};
use super::pointers::{AreaPointer, ZswapPointer};
use super::types::{zswap_area_options, zswap_options};
use crate::export::export;
use crate::{sized, zswap, zswap_area};
use std::ffi::{c_int, c_void};
use zsalloc::plumbing::sentence;
use zsalloc::plumbing::{Uncancelled, zswap as plumbing};
use zsalloc::{Error, Zswap};

export! {
    /// Creates a zswap without areas and stores it in *zswap.
    ///
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or an option is wrong or contradicts another.
    /// -ENOMEM: the system gives no addresses (set a smaller tuning->pool->max_bytes, or raise RLIMIT_AS),
    ///     or no memory for the tables.
    /// The system's own errors are returned as they are: see zs_create_pool().
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_create(options: *const zswap_options, zswap: *mut *mut zswap) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the C caller is responsible for what the options point to.
        let converted = unsafe { convert(&options) };
        let created = converted.and_then(|(name, converted)| Zswap::new(name, &converted));
        let created = created.and_then(ZswapPointer::give);
        zswap.set(created?)
    }

    /// Destroys a zswap and gives its memory back. Remove its areas first. The context of
    /// zswap_set_writeback() is not used after this, and neither is that of a tier. Extents that are still
    /// on tiers are removed.
    ///
    /// No other call on the zswap may run at the same time or come later. In a forked child that has no
    /// copy of the pool, this frees what the child has of the zswap, even if areas are left.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EBUSY: the zswap has areas. Nothing has changed.
    ///
    /// Threads: one, while no other uses the zswap. Callbacks: -EBUSY in a callback of the same zswap,
    /// because the page is in one of its areas.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_destroy(zswap: *mut zswap) -> c_int {
        const HAS_AREAS: Error = Error::Busy(sentence(&"the zswap has areas: remove them first"));
        // A child without the pool can't remove pages. Areas that it still holds are lost with the zswap.
        if plumbing::check_usable(&zswap).is_ok() && zswap.area_count() != 0 {
            return Err(HAS_AREAS);
        }
        let _whole = Uncancelled::new();
        // SAFETY: the caller does not use it again.
        unsafe { zswap.destroy() };
        Ok(())
    }

    /// Prepares a fork() while other threads use the zswap: waits until no call on it or on its areas is
    /// running, and lets none begin before zswap_fork_done(). The thread that prepared must call
    /// zswap_fork_done() after fork(), in the parent and in the child. In between it must make no other
    /// call on the zswap or its areas: it would wait for itself. To prepare several zswaps, always use
    /// the same order. Handlers of pthread_atfork() may call the pair.
    ///
    /// After zswap_fork_done() the child has a complete copy: all areas with their pages. It may call
    /// every function on them. Claims (zswap_writeback_begin()) stay with the parent: in the child they
    /// have ended, and their pages are kept. If the zswap has a backing file, only one of the two
    /// processes may go on with it, and tiers of the program's own stay with the parent: see FORK.
    ///
    /// For a zswap that children do not get (see FORK), both functions do nothing and return 0, and the
    /// child's calls fail with -EPERM as always.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EAGAIN: a call did not end within a second. It may be in a callback that takes that long, wait
    ///     for a claim to end, or touch caller memory whose fault another call would have to serve.
    /// -EBUSY: this thread has already prepared a fork of this zswap; or it is inside a callback, whose
    ///     own call would have to end first.
    /// -ENOMEM: no memory for the list of areas.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    /// On failure nothing has changed. A child that is forked nevertheless must not use the zswap.
    ///
    /// Threads: any. Callbacks: -EBUSY.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_fork_prepare(zswap: *mut zswap) -> c_int {
        plumbing::fork_prepare(&zswap)
    }

    /// Ends what zswap_fork_prepare() began, after fork(), in the parent and in the child.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or this thread has not called zswap_fork_prepare().
    ///
    /// Threads: the one that called zswap_fork_prepare(). Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_fork_done(zswap: *mut zswap) -> c_int {
        plumbing::fork_done(&zswap)
    }

    /// Adds an area of `pages` pages, with the offsets 0 to pages - 1, and stores it in *area. A swap
    /// device, or the memory of a guest, would be an area. An area reserves 8 bytes of addresses per
    /// page, and takes memory for them as it is used.
    ///
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: zswap or area is NULL, pages is 0 or more than ZSWAP_MAX_AREA_PAGES, or an option is
    ///     wrong.
    /// -ENOMEM: the system gives no addresses, or malloc() no memory.
    /// -EPERM: this process is a forked child that has no copy of the pool.
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
        // SAFETY: the caller's name is NULL or a C string.
        let options = unsafe { convert_area(&options) }?;
        area.set(AreaPointer::give(zswap.add_area(pages, &options)?))
    }

    /// Removes an area with all its pages, including those on tiers, and frees it. It never
    /// waits. No other call on the area may begin at the same time or later. Calls on the zswap may:
    /// they skip the area, unless they are already working on it, as a zswap_shrink() may be; then this
    /// fails with -EBUSY.
    ///
    /// In a forked child that has no copy of the pool, this frees what the child has of the area.
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EBUSY: a call on the area is running, or a claim of zswap_writeback_begin() has not ended.
    ///     Nothing has changed.
    ///
    /// Threads: one, while no other uses the area. Callbacks: allowed for areas other than the one whose
    /// page the callback got; -EBUSY for that one.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_remove_area(area: *mut zswap_area) -> c_int {
        let _whole = Uncancelled::new();
        match area.remove() {
            Ok(()) | Err(Error::Forked) => area.let_go(),
            refused => return refused,
        }
        Ok(())
    }

    /// Returns the context that was set in zswap_area_options.context. Returns NULL for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_context(area: *mut zswap_area) -> *mut c_void {
        Ok(std::ptr::with_exposed_provenance_mut(area.context()))
    }

    /// Returns the number by which statistics tell areas apart. A zswap never gives the same number
    /// twice. Returns 0 for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_id(area: *mut zswap_area) -> u64 {
        Ok(area.id())
    }

    /// Returns the number of pages the area was added with. Returns 0 for NULL.
    ///
    /// Threads: any. Callbacks: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_pages(area: *mut zswap_area) -> u64 {
        Ok(area.pages())
    }

    /// Sets how many bytes of slots the stored pages of all areas may take, at least 4112, which one page
    /// may take. 0: no limit but the pool's own. The pool's memory may exceed the limit somewhat: see
    /// zswap_tuning.headroom_percent. A limit below what is stored is allowed: stores then fail with
    /// -ENOMEM until enough pages have gone. This call writes nothing back; call zswap_shrink() for that.
    /// It also forgets that the limit before was met: stores are accepted up to the new one, also if it
    /// is the same.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or the limit is 1 to 4111.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_limit(zswap: *mut zswap, max_bytes: u64) -> c_int {
        zswap.set_limit(sized::unless_zero(max_bytes))
    }

    /// Sets how many bytes of slots the pages of this area may take, at least 4112, which one page may
    /// take. 0: no limit of its own. A limit below what they take is allowed: stores then fail with
    /// -ENOMEM until enough pages have gone. The call also forgets that the limit before was met, as
    /// zswap_set_limit() does.
    ///
    /// Errors:
    /// -EINVAL: area is NULL, or the limit is 1 to 4111.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_set_limit(area: *mut zswap_area, max_bytes: u64) -> c_int {
        area.set_limit(sized::unless_zero(max_bytes))
    }

    /// Sets the codec for pages that are stored from now on. Pages that are already stored keep their
    /// codec, and are loaded as before. Only the first use of a level of ZSWAP_CODEC_ZSTD takes memory
    /// from malloc().
    ///
    /// codec, level: one of ZSWAP_CODEC_*, and its level.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, or there is no such codec or level.
    /// -ENOMEM: no memory for Zstandard's contexts.
    ///
    /// Threads: any; waits until each context has been idle for a moment. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_codec(zswap: *mut zswap, codec: u32, level: c_int) -> c_int {
        zswap.set_codec(codec_of(codec, level)?)
    }
}
