//! Writeback: the callback, the library's own file, shrinking, and pages that the program pulls.

use super::pointers::AreaPointer;
use super::types::{ZSWAP_PAGE_SIZE, zswap_claim, zswap_writeback_fn};
use crate::export::export;
use crate::system::{duplicate, errno};
use crate::{zswap, zswap_area};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use zsalloc::plumbing::{ForeignWriteback, Uncancelled};
use zsalloc::{Area, Claim, Error, Refusal, Result};

export! {
    /// Sets the callback that zswap_shrink() and zswap_shrink_area() write pages back with, and its
    /// context; with writeback NULL there is none. It takes the place of a backing file.
    ///
    /// A shrink that is running goes on with the callback and the context that it began with: keep an
    /// old context until it returned.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -EBUSY: pages are on the backing file, or are being written to it.
    /// -EPERM: this process is a forked child that did not get the pool.
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
        zswap.set_foreign_writeback(callback)
    }

    /// Lets the library itself write pages back, to the first `bytes` bytes of a regular file or a block
    /// device, which are the library's from then on. A page goes to the lowest place of the file that is
    /// free. A page on the file is loaded, replaced and removed as every other, and stays there until it
    /// is replaced or removed, also when it is loaded. What is on the file means nothing without this
    /// zswap: it is not kept from run to run. Takes the place of a callback. As with every write, one
    /// past RLIMIT_FSIZE raises SIGXFSZ, which ends a program that does not ignore it.
    ///
    /// fd: the descriptor, opened with O_RDWR and without O_APPEND, which must not be set later either:
    ///     all would be written to other places. It is duplicated: the caller may close it, but must
    ///     not close the duplicate, as by closefrom(). Before it writes the library looks whether the
    ///     duplicate still is a descriptor of this file, and writes nothing if it is not. -1, with
    ///     bytes 0: no file any more.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL, the descriptor is none, is opened otherwise, or is not one of a regular
    ///     file or a block device, or bytes is less than 4096 or more than 16 TiB, or not 0 with -1.
    ///     Whether the file can be written shows when a shrink tries it.
    /// -EBUSY: pages are on the file that was set before, or are being written to it.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: there is no memory for its table, of some 8 bytes a page.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_set_backing_file(zswap: *mut zswap, fd: i32, bytes: u64) -> c_int {
        let _whole = Uncancelled::new();
        zswap.set_backing_file(backing_file(fd, bytes)?.as_ref().map(|(file, bytes)| (file.as_fd(), *bytes)))
    }

    /// Writes back pages that were not used lately, of all areas in turn, until `pages` pages have left
    /// the pool. Stores in *written how many did, which can be fewer than asked. Pages of areas with
    /// ZSWAP_AREA_NO_WRITEBACK, and those that repeat one word, are left alone. The memory that becomes
    /// free is the pool's to use again; zswap_compact() gives it to the system.
    ///
    /// A page counts as used when it is stored or loaded. The first time that a shrink comes by a used
    /// page it takes the mark away, the second time it writes the page back.
    ///
    /// Errors:
    /// -EINVAL: zswap or written is NULL, or there is neither a callback nor a backing file.
    /// -EAGAIN: no page could go now: the callback refused, the file is full, or pages are in use.
    /// -EIO: the library's descriptor of the backing file was closed, or is another file's now. Nothing
    ///     was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends also if every page is
    /// refused. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink(zswap: *mut zswap, pages: u64, written: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        written.set(zswap.shrink(pages)?)
    }

    /// As zswap_shrink(), of one area.
    ///
    /// Errors:
    /// -EINVAL: area or written is NULL, there is neither a callback nor a backing file, or the area
    ///     has ZSWAP_AREA_NO_WRITEBACK.
    /// -EAGAIN, -EIO, -ENOENT, -EPERM: as zswap_shrink(), of this area.
    ///
    /// Threads: as zswap_shrink(). Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink_area(area: *mut zswap_area, pages: u64, written: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        written.set(area.shrink(pages)?)
    }

    /// Stores in *pages how many pages are worth writing back under memory pressure, of all areas: the
    /// sum of what zswap_area_reclaimable_pages() tells, and counted as its calls.
    ///
    /// Errors:
    /// -EINVAL: zswap or pages is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_reclaimable_pages(zswap: *mut zswap, pages: *mut u64) -> c_int {
        pages.set(zswap.reclaimable_pages()?)
    }

    /// Stores in *pages how many pages of the area are worth writing back under memory pressure: those
    /// in the pool, less one for each that lately had to come back from where it was written to, and
    /// scaled by how small they are, since writing back a page that takes a quarter of its size frees a
    /// quarter. Whoever feels the pressure asks this, and shrinks by a part of it. Pages that came back
    /// are subtracted once: each call forgets those that it answered for.
    ///
    /// Errors:
    /// -EINVAL: area or pages is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_reclaimable_pages(area: *mut zswap_area, pages: *mut u64) -> c_int {
        pages.set(area.reclaimable_pages()?)
    }

    /// Notes that `pages` pages of the area that were written back had to be read again from where they
    /// went: zswap_area_reclaimable_pages() tells less for a while. Those on the backing file note
    /// themselves.
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_refaulted(area: *mut zswap_area, pages: u64) -> c_int {
        area.note_refaults(pages)
    }

    /// Claims up to `max` pages of the area that were not used lately, as zswap_shrink() chooses them,
    /// and copies them to `pages`, one after the other; stores in *count how many there are, which can
    /// be fewer, and 0. The program writes each where it keeps pages, whenever and in whichever thread
    /// it likes, such as by asynchronous I/O, and then ends its claim with zswap_writeback_end(). Needs
    /// neither a callback nor a backing file.
    ///
    /// Until its claim is ended a page stays stored, can be loaded and replaced, and is not written back
    /// a second time; whoever invalidates it waits, and the area can't be removed. Each page is written to
    /// `pages` before it is claimed: where that memory is missing, as under a userfaultfd, the thread that
    /// brings it may invalidate any page but those that this call has claimed before.
    ///
    /// claims, pages: room for `max` claims, and for `max` times 4096 bytes, at any address. Beyond
    ///     *count they are undefined.
    ///
    /// Errors:
    /// -EINVAL: area or count is NULL, or claims or pages is NULL and max is not 0, or the area has
    ///     ZSWAP_AREA_NO_WRITEBACK.
    /// -EBUSY: as many claims are held as zswap_options.max_claims allows: end some.
    /// -EPERM: this process is a forked child that did not get the pool.
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
            let mut these = [Claim::default(); SOME];
            // SAFETY: the caller has room for `max` pages there, which nobody else uses; bytes lie at any address.
            let room = unsafe { slice::from_raw_parts_mut(pages.add(begun * ZSWAP_PAGE_SIZE).cast(), some) };
            let got = match area.begin_writeback(&mut these[..some], room) {
                // There is no room for more claims: those that were begun are the caller's.
                Err(Error::Busy(_)) if begun > 0 => 0,
                got => got?,
            };
            for (at, &Claim { offset, ticket }) in these[..got].iter().enumerate() {
                // SAFETY: the caller has room for `max` claims.
                unsafe { claims.set(begun + at, zswap_claim { offset, ticket }) };
            }
            begun += got;
            if got < some || begun == max {
                return count.set(begun);
            }
        }
    }

    /// Ends a claim of zswap_writeback_begin().
    ///
    /// result: what became of the page, as a callback returns it. 0: it is written, and leaves the pool,
    ///     unless it was loaded, replaced or removed meanwhile. Any error number: it stays, and the
    ///     cause is counted.
    /// gone: NULL, or set to 1 if the page left the pool by this, and to 0 if not. With result 0 and
    ///     gone 0 the copy that was written is not needed; it may be older than what is stored.
    ///
    /// Errors:
    /// -EINVAL: area or claim is NULL, or the claim was ended already, or is not one of this area.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any, also another than the one that began it. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_writeback_end(
        area: *mut zswap_area,
        claim: *const zswap_claim,
        result: i32,
        gone: Option<NonNull<i32>>,
    ) -> c_int {
        let removed = area.end_writeback(&claim, outcome(result))?;
        // SAFETY: the caller has room for the number, if it wants it.
        unsafe { gone.tell(0, removed.into()) };
        Ok(())
    }
}

/// The backing file that C has the number of, with a descriptor of the library's own; none for -1 and 0.
pub fn backing_file(fd: c_int, bytes: u64) -> Result<Option<(OwnedFd, u64)>> {
    const NO_FD: Error = Error::Invalid(&"the backing file's descriptor is none");
    if (fd, bytes) == (-1, 0) {
        return Ok(None);
    }
    let own = duplicate(fd).map_err(|error| if error.errno() == errno::EBADF { NO_FD } else { error })?;
    Ok(Some((own, bytes)))
}

/// What an error number means for a page that was to be written.
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

/// Calls a callback that [`zswap_set_writeback`] was given.
fn call(
    set: &ForeignWriteback,
    area: &Area,
    offset: u64,
    page: &[u8; ZSWAP_PAGE_SIZE],
) -> std::result::Result<(), Refusal> {
    // SAFETY: the pointer is of a function of this type, and none of them is null.
    let function = unsafe { std::mem::transmute::<*const (), zswap_writeback_fn>(set.function) };
    let Some(function) = function else { return Err(Refusal::Again) };
    // SAFETY: the function and its context are as the caller set them; C holds the area, for a call on it runs.
    outcome(unsafe { function(set.context.cast(), AreaPointer::of(area), offset, page.as_ptr().cast()) })
}
