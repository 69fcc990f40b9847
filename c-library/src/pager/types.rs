//! Types and constants of the pager's part of the header.

use crate::sized::SizedStruct;
use crate::swap::types::zswap_options;
use std::ffi::c_char;
use std::mem::{offset_of, size_of};
use zsalloc::{PagerCounts, PagerStats};

/// For zspager_options.fault_mode: the thread that touches a page brings it back, in a handler of
/// SIGBUS. The default: the fastest, and needs no privileges.
pub const ZSPAGER_FAULT_SIGBUS: u32 = 0;
/// For zspager_options.fault_mode: threads inside of zspager_run() bring pages back, while the
/// thread that touches one sleeps, in a system call as well. Needs CAP_SYS_PTRACE, or
/// vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that may be opened.
pub const ZSPAGER_FAULT_THREADS: u32 = 1;

/// For zspager_options.flags: private pages are not moved to a staging range but evicted where they
/// are: protected, copied, and dropped, as all are before Linux 6.8. It is faster where several
/// threads run at once. But the pager is not told of madvise() then: only zspager_discard() gives
/// pages of a region back, and after madvise() an evicted page has its old bytes.
///
/// It is the default before Linux 6.16 if there is swap (/proc/swaps) when the pager is created. There
/// UFFDIO_MOVE had bugs beside swap: a private page could be mixed up, or the kernel could crash.
pub const ZSPAGER_EVICT_IN_PLACE: u32 = 1;
/// For zspager_options.flags: private pages are moved also where there is swap before Linux 6.16. The
/// bugs of UFFDIO_MOVE were mended in 6.16, and by the middle of 2025 in the stable series, which a
/// release's number does not tell: set this if your kernel has that. Where the system can't move
/// pages, it changes nothing. Not with ZSPAGER_EVICT_IN_PLACE.
pub const ZSPAGER_EVICT_BY_MOVING: u32 = 4;

/// For zspager_region_options.flags: the region is a shared mapping of a memory file, and shared_fd
/// and shared_offset say of which part. Without this flag it is private anonymous memory.
pub const ZSPAGER_REGION_SHARED: u32 = 1;
/// For zspager_region_options.flags: the region's pages are never written to the backing file.
pub const ZSPAGER_REGION_NO_WRITEBACK: u32 = 2;

/// For zspager_remove_region(): pages that are not in memory are lost, and read as zero. Without
/// this flag all of them are brought back.
pub const ZSPAGER_DISCARD: u32 = 1;

/// For zspager_run(): both of the others in turn.
pub const ZSPAGER_RUN_ALL: u32 = 0;
/// For zspager_run(): read what owners do with the memory of regions, and with
/// ZSPAGER_FAULT_THREADS bring pages back.
pub const ZSPAGER_RUN_SERVE: u32 = 1;
/// For zspager_run(): evict ahead, so that touches need not, write to the backing file when the pool
/// is full, and compact the pool when it is sparse. Without such a thread it is compacted only by
/// zspager_compact(), and when it has no memory for a page.
pub const ZSPAGER_RUN_EVICT: u32 = 2;

/// How a pager is to be. Set everything to 0 first, then struct_size, then what is to differ from
/// the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zspager_options {
    /// sizeof(struct zspager_options).
    pub struct_size: usize,
    /// The limit: most bytes of pages of all regions, and of the pager's staging range, that may be
    /// in memory. Each thread that loads pages ahead may exceed it by up to 15 pages for a moment.
    /// 0: no limit; less than 64 KiB: 64 KiB. zspager_set_resident_limit() changes it.
    pub resident_bytes: u64,
    /// Most bytes that may be held by zspager_hold() at the same time. 0: an eighth of
    /// resident_bytes; it stays that when zspager_set_resident_limit() changes the limit.
    pub max_held_bytes: u64,
    /// Who brings pages back: one of ZSPAGER_FAULT_*.
    pub fault_mode: u32,
    /// How many percent of resident_bytes the staging range may have, where pages wait, not
    /// compressed yet, for being touched again: 1 to 90. 0: 10.
    pub staged_percent: u32,
    /// Most regions at the same time: at most 65536. 0: 1024. A region takes five or six of the
    /// mappings that vm.max_map_count allows a process, its own included, and a pager some 20: with
    /// the usual 65530 there is room for some 10,900 regions. Beyond it zspager_add_region() is
    /// -ENOMEM.
    pub max_regions: u32,
    /// ZSPAGER_EVICT_IN_PLACE or ZSPAGER_EVICT_BY_MOVING, or 0.
    pub flags: u32,
    /// The zswap that pages go to: its limit and its codec; NULL for the defaults. Its
    /// accept_percent is 98 if it is 0. Its name and its message are not looked
    /// at.
    pub zswap: *const zswap_options,
    /// Where zspager_create() writes, should it fail, a sentence that says why, cut to fit and ended
    /// with a NUL; or NULL.
    pub message: *mut c_char,
    /// The bytes that message has.
    pub message_size: usize,
    /// For later; 0.
    pub reserved: [u64; 4],
}

/// How a region is to be. Set everything to 0 first, then struct_size, then what is to differ from
/// the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zspager_region_options {
    /// sizeof(struct zspager_region_options).
    pub struct_size: usize,
    /// Most bytes of slots that its pages may take in the zswap. 0: no limit of its own.
    pub max_stored_bytes: u64,
    /// With ZSPAGER_REGION_SHARED, else 0: where in the memory file the range begins, in bytes.
    pub shared_offset: u64,
    /// With ZSPAGER_REGION_SHARED, else 0: the memory file, open for reading and writing. It is
    /// duplicated: the caller may close it. While the region is there, pages that are not in memory
    /// are holes in the file, and other mappings of it read zeros there. Removing the region without
    /// ZSPAGER_DISCARD fills them; unmapping the range without that loses them.
    ///
    /// Do not call fallocate() with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, or ftruncate(), on
    /// the file for a part that is in a region. The system does not tell the pager of these: pages
    /// that are not in memory come back with their old bytes. To give memory back, as a balloon does,
    /// call zspager_discard().
    ///
    /// A page that is a part of a huge page leaves memory only if the system can split the huge page.
    /// It can't while somebody has a pin on any part of it: then the page stays, stays charged, and
    /// counts as pinned in the statistics.
    pub shared_fd: i32,
    /// ZSPAGER_REGION_*, or-ed.
    pub flags: u32,
    /// For later; 0.
    pub reserved: [u64; 4],
}

/// What a pager has and did: see zspager_stats(). All up to table_bytes, lent_threads and
/// immovable_bytes are of now; all others only grow. Each figure is right for its moment, and two of
/// them need not be of the same one.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zspager_stats {
    /// sizeof(struct zspager_stats), set by the caller.
    pub struct_size: usize,
    /// The limit: most bytes of pages of regions and the staging range, together; 2^63 - 4096 if there
    /// is none.
    pub resident_limit_bytes: u64,
    /// Bytes of such pages in memory.
    pub resident_bytes: u64,
    /// Those of them that are in the staging range.
    pub staged_bytes: u64,
    /// Bytes that are held.
    pub held_bytes: u64,
    /// Bytes of addresses of all regions.
    pub region_bytes: u64,
    /// Regions.
    pub regions: u64,
    /// Bytes of memory of the pager's own tables, without zswap's.
    pub table_bytes: u64,
    /// Touches that were served, of whatever kind; pages that a hold or the removal of a region
    /// asked for are among them.
    pub faults: u64,
    /// Pages that were loaded from the zswap, or its file, because they were touched.
    pub loads: u64,
    /// Pages that were loaded ahead of a touch.
    pub loads_ahead: u64,
    /// Pages that were touched while they were staged, and moved back.
    pub rescues: u64,
    /// Pages that were touched for the first time, or after their owner gave them back.
    pub zero_fills: u64,
    /// Writes to pages that had kept their compressed copy.
    pub first_writes: u64,
    /// Pages that were moved to the staging range.
    pub staged: u64,
    /// Pages that were compressed.
    pub stored: u64,
    /// Pages that were dropped, for their compressed copy was kept.
    pub dropped: u64,
    /// Touches and holds that had to make room themselves: lend a thread that evicts, by
    /// ZSPAGER_RUN_EVICT or ZSPAGER_RUN_ALL, or give it more processor time.
    pub direct_reclaims: u64,
    /// Pages that were let in above the limit, for none could go: the pool was full and nothing
    /// could be written back, or what is left is held, immovable, or being evicted by others. If the
    /// former, raise the limit of the pool or add a backing file; where there is one, in the JSON of
    /// zspager_stats_json() the zswap's writeback_no_space tells that it is full, and writeback_io
    /// that it fails. Else hold less, or raise the limit.
    pub over_limit: u64,
    /// Pages that were picked to be evicted and stayed, for the system has them pinned or locked,
    /// or refused. The same page counts each time.
    pub pinned: u64,
    /// Pages that the owner gave back, unmapped or discarded, and all pages of regions that were
    /// removed.
    pub discarded: u64,
    /// Pages whose compressed copy was damaged: whoever touches them gets SIGBUS.
    pub poisoned: u64,
    /// Discards, moves and unmaps by owners that were noticed.
    pub events: u64,
    /// Attempts to put a page in place that did not succeed: the memory was changing, the system
    /// refused, or the backing file could not be read. Some are usual. Many for few faults: the
    /// system lacks memory, owners move and unmap all the time, or the file fails, which
    /// file_read_failures of the zswap in the JSON counts.
    pub retries: u64,
    /// Touches that were given up after a second or so, and pages that a hold or the removal of a
    /// region asked for: the system refused, the backing file could not be read, or the memory was
    /// changing all the time. Nothing is lost. The touch got SIGBUS; with ZSPAGER_FAULT_THREADS it
    /// is given up sooner, waits, is tried again, and counts again. Damaged pages are not among them.
    pub failed: u64,
    /// Threads that are inside of zspager_run(). With ZSPAGER_FAULT_THREADS and 0 of them touches
    /// wait until one comes.
    pub lent_threads: u64,
    /// Bytes of pages in memory that could not leave when they were tried last: they are locked,
    /// pinned, shared with another process, or a part of a huge page that can't be split. Some of
    /// them are tried again every 10 ms in which a touch needs room, and all of them by
    /// zspager_evict() and zspager_set_resident_limit(). While held_bytes and these are more than the
    /// limit, touches go above it at once, and over_limit counts that.
    pub immovable_bytes: u64,
}

// SAFETY: 64-bit integers and pointers, and 32-bit integers in pairs.
unsafe impl SizedStruct for zspager_options {}
// SAFETY: 64-bit integers, and 32-bit integers in pairs.
unsafe impl SizedStruct for zspager_region_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zspager_stats {}

const _: () = assert!(size_of::<zspager_options>() == offset_of!(zspager_options, reserved) + 32);
const _: () = assert!(offset_of!(zspager_options, zswap) == offset_of!(zspager_options, flags) + 4);
const _: () = assert!(offset_of!(zspager_region_options, reserved) == offset_of!(zspager_region_options, flags) + 4);

impl From<PagerStats> for zspager_stats {
    #[rustfmt::skip]
    fn from(stats: PagerStats) -> Self {
        let PagerStats {
            resident_limit_bytes, resident_bytes, staged_bytes, held_bytes, region_bytes, regions, table_bytes,
            lent_threads, immovable_bytes, counts, ..
        } = stats;
        let PagerCounts {
            faults, loads, loads_ahead, rescues, zero_fills, first_writes, staged, stored, dropped, direct_reclaims,
            over_limit, pinned, discarded, poisoned, events, retries, failed, ..
        } = counts;
        Self {
            struct_size: size_of::<Self>(), resident_limit_bytes, resident_bytes, staged_bytes, held_bytes,
            region_bytes, regions, table_bytes, faults, loads, loads_ahead, rescues, zero_fills, first_writes, staged,
            stored, dropped, direct_reclaims, over_limit, pinned, discarded, poisoned, events, retries, failed,
            lent_threads, immovable_bytes,
        }
    }
}
