//! Functions that store, load and invalidate pages.

use super::types::{ZSWAP_LOAD_EXCLUSIVE, ZSWAP_NOWAIT, ZSWAP_PAGE_SIZE, zswap_load_request};
use crate::export::export;
use crate::zswap_area;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use zsalloc::plumbing::sentence;
use zsalloc::plumbing::zswap::{self as plumbing, PAST_END};
use zsalloc::{Error, LoadFlags, Patience, Result};

export! {
    /// Stores a page: 4096 bytes, at any address. It replaces the page that was stored at this offset.
    /// The bytes are copied first, so they may change during the call; a mixture is stored then. A page
    /// that repeats 4 bytes (a page of zeros, say) takes no memory of the pool, and neither does one
    /// that repeats 8 bytes that form a signed 48-bit number, as addresses do.
    ///
    /// Errors, after which nothing is stored at this offset, not even the old page, unless the area has
    /// ZSWAP_AREA_KEEP_OLD:
    /// -ENOMEM: a limit was met, or the pool or the system has no memory; zs_last_limit() says which.
    ///     ZSWAP_LIMIT_AREA, ZSWAP_LIMIT_ZSWAP: zswap_area_usage() says how many bytes have to go before
    ///     the limit accepts pages again; one page is rarely enough. It may say 0, because another
    ///     thread has just made room. Make room, in batches, and try again:
    ///         while (zswap_area_usage(area, &usage) == 0 && usage.bytes_to_go > 0)
    ///             if ((usage.refused_by == ZSWAP_LIMIT_AREA ? zswap_shrink_area(area, 32, &pages)
    ///                                                       : zswap_shrink(zswap, 32, &pages)) != 0)
    ///                 break;
    ///     For the limit of an area, do not call zswap_shrink(): it gives all areas turns, and would
    ///     write back pages of the others.
    ///     ZSWAP_LIMIT_POOL: the pool itself is full, and usage says 0. Call zswap_compact(), remove
    ///     pages or write some back before you try again: a loop that only tries again never ends.
    ///     ZSWAP_LIMIT_NONE: the system has no memory.
    ///     Or write the page to the place it would be written back to. Nothing in the library waits for
    ///     room. To wait, make room here, or sleep on a condition variable, which the thread that writes
    ///     pages back or removes them signals.
    /// -ENOSPC: the page does not compress, and the area has ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
    /// Errors, after which nothing has changed:
    /// -EINVAL: area or page is NULL, or the offset is past the end of the area.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. A store that succeeds waits for no writeback, and neither does one that leaves the
    /// old page. Any other store that fails with -ENOMEM or -ENOSPC waits as zswap_invalidate() does. In
    /// a callback, or for a claim of its own thread, it does not wait.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_store(area: *mut zswap_area, offset: u64, page: *const c_void) -> c_int {
        let page = page.of_size(ZSWAP_PAGE_SIZE)?;
        // SAFETY: the caller has a page there.
        unsafe { plumbing::store_from(&area, offset, page) }
    }

    /// Stores `count` consecutive pages at the offsets from `offset` on: all of them or none. A load
    /// that runs meanwhile sees each page either as it was or as it will be. Room for all pages is
    /// reserved before the first one is compressed.
    ///
    /// Errors, after which nothing is stored at these offsets, not even the old pages, unless the area
    /// has ZSWAP_AREA_KEEP_OLD:
    /// -ENOMEM, -ENOSPC: as for zswap_store(). -ENOMEM also if there is probably no room for all of
    ///     them. Then zswap_area_usage() may say that no bytes have to go, because a single page has
    ///     room: make room for as many pages as the batch has, or store fewer in one call.
    /// Errors, after which nothing has changed:
    /// -EINVAL: area is NULL, pages is NULL and count is not 0, count is more than ZSWAP_MAX_BATCH, the
    ///     offset is past the end of the area (even if count is 0), or the range reaches past the end.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. If more threads store than there are contexts, they wait for each other; otherwise
    /// as for zswap_store(). Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_store_pages(
        area: *mut zswap_area,
        offset: u64,
        pages: *const c_void,
        count: usize,
    ) -> c_int {
        // Only NULL is refused here. The crate checks the range.
        let pages = pages.of_size(count)?;
        // SAFETY: the caller passed `count` pages.
        unsafe { plumbing::store_pages_from(&area, offset, pages, count) }
    }

    /// Loads a page into the 4096 bytes at `page`, which may be at any address. Nothing else may use
    /// these bytes during the call.
    ///
    /// flags: 0, or ZSWAP_LOAD_EXCLUSIVE, or that and ZSWAP_NOWAIT. With ZSWAP_LOAD_EXCLUSIVE the page
    ///     leaves the area, and the bytes at `page` are the only copy: use it only if the page is to
    ///     live there. When the call returns, no writeback of the page is running, so what the program
    ///     then writes to the page's place on disk is not overwritten.
    ///
    /// Errors, after which a stored page stays stored:
    /// -EINVAL: area or page is NULL, a flag is unknown, or the offset is past the end of the area.
    /// -ENOENT: no page is stored at this offset.
    /// -EBADMSG: the stored page is damaged. It can't be loaded, and stays until it is replaced or
    ///     invalidated.
    /// -EIO: the backing file can't be read; or the page's tier has lost the page, or returns damaged
    ///     bytes or those of another time. The page stays until it is replaced or invalidated.
    /// -EAGAIN: the page is on a tier of the program's own that is away now. The page stays: try again
    ///     later. With ZSWAP_LOAD_EXCLUSIVE and ZSWAP_NOWAIT also: the page is being written back.
    /// -EBUSY, with ZSWAP_LOAD_EXCLUSIVE only: the page is being written back, and this is a callback,
    ///     or the claim belongs to this thread. In a tier's own function: the page is on a tier of the
    ///     program's own.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    /// After an error the bytes at `page` are unchanged, with two exceptions. With ZSWAP_LOAD_EXCLUSIVE,
    /// after -ENOENT, -EBUSY and -EAGAIN, they may hold the page as it was. And when a damaged LZ4 page
    /// still has a matching check, about once in 2^32 times, it is decoded into them: if the decoder
    /// fails, the result is -EBADMSG and the bytes have changed.
    ///
    /// Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for a running writeback of this page;
    /// without, it never waits for a writeback. A page on a tier takes as long as the tier does.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load(area: *mut zswap_area, offset: u64, page: *mut c_void, flags: u32) -> c_int {
        let flags = load_flags(flags)?;
        let page = page.room_for(ZSWAP_PAGE_SIZE)?;
        // SAFETY: the caller has room for a page there, which nothing else uses; bytes may be at any address.
        area.load(offset, unsafe { &mut *page.cast() }, flags)
    }

    /// Loads `count` pages, from the offsets from `offset` on, into consecutive memory at `pages`. Each
    /// page is loaded as zswap_load() would, and a page that fails does not stop the others. One call is
    /// faster than `count` calls.
    ///
    /// results: NULL, or an array of `count` numbers. Each is set to the result for its page: 0, or an
    ///     error of zswap_load().
    ///
    /// Errors, after which nothing was loaded and results is unchanged:
    /// -EINVAL: area is NULL, pages is NULL and count is not 0, a flag is unknown, the offset is past
    ///     the end of the area (even if count is 0), or the range reaches past the end.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    /// Otherwise the result is that of the first page that failed, or 0.
    ///
    /// Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for running writebacks of these pages;
    /// without, it never waits for a writeback. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load_pages(
        area: *mut zswap_area,
        offset: u64,
        pages: *mut c_void,
        count: usize,
        flags: u32,
        results: Option<NonNull<c_int>>,
    ) -> c_int {
        let flags = load_flags(flags)?;
        let pages = pages.room_for(count)?;
        check_range(area.pages(), offset, count)?;
        plumbing::load_each(
            &area,
            count,
            |at| offset + at as u64,
            // SAFETY: the caller passed room for `count` pages, which nothing else uses.
            |at| unsafe { &mut *pages.add(at * ZSWAP_PAGE_SIZE).cast() },
            flags,
            // SAFETY: the caller passed NULL, or room for `count` numbers.
            |at, result| unsafe { results.tell(at, result_of(result)) },
        )
    }

    /// Loads `count` pages, each from its own offset to its own address, as `requests` says: an array of
    /// `count` structs, each with an offset and a page. Otherwise it works as zswap_load_pages() does:
    /// each request's result is set to 0 or an error of zswap_load(). Nothing else may change the array
    /// during the call, and the pages must not overlap. An offset may occur twice; with
    /// ZSWAP_LOAD_EXCLUSIVE only one of the two loads finds the page.
    ///
    /// Errors, after which nothing was loaded and no request's result has changed:
    /// -EINVAL: area is NULL; requests or the page of one is NULL and count is not 0; a flag is unknown;
    ///     or an offset is past the end of the area.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    /// Otherwise the call returns the result of the first page that failed, or 0.
    ///
    /// Threads: any. With ZSWAP_LOAD_EXCLUSIVE the call waits for running writebacks of these pages;
    /// without, it never waits for a writeback. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load_scattered(
        area: *mut zswap_area,
        requests: *mut zswap_load_request,
        count: usize,
        flags: u32,
    ) -> c_int {
        const NO_PAGE: Error = Error::Invalid(sentence(&"the page of a request is NULL"));
        let flags = load_flags(flags)?;
        let requests = requests.array(count)?;
        // SAFETY: the array has `count` elements.
        let request = |at| unsafe { requests.get(at) };
        if (0..count).any(|at| request(at).page.is_null()) {
            return Err(NO_PAGE);
        }
        plumbing::load_each(
            &area,
            count,
            |at| request(at).offset,
            // SAFETY: the caller has room for a page there, which nothing else uses.
            |at| unsafe { &mut *request(at).page.cast() },
            flags,
            // SAFETY: the array has `count` elements, and is writable.
            |at, result| unsafe { requests.set(at, zswap_load_request { result: result_of(result), ..request(at) }) },
        )
    }

    /// Removes all pages stored at the `count` offsets from `offset` on. Offsets that hold none are
    /// fine. The time grows with the number of stored pages. When the call returns 0, no writeback of
    /// these pages that began earlier is running, so what the program then writes to their places on
    /// disk is not overwritten, and claims of these pages have no effect.
    ///
    /// flags: 0, or ZSWAP_NOWAIT.
    ///
    /// Errors, after which nothing has changed (or, if a writeback began during the call, the pages
    /// before the one being written are removed):
    /// -EINVAL: area is NULL, a flag is unknown, the offset is past the end of the area (even if count
    ///     is 0), or the range reaches past the end.
    /// -EBUSY: a page of the range is being written back, and this is a callback, or the claim belongs
    ///     to this thread.
    /// -EAGAIN, with ZSWAP_NOWAIT: a page of the range is being written back.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Waits for running writebacks of pages in the range: until the callback returns or
    /// the claim is ended. It need not wait for writes to tiers. Callbacks: allowed, and never waits
    /// there.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_invalidate(area: *mut zswap_area, offset: u64, count: u64, flags: u32) -> c_int {
        const NO_SUCH_FLAG: Error = Error::Invalid(sentence(&"flags has a flag that zswap_invalidate() does not know"));
        if flags & !ZSWAP_NOWAIT != 0 {
            return Err(NO_SUCH_FLAG);
        }
        area.invalidate(offset, count, patience(flags))
    }

    /// Finds the first offset from `from` on that holds a page, in the pool or on a tier, and stores it in
    /// *offset. Empty offsets cost next to nothing.
    ///
    /// Errors:
    /// -EINVAL: area or offset is NULL.
    /// -ENOENT: no page is stored from there on.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_next_stored(area: *mut zswap_area, from: u64, offset: *mut u64) -> c_int {
        offset.set(plumbing::next_stored(&area, from)?)
    }
}

/// Converts the flags of a load.
#[inline]
fn load_flags(flags: u32) -> Result<LoadFlags> {
    const NO_SUCH_FLAG: Error = Error::Invalid(sentence(&"flags has a flag that loads do not know"));
    if flags & !(ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT) != 0 {
        return Err(NO_SUCH_FLAG);
    }
    Ok(LoadFlags { exclusive: flags & ZSWAP_LOAD_EXCLUSIVE != 0, patience: patience(flags) })
}

#[inline]
fn patience(flags: u32) -> Patience {
    if flags & ZSWAP_NOWAIT != 0 { Patience::NoWait } else { Patience::Wait }
}

/// Returns the result of one page of many, as C gets it.
fn result_of(result: Result<()>) -> c_int {
    result.map_or_else(|error| -error.errno(), |()| 0)
}

/// Refuses a range that reaches past the end of an area, before anything counts through its offsets.
fn check_range(pages: u64, offset: u64, count: usize) -> Result<()> {
    let fits = offset < pages && count as u64 <= pages - offset;
    if fits { Ok(()) } else { Err(PAST_END) }
}
