//! Types and constants of the pool's part of the header.

use super::export::{any_value_will_do, fills_statistics};
use super::sized::SizedStruct;
use super::zs_pool;
use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};
use zsalloc::{CompactBudget, PoolStats};

/// The parts of the version that this header belongs to. zs_version() tells that of the library.
pub const ZS_VERSION_MAJOR: u32 = 0;
/// See ZS_VERSION_MAJOR.
pub const ZS_VERSION_MINOR: u32 = 1;
/// See ZS_VERSION_MAJOR.
pub const ZS_VERSION_PATCH: u32 = 0;

/// The largest object, in bytes.
pub const ZS_MAX_ALLOC_SIZE: usize = 4112;
const _: () = assert!(ZS_MAX_ALLOC_SIZE == zsalloc::MAX_ALLOC_SIZE);

/// The least that zs_pool_options.max_bytes may be, in bytes, unless it is 0.
pub const ZS_MIN_POOL_BYTES: u64 = 1048576;
const _: () = assert!(ZS_MIN_POOL_BYTES == zsalloc::MIN_BYTES);

/// For zs_map_object(): to read and write.
pub const ZS_MM_RW: u32 = 0;
/// For zs_map_object(): to read. Never waits.
pub const ZS_MM_RO: u32 = 1;
/// For zs_map_object(): to write. Bytes that are not written keep what they held.
pub const ZS_MM_WO: u32 = 2;

/// For zs_pool_options.backing: private anonymous memory. The default.
pub const ZS_BACKING_ANONYMOUS: u32 = 0;
/// For zs_pool_options.backing: a memory file (memfd) that has the pool's name and whose
/// descriptor zs_pool_fd() tells.
pub const ZS_BACKING_MEMFD: u32 = 1;
/// For zs_pool_options.backing: huge pages of 2 MiB from the system's own stock
/// (vm.nr_hugepages), taken one by one as the pool grows. Where the system has no hugetlbfs,
/// zs_create_pool() fails; where the stock is empty, zs_malloc() does: -ENOMEM.
pub const ZS_BACKING_HUGETLB: u32 = 2;
/// For zs_pool_options.backing: the memory that zs_pool_options.memory and memory_bytes name.
pub const ZS_BACKING_MEMORY: u32 = 3;

/// For zs_pool_options.flags: never ask for huge pages. Without this flag and the next one, they
/// are asked for only for what an anonymous pool has beyond 4 GiB.
pub const ZS_POOL_HUGE_NEVER: u32 = 1;
/// For zs_pool_options.flags: ask for huge pages from the start. Memory is then taken, counted
/// and given back 2 MiB at a time. Not for supplied memory.
pub const ZS_POOL_HUGE_ALWAYS: u32 = 2;
/// For zs_pool_options.flags: forked children do not get the pool. Always so with
/// ZS_BACKING_MEMFD and _HUGETLB.
pub const ZS_POOL_DONTFORK: u32 = 4;
/// For zs_pool_options.flags: refuse huge pages once, at the pool's creation, give no other advice,
/// and do not ask that the pool is left out of core dumps. Memory goes back by madvise() alone,
/// range by range, not by process_madvise(). For processes in jails that forbid such calls.
pub const ZS_POOL_NO_ADVICE: u32 = 8;
/// For zs_pool_options.flags: overwrite the bytes of freed objects with zeros, and refuse stale
/// handles for ever.
pub const ZS_POOL_HARDENED: u32 = 16;
/// For zs_pool_options.flags, with ZS_BACKING_MEMORY only: the supplied memory is private and
/// anonymous, and the pool may give pages of it back to the system (MADV_DONTNEED). Without this
/// flag the supplied memory stays with the process.
pub const ZS_POOL_RELEASABLE: u32 = 32;

/// Names an object of one pool. Never 0, and not an address. Copy it, compare it, and keep it
/// where you like; its bits mean nothing to a program.
#[allow(non_camel_case_types)]
pub type zs_handle_t = u64;

/// A callback for zs_set_evict(). zs_shrink() calls it, in its own thread and with no lock held,
/// with the context that was set and an object that is to go. Normally it frees the object,
/// forgets the handle, and returns 0. Any other value means that the object has to stay.
///
/// Nobody had the object mapped when it was chosen, and it stays where it is until the callback
/// returns. Another thread may free it meanwhile: the callback's own zs_free() is -EINVAL then,
/// and no harm is done, for the handle is not given to a new object before the callback
/// returned. It must return: no longjmp, no C++ exception.
#[allow(non_camel_case_types)]
pub type zs_evict_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, pool: *mut zs_pool, handle: zs_handle_t) -> c_int>;

/// How a pool is to be. Set everything to 0 first, then struct_size, then what is to differ from
/// the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zs_pool_options {
    /// sizeof(struct zs_pool_options).
    pub struct_size: usize,
    /// Most bytes of memory the pool may have, its own tables included: at least
    /// ZS_MIN_POOL_BYTES and at most about 800 GiB. 0: as much as the machine has memory, or
    /// less if the process may not have so many addresses; with ZS_BACKING_MEMORY, all of that
    /// memory.
    pub max_bytes: u64,
    /// Where the memory comes from: one of ZS_BACKING_*.
    pub backing: u32,
    /// ZS_POOL_*, or-ed.
    pub flags: u32,
    /// For ZS_BACKING_MEMORY, else NULL: memory that can be read and written, at a multiple of
    /// 4096, that nobody else uses until the pool is destroyed.
    pub memory: *mut c_void,
    /// For ZS_BACKING_MEMORY, else 0: the bytes of that memory, at least ZS_MIN_POOL_BYTES. The
    /// larger, the better they are used: of 1 MiB half may be left over, of 16 MiB a twentieth.
    pub memory_bytes: u64,
    /// Where zs_create_pool() writes, should it fail, a sentence that says why, cut to fit and
    /// ended with a NUL; or NULL.
    pub message: *mut c_char,
    /// The bytes that message has.
    pub message_size: usize,
    /// For later; 0.
    pub reserved: [u64; 4],
}

/// How much one zs_compact() may do. A field that is 0 is no bound.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zs_compact_budget {
    /// sizeof(struct zs_compact_budget).
    pub struct_size: usize,
    /// Bytes of objects moved, after which it stops.
    pub max_bytes_moved: u64,
    /// Microseconds, after which it stops: at the next object, or once the memory that it is
    /// giving back is gone.
    pub max_microseconds: u64,
}

/// What a pool has: see zs_pool_stats(). Each figure is right for its moment; they are read one
/// after the other while other threads go on. A page is 4096 bytes.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zs_pool_stats {
    /// sizeof(struct zs_pool_stats), set by the caller.
    pub struct_size: usize,
    /// Most bytes the pool may have.
    pub max_bytes: u64,
    /// Objects that are allocated, and those freed while mapped until their last unmap.
    pub objects: u64,
    /// Bytes that these objects take, each rounded up as zs_lookup_class_size() tells.
    pub object_bytes: u64,
    /// Zspages: stretches of pages cut into objects of one size.
    pub zspages: u64,
    /// Pages that the pool has from the system: what zs_get_total_pages() tells.
    pub total_pages: u64,
    /// Those of them that hold the pool's own tables.
    pub metadata_pages: u64,
    /// Those of them that are empty and kept, to be used again soon.
    pub warm_pages: u64,
    /// Chunks of 2 MiB of addresses that are in use.
    pub chunks: u64,
    /// Those of them whose memory is taken and given back 2 MiB at a time.
    pub whole_chunks: u64,
    /// Pages that compaction gave back to the system since the pool was created.
    pub pages_compacted: u64,
    /// Objects that compaction moved since then.
    pub objects_moved: u64,
    /// Pages that zs_shrink() freed since then.
    pub pages_reclaimed: u64,
}

// SAFETY: integers and raw pointers in order of falling alignment, or paired.
unsafe impl SizedStruct for zs_pool_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zs_compact_budget {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zs_pool_stats {}

const _: () = assert!(size_of::<zs_pool_options>() == offset_of!(zs_pool_options, reserved) + 32);
const _: () = assert!(offset_of!(zs_pool_options, memory) == offset_of!(zs_pool_options, flags) + 4);

impl From<&zs_compact_budget> for CompactBudget {
    fn from(budget: &zs_compact_budget) -> Self {
        Self { max_bytes_moved: budget.max_bytes_moved, max_microseconds: budget.max_microseconds }
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
