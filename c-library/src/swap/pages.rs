//! What is done to pages: store, load, invalidate.

use super::types::{ZSWAP_LOAD_EXCLUSIVE, ZSWAP_NOWAIT, ZSWAP_PAGE_SIZE};
use crate::export::export;
use crate::zswap_area;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use zsalloc::plumbing::PAST_END;
use zsalloc::{Error, LoadFlags, Patience, Result};

export! {
    /// Stores a page: 4096 bytes, at any address. What was stored at this offset is replaced. The page
    /// is copied before anything else, so that it may change during the call: some mixture is stored
    /// then. A page that repeats 4 bytes, such as a page of zeros, or 8 bytes that are a number of at
    /// most 48 bits with its sign, such as an address, takes no memory of the pool.
    ///
    /// Errors, after which nothing is stored at this offset, nor what was there before:
    /// -ENOMEM: a limit is met, or the system gives no memory. Shrink, then try again, or write the
    ///     page to where it would be written back to.
    /// -ENOSPC: the page does not compress, and the area has ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
    /// Errors, after which nothing has changed:
    /// -EINVAL: area or page is NULL, or the offset is past the end of the area.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. When it succeeds it waits for no writeback; when it fails with -ENOMEM or -ENOSPC,
    /// it waits as zswap_invalidate() does, but not in a callback, nor for a claim of its own thread.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_store(area: *mut zswap_area, offset: u64, page: *const c_void) -> c_int {
        let page = page.of_size(ZSWAP_PAGE_SIZE)?;
        // SAFETY: the caller has a page there.
        unsafe { area.store_from(offset, page) }
    }

    /// Stores `count` pages that lie one after the other, at the offsets from `offset` on: all of them
    /// or none. A load that runs meanwhile sees each page as it was or as it will be. Room for all of
    /// them is reserved before the first one is compressed.
    ///
    /// Errors, after which nothing is stored at these offsets, nor what was there before:
    /// -ENOMEM, -ENOSPC: as zswap_store(). -ENOMEM also if there is probably no room for all of them.
    /// Errors, after which nothing has changed:
    /// -EINVAL: area is NULL, or pages is NULL and count is not 0, count is more than ZSWAP_MAX_BATCH,
    ///     the offset is past the end of the area, even if count is 0, or the pages go past it.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; more at once than there are contexts wait for each other; otherwise as
    /// zswap_store(). Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_store_pages(
        area: *mut zswap_area,
        offset: u64,
        pages: *const c_void,
        count: usize,
    ) -> c_int {
        // Whether there are any pages is all that matters here.
        let pages = pages.of_size(count)?;
        // SAFETY: the caller has so many pages there.
        unsafe { area.store_pages_from(offset, pages, count) }
    }

    /// Loads a page into the 4096 bytes at `page`, at any address. Nobody else may use these bytes
    /// during the call.
    ///
    /// flags: 0, or ZSWAP_LOAD_EXCLUSIVE to take the page, and ZSWAP_NOWAIT with it. With
    ///     ZSWAP_LOAD_EXCLUSIVE the bytes at `page` are the only copy from then on: use it only if the
    ///     page lives there. When it returns, no writeback of the page is running any more, so that
    ///     what the program writes to the page's place on disk from now on stays.
    ///
    /// Errors, after which a page that is here stays:
    /// -EINVAL: area or page is NULL, there is no such flag, or the offset is past the end of the area.
    /// -ENOENT: no page is stored at this offset.
    /// -EIO: the stored page is damaged, or the backing file can't be read. The page is not served; it
    ///     stays until it is replaced or invalidated.
    /// -EBUSY, with ZSWAP_LOAD_EXCLUSIVE only: the page is being written back, and this is a callback,
    ///     or the claim is this thread's own.
    /// -EAGAIN, with ZSWAP_LOAD_EXCLUSIVE and ZSWAP_NOWAIT: the page is being written back.
    /// -EPERM: this process is a forked child that did not get the pool.
    /// The bytes at `page` are as they were after any of these, but with ZSWAP_LOAD_EXCLUSIVE after
    /// -ENOENT, -EBUSY and -EAGAIN they may hold the page as it was. A page compressed with LZ4 that is
    /// damaged so that its check is right all the same, once in some 2^32 times, is decoded into them:
    /// -EIO is the result then if that fails, and the bytes are not as they were.
    ///
    /// Threads: any. Without ZSWAP_LOAD_EXCLUSIVE it never waits for a writeback; with it, it waits for
    /// one of this very page that is running. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load(area: *mut zswap_area, offset: u64, page: *mut c_void, flags: u32) -> c_int {
        let flags = load_flags(flags)?;
        let page = page.room_for(ZSWAP_PAGE_SIZE)?;
        // SAFETY: the caller has room for a page there, which nobody else uses; bytes lie at any address.
        area.load(offset, unsafe { &mut *page.cast() }, flags)
    }

    /// Loads `count` pages, from the offsets from `offset` on, into memory where they lie one after the
    /// other. All of them are tried, each as zswap_load() does it; together they take less time.
    ///
    /// results: NULL, or `count` numbers, each of which is set to the result for its page: 0, or the
    ///     error as zswap_load() has it.
    ///
    /// Errors, after which nothing was loaded and results is as it was:
    /// -EINVAL: area is NULL, or pages is NULL and count is not 0, there is no such flag, the offset is
    ///     past the end of the area, even if count is 0, or the pages go past it.
    /// -EPERM: this process is a forked child that did not get the pool.
    /// Otherwise the result is that of the first page that failed.
    ///
    /// Threads, callbacks: as zswap_load().
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load_pages(
        area: *mut zswap_area,
        offset: u64,
        pages: *mut c_void,
        count: usize,
        flags: u32,
        results: Option<NonNull<i32>>,
    ) -> c_int {
        let flags = load_flags(flags)?;
        let pages = pages.room_for(count)?;
        check_range(area.pages(), offset, count)?;
        area.load_each(
            count,
            |at| offset + at as u64,
            // SAFETY: the caller has room for so many pages there, which nobody else uses.
            |at| unsafe { &mut *pages.add(at * ZSWAP_PAGE_SIZE).cast() },
            flags,
            // SAFETY: the caller has room for so many numbers, if it wants them.
            |at, result| unsafe { results.tell(at, result_of(result)) },
        )
    }

    /// Loads `count` pages, each from its own offset to its own address: those of offsets[i] to
    /// pages[i]. As zswap_load_pages() otherwise. Neither array may change during the call, and no two
    /// of the pages may overlap. An offset may occur twice, with ZSWAP_LOAD_EXCLUSIVE to be found once.
    ///
    /// Errors, after which nothing was loaded and results is as it was:
    /// -EINVAL: area is NULL, or offsets or pages or one of pages[] is NULL and count is not 0, there
    ///     is no such flag, or an offset is past the end of the area.
    /// -EPERM: this process is a forked child that did not get the pool.
    /// Otherwise the result is that of the first page that failed.
    ///
    /// Threads, callbacks: as zswap_load().
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_load_scattered(
        area: *mut zswap_area,
        offsets: *const u64,
        pages: *const *mut c_void,
        count: usize,
        flags: u32,
        results: Option<NonNull<i32>>,
    ) -> c_int {
        const NO_PAGE: Error = Error::Invalid(&"a page to load to is NULL");
        let flags = load_flags(flags)?;
        let (offsets, pages) = (offsets.array(count)?, pages.array(count)?);
        // SAFETY: the arrays have so many elements.
        let page = |at| unsafe { pages.get(at) };
        if (0..count).any(|at| page(at).is_null()) {
            return Err(NO_PAGE);
        }
        area.load_each(
            count,
            // SAFETY: as above.
            |at| unsafe { offsets.get(at) },
            // SAFETY: the caller has room for a page there, which nobody else uses.
            |at| unsafe { &mut *page(at).cast() },
            flags,
            // SAFETY: the caller has room for so many numbers, if it wants them.
            |at, result| unsafe { results.tell(at, result_of(result)) },
        )
    }

    /// Removes the pages at the `count` offsets from `offset` on; where none is stored, nothing is to
    /// be done. Takes time in proportion to what is stored there. When it returns 0, no writeback of a
    /// page of the range that began before is running any more, so that what the program writes to
    /// their places on disk from now on stays, and a claim of such a page is without effect.
    ///
    /// flags: 0, or ZSWAP_NOWAIT.
    ///
    /// Errors, after which nothing has changed, or, should a writeback have begun just then, pages up
    /// to its own are removed:
    /// -EINVAL: area is NULL, there is no such flag, the offset is past the end of the area, even if
    ///     count is 0, or the range goes past it.
    /// -EBUSY: a page of the range is being written back, and this is a callback, or the claim is this
    ///     thread's own.
    /// -EAGAIN, with ZSWAP_NOWAIT: a page of the range is being written back.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; waits for writebacks of pages of the range that are running: for the callback to
    /// return, for the claim to be ended. Those to the backing file it need not wait for. Callbacks:
    /// allowed, and never waits there.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_invalidate(area: *mut zswap_area, offset: u64, count: u64, flags: u32) -> c_int {
        const NO_SUCH_FLAG: Error = Error::Invalid(&"only ZSWAP_NOWAIT is a flag of an invalidate");
        if flags & !ZSWAP_NOWAIT != 0 {
            return Err(NO_SUCH_FLAG);
        }
        area.invalidate(offset, count, patience(flags))
    }

    /// Stores in *offset the first offset from `from` on at which a page is stored, in the pool or on
    /// the backing file. Offsets at which none is stored cost next to nothing.
    ///
    /// Errors:
    /// -EINVAL: area or offset is NULL.
    /// -ENOENT: there is none from there on.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_next_stored(area: *mut zswap_area, from: u64, offset: *mut u64) -> c_int {
        offset.set(area.next_stored(from)?)
    }
}

/// What load flags mean.
#[inline]
fn load_flags(flags: u32) -> Result<LoadFlags> {
    const NO_SUCH_FLAG: Error = Error::Invalid(&"there is no such flag of a load");
    if flags & !(ZSWAP_LOAD_EXCLUSIVE | ZSWAP_NOWAIT) != 0 {
        return Err(NO_SUCH_FLAG);
    }
    Ok(LoadFlags { exclusive: flags & ZSWAP_LOAD_EXCLUSIVE != 0, patience: patience(flags) })
}

#[inline]
fn patience(flags: u32) -> Patience {
    if flags & ZSWAP_NOWAIT != 0 { Patience::NoWait } else { Patience::Wait }
}

/// What C is told of one page of many.
fn result_of(result: Result<()>) -> c_int {
    result.map_or_else(|error| -error.errno(), |()| 0)
}

/// Refuses a range that goes past the end, whose offsets could not even be counted.
fn check_range(pages: u64, offset: u64, count: usize) -> Result<()> {
    let fits = offset < pages && count as u64 <= pages - offset;
    if fits { Ok(()) } else { Err(PAST_END) }
}
