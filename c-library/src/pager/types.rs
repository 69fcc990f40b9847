//! Types and constants of the pager's part of the header.

use crate::sized::SizedStruct;
use crate::swap::types::zswap_tuning;
use std::ffi::{c_char, c_int};
use std::mem::{offset_of, size_of};
use zsalloc::{EvictionInUse, PagerCounts, PagerStats};

/// zspager_options.fault_mode: the thread that touches a page brings it back itself, in a SIGBUS
/// handler. The default: the fastest, and it needs no privileges.
pub const ZSPAGER_FAULT_SIGBUS: u32 = 0;
/// zspager_options.fault_mode: threads inside zspager_run() bring pages back, while the thread that
/// touches a page sleeps, inside system calls too. Needs CAP_SYS_PTRACE, or
/// vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that the process may open.
pub const ZSPAGER_FAULT_THREADS: u32 = 1;

/// zspager_options.eviction: evict private pages where they are: protect, copy, compress, drop. This
/// is the default, because it is the faster way where two or more threads touch pages at random:
/// 1.15 times as many operations per second as with the kernel's swap, and 0.66 times by moving.
/// Each page that moves interrupts the other processors that run the process. With one thread and
/// no lent threads, moving is a little faster: 1.26 to 1.86 times the kernel's, and 1.21 to 1.71
/// times in place. docs/benchmarks.md has the table, and the command that prints it.
/// zspager_stats.eviction says which way a pager uses, and why.
/// But the pager does not learn of madvise() then: only zspager_discard() gives pages of a region
/// back, and after madvise() an evicted page has its old bytes. And bytes that direct I/O, io_uring
/// or a device writes to a page that is not held may be lost: hold it with zspager_hold().
pub const ZSPAGER_EVICT_IN_PLACE: u32 = 0;
/// zspager_options.eviction: move private pages to a staging range. The pager learns of madvise(), if
/// a lent thread reads its events, and a page that the system has pinned stays in memory. Pages are
/// evicted in place nevertheless before Linux 6.8, which can't move them, and before 6.16 if there is
/// swap (/proc/swaps) when the pager is created: UFFDIO_MOVE had bugs there when swap was in use,
/// which could mix up a private page or crash the kernel.
pub const ZSPAGER_EVICT_MOVING: u32 = 1;
/// zspager_options.eviction: as ZSPAGER_EVICT_MOVING, and also where there is swap before Linux 6.16.
/// The bugs were fixed in 6.16, and by the middle of 2025 in the stable series, which a release
/// number does not show: choose this if your kernel has the fixes.
pub const ZSPAGER_EVICT_MOVING_BESIDE_SWAP: u32 = 2;

/// zspager_stats.eviction: private pages are evicted where they are, as the options say.
pub const ZSPAGER_USES_IN_PLACE: u32 = 0;
/// zspager_stats.eviction: private pages are moved to the staging range, as the options say.
pub const ZSPAGER_USES_MOVING: u32 = 1;
/// zspager_stats.eviction: private pages are evicted where they are, although the options say to move
/// them: this Linux can't move pages.
pub const ZSPAGER_USES_IN_PLACE_WITHOUT_MOVE: u32 = 2;
/// zspager_stats.eviction: private pages are evicted where they are, although the options say to move
/// them: there is swap, and Linux is older than 6.16.
pub const ZSPAGER_USES_IN_PLACE_BESIDE_SWAP: u32 = 3;

/// zspager_region_options.flags: the region is a shared mapping of a memory file, the part that
/// shared_fd and shared_offset name. Without this flag it is private anonymous memory.
pub const ZSPAGER_REGION_SHARED: u32 = 1;
/// zspager_region_options.flags: never write the region's pages to the backing file.
pub const ZSPAGER_REGION_NO_WRITEBACK: u32 = 2;
/// zspager_region_options.flags: as long as the range is a region, nobody moves or unmaps a part of
/// it, and memory is given back by zspager_discard() alone, not by madvise(). Lent threads that
/// serve touches then wait neither for each other nor for a thread that evicts, which several of
/// them need to be faster than one. It takes effect while all regions of the pager have this flag.
/// If the promise is broken, a page that was given back may have its old bytes, and memory that was
/// mapped where a part of the region was unmapped may lose what is in it. Memory of zspager_map()
/// counts as if it had the flag, unless pages are evicted by moving.
pub const ZSPAGER_REGION_SETTLED: u32 = 4;

/// Flag of zspager_remove_region(): pages that are not in memory are lost, and read as zeros.
/// Without this flag all pages are brought back.
pub const ZSPAGER_DISCARD: u32 = 1;

/// zspager_run() duty: all of the others, in turn.
pub const ZSPAGER_RUN_ALL: u32 = 0;
/// zspager_run() duty: read what the program does with the memory of regions, and with
/// ZSPAGER_FAULT_THREADS bring pages back.
pub const ZSPAGER_RUN_SERVE: u32 = 1;
/// zspager_run() duty: evict ahead, so that touches need not; write to the backing file when the
/// pool is full; and compact the pool when it is sparse. Without such a thread, touches that evict
/// compact a sparse pool, some 0.1 ms at a time.
pub const ZSPAGER_RUN_EVICT: u32 = 2;
/// zspager_run() duty: call tiers of zspager_add_tier(): with ZSPAGER_FAULT_SIGBUS read pages from them
/// for touches, whose handlers may not, and write to them when the pool is full. A touch waits while the
/// thread reads from a tier: lend as many as the tier should serve at a time.
pub const ZSPAGER_RUN_TIERS: u32 = 3;

/// The options of a pager that few programs set, and those of its zswap. Set the whole struct to 0,
/// then struct_size, then the fields that differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zspager_tuning {
    /// Set to sizeof(struct zspager_tuning).
    pub struct_size: usize,
    /// Maximum bytes that zspager_hold() may hold at the same time. At least a page of 4096 bytes. 0:
    /// an eighth of zspager_options.resident_bytes. zspager_set_resident_limit() does not change it.
    pub max_held_bytes: u64,
    /// The zswap that holds evicted pages, and its pool. NULL: the defaults.
    pub zswap: *const zswap_tuning,
    /// Size of the staging range in percent of zspager_options.resident_bytes: 1 to 90. 0: 10. Pages wait there,
    /// uncompressed, in case they are touched again.
    pub staged_percent: u32,
    /// Maximum number of regions at the same time: at most 65536. 0: 1024. A region takes five or
    /// six of the mappings that vm.max_map_count allows a process, its own included, and a pager
    /// about 20: with the usual 65530 there is room for about 10,900 regions. Beyond that,
    /// zspager_add_region() fails with -ENOMEM.
    pub max_regions: u32,
    /// Reserved for later versions: set to 0.
    pub reserved: [u32; 8],
}

/// Options for creating a pager. Set the whole struct to 0, then struct_size, then the fields that
/// differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zspager_options {
    /// Set to sizeof(struct zspager_options).
    pub struct_size: usize,
    /// The limit: maximum bytes of all regions and of the pager's staging range in memory. Each
    /// thread that loads pages ahead may exceed it by up to 15 pages for a moment. At least
    /// 64 KiB. 0: no limit. zspager_set_resident_limit() changes it.
    pub resident_bytes: u64,
    /// The limit of compressed pages: maximum bytes of slots that they take, on top of
    /// resident_bytes. At least 4112, which one page may take. 0: no limit but the pool's own.
    /// zspager_set_pool_limit() changes it.
    pub pool_bytes: u64,
    /// How pages are brought back: one of ZSPAGER_FAULT_*.
    pub fault_mode: u32,
    /// How private pages leave memory: one of ZSPAGER_EVICT_*.
    pub eviction: u32,
    /// Codec of evicted pages: one of ZSWAP_CODEC_*. zspager_set_codec() changes it.
    pub codec: u32,
    /// Level of the codec.
    pub level: c_int,
    /// What few programs set. NULL: the defaults.
    pub tuning: *const zspager_tuning,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// Options for adding a region. Set the whole struct to 0, then struct_size, then the fields that
/// differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zspager_region_options {
    /// Set to sizeof(struct zspager_region_options).
    pub struct_size: usize,
    /// Maximum bytes of slots that the region's pages may take in the zswap, at least 4112. 0: no
    /// limit of its own.
    pub max_stored_bytes: u64,
    /// A name for people, in UTF-8, at most 249 bytes, which zspager_stats_json() shows. The library
    /// copies it. Several regions may have the same. NULL: none.
    pub name: *const c_char,
    /// With ZSPAGER_REGION_SHARED: the offset in the memory file where the range begins, in bytes.
    /// Otherwise 0.
    pub shared_offset: u64,
    /// With ZSPAGER_REGION_SHARED: the memory file, open for reading and writing. Otherwise 0. The
    /// library duplicates the descriptor: the caller may close it. While the region exists, pages
    /// that are not in memory are holes in the file, and other mappings of the file read zeros
    /// there. Removing the region without ZSPAGER_DISCARD fills the holes; unmapping the range
    /// without that loses the pages.
    ///
    /// Do not call fallocate() with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, or ftruncate(), on
    /// a part of the file that is in a region. The system does not tell the pager of these calls:
    /// pages that are not in memory come back with their old bytes. To give memory back, as a
    /// balloon does, call zspager_discard().
    ///
    /// A page that is part of a huge page leaves memory only if the system can split the huge page.
    /// It can't while any part of it is pinned: then the page stays, stays charged, and counts as
    /// pinned in the statistics.
    pub shared_fd: c_int,
    /// ZSPAGER_REGION_* flags, combined with |.
    pub flags: u32,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 3],
}

/// Statistics of a pager: see zspager_stats(). The figures up to table_bytes, lent_threads,
/// immovable_bytes and eviction are current values; all others only grow. Each figure is right for its moment,
/// and two figures need not be of the same moment.
///
/// How many pages are compressed, and how much memory their pool takes, is in the JSON of
/// zspager_stats_json() alone, in its member "zswap".
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zspager_stats {
    /// sizeof(struct zspager_stats), set by the caller.
    pub struct_size: usize,
    /// The limit: maximum bytes of regions and staging range in memory; UINT64_MAX if there is
    /// none.
    pub resident_limit_bytes: u64,
    /// Bytes of regions and staging range in memory.
    pub resident_bytes: u64,
    /// Part of resident_bytes that is in the staging range.
    pub staged_bytes: u64,
    /// Bytes held by zspager_hold().
    pub held_bytes: u64,
    /// Size of all regions in bytes of addresses.
    pub region_bytes: u64,
    /// Number of regions.
    pub regions: u64,
    /// Bytes of memory of the pager's own tables, without the zswap's.
    pub table_bytes: u64,
    /// Touches served, of every kind. Includes pages that a hold or the removal of a region brought
    /// back.
    pub faults: u64,
    /// Pages loaded from the zswap or its file because they were touched.
    pub loads: u64,
    /// Pages loaded ahead of a touch.
    pub loads_ahead: u64,
    /// Pages moved back from the staging range because they were touched.
    pub rescues: u64,
    /// Pages filled with zeros because they were touched for the first time, or after their owner
    /// gave them back.
    pub zero_fills: u64,
    /// First writes to pages whose compressed copy had been kept.
    pub first_writes: u64,
    /// Pages moved to the staging range.
    pub staged: u64,
    /// Pages compressed.
    pub stored: u64,
    /// Pages dropped without compression because their compressed copy had been kept.
    pub dropped: u64,
    /// Touches and holds that had to make room themselves. If there are many, lend a thread that
    /// evicts (ZSPAGER_RUN_EVICT or ZSPAGER_RUN_ALL), or give it more processor time.
    pub direct_reclaims: u64,
    /// Pages brought in above the limit because none could leave. Either the pool was full and
    /// nothing could be written back: raise the pool's limit or add a backing file. (If there is
    /// one, the zswap's writeback_no_space in the JSON of zspager_stats_json() tells that it is
    /// full, and writeback_io that it fails.) Or the rest was held, immovable, or being evicted by
    /// other threads: hold less, or raise the limit.
    pub over_limit: u64,
    /// Pages picked for eviction that stayed, because the system has them pinned or locked, or
    /// refused. The same page counts each time.
    pub pinned: u64,
    /// Pages that their owner gave back, unmapped or discarded, and all pages of removed regions.
    pub discarded: u64,
    /// Pages whose compressed copy was damaged. A thread that touches one gets SIGBUS.
    pub poisoned: u64,
    /// Discards, moves and unmaps by the program that the pager noticed.
    pub events: u64,
    /// Failed attempts to put a page in place: the memory was changing, the system refused, or the
    /// backing file could not be read. A few are normal. Many compared with faults mean that the
    /// system lacks memory, that the program moves and unmaps all the time, or that the file fails,
    /// which the zswap's file_read_failures in the JSON counts.
    pub retries: u64,
    /// Touches given up after about a second, and pages that a hold or the removal of a region could
    /// not bring back: the system refused, the backing file could not be read, or the memory kept
    /// changing. Nothing is lost. The touch got SIGBUS; with ZSPAGER_FAULT_THREADS it is given up
    /// sooner, waits, is tried again, and counts again. Damaged pages are not included.
    pub failed: u64,
    /// Threads inside zspager_run(). With ZSPAGER_FAULT_THREADS and none of them, touches wait until
    /// there is one.
    pub lent_threads: u64,
    /// Bytes in memory that could not leave when last tried: pages that are locked, pinned, shared
    /// with another process, or part of a huge page that can't be split. Some of them are tried
    /// again every 10 ms in which a touch needs room; zspager_evict() and
    /// zspager_set_resident_limit() try all of them. While held_bytes and these together exceed the
    /// limit, touches go above it at once, and over_limit counts that.
    pub immovable_bytes: u64,
    /// Pages that left memory from where they were, and not from the staging range.
    pub evicted_in_place: u64,
    /// How the pager evicts private pages, and why so: one of ZSPAGER_USES_*.
    pub eviction: u64,
}

// SAFETY: 64-bit integers and pointers, and 32-bit integers in pairs.
unsafe impl SizedStruct for zspager_options {}
// SAFETY: 64-bit integers, a raw pointer, and ten 32-bit integers.
unsafe impl SizedStruct for zspager_tuning {}
// SAFETY: 64-bit integers, and 32-bit integers in pairs.
unsafe impl SizedStruct for zspager_region_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zspager_stats {}

const _: () = assert!(size_of::<zspager_options>() == offset_of!(zspager_options, reserved) + 32);
const _: () = assert!(offset_of!(zspager_options, tuning) == offset_of!(zspager_options, fault_mode) + 16);
const _: () = assert!(size_of::<zspager_tuning>() == offset_of!(zspager_tuning, staged_percent) + 40);
const _: () = assert!(offset_of!(zspager_region_options, reserved) == offset_of!(zspager_region_options, flags) + 4);

/// The constant of a way to evict.
fn number_of(eviction: EvictionInUse) -> u32 {
    match eviction {
        EvictionInUse::Moving => ZSPAGER_USES_MOVING,
        EvictionInUse::InPlaceWithoutMove => ZSPAGER_USES_IN_PLACE_WITHOUT_MOVE,
        EvictionInUse::InPlaceBesideSwap => ZSPAGER_USES_IN_PLACE_BESIDE_SWAP,
        _ => ZSPAGER_USES_IN_PLACE,
    }
}

impl From<PagerStats> for zspager_stats {
    #[rustfmt::skip]
    fn from(stats: PagerStats) -> Self {
        let PagerStats {
            resident_limit_bytes, resident_bytes, staged_bytes, held_bytes, region_bytes, regions, table_bytes,
            lent_threads, immovable_bytes, eviction, counts, ..
        } = stats;
        let PagerCounts {
            faults, loads, loads_ahead, rescues, zero_fills, first_writes, staged, stored, dropped, direct_reclaims,
            over_limit, pinned, discarded, poisoned, events, retries, failed, evicted_in_place, ..
        } = counts;
        Self {
            struct_size: size_of::<Self>(), resident_limit_bytes: resident_limit_bytes.unwrap_or(u64::MAX),
            resident_bytes, staged_bytes, held_bytes,
            region_bytes, regions, table_bytes, faults, loads, loads_ahead, rescues, zero_fills, first_writes, staged,
            stored, dropped, direct_reclaims, over_limit, pinned, discarded, poisoned, events, retries, failed,
            lent_threads, immovable_bytes, evicted_in_place, eviction: number_of(eviction).into(),
        }
    }
}
