//! Functions that add and remove regions, and hold and discard parts of them.

use super::options::{RemovedPages, convert_region, memory_file, removal};
use super::types::zspager_region_options;
use super::zspager;
use crate::export::export;
use std::ffi::{c_int, c_void};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use zsalloc::plumbing::{PagerForC, RegionId, Uncancelled};

export! {
    /// Adds a region of `bytes` bytes at `memory`, which may already be in use, and stores its number in
    /// *region. The number is never 0. Huge pages are turned off for the range, and forked children do
    /// not get it.
    ///
    /// Pages that are already in memory are charged as they are found, 2 MiB at a time, and the excess
    /// over the limit is evicted before the next 2 MiB are looked at. So the pager is at most 2 MiB
    /// above its limit during the call, and not above it afterwards, unless pages can't leave, as when
    /// the pool is full: those stay in memory above the limit, and leave when they can.
    ///
    /// memory, bytes: memory that the program has from mmap(), for nothing but the region, or use
    ///     zspager_map(). Never memory of malloc(). Whole pages of 4096 bytes, mapped readable and
    ///     writable. The mapping must not grow, neither by mremap() nor on its own (MAP_GROWSDOWN):
    ///     nothing would serve the new part.
    ///     Memory that the pager needs to bring a page back can't be in a region, because the thread
    ///     that brings the page back would wait for itself. That is memory that malloc() uses or
    ///     returned, stacks in use, and memory of the pager and its pool. The call refuses the heap
    ///     (brk), mappings with MAP_GROWSDOWN (the main thread's stack among them), the calling thread's
    ///     stack, and most of the pager's own memory. It can't tell these from other mappings, and
    ///     accepts them: a malloc() of more than some 128 KiB, for which glibc calls mmap(); malloc()'s
    ///     arenas of other threads; other threads' stacks. The process may then hang: in a touch, or in
    ///     free() of the large malloc(), whose munmap() waits for a lent thread to read of it.
    /// options: NULL for the defaults: private anonymous memory.
    ///
    /// While the region exists, do not use fallocate() or ftruncate() on the part of a memory file that
    /// is in it: pages that are not in memory would come back with their old bytes. See
    /// zspager_region_options.shared_fd. To give memory back, call zspager_discard().
    ///
    /// Errors:
    /// -EINVAL: a pointer other than options is NULL; an option is wrong; the range is not whole pages,
    ///     or part of it is in a region already; it is not completely mapped, readable and writable, or
    ///     not private and anonymous; it is in the heap or in a mapping that grows, or contains the
    ///     caller's stack or memory of the pager. With ZSPAGER_REGION_SHARED: the range is not a shared
    ///     mapping of that file from that offset, or the file is not a memory file with 4096-byte pages,
    ///     is not open for reading and writing, is sealed against writes, or is too short.
    /// -EBADF: with ZSPAGER_REGION_SHARED, shared_fd is not an open descriptor.
    /// -EBUSY: part of the range is under another userfaultfd, such as another pager's.
    /// -ENOMEM: there are as many regions, or parts of regions left by munmap() and mremap(), as
    ///     zspager_tuning.max_regions allows; or there is no memory for the region's tables, or the
    ///     process has as many mappings as vm.max_map_count allows.
    /// -EPERM: this process is a forked child.
    /// The system's other errors are returned as they are.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_add_region(
        pager: *mut zspager,
        memory: *mut c_void,
        bytes: usize,
        options: *const zspager_region_options,
        region: *mut u64,
    ) -> c_int {
        let memory = memory.room_for(usize::MAX)?;
        // The duplicate is closed at the end, and close() is a cancellation point.
        let _whole = Uncancelled::new();
        let file = memory_file(&options)?;
        // SAFETY: the caller's name is NULL or a C string.
        let options = unsafe { convert_region(&options, file.as_ref().map(AsFd::as_fd)) }?;
        // SAFETY: the caller keeps the header's rules for memory of regions.
        let added = unsafe { pager.add_region_by_id(memory, bytes, &options) }?;
        region.set(added.number())
    }

    /// Maps memory for at least `bytes` bytes and adds it as a region in one step. Returns its address, a
    /// multiple of 4096. The memory is private to this process and all zeros. It takes addresses for
    /// whole pages at once, and memory as it is touched. Most programs need no other memory in regions.
    ///
    /// options: NULL for the defaults. ZSPAGER_REGION_SHARED is not allowed.
    /// region: NULL, or where to store the region's number. zspager_unmap() needs no number.
    ///
    /// End it with zspager_unmap(). After zspager_remove_region() or zspager_destroy() the memory stays
    /// mapped, with its bytes: then munmap() is allowed too.
    ///
    /// Returns NULL if it fails, after which nothing is mapped. zs_last_errno() returns the number:
    /// -EINVAL: pager is NULL, bytes is 0, or an option is wrong.
    /// -ENOMEM: the system gives no addresses or memory; there are as many regions as
    ///     zspager_tuning.max_regions allows; or the process has as many mappings as vm.max_map_count
    ///     allows.
    /// -EPERM: this process is a forked child.
    /// The system's other errors are returned as they are.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_map(
        pager: *mut zspager,
        bytes: usize,
        options: *const zspager_region_options,
        region: Option<NonNull<u64>>,
    ) -> *mut c_void {
        let _whole = Uncancelled::new();
        let file = memory_file(&options)?;
        // SAFETY: the caller's name is NULL or a C string.
        let options = unsafe { convert_region(&options, file.as_ref().map(AsFd::as_fd)) }?;
        let (memory, id) = pager.map_by_id(bytes, &options)?;
        // SAFETY: the caller passed NULL, or room for a number.
        unsafe { region.tell(0, id.number()) };
        Ok(memory.as_ptr().cast())
    }

    /// Removes a region that zspager_map() mapped, and unmaps its memory, whose bytes are lost. No page
    /// is brought back for that. Nothing may touch the memory during the call or after it.
    ///
    /// region: the number that zspager_map() stored, or 0: the region that `memory` is in. With the
    ///     number, a second call is always refused. With 0, a second call unmaps whatever zspager_map()
    ///     has mapped at that address since the first, as a second munmap() would.
    /// memory, bytes: what zspager_map() returned, and got. If a part of the memory was unmapped or
    ///     moved before, call zspager_remove_region() with ZSPAGER_DISCARD instead, and then munmap()
    ///     for each part that is left.
    ///
    /// Errors, after which nothing was unmapped:
    /// -EINVAL: pager or memory is NULL, or the range is not all of the region's memory.
    /// -ENOENT: there is no such region: it was removed before; or, with 0, `memory` is in no region.
    /// -EAGAIN: the system refused. The region still exists.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_unmap(
        pager: *mut zspager,
        region: u64,
        memory: *mut c_void,
        bytes: usize,
    ) -> c_int {
        let memory = memory.room_for(usize::MAX)?;
        let _whole = Uncancelled::new();
        let region = (region != 0).then(|| RegionId::of_number(region));
        // SAFETY: the caller no longer needs the memory, which is its own.
        unsafe { pager.unmap_by_id(region, memory, bytes) }
    }

    /// Removes a region: its memory belongs to the program alone from then on. The pager does not use
    /// the region's number again, so a second removal is refused whatever was added since. Forked
    /// children get the memory again, whatever the program advised before. Huge pages stay turned off
    /// for it until the program requests them with madvise().
    ///
    /// flags: 0: all pages are brought back to memory, whatever the limit. ZSPAGER_DISCARD: pages that
    ///     are not in memory are lost, and read as zeros.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or a flag is unknown.
    /// -ENOENT: there is no such region: it was removed before or never added.
    /// -EBADMSG: a page's copy is damaged. The region is removed nevertheless, and touching that page fails.
    /// -EAGAIN: the system refused, or a page can't be read from the backing file. The region still
    ///     exists.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_remove_region(pager: *mut zspager, region: u64, flags: u32) -> c_int {
        let region = RegionId::of_number(region);
        match removal(flags)? {
            RemovedPages::Restore => pager.remove_by_id(region),
            // SAFETY: the flag says that the bytes are no longer needed.
            RemovedPages::Discard => unsafe { pager.remove_discarding_by_id(region) },
        }
    }

    /// Brings the pages of a range to memory and keeps them there until zspager_release(). Use it around
    /// system calls that read or write memory of regions: with ZSPAGER_FAULT_SIGBUS they fail with
    /// EFAULT when a page is not in memory. Holds of a page are counted. Every page that the range
    /// overlaps is held whole; 0 bytes overlap none.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or part of the range is in no region.
    /// -ENOMEM: more than zspager_tuning.max_held_bytes would be held, or a page of the range is
    ///     already held 33 million times.
    /// -EBADMSG: a page's copy is damaged.
    /// -EIO: a page can't be read from the backing file.
    /// -EAGAIN: the system refused for a second to put a page in place; it may be out of memory.
    /// -EPERM: this process is a forked child.
    /// On failure no page is held that was not held before.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_hold(pager: *mut zspager, memory: *const c_void, bytes: usize) -> c_int {
        pager.begin_hold(memory.into_pointer(), bytes)
    }

    /// Ends a hold of the same range.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or part of the range is in no region; it may have been unmapped since it
    ///     was held. The other parts are released.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_release(pager: *mut zspager, memory: *const c_void, bytes: usize) -> c_int {
        pager.end_hold(memory.into_pointer(), bytes)
    }

    /// Gives the pages of a range back: they read as zeros and take no memory. Pages that are held, or
    /// pinned by the system, stay in memory and are zeroed. Unlike madvise() it needs no lent thread,
    /// and it is the only way with ZSPAGER_EVICT_IN_PLACE and before Linux 6.8. 0 bytes are no pages.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, the range is not whole pages, or part of it is in no region.
    /// -EAGAIN: memory of the range kept being moved or unmapped. Part of it may have been given back.
    /// -EPERM: this process is a forked child.
    /// The system's other errors are returned as they are.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_discard(pager: *mut zspager, memory: *mut c_void, bytes: usize) -> c_int {
        // SAFETY: the caller no longer needs the bytes.
        unsafe { pager.discard(memory.into_pointer(), bytes) }
    }
}
