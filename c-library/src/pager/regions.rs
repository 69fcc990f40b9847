//! Regions: adding and removing them, holding and discarding parts.

use super::options::{RemovedPages, convert_region, memory_file, removal};
use super::types::zspager_region_options;
use super::zspager;
use crate::export::export;
use std::ffi::{c_int, c_void};
use std::os::fd::AsFd;
use zsalloc::RegionId;
use zsalloc::plumbing::Uncancelled;

export! {
    /// Adds a region, and stores its number, which is never 0, in *region: `bytes` bytes of memory, in
    /// use already or not, at `memory`. Huge pages are turned off for the range, and forked children do
    /// not get it.
    ///
    /// Pages of the range that are in memory already are charged as they are found, 2 MiB at a time, and
    /// what is above the limit then is evicted before the next 2 MiB are looked at. So the pager is at
    /// most 2 MiB above its limit meanwhile, and not above it when this returns; unless pages can't
    /// leave, as when the pool is full: those stay in memory above the limit, and go when they can.
    ///
    /// memory, bytes: whole pages of 4096 bytes, mapped readable and writable: best from mmap(), and
    ///     used for nothing but the region. The mapping must not grow, neither by mremap() nor by
    ///     itself (MAP_GROWSDOWN): nobody would serve what it grows by. Memory that the pager needs to
    ///     bring a page back can't be in a region, because whoever brings it back would wait for
    ///     itself. That is what malloc() uses or returned, stacks that are in use, and the memory of
    ///     the pager and its pool. The heap (brk), mappings with MAP_GROWSDOWN, among them the main
    ///     thread's stack, the stack of the calling thread, and most of the pager's own memory are
    ///     refused. malloc()'s other arenas and other threads' stacks can't be told from other
    ///     mappings: with them as a region the process hangs, and only SIGKILL ends it.
    /// options: NULL for the defaults: private anonymous memory.
    ///
    /// While the region is there, do not change a memory file by fallocate() or ftruncate() where it is
    /// in the region: pages that are not in memory would come back with their old bytes. See
    /// zspager_region_options.shared_fd, and call zspager_discard() to give memory back.
    ///
    /// Errors:
    /// -EINVAL: a pointer other than options is NULL, an option is wrong, the range is not whole pages
    ///     or is in a region already, or it is not of the kind that the options say: not all mapped, not
    ///     both readable and writable, or not private and anonymous; it is in the heap, in a mapping
    ///     that grows, or has the caller's stack or memory of the pager; with ZSPAGER_REGION_SHARED,
    ///     not a shared mapping of that file from that offset, or the file is no memory file of
    ///     4096-byte pages, not open for both, sealed against writes, or too short.
    /// -ENOSPC: there are as many regions, or parts that munmap() and mremap() made of them, as
    ///     zspager_options.max_regions allows.
    /// -EBADF: with ZSPAGER_REGION_SHARED, shared_fd is no descriptor.
    /// -EBUSY: a part of the range is under another userfaultfd, such as another pager's.
    /// -ENOMEM: there is no memory for the region's tables, or the process has as many mappings as
    ///     vm.max_map_count allows.
    /// -EPERM: this process is a forked child.
    /// Others come from the system.
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
        // A descriptor is closed when this returns, where a thread could be cancelled.
        let _whole = Uncancelled::new();
        let file = memory_file(&options)?;
        let options = convert_region(&options, file.as_ref().map(AsFd::as_fd))?;
        // SAFETY: the caller keeps to what the header says of memory of regions.
        let added = unsafe { pager.add_region(memory, bytes, &options) }?;
        region.set(added.number())
    }

    /// Removes a region: its memory is the program's alone from then on. No other region of the pager
    /// gets its number: a second removal is refused, whatever was added since. Forked children get it
    /// again, whatever the program had advised before; huge pages stay turned off for it, until the
    /// program advises them.
    ///
    /// flags: 0: all of its pages are brought back to memory, whatever the limit says. ZSPAGER_DISCARD:
    ///     those that are not in memory are lost, and read as zero.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or there is no such flag.
    /// -ENOENT: there is no such region: it was removed before, or never added.
    /// -EIO: a page's copy is damaged: the region is removed nevertheless, and that page fails when it
    ///     is touched.
    /// -EAGAIN: the system refused, or a page can't be read from the backing file: the region is still
    ///     there.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_remove_region(pager: *mut zspager, region: u64, flags: u32) -> c_int {
        let region = RegionId::of_number(region);
        match removal(flags)? {
            RemovedPages::Restore => pager.remove_region(region),
            // SAFETY: the flag says that the bytes are no longer needed.
            RemovedPages::Discard => unsafe { pager.remove_region_discarding(region) },
        }
    }

    /// Brings the pages of a range to memory, and keeps them there until zspager_release(): for system
    /// calls that read or write memory of regions, which are EFAULT with ZSPAGER_FAULT_SIGBUS if it is
    /// not in memory. Holds of a page are counted. The pages that the range touches are held whole; with
    /// 0 bytes it touches none.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or a part of the range is in no region.
    /// -ENOSPC: more would be held than zspager_options.max_held_bytes, or a page of the range is held 33
    ///     million times already.
    /// -EIO: a page's copy is damaged, or it can't be read from the backing file.
    /// -EAGAIN: the system refused for a second to put a page in place: it may have no memory.
    /// -EPERM: this process is a forked child.
    /// If it fails, nothing is held that was not before.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_hold(pager: *mut zspager, memory: *const c_void, bytes: usize) -> c_int {
        pager.hold(memory.into_pointer(), bytes)
    }

    /// Ends a hold of the same range.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or a part of the range is in no region: it may have been unmapped since it
    ///     was held. The hold of the other parts has ended.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_release(pager: *mut zspager, memory: *const c_void, bytes: usize) -> c_int {
        pager.release(memory.into_pointer(), bytes)
    }

    /// Gives the pages of a range back: they read as zero, and cost nothing. Pages that are held, or that
    /// the system has pinned, stay in memory, and are zeros. It needs no lent thread, as madvise() does,
    /// and is the only way with ZSPAGER_EVICT_IN_PLACE and before Linux 6.8. 0 bytes are no pages.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, the range is not whole pages, or a part of it is in no region.
    /// -EAGAIN: memory of the range was moved or unmapped all the time. A part may have been given
    ///     back.
    /// -EPERM: this process is a forked child.
    /// Others come from the system.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_discard(pager: *mut zspager, memory: *mut c_void, bytes: usize) -> c_int {
        // SAFETY: the caller no longer needs the bytes.
        unsafe { pager.discard(memory.into_pointer(), bytes) }
    }
}
