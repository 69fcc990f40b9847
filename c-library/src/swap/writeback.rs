//! Functions that write pages back: by a callback, to a backing file, or by claims of the program.

use super::pointers::AreaPointer;
use super::types::{ZSWAP_PAGE_SIZE, zswap_claim, zswap_writeback_fn};
use crate::export::export;
use crate::system::{duplicate, errno};
use crate::{zswap, zswap_area};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use zsalloc::plumbing::Uncancelled;
use zsalloc::plumbing::sentence;
use zsalloc::plumbing::zswap::{self as plumbing, ForeignWriteback, RawClaim};
use zsalloc::{Area, Error, Refusal, Result};

export! {
    /// Sets the callback that zswap_shrink() and zswap_shrink_area() write pages back with, and its
    /// context. With writeback NULL there is none. Replaces a backing file.
    ///
    /// A shrink that is already running keeps the callback and the context it began with: keep the old
    /// context alive until it has returned.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EBUSY: pages are on the backing file or are being written to it.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_writeback(
        zswap: *mut zswap,
        writeback: zswap_writeback_fn,
        context: *mut c_void,
    ) -> c_int {
        let callback = writeback.map(|function| {
            ForeignWriteback { caller: call, function: function as *const (), context: context.into_pointer().cast() }
        });
        let _whole = Uncancelled::new();
        plumbing::set_foreign_writeback(&zswap, callback)
    }

    /// Lets the library write pages back itself, to the first `bytes` bytes of a regular file or block
    /// device. These bytes belong to the library from then on. Replaces a callback.
    ///
    /// Each page goes to the lowest free place of the file. Pages on the file are loaded, replaced and
    /// removed like all others. A page stays on the file until it is replaced or removed; loading it
    /// does not remove it. The contents of the file mean nothing without this zswap, and are not kept
    /// from run to run. A write past RLIMIT_FSIZE raises SIGXFSZ, as any write would, and that ends a
    /// program that does not ignore it.
    ///
    /// fd: a descriptor opened with O_RDWR and without O_APPEND, which must not be set later either:
    ///     every page would be written to the wrong place. The library duplicates it: the caller may
    ///     close fd, but must not close the duplicate, as closefrom() would. Before each write the
    ///     library checks that the duplicate still refers to this file, and writes nothing if it does
    ///     not. -1 with bytes 0: no file any more.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL; fd is not a descriptor, is opened in another way, or is neither a regular
    ///     file nor a block device; or bytes is less than 4096 or more than 16 TiB, or is not 0 with fd
    ///     -1. Whether the file can be written shows when a shrink tries it.
    /// -EBUSY: pages are on the file that was set before, or are being written to it.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: no memory for the file's table, of about 8 bytes a page.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_backing_file(zswap: *mut zswap, fd: i32, bytes: u64) -> c_int {
        let _whole = Uncancelled::new();
        zswap.set_backing_file(backing_file(fd, bytes)?.as_ref().map(|(file, bytes)| (file.as_fd(), *bytes)))
    }

    /// Writes back pages that were not used lately, from all areas in turn, until `pages` pages have
    /// left the pool. Stores in *written how many did, which may be fewer. Pages of areas with
    /// ZSWAP_AREA_NO_WRITEBACK, and pages that repeat one word, are left alone. The pool reuses the
    /// memory that becomes free; zswap_compact() gives it to the system.
    ///
    /// Storing and loading mark a page as used. When a shrink passes a marked page it clears the mark;
    /// when it passes it again, it writes the page back.
    ///
    /// Errors:
    /// -EINVAL: zswap or written is NULL, or there is neither a callback nor a backing file.
    /// -EAGAIN: no page could go now: the callback refused, the file is full, or pages are in use.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink(zswap: *mut zswap, pages: u64, written: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        written.set(zswap.shrink(pages)?)
    }

    /// Writes back pages of one area that were not used lately, as zswap_shrink() does for all areas.
    /// Stores in *written how many left the pool.
    ///
    /// Errors:
    /// -EINVAL: area or written is NULL, there is neither a callback nor a backing file, or the area has
    ///     ZSWAP_AREA_NO_WRITEBACK.
    /// -EAGAIN: no page of the area could go now: the callback refused, the file is full, or pages are
    ///     in use.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page of the area is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink_area(area: *mut zswap_area, pages: u64, written: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        written.set(area.shrink(pages)?)
    }

    /// Stores in *pages how many pages of all areas are worth writing back under memory pressure: the
    /// sum over zswap_area_reclaimable_pages(), with the same side effect on each area.
    ///
    /// Errors:
    /// -EINVAL: zswap or pages is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_reclaimable_pages(zswap: *mut zswap, pages: *mut u64) -> c_int {
        pages.set(zswap.reclaimable_pages()?)
    }

    /// Estimates how many pages of the area are worth writing back under memory pressure, and stores
    /// that in *pages. The estimate is the number of pages in the pool, less one for each page that
    /// recently had to come back from where it was written to, scaled by how small the pages are:
    /// writing back a page that takes a quarter of its size frees only a quarter. A program under memory
    /// pressure asks for this number and shrinks by a part of it. Each call forgets the returned pages
    /// that it has subtracted, so that they count once.
    ///
    /// Errors:
    /// -EINVAL: area or pages is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_reclaimable_pages(area: *mut zswap_area, pages: *mut u64) -> c_int {
        pages.set(area.reclaimable_pages()?)
    }

    /// Notes that `pages` pages of the area that had been written back were read again by the program.
    /// zswap_area_reclaimable_pages() returns less for a while. Pages on the backing file are noted
    /// automatically.
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_refaulted(area: *mut zswap_area, pages: u64) -> c_int {
        area.note_refaults(pages)
    }

    /// Claims up to `max` pages of the area that were not used lately, chosen as zswap_shrink() chooses
    /// them, and copies them to consecutive memory at `pages`. Stores their number in *count, which may
    /// be less than max, and may be 0. The program writes each page to where it keeps pages, at any time
    /// and in any thread, by asynchronous I/O for example, and then ends its claim with
    /// zswap_writeback_end(). Needs neither a callback nor a backing file.
    ///
    /// Until its claim ends, a page stays stored, can be loaded and replaced, and is not written back a
    /// second time. A zswap_invalidate() of the page waits, and the area can't be removed. Each page is
    /// copied to `pages` before it is claimed: if that memory is missing, under a userfaultfd for
    /// example, the thread that brings it in may invalidate any page except those that this call has
    /// already claimed.
    ///
    /// claims, pages: room for `max` claims, and for `max` times 4096 bytes, at any address. Beyond
    ///     *count their contents are undefined.
    ///
    /// Errors:
    /// -EINVAL: area or count is NULL, claims or pages is NULL and max is not 0, or the area has
    ///     ZSWAP_AREA_NO_WRITEBACK.
    /// -EBUSY: as many claims are held as zswap_options.max_claims allows: end some.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_begin(
        area: *mut zswap_area,
        max: usize,
        claims: *mut zswap_claim,
        pages: *mut c_void,
        count: *mut usize,
    ) -> c_int {
        const SOME: usize = 32;
        let (claims, pages) = (claims.array(max)?, pages.room_for(max)?);
        let mut begun = 0;
        loop {
            let some = SOME.min(max - begun);
            // SAFETY: the caller has room for `max` pages there, which nothing else uses; bytes may be at any address.
            let room = unsafe { slice::from_raw_parts_mut(pages.add(begun * ZSWAP_PAGE_SIZE).cast(), some) };
            let before = begun;
            let got = plumbing::begin_writeback(&area, room, |RawClaim { offset, ticket }| {
                // SAFETY: the caller has room for `max` claims.
                unsafe { claims.set(begun, zswap_claim { offset, ticket }) };
                begun += 1;
            });
            let got = match got {
                // The table of claims is full. The caller gets the claims that were begun.
                Err(Error::Busy(_)) if before > 0 => 0,
                got => got?,
            };
            if got < some || begun == max {
                return count.set(begun);
            }
        }
    }

    /// Ends a claim of zswap_writeback_begin().
    ///
    /// result: the outcome, as a writeback callback returns it. 0: the page is written, and leaves the
    ///     pool unless it was loaded, replaced or removed meanwhile. Any error number: the page stays,
    ///     and the cause is counted.
    /// gone: NULL, or set to 1 if this call removed the page from the pool and to 0 if it did not. With
    ///     result 0 and gone 0 the written copy is not needed; it may be older than the stored page.
    ///
    /// Errors:
    /// -EINVAL: area or claim is NULL, or the claim has already ended or belongs to another area.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, not only the one that began the claim. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_end(
        area: *mut zswap_area,
        claim: *const zswap_claim,
        result: i32,
        gone: Option<NonNull<i32>>,
    ) -> c_int {
        let removed = plumbing::end_writeback(&area, &claim, outcome(result))?;
        // SAFETY: the caller passed NULL, or room for a number.
        unsafe { gone.tell(0, removed.into()) };
        Ok(())
    }
}

/// Returns a backing file for a descriptor of the caller's, with a descriptor of the library's own. Returns none for -1
/// and 0.
pub fn backing_file(fd: c_int, bytes: u64) -> Result<Option<(OwnedFd, u64)>> {
    const NO_FD: Error = Error::Invalid(sentence(&"the backing file's fd is not an open descriptor"));
    if (fd, bytes) == (-1, 0) {
        return Ok(None);
    }
    let own = duplicate(fd).map_err(|error| if error.errno() == errno::EBADF { NO_FD } else { error })?;
    Ok(Some((own, bytes)))
}

/// Converts the error number that the program returned for a page it was to write.
fn outcome(result: c_int) -> std::result::Result<(), Refusal> {
    Err(match c_int::try_from(result.unsigned_abs()).unwrap_or(c_int::MAX) {
        0 => return Ok(()),
        errno::EEXIST => Refusal::Exists,
        errno::EAGAIN => Refusal::Again,
        errno::ENOMEM => Refusal::NoMemory,
        errno::EIO => Refusal::Io,
        errno::ENOSPC => Refusal::NoSpace,
        number => Refusal::Other(number),
    })
}

/// Calls the callback that [`zswap_set_writeback`] was given.
fn call(
    set: &ForeignWriteback,
    area: &Area,
    offset: u64,
    page: &[u8; ZSWAP_PAGE_SIZE],
) -> std::result::Result<(), Refusal> {
    // SAFETY: `zswap_set_writeback` made the pointer from a function of this type, so it is not null.
    let function = unsafe { std::mem::transmute::<*const (), zswap_writeback_fn>(set.function) };
    let Some(function) = function else { return Err(Refusal::Again) };
    // SAFETY: function and context are those that the caller set together. C owns the area: a call on it is running.
    outcome(unsafe { function(set.context.cast(), AreaPointer::of(area), offset, page.as_ptr().cast()) })
}
