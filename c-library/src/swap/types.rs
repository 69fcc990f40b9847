//! Types and constants of zswap's part of the header.

use crate::sized::SizedStruct;
use crate::structs::zs_pool_options;
use crate::zswap_area;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use zsalloc::{AreaStats, Counts, Usage, ZswapStats};

/// Size of a page in bytes.
pub const ZSWAP_PAGE_SIZE: usize = 4096;
const _: () = assert!(ZSWAP_PAGE_SIZE == zsalloc::PAGE_SIZE);

/// Maximum number of pages of an area.
pub const ZSWAP_MAX_AREA_PAGES: u64 = 274877906944;
const _: () = assert!(ZSWAP_MAX_AREA_PAGES == zsalloc::MAX_AREA_PAGES);

/// Maximum number of pages of one zswap_store_pages().
pub const ZSWAP_MAX_BATCH: usize = 8192;
const _: () = assert!(ZSWAP_MAX_BATCH == zsalloc::MAX_BATCH);

/// Maximum of zswap_tuning.contexts.
pub const ZSWAP_MAX_CONTEXTS: u32 = 64;
const _: () = assert!(ZSWAP_MAX_CONTEXTS as usize == zsalloc::MAX_CONTEXTS);

/// Maximum of zswap_tuning.max_claims.
pub const ZSWAP_MAX_CLAIMS: u32 = 65536;
const _: () = assert!(ZSWAP_MAX_CLAIMS as usize == zsalloc::MAX_CLAIMS);

/// Codec LZ4: the fastest, and the default. Its level is 0.
pub const ZSWAP_CODEC_LZ4: u32 = 0;
/// Codec Zstandard: pages are about a third smaller than with LZ4, and it is several times slower.
/// Its level is 1 to 22, or 0 for the default, 3.
pub const ZSWAP_CODEC_ZSTD: u32 = 1;
/// No codec: pages are stored as they are. Its level is 0.
pub const ZSWAP_CODEC_RAW: u32 = 2;

/// Flag of zswap_load(), zswap_load_pages() and zswap_load_scattered(): loading a page also removes
/// it from the area, in one step. Without this flag the page stays stored.
pub const ZSWAP_LOAD_EXCLUSIVE: u32 = 1;
/// Flag of zswap_invalidate(), and of loads with ZSWAP_LOAD_EXCLUSIVE: fail with -EAGAIN instead of
/// waiting for a writeback.
pub const ZSWAP_NOWAIT: u32 = 2;

/// zswap_area_options.flags: refuse pages that do not compress, with -ENOSPC. Without this flag they
/// are stored uncompressed, so that writeback takes the pages unused longest and not those that
/// compress badly.
pub const ZSWAP_AREA_REFUSE_INCOMPRESSIBLE: u32 = 1;
/// zswap_area_options.flags: never write pages of the area back.
pub const ZSWAP_AREA_NO_WRITEBACK: u32 = 2;
/// zswap_area_options.flags: a store that fails leaves the page that was stored before. Without this
/// flag it removes that page, so that an old copy can't be taken for the new page. Use it if the program
/// tells its own caller of the failure and has no other copy of the old page, as a disk does. A program
/// that writes pages back keeps the page's mark and place on the disk after such a failure: see
/// WRITEBACK.
pub const ZSWAP_AREA_KEEP_OLD: u32 = 4;

/// Callback for zswap_set_writeback(). zswap_shrink(), zswap_shrink_area(), zswap_shrink_by() and
/// zswap_shrink_area_by() call it in their own thread, with no lock held. It gets the context that
/// was set, the area as zswap_add_area() returned it, the offset of a page that is to leave memory,
/// and the page: 4096 bytes at a multiple of 4096, valid until the callback returns. It writes them
/// to where the program keeps the page of that offset, and returns the outcome:
///
/// 0: written. The page leaves the pool, unless it was loaded or replaced meanwhile.
/// -EEXIST: the program already has the page in memory, so it is in use. The page stays, gets a
///     second chance, and the shrink goes on with the next area.
/// -ENOSPC: there is no room for the page. It stays, and the shrink goes on with the next area.
/// -EAGAIN, -ENOMEM, -EIO, or any other error number: not now, no memory to write with, the write
///     failed, something else. The page stays. After 16 refusals the shrink goes on with the next
///     area.
///
/// A positive error number means the same as the negative one. All outcomes are counted in struct
/// zswap_counts. No second writeback of the same page begins before the callback has returned. The
/// callback may call every function, within the rules of CALLBACKS. It must return normally:
/// no longjmp, no C++ exception.
#[allow(non_camel_case_types)]
pub type zswap_writeback_fn = Option<
    unsafe extern "C" fn(context: *mut c_void, area: *mut zswap_area, offset: u64, page: *const c_void) -> c_int,
>;

/// The options of a zswap that few programs set, and those of its pool. Set the whole struct to 0,
/// then struct_size, then the fields that differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_tuning {
    /// Set to sizeof(struct zswap_tuning).
    pub struct_size: usize,
    /// Once a limit was reached, stores are refused until usage has fallen to this percentage of
    /// it: 1 to 100. It holds for the limit of each area too. 0: 90, and 98 in a pager.
    pub accept_percent: u32,
    /// How far the pool's memory may exceed zswap_options.max_bytes, in percent of it, for tables and gaps
    /// between objects, beside 2 MiB that are always allowed: at most 255. 0: 12.5.
    pub headroom_percent: u32,
    /// How many threads can compress at the same time; others wait. At most ZSWAP_MAX_CONTEXTS.
    /// 0: eight more than there are processors, because a thread that loses its processor keeps its
    /// context. A context takes 18 KiB, and more once Zstandard is used.
    pub contexts: u32,
    /// How many claims of zswap_writeback_begin() can be held at the same time: at most
    /// ZSWAP_MAX_CLAIMS. 0: 1024.
    pub max_claims: u32,
    /// Options of the zswap's pool. NULL: the defaults. Their max_bytes decides how many addresses
    /// are reserved, and so how far the limit can be raised later; 0: as much as the machine has
    /// memory.
    pub pool: *const zs_pool_options,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// Options for creating a zswap. Set the whole struct to 0, then struct_size, then the fields that
/// differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_options {
    /// Set to sizeof(struct zswap_options).
    pub struct_size: usize,
    /// The limit: maximum bytes of slots that the stored pages of all areas take, which is what
    /// they cost in the pool. At least 4112, which one page may take. 0: no limit but the pool's own,
    /// and statistics show UINT64_MAX. zswap_set_limit() changes it.
    pub max_bytes: u64,
    /// A name for people, in UTF-8, at most 249 bytes. A memory file shows it in /proc. NULL:
    /// "zswap".
    pub name: *const c_char,
    /// Codec of pages: one of ZSWAP_CODEC_*. zswap_set_codec() changes it.
    pub codec: u32,
    /// Level of the codec.
    pub level: c_int,
    /// What few programs set. NULL: the defaults.
    pub tuning: *const zswap_tuning,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// Options for adding an area. Set the whole struct to 0, then struct_size, then the fields that
/// differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_area_options {
    /// Set to sizeof(struct zswap_area_options).
    pub struct_size: usize,
    /// The area's own limit: maximum bytes of slots that its pages take, at least 4112. 0: only the
    /// zswap's limit holds, and statistics show UINT64_MAX. zswap_area_set_limit() changes it.
    pub max_bytes: u64,
    /// A name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
    /// copies it. Several areas may have the same. NULL: none.
    pub name: *const c_char,
    /// A pointer of the program's, which zswap_area_context() returns, in callbacks too.
    pub context: *mut c_void,
    /// ZSWAP_AREA_* flags, combined with |.
    pub flags: u32,
    /// The tiers that the area's pages may go to: bit N stands for the tier with the number N, which
    /// zswap_add_tier() returned. 0: all. zswap_area_set_tiers() changes it.
    pub tiers: u32,
    /// Reserved for later versions: set to 0.
    pub reserved: [u32; 6],
}

/// A page that zswap_writeback_begin() or zswap_writeback_begin_area() claimed. It may be copied. Pass
/// it to zswap_writeback_end() once, from any thread.
///
/// A claim counts as that of the thread that began it, even if another ends it. zswap_invalidate() and
/// an exclusive load that would have to wait for a claim of their own thread fail with -EBUSY, also
/// with ZSWAP_NOWAIT; a store that fails does not wait for it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_claim {
    /// The area of the page, as zswap_add_area() returned it.
    pub area: *mut zswap_area,
    /// Offset of the page in its area.
    pub offset: u64,
    /// Identifies the claim; it carries no meaning for a program.
    pub ticket: u64,
    /// Bytes of slots that go if the page leaves the pool. A program that makes room claims pages until
    /// the sum is zswap_usage.bytes_to_go. zswap_writeback_end() does not read this.
    pub bytes: u64,
}

/// A page that zswap_load_scattered() is to load, and what became of it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_load_request {
    /// Offset of the page in its area.
    pub offset: u64,
    /// Where the page goes: 4096 bytes, at any address.
    pub page: *mut c_void,
    /// Set by the call to 0, or to an error of zswap_load().
    pub result: c_int,
    /// Reserved for later versions: set to 0.
    pub reserved: c_int,
}

/// How full a zswap or an area is: see zswap_usage() and zswap_area_usage(). Other threads may have
/// changed the figures by the time that they are used.
///
/// Of an area, used_bytes and max_bytes are the area's own, but bytes_to_go is of the limit that
/// refused_by names, which may be the zswap's.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_usage {
    /// sizeof(struct zswap_usage), set by the caller.
    pub struct_size: usize,
    /// Bytes of slots that stored pages take, and that running stores have reserved: those of the area,
    /// or of all areas.
    pub used_bytes: u64,
    /// The limit of the area, or of the zswap, in bytes of slots. UINT64_MAX: none. In options and in
    /// zswap_set_limit() and zswap_area_set_limit(), 0 says that.
    pub max_bytes: u64,
    /// How many bytes of slots have to go before stores are accepted again. 0: they are accepted now,
    /// except a page that takes more than there is left, and except while the pool has no memory, which
    /// only a store finds out. Once a limit was met, it refuses stores until usage has fallen to
    /// zswap_tuning.accept_percent of it; that percentage holds for the limits of areas too.
    pub bytes_to_go: u64,
    /// The limit that bytes_to_go is about: one of ZSWAP_LIMIT_*. If both refuse, it is the zswap's, as
    /// for a store, which looks at that limit first.
    pub refused_by: u32,
    /// Reserved for later versions; 0.
    pub reserved: u32,
}

/// Counts of an area, or of all areas that a zswap ever had. The first four are pages that are
/// stored now; all others only grow.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_counts {
    /// Pages in the pool that a codec made smaller.
    pub compressed_pages: u64,
    /// Pages in the pool that did not compress and are stored as they are.
    pub raw_pages: u64,
    /// Pages that repeat one word, such as pages of zeros. They take no memory of the pool.
    pub filled_pages: u64,
    /// Pages on tiers: on the backing file of zswap_set_backing_file(), and on those of zswap_add_tier().
    pub file_pages: u64,
    /// Pages stored.
    pub stores: u64,
    /// Pages loaded, with and without ZSWAP_LOAD_EXCLUSIVE.
    pub loads: u64,
    /// Pages loaded with ZSWAP_LOAD_EXCLUSIVE, and so removed.
    pub takes: u64,
    /// Pages loaded from tiers.
    pub file_loads: u64,
    /// Loads that failed with -ENOENT.
    pub absent_loads: u64,
    /// Pages removed by zswap_invalidate().
    pub invalidated: u64,
    /// Pages stored by zswap_store_pages(); counted in stores as well.
    pub batch_stores: u64,
    /// Calls of zswap_store_pages() that failed.
    pub batches_failed: u64,
    /// Pages refused because of the zswap's limit.
    pub refused_limit: u64,
    /// Pages refused because of the area's limit.
    pub refused_area_limit: u64,
    /// Pages among these two that an estimate refused before they were compressed.
    pub refused_early: u64,
    /// Pages refused because the pool had no memory, even after it was compacted.
    pub refused_memory: u64,
    /// Pages refused because of ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
    pub refused_incompressible: u64,
    /// Old copies removed because the store of a newer one failed.
    pub removed_by_failure: u64,
    /// Pages compressed.
    pub compressions: u64,
    /// Pages compressed in vain, because they or others of their batch were refused.
    pub compressions_wasted: u64,
    /// Pages that were written back and left the pool.
    pub written_back: u64,
    /// Pages kept because they were loaded while they were being written back.
    pub rescued: u64,
    /// Pages replaced or removed while they were being written back.
    pub overtaken: u64,
    /// Writebacks that ended with -EEXIST.
    pub writeback_exists: u64,
    /// Writebacks that ended with -EAGAIN, and those to tiers that are away.
    pub writeback_again: u64,
    /// Writebacks that ended with -ENOMEM.
    pub writeback_no_memory: u64,
    /// Writebacks that ended with -EIO.
    pub writeback_io: u64,
    /// Writebacks that ended with -ENOSPC, and those that found all tiers full.
    pub writeback_no_space: u64,
    /// Writebacks that ended with another error number.
    pub writeback_other: u64,
    /// Pages in the pool found damaged: their check did not match. Their loads fail with -EBADMSG.
    pub decode_failures: u64,
    /// Loads from tiers that failed, with -EIO or -EAGAIN.
    pub file_read_failures: u64,
    /// Pages that zswap_recompress() made smaller.
    pub recompressed: u64,
    /// Pages that zswap_recompress() could not make smaller and will not try again.
    pub recompress_useless: u64,
    /// Pages that came back from where they were written to: from tiers, or as reported
    /// by zswap_area_refaulted().
    pub refaults: u64,
    /// Pages that were moved on a tier, so that it takes less room, or to another tier.
    pub moved_on_file: u64,
    /// Reserved for later counts; 0.
    pub reserved: [u64; 13],
}

/// Statistics of a zswap: see zswap_stats(). All figures are of one moment, except the memory of the
/// pool.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_stats {
    /// sizeof(struct zswap_stats), set by the caller.
    pub struct_size: usize,
    /// Number of areas.
    pub areas: u64,
    /// Pages that all areas together have room for.
    pub area_pages: u64,
    /// The limit in bytes of slots; UINT64_MAX: none.
    pub max_bytes: u64,
    /// Bytes of slots that stored pages take, and that running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory that the pool has from the system, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory other than stored pages: the pool's tables (which pool_bytes includes too),
    /// the areas' indexes, contexts, claims, counts, and the tables and buffers of tiers.
    pub metadata_bytes: u64,
    /// How often the limit refused a page or a batch: because it was met then, or because it had been met
    /// and usage had not fallen far enough since.
    pub limit_hits: u64,
    /// How often the pool had no memory for a page and was compacted.
    pub capacity_hits: u64,
    /// Claims of zswap_writeback_begin() that have not ended.
    pub claims: u64,
    /// Bytes of tiers that hold pages, in whole blocks of 4096 bytes.
    pub file_bytes: u64,
    /// Counts of all areas. Events of removed areas are included; their pages are not.
    pub counts: zswap_counts,
    /// Bytes of the pages on tiers, compressed as they are there. On each tier, the bytes grow to 1.3
    /// times as many and a MiB before shrinks move pages together.
    pub file_page_bytes: u64,
}

/// Statistics of an area: see zswap_area_stats(). All figures are of one moment.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_area_stats {
    /// sizeof(struct zswap_area_stats), set by the caller.
    pub struct_size: usize,
    /// Number of the area, as zswap_area_id() returns it.
    pub area: u64,
    /// Pages that the area has room for.
    pub area_pages: u64,
    /// The area's own limit in bytes of slots; UINT64_MAX: none.
    pub max_bytes: u64,
    /// Bytes of slots that its stored pages take, and that running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of its index and counts.
    pub metadata_bytes: u64,
    /// How often the area's own limit refused a page or a batch, as zswap_stats.limit_hits.
    pub limit_hits: u64,
    /// Counts of this area.
    pub counts: zswap_counts,
}

// SAFETY: 64-bit integers, raw pointers, and paired 32-bit integers.
unsafe impl SizedStruct for zswap_options {}
// SAFETY: 64-bit integers, a raw pointer, and 32-bit integers in pairs.
unsafe impl SizedStruct for zswap_tuning {}
// SAFETY: 64-bit integers, raw pointers, and eight 32-bit integers.
unsafe impl SizedStruct for zswap_area_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zswap_stats {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zswap_area_stats {}
// SAFETY: 64-bit integers, and a pair of 32-bit integers.
unsafe impl SizedStruct for zswap_usage {}

const _: () = assert!(size_of::<zswap_options>() == offset_of!(zswap_options, reserved) + 32);
const _: () = assert!(offset_of!(zswap_options, tuning) == offset_of!(zswap_options, codec) + 8);
const _: () = assert!(size_of::<zswap_tuning>() == offset_of!(zswap_tuning, reserved) + 32);
const _: () = assert!(offset_of!(zswap_tuning, pool) == offset_of!(zswap_tuning, accept_percent) + 16);
const _: () = assert!(size_of::<zswap_area_options>() == offset_of!(zswap_area_options, flags) + 32);
// One field for each count of the crate, and the reserved ones. A new count takes the place of a reserved one.
const _: () = assert!(size_of::<zswap_counts>() == size_of::<Counts>() + 13 * 8);

impl zswap_usage {
    /// Makes it of what a zswap or an area uses, and of what the limit that refuses lacks.
    pub fn of(usage: Usage, bytes_to_go: u64, refused_by: u32) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            used_bytes: usage.used_bytes,
            max_bytes: usage.max_bytes.unwrap_or(u64::MAX),
            bytes_to_go,
            refused_by,
            reserved: 0,
        }
    }
}

macro_rules! same_fields {
    ($from:expr, $kind:ident { $($name:ident,)* } $(, $more:ident: $value:expr)*) => {
        $kind { $($name: $from.$name,)* $($more: $value,)* }
    };
}

impl From<Counts> for zswap_counts {
    #[rustfmt::skip]
    fn from(counts: Counts) -> Self {
        same_fields!(counts, Self {
            compressed_pages, raw_pages, filled_pages, file_pages, stores, loads, takes, file_loads, absent_loads,
            invalidated, batch_stores, batches_failed, refused_limit, refused_area_limit, refused_early,
            refused_memory, refused_incompressible, removed_by_failure, compressions, compressions_wasted,
            written_back, rescued, overtaken, writeback_exists, writeback_again, writeback_no_memory, writeback_io,
            writeback_no_space, writeback_other, decode_failures, file_read_failures, recompressed,
            recompress_useless, refaults, moved_on_file,
        }, reserved: [0; 13])
    }
}

impl From<ZswapStats> for zswap_stats {
    #[rustfmt::skip]
    fn from(stats: ZswapStats) -> Self {
        same_fields!(stats, Self {
            areas, area_pages, used_bytes, pool_bytes, metadata_bytes, limit_hits, capacity_hits, claims,
            file_bytes, file_page_bytes,
        }, struct_size: size_of::<Self>(), max_bytes: stats.max_bytes.unwrap_or(u64::MAX), counts: stats.counts.into())
    }
}

impl From<AreaStats> for zswap_area_stats {
    #[rustfmt::skip]
    fn from(stats: AreaStats) -> Self {
        same_fields!(stats, Self {
            area, area_pages, used_bytes, metadata_bytes, limit_hits,
        }, struct_size: size_of::<Self>(), max_bytes: stats.max_bytes.unwrap_or(u64::MAX), counts: stats.counts.into())
    }
}
