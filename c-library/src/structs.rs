//! Types and constants of the pool's part of the header.

use super::export::{any_value_will_do, fills_statistics};
use super::sized::{SizedStruct, unless_zero};
use super::zs_pool;
use std::ffi::{c_int, c_void};
use std::mem::{offset_of, size_of};
use std::time::Duration;
use zsalloc::{CompactBudget, PoolStats};

/// Major version of this header. zs_version() returns the version of the library.
pub const ZS_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const ZS_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const ZS_VERSION_PATCH: u32 = 0;

/// Size of the largest object, in bytes.
pub const ZS_MAX_ALLOC_SIZE: usize = 4112;
const _: () = assert!(ZS_MAX_ALLOC_SIZE == zsalloc::MAX_ALLOC_SIZE);

/// Size of the largest object in a pool with tags (ZS_POOL_TAGGED), in bytes.
pub const ZS_MAX_TAGGED_SIZE: usize = 4104;
const _: () = assert!(ZS_MAX_TAGGED_SIZE == zsalloc::MAX_TAGGED_SIZE);

/// Smallest value of zs_pool_options.max_bytes other than 0, in bytes.
pub const ZS_MIN_POOL_BYTES: u64 = 1048576;
const _: () = assert!(ZS_MIN_POOL_BYTES == zsalloc::MIN_BYTES);

/// zs_map_object() mode: read and write.
pub const ZS_MM_RW: u32 = 0;
/// zs_map_object() mode: read only. Never waits.
pub const ZS_MM_RO: u32 = 1;
/// zs_map_object() mode: write only. Bytes that are not written keep their values.
pub const ZS_MM_WO: u32 = 2;

/// zs_pool_options.backing: private anonymous memory. The default.
pub const ZS_BACKING_ANONYMOUS: u32 = 0;
/// zs_pool_options.backing: a memory file (memfd) named after the pool. zs_pool_fd() returns its
/// descriptor.
pub const ZS_BACKING_MEMFD: u32 = 1;
/// zs_pool_options.backing: 2 MiB huge pages from the system's reserve (vm.nr_hugepages), taken one
/// by one as the pool grows. If the system has no hugetlbfs, zs_create_pool() fails. If the reserve
/// is empty, zs_malloc() fails with -ENOMEM.
pub const ZS_BACKING_HUGETLB: u32 = 2;
/// zs_pool_options.backing: memory that the caller supplies in zs_pool_options.memory and
/// memory_bytes.
pub const ZS_BACKING_MEMORY: u32 = 3;

/// zs_pool_tuning.flags: never request huge pages. With neither this flag nor ZS_POOL_HUGE_ALWAYS,
/// only an anonymous pool requests them, and only for its memory beyond 4 GiB.
pub const ZS_POOL_HUGE_NEVER: u32 = 1;
/// zs_pool_tuning.flags: request huge pages from the start. The pool then takes, counts and gives
/// back memory 2 MiB at a time. Not for supplied memory.
pub const ZS_POOL_HUGE_ALWAYS: u32 = 2;
/// zs_pool_tuning.flags: forked children do not get the pool. Always in effect with
/// ZS_BACKING_MEMFD and ZS_BACKING_HUGETLB.
pub const ZS_POOL_DONTFORK: u32 = 4;
/// zs_pool_tuning.flags: for processes in jails that forbid such calls. The pool refuses huge pages
/// once, when it is created, gives the system no other advice, and does not ask to be left out of
/// core dumps. It gives memory back with madvise(), one range at a time, and never with
/// process_madvise().
pub const ZS_POOL_NO_ADVICE: u32 = 8;
/// zs_pool_options.flags: overwrite freed objects with zeros, and refuse stale handles for ever.
pub const ZS_POOL_HARDENED: u32 = 16;
/// zs_pool_options.flags, with ZS_BACKING_MEMORY only: the supplied memory is private and anonymous,
/// and the pool may give pages of it back to the system (MADV_DONTNEED). Without this flag, supplied
/// memory stays with the process.
pub const ZS_POOL_RELEASABLE: u32 = 32;
/// zs_pool_tuning.flags: each object keeps 8 bytes of the program's beside its own, which
/// zs_malloc_tagged() stores and zs_get_tag() returns. Each object takes 8 bytes more, and has at
/// most ZS_MAX_TAGGED_SIZE. Not for the pool of a zswap.
pub const ZS_POOL_TAGGED: u32 = 64;

/// Names an object of one pool. Never 0, and not an address. Copy, compare and keep it as you like;
/// its bits carry no meaning for a program.
#[allow(non_camel_case_types)]
pub type zs_handle_t = u64;

/// Callback for zs_set_evict(). zs_shrink() calls it in its own thread, with no lock held. It gets
/// the context that was set and the handle of an object to evict. Normally it frees the object,
/// forgets the handle, and returns 0. Any other return value keeps the object. See zs_set_evict() for
/// how the callback finds out what it was offered.
///
/// An object that is kept is offered again later, after others. So is one for which the callback
/// returns 0 without freeing it, which makes no room. If no page becomes free, zs_shrink() ends with
/// -EAGAIN, "none of the coldest objects could go now".
///
/// No thread had the object mapped when it was chosen, and it does not move until the callback
/// returns. Another thread may free it in the meantime: then the callback's own zs_free() fails with
/// -EINVAL, without harm, because the handle is not reused before the callback returns. The callback
/// must return normally: no longjmp, no C++ exception.
#[allow(non_camel_case_types)]
pub type zs_evict_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, pool: *mut zs_pool, handle: zs_handle_t) -> c_int>;

/// The options of a pool that few programs set. Set the whole struct to 0, then struct_size, then
/// the fields that differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zs_pool_tuning {
    /// Set to sizeof(struct zs_pool_tuning).
    pub struct_size: usize,
    /// ZS_POOL_HUGE_NEVER, ZS_POOL_HUGE_ALWAYS, ZS_POOL_DONTFORK, ZS_POOL_NO_ADVICE and
    /// ZS_POOL_TAGGED, combined with |.
    pub flags: u32,
    /// Reserved for later versions: set to 0.
    pub reserved: [u32; 9],
}

/// Options for creating a pool. Set the whole struct to 0, then struct_size, then the fields that
/// differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zs_pool_options {
    /// Set to sizeof(struct zs_pool_options).
    pub struct_size: usize,
    /// Maximum memory of the pool in bytes, its own tables included: at least
    /// ZS_MIN_POOL_BYTES, at most about 800 GiB. 0: as much as the machine has, or less if the
    /// process may not have so many addresses; with ZS_BACKING_MEMORY, all of the supplied memory.
    pub max_bytes: u64,
    /// Source of the memory: one of ZS_BACKING_*.
    pub backing: u32,
    /// ZS_POOL_HARDENED and ZS_POOL_RELEASABLE, combined with |.
    pub flags: u32,
    /// With ZS_BACKING_MEMORY: readable and writable memory at a multiple of 4096, which nothing
    /// else uses until the pool is destroyed. Otherwise NULL.
    pub memory: *mut c_void,
    /// With ZS_BACKING_MEMORY: the size of that memory in bytes, at least ZS_MIN_POOL_BYTES. The
    /// larger, the less is wasted: up to half of 1 MiB, up to a twentieth of 16 MiB. Otherwise 0.
    pub memory_bytes: u64,
    /// What few programs set. NULL: the defaults.
    pub tuning: *const zs_pool_tuning,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// Limits for one call of zs_compact(). A field that is 0 sets no limit.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zs_compact_budget {
    /// Set to sizeof(struct zs_compact_budget).
    pub struct_size: usize,
    /// Stop after moving this many bytes of objects.
    pub max_bytes_moved: u64,
    /// Stop after this many microseconds: at the next object, or once the memory that is being given
    /// back is gone.
    pub max_microseconds: u64,
}

/// Statistics of a pool: see zs_pool_stats(). Each figure is right for its moment; they are read one
/// after another while other threads go on. A page is 4096 bytes.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zs_pool_stats {
    /// sizeof(struct zs_pool_stats), set by the caller.
    pub struct_size: usize,
    /// Maximum memory of the pool in bytes.
    pub max_bytes: u64,
    /// Allocated objects, including those that were freed while mapped and are still mapped.
    pub objects: u64,
    /// Bytes that these objects take, each rounded up as by zs_lookup_class_size().
    pub object_bytes: u64,
    /// Zspages: runs of pages that are cut into objects of one size.
    pub zspages: u64,
    /// Pages that the pool has from the system, as zs_get_total_pages() returns.
    pub total_pages: u64,
    /// Those of total_pages that hold the pool's own tables.
    pub metadata_pages: u64,
    /// Those of total_pages that are empty and kept for reuse.
    pub warm_pages: u64,
    /// Chunks of 2 MiB of addresses in use.
    pub chunks: u64,
    /// Those of chunks whose memory is taken and given back 2 MiB at a time.
    pub whole_chunks: u64,
    /// Pages that compaction gave back to the system since the pool was created.
    pub pages_compacted: u64,
    /// Objects that compaction moved since the pool was created.
    pub objects_moved: u64,
    /// Pages that zs_shrink() freed since the pool was created.
    pub pages_reclaimed: u64,
}

// SAFETY: integers and raw pointers in order of falling alignment, or paired.
unsafe impl SizedStruct for zs_pool_options {}
// SAFETY: a 64-bit integer and ten 32-bit integers.
unsafe impl SizedStruct for zs_pool_tuning {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zs_compact_budget {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zs_pool_stats {}

const _: () = assert!(size_of::<zs_pool_options>() == offset_of!(zs_pool_options, reserved) + 32);
const _: () = assert!(size_of::<zs_pool_tuning>() == offset_of!(zs_pool_tuning, flags) + 40);
const _: () = assert!(offset_of!(zs_pool_options, memory) == offset_of!(zs_pool_options, flags) + 4);

impl From<&zs_compact_budget> for CompactBudget {
    fn from(budget: &zs_compact_budget) -> Self {
        let max_time = unless_zero(budget.max_microseconds).map(Duration::from_micros);
        Self { max_bytes_moved: unless_zero(budget.max_bytes_moved), max_time }
    }
}

impl From<PoolStats> for zs_pool_stats {
    fn from(stats: PoolStats) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            max_bytes: stats.max_bytes,
            objects: stats.objects,
            object_bytes: stats.object_bytes,
            zspages: stats.zspages,
            total_pages: stats.total_pages,
            metadata_pages: stats.metadata_pages,
            warm_pages: stats.warm_pages,
            chunks: stats.chunks,
            whole_chunks: stats.whole_chunks,
            pages_compacted: stats.pages_compacted,
            objects_moved: stats.objects_moved,
            pages_reclaimed: stats.pages_reclaimed,
        }
    }
}

any_value_will_do!(zs_evict_fn);
fills_statistics!(zs_pool_stats);
