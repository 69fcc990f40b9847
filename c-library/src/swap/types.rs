//! Types and constants of zswap's part of the header.

use crate::sized::SizedStruct;
use crate::structs::zs_pool_options;
use crate::zswap_area;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use zsalloc::{AreaStats, Counts, ZswapStats};

/// The bytes of a page.
pub const ZSWAP_PAGE_SIZE: usize = 4096;
const _: () = assert!(ZSWAP_PAGE_SIZE == zsalloc::PAGE_SIZE);

/// The most pages that an area can have.
pub const ZSWAP_MAX_AREA_PAGES: u64 = 274877906944;
const _: () = assert!(ZSWAP_MAX_AREA_PAGES == zsalloc::MAX_AREA_PAGES);

/// The most pages that one zswap_store_pages() stores.
pub const ZSWAP_MAX_BATCH: usize = 8192;
const _: () = assert!(ZSWAP_MAX_BATCH == zsalloc::MAX_BATCH);

/// The most contexts, and the largest zswap_options.contexts.
pub const ZSWAP_MAX_CONTEXTS: u32 = 64;
const _: () = assert!(ZSWAP_MAX_CONTEXTS as usize == zsalloc::MAX_CONTEXTS);

/// The most claims, and the largest zswap_options.max_claims.
pub const ZSWAP_MAX_CLAIMS: u32 = 65536;
const _: () = assert!(ZSWAP_MAX_CLAIMS as usize == zsalloc::MAX_CLAIMS);

/// A codec: LZ4, the fastest. The default. Its level is 0.
pub const ZSWAP_CODEC_LZ4: u32 = 0;
/// A codec: Zstandard, whose level is 1 to 22, or 0 for its default, 3. About a third smaller than
/// LZ4, and several times slower.
pub const ZSWAP_CODEC_ZSTD: u32 = 1;
/// A codec: pages are stored as they are. Its level is 0.
pub const ZSWAP_CODEC_RAW: u32 = 2;

/// For zswap_load() and its like: the page is removed from the area once it is loaded, in one step
/// with it: take it. Without this flag it stays stored.
pub const ZSWAP_LOAD_EXCLUSIVE: u32 = 1;
/// For zswap_invalidate(), and for loads with ZSWAP_LOAD_EXCLUSIVE: -EAGAIN instead of waiting for
/// a writeback.
pub const ZSWAP_NOWAIT: u32 = 2;

/// For zswap_area_options.flags: pages that do not compress are refused with -ENOSPC. Without this
/// flag they are stored as they are, so that what is written back is what was not used longest,
/// and not what compresses badly.
pub const ZSWAP_AREA_REFUSE_INCOMPRESSIBLE: u32 = 1;
/// For zswap_area_options.flags: pages of the area are never written back.
pub const ZSWAP_AREA_NO_WRITEBACK: u32 = 2;

/// A callback for zswap_set_writeback(). zswap_shrink() and zswap_shrink_area() call it, in their
/// own thread and with no lock held, with the context that was set, the area (as zswap_add_area()
/// returned it), the offset of a page that is to leave memory, and its 4096 bytes, which lie at a
/// multiple of 4096 and are good until it returns. It writes them to where the program keeps the
/// page of that offset, and returns what became of it:
///
/// 0: it is written. The page leaves the pool, unless it was loaded or replaced meanwhile.
/// -EEXIST: the program has the page in memory already, so it is in use. The page stays, gets a
///     second chance, and the shrink goes on with the next area.
/// -ENOSPC: there is no room for it. The page stays, and the shrink goes on with the next area.
/// -EAGAIN, -ENOMEM, -EIO, or any other error number: not now, no memory to write with, the write
///     failed, something else. The page stays. After 16 refusals the shrink goes on with the next
///     area.
///
/// A positive error number means what the negative one does. All are counted in struct
/// zswap_counts. No second writeback of the same page begins before the callback returned. It may
/// call every function, as CALLBACKS above says. It must return: no longjmp, no C++ exception.
#[allow(non_camel_case_types)]
pub type zswap_writeback_fn = Option<
    unsafe extern "C" fn(context: *mut c_void, area: *mut zswap_area, offset: u64, page: *const c_void) -> c_int,
>;

/// How a zswap is to be. Set everything to 0 first, then struct_size, then what is to differ from
/// the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_options {
    /// sizeof(struct zswap_options).
    pub struct_size: usize,
    /// The limit: most bytes of slots that the stored pages of all areas may take, which is what
    /// they cost in the pool. 0: no limit but the pool's own. zswap_set_limit() changes it.
    pub max_bytes: u64,
    /// For people, UTF-8, at most 249 bytes; a memory file shows it in /proc. NULL: "zswap".
    pub name: *const c_char,
    /// Where the pool's memory comes from; NULL for the defaults. Its max_bytes is what addresses
    /// are reserved for, and so the most that the limit can be raised to later; 0: as much as the
    /// machine has memory. Its message is not used.
    pub pool: *const zs_pool_options,
    /// What pages are compressed with: one of ZSWAP_CODEC_*. zswap_set_codec() changes it.
    pub codec: u32,
    /// The codec's level.
    pub level: i32,
    /// Once a limit was met, stores are refused until usage fell to so many percent of it: 1 to
    /// 100. 0: 90.
    pub accept_percent: u32,
    /// How many percent of max_bytes the pool's memory may have beyond it, for its tables and for
    /// what lies between objects: at most 255. 0: 12.5.
    pub headroom_percent: u32,
    /// How many threads compress at the same time; more of them wait for each other. At most
    /// ZSWAP_MAX_CONTEXTS. 0: as many as there are processors. A context takes 18 KiB, and what
    /// Zstandard needs once that is used.
    pub contexts: u32,
    /// How many claims of zswap_writeback_begin() may be held at the same time: at most
    /// ZSWAP_MAX_CLAIMS. 0: 1024.
    pub max_claims: u32,
    /// Where zswap_create() writes, should it fail, a sentence that says why, cut to fit and ended
    /// with a NUL; or NULL.
    pub message: *mut c_char,
    /// The bytes that message has.
    pub message_size: usize,
    /// For later; 0.
    pub reserved: [u64; 4],
}

/// How an area is to be. Set everything to 0 first, then struct_size, then what is to differ from
/// the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_area_options {
    /// sizeof(struct zswap_area_options).
    pub struct_size: usize,
    /// The area's own limit: most bytes of slots that its pages may take. 0: none of its own, so
    /// that only the zswap's holds. zswap_area_set_limit() changes it.
    pub max_bytes: u64,
    /// The program's own: zswap_area_context() returns it, also in callbacks.
    pub context: *mut c_void,
    /// ZSWAP_AREA_*, or-ed.
    pub flags: u32,
    /// For later; 0.
    pub reserved: [u32; 9],
}

/// A page that zswap_writeback_begin() claimed. Copy it where you like; give it to
/// zswap_writeback_end() once.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_claim {
    /// Which page of the area.
    pub offset: u64,
    /// Which claim; it means nothing to a program.
    pub ticket: u64,
}

/// Counts of an area, or of all areas that a zswap ever had. The first four are pages that are here
/// now; all others only grow.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_counts {
    /// Pages in the pool that a codec made shorter.
    pub compressed_pages: u64,
    /// Pages in the pool that did not compress, and are stored as they are.
    pub raw_pages: u64,
    /// Pages that repeat one word, such as pages of zeros: they take no memory of the pool.
    pub filled_pages: u64,
    /// Pages on the backing file of zswap_set_backing_file().
    pub file_pages: u64,
    /// Pages that were stored.
    pub stores: u64,
    /// Pages that were loaded, those with ZSWAP_LOAD_EXCLUSIVE included.
    pub loads: u64,
    /// Pages that were loaded with ZSWAP_LOAD_EXCLUSIVE, and so removed.
    pub takes: u64,
    /// Pages that were loaded from the backing file.
    pub file_loads: u64,
    /// Loads that were -ENOENT.
    pub absent_loads: u64,
    /// Pages that zswap_invalidate() removed.
    pub invalidated: u64,
    /// Pages that zswap_store_pages() stored; counted in stores as well.
    pub batch_stores: u64,
    /// Calls of zswap_store_pages() that failed.
    pub batches_failed: u64,
    /// Pages refused because of the zswap's limit.
    pub refused_limit: u64,
    /// Pages refused because of the area's limit.
    pub refused_area_limit: u64,
    /// Of these two, pages refused by an estimate, before they were compressed.
    pub refused_early: u64,
    /// Pages refused because the pool had no memory, after it was compacted.
    pub refused_memory: u64,
    /// Pages refused because of ZSWAP_AREA_REFUSE_INCOMPRESSIBLE.
    pub refused_incompressible: u64,
    /// Older copies that were removed because the store of a newer one failed.
    pub removed_by_failure: u64,
    /// Pages that were compressed.
    pub compressions: u64,
    /// Of these, pages that were thrown away, because they or others of their batch were refused.
    pub compressions_wasted: u64,
    /// Pages written back.
    pub written_back: u64,
    /// Pages kept because they were loaded while they were written back.
    pub rescued: u64,
    /// Pages that were replaced or removed while they were written back.
    pub overtaken: u64,
    /// Writebacks that ended with -EEXIST.
    pub writeback_exists: u64,
    /// Writebacks that ended with -EAGAIN.
    pub writeback_again: u64,
    /// Writebacks that ended with -ENOMEM.
    pub writeback_no_memory: u64,
    /// Writebacks that ended with -EIO.
    pub writeback_io: u64,
    /// Writebacks that ended with -ENOSPC, and those that found the backing file full.
    pub writeback_no_space: u64,
    /// Writebacks that ended with another error number.
    pub writeback_other: u64,
    /// Pages found damaged: the check of what is stored was wrong. Their loads are -EIO.
    pub decode_failures: u64,
    /// Loads from the backing file that failed: -EIO.
    pub file_read_failures: u64,
    /// Pages that zswap_recompress() made smaller.
    pub recompressed: u64,
    /// Pages that zswap_recompress() could not make smaller, and does not try again.
    pub recompress_useless: u64,
    /// Pages that came back from where they were written to: from the backing file, or as
    /// zswap_area_refaulted() was told.
    pub refaults: u64,
    /// For later counts; 0.
    pub reserved: [u64; 14],
}

/// What a zswap has and did: see zswap_stats(). All at one moment, but for the memory of the pool.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_stats {
    /// sizeof(struct zswap_stats), set by the caller.
    pub struct_size: usize,
    /// Areas.
    pub areas: u64,
    /// Pages that they have room for.
    pub area_pages: u64,
    /// The limit in bytes of slots; UINT64_MAX: none.
    pub max_bytes: u64,
    /// Bytes of the slots of stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory that the pool has from the system, its tables included.
    pub pool_bytes: u64,
    /// Bytes of memory that are not stored pages: the pool's tables (which pool_bytes has too), the
    /// areas' indexes, contexts, claims, counts, the backing file's table.
    pub metadata_bytes: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// How often the pool had no memory for a page, and was compacted.
    pub capacity_hits: u64,
    /// Claims of zswap_writeback_begin() that are held.
    pub claims: u64,
    /// Bytes of the backing file that pages are on.
    pub file_bytes: u64,
    /// Of all areas. What areas that were removed did is part of it; the pages they had are not.
    pub counts: zswap_counts,
}

/// What an area has and did: see zswap_area_stats(). All at one moment.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_area_stats {
    /// sizeof(struct zswap_area_stats), set by the caller.
    pub struct_size: usize,
    /// What zswap_area_id() returns.
    pub area: u64,
    /// Pages it has room for.
    pub area_pages: u64,
    /// Its own limit in bytes of slots; UINT64_MAX: none.
    pub max_bytes: u64,
    /// Bytes of the slots of its stored pages, and what running stores have reserved.
    pub used_bytes: u64,
    /// Bytes of memory of its index and counts.
    pub metadata_bytes: u64,
    /// How often its own limit was met.
    pub limit_hits: u64,
    /// Its own.
    pub counts: zswap_counts,
}

// SAFETY: 64-bit integers, raw pointers, and paired 32-bit integers.
unsafe impl SizedStruct for zswap_options {}
// SAFETY: 64-bit integers, a raw pointer, and ten 32-bit integers.
unsafe impl SizedStruct for zswap_area_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zswap_stats {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zswap_area_stats {}

const _: () = assert!(size_of::<zswap_options>() == offset_of!(zswap_options, reserved) + 32);
const _: () = assert!(offset_of!(zswap_options, message) == offset_of!(zswap_options, codec) + 24);
const _: () = assert!(size_of::<zswap_area_options>() == offset_of!(zswap_area_options, flags) + 40);
// A count for each that there is, and those that are reserved: who adds one takes it from these.
const _: () = assert!(size_of::<zswap_counts>() == size_of::<Counts>() + 14 * 8);

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
            recompress_useless, refaults,
        }, reserved: [0; 14])
    }
}

impl From<ZswapStats> for zswap_stats {
    #[rustfmt::skip]
    fn from(stats: ZswapStats) -> Self {
        same_fields!(stats, Self {
            areas, area_pages, max_bytes, used_bytes, pool_bytes, metadata_bytes, limit_hits, capacity_hits, claims,
            file_bytes,
        }, struct_size: size_of::<Self>(), counts: stats.counts.into())
    }
}

impl From<AreaStats> for zswap_area_stats {
    #[rustfmt::skip]
    fn from(stats: AreaStats) -> Self {
        same_fields!(stats, Self {
            area, area_pages, max_bytes, used_bytes, metadata_bytes, limit_hits,
        }, struct_size: size_of::<Self>(), counts: stats.counts.into())
    }
}
