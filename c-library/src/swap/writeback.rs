//! Functions that write pages back: by a callback, to a backing file or other tiers, or by claims of the program.

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
    /// Sets the callback that zswap_shrink(), zswap_shrink_area(), zswap_shrink_by() and
    /// zswap_shrink_area_by() write pages back with, and its context. With writeback NULL there is none.
    /// Replaces a backing file and all other tiers.
    ///
    /// A shrink that is already running keeps the callback and the context it began with: keep the old
    /// context alive until it has returned.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EBUSY: pages are on a tier or are being written to it, or another call uses one. Also in a tier's
    ///     own function.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
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
    /// device. These bytes belong to the library from then on. Replaces a callback, and all tiers: the
    /// file is the only tier then, with the number 0. zswap_add_file_tier() adds a file beside other tiers.
    ///
    /// Pages are written as the pool has them, compressed, up to 64 in one write, to the lowest free
    /// blocks of 4096 bytes. Pages on the file are loaded, replaced and removed like all others. A page
    /// stays on the file until it is replaced or removed; loading it does not remove it. As pages go,
    /// shrinks and zswap_compact() move the others together, and punch out free blocks of more than a
    /// MiB: zswap_stats.file_bytes stays below 1.3 times file_page_bytes and a MiB, if pages are written.
    /// 132 KiB of a file of more than a MiB are set aside for that.
    /// The contents of the file mean nothing without this zswap, and are not kept from run to run.
    ///
    /// The page cache stays as it is: the library opens the file once more, with O_DIRECT, by its name
    /// in /proc. Where that fails, the system is asked to drop what was read and written
    /// (RWF_DONTCACHE, Linux 6.14), or else the page cache has the file's pages too.
    /// A write past RLIMIT_FSIZE raises SIGXFSZ, as any write would, and that ends a
    /// program that does not ignore it.
    ///
    /// fd: a descriptor opened with O_RDWR and without O_APPEND, which must not be set later either:
    ///     every page would be written to the wrong place. The library duplicates it: the caller may
    ///     close fd, but must not close the duplicate, as closefrom() would. Before each write the
    ///     library checks that the duplicate still refers to this file, and writes nothing if it does
    ///     not. -1 with bytes 0: no file and no other tier any more.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL; fd is not a descriptor, is opened in another way, or is neither a regular
    ///     file nor a block device; or bytes is less than 4096 or more than 16 TiB, or is not 0 with fd
    ///     -1. Whether the file can be written shows when a shrink tries it.
    /// -EBUSY: pages are on the file that was set before or on another tier, or are being written to it,
    ///     or another call uses one. zswap_remove_tier() moves pages away. Also in a tier's own function.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: no memory for the file's tables. A page on the file takes 3 bytes of them if extents are
    ///     full.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_backing_file(zswap: *mut zswap, fd: c_int, bytes: u64) -> c_int {
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
    /// -EINVAL: zswap or written is NULL, or there is neither a callback nor a backing file or another
    ///     tier.
    /// -EAGAIN: no page could go now: the callback refused, tiers are full or away, or pages are in use.
    /// -EBUSY: this is a tier's own function.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink(zswap: *mut zswap, pages: u64, written: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        written.set(zswap.shrink(pages)?)
    }

    /// Writes back pages of one area that were not used lately, as zswap_shrink() does for all areas.
    /// Stores in *written how many left the pool.
    ///
    /// Errors:
    /// -EINVAL: area or written is NULL, there is neither a callback nor a backing file or another tier,
    ///     or the area has ZSWAP_AREA_NO_WRITEBACK.
    /// -EAGAIN: no page of the area could go now: the callback refused, tiers are full or away, or pages
    ///     are in use.
    /// -EBUSY: this is a tier's own function.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page of the area is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed; -EBUSY in a tier's own function.
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
    /// zswap_area_reclaimable_pages() returns less for a while. Pages on tiers are noted automatically.
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

    /// Claims up to `max` pages that were not used lately, of all areas without ZSWAP_AREA_NO_WRITEBACK,
    /// and copies them to consecutive memory at `pages`. An area that has met its own limit comes first;
    /// otherwise the areas take turns. Stores the number of claims in *count, which may be less than max.
    /// The program writes each page to where it keeps pages, at any time and in any thread, by
    /// asynchronous I/O for example, and then ends its claim with zswap_writeback_end(). The section
    /// WRITEBACK has the rules by which no page is lost; examples/writeback.c is a whole program. Needs
    /// neither a callback nor a tier.
    ///
    /// A program that makes room for one area (zswap_area_usage()), or keeps it below its own limit
    /// before that is met, calls zswap_writeback_begin_area(): once the areas that have met their
    /// limits are served, this call goes on with pages of the others.
    ///
    /// *count is 0 if no page can be claimed now: none is in the pool, or those that are have claims
    /// already. Do not call again at once; wait until pages were stored or claims have ended. Storing
    /// and loading mark a page as used. A call that passes a marked page clears the mark, and goes round
    /// each area twice if it has to: so pages that were just stored are claimed too, if there are no
    /// others.
    ///
    /// Until its claim ends, a page stays stored, can be loaded and replaced, and is not written back a
    /// second time. A zswap_invalidate() of the page waits, and its area can't be removed. Each page is
    /// copied to `pages` before it is claimed: if that memory is missing, under a userfaultfd for
    /// example, the thread that brings it in may invalidate any page except those that this call has
    /// already claimed.
    ///
    /// claims, pages: room for `max` claims, and for `max` times 4096 bytes, at any address. Beyond
    ///     *count their contents are undefined.
    ///
    /// Errors, after which no page is claimed:
    /// -EINVAL: zswap or count is NULL, or claims or pages is NULL and max is not 0.
    /// -EBUSY: as many claims are held as zswap_tuning.max_claims allows: end some.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_begin(
        zswap: *mut zswap,
        max: usize,
        claims: *mut zswap_claim,
        pages: *mut c_void,
        count: *mut usize,
    ) -> c_int {
        let (claims, pages) = (claims.array(max)?, pages.room_for(max)?);
        for at in 0..max {
            // SAFETY: the caller has room for `max` pages there, which nothing else uses; bytes may be at any address.
            let page = unsafe { &mut *pages.add(at * ZSWAP_PAGE_SIZE).cast() };
            match plumbing::begin_writeback_of_all(&zswap, page, claimed) {
                // SAFETY: the caller has room for `max` claims.
                Ok(Some(claim)) => unsafe { claims.set(at, claim) },
                Ok(None) => return count.set(at),
                // The table of claims is full. The caller gets the claims that were begun.
                Err(Error::Busy(_)) if at > 0 => return count.set(at),
                Err(error) => return Err(error),
            }
        }
        count.set(max)
    }

    /// Claims up to `max` pages of one area that were not used lately, as zswap_writeback_begin() does
    /// for all areas.
    ///
    /// Errors, after which no page is claimed:
    /// -EINVAL: area or count is NULL, claims or pages is NULL and max is not 0, or the area has
    ///     ZSWAP_AREA_NO_WRITEBACK.
    /// -EBUSY: as many claims are held as zswap_tuning.max_claims allows: end some.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_begin_area(
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
            let got = plumbing::begin_writeback(&area, room, |claim| {
                // SAFETY: the caller has room for `max` claims.
                unsafe { claims.set(begun, claimed(&area, claim)) };
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

    /// Ends a claim of zswap_writeback_begin() or zswap_writeback_begin_area(), whose area must still
    /// exist. A claim that is never ended keeps its page in the pool and its area from being removed,
    /// and threads that wait for it wait for ever.
    ///
    /// result: the outcome, as a writeback callback returns it. 0: the page is written, and leaves the
    ///     pool unless it was loaded, replaced or removed meanwhile. Set the program's mark that the page
    ///     is on disk before this call. Any error number: the page stays, and the cause is counted.
    /// gone: NULL, or set to 1 if this call removed the page from the pool and to 0 if it did not.
    ///     Either way, touch neither the mark nor the page's place on disk from now on: they belong to
    ///     the thread that acts on the page next, such as one whose zswap_invalidate() waited for this
    ///     claim. 0 does not mean that the place is free. See WRITEBACK.
    ///
    /// Errors:
    /// -EINVAL: claim or its area is NULL, or the claim has already ended or is another area's.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, not only the one that began the claim. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_end(
        claim: *const zswap_claim,
        result: c_int,
        gone: Option<NonNull<c_int>>,
    ) -> c_int {
        let removed = plumbing::end_writeback(&claim.area, &claim.raw, outcome(result))?;
        // SAFETY: the caller passed NULL, or room for a number.
        unsafe { gone.tell(0, removed.into()) };
        Ok(())
    }
}

/// Returns a claim as C has it.
fn claimed(area: &Area, claim: RawClaim) -> zswap_claim {
    let RawClaim { offset, ticket, bytes } = claim;
    zswap_claim { area: AreaPointer::of(area), offset, ticket, bytes }
}

/// Returns a backing file for a descriptor of the caller's, with a descriptor of the library's own. Returns none for -1
/// and 0.
pub fn backing_file(fd: c_int, bytes: u64) -> Result<Option<(OwnedFd, u64)>> {
    if (fd, bytes) == (-1, 0) { Ok(None) } else { Ok(Some((own_descriptor(fd)?, bytes))) }
}

/// Returns a descriptor of the library's own for a file that the caller passed.
pub fn own_descriptor(fd: c_int) -> Result<OwnedFd> {
    const NO_FD: Error = Error::Invalid(sentence(&"the backing file's fd is not an open descriptor"));
    duplicate(fd).map_err(|error| if error.errno() == errno::EBADF { NO_FD } else { error })
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
