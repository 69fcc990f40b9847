//! Types of tiers.

use crate::sized::SizedStruct;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use zsalloc::TierStats;

/// Maximum number of tiers that a zswap has at a time. Their numbers are below it.
pub const ZSWAP_MAX_TIERS: u32 = 8;
const _: () = assert!(ZSWAP_MAX_TIERS as usize == zsalloc::MAX_TIERS);

/// Keeps the `count` bytes of an extent, 1 KiB to 132 KiB, which are valid until the function returns.
/// After 0 the tier may have the only copy of the extent's pages. After an error number the pages stay
/// where they are, and the extent is removed, because a part of the bytes may have arrived. See struct
/// zswap_tier_ops.
#[allow(non_camel_case_types)]
pub type zswap_tier_put_fn = Option<
    unsafe extern "C" fn(context: *mut c_void, owner: u64, extent: u64, bytes: *const c_void, count: usize) -> c_int,
>;

/// Copies `count` bytes of an extent, from byte `from` on, to `bytes`. The range is within the extent.
/// See struct zswap_tier_ops.
#[allow(non_camel_case_types)]
pub type zswap_tier_get_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        owner: u64,
        extent: u64,
        from: usize,
        bytes: *mut c_void,
        count: usize,
    ) -> c_int,
>;

/// Forgets an extent, which no page needs any more. It is no failure if the extent is not there. After
/// an error number that means "away" the call is made again later; others end the matter. See struct
/// zswap_tier_ops.
#[allow(non_camel_case_types)]
pub type zswap_tier_remove_fn = Option<unsafe extern "C" fn(context: *mut c_void, owner: u64, extent: u64) -> c_int>;

/// Returns how many more bytes the tier has room for, as far as it knows. It is not offered an extent
/// that has more. See struct zswap_tier_ops.
#[allow(non_camel_case_types)]
pub type zswap_tier_room_fn = Option<unsafe extern "C" fn(context: *mut c_void) -> u64>;

/// What a tier of the program's own does: functions for zswap_add_tier(), which copies the struct. The
/// section TIERS says when they are called, what they may do, and what an error number means. Each gets
/// the context of zswap_add_tier() first. An extent is named by two numbers: `owner` is the same for all
/// extents of the tier, and drawn at random when it was added; `extent` counts, and is never used again.
/// Set the whole struct to 0, then struct_size, then the functions.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_tier_ops {
    /// Set to sizeof(struct zswap_tier_ops).
    pub struct_size: usize,
    /// Keeps an extent.
    pub put: zswap_tier_put_fn,
    /// Reads a part of an extent.
    pub get: zswap_tier_get_fn,
    /// Forgets an extent.
    pub remove: zswap_tier_remove_fn,
    /// Says how much room there is. NULL: no bound is known.
    pub room: zswap_tier_room_fn,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// Options for adding a tier of the program's own. Set the whole struct to 0, then struct_size, then
/// the fields that differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_tier_options {
    /// Set to sizeof(struct zswap_tier_options).
    pub struct_size: usize,
    /// The most bytes that the tier's extents may have, in whole blocks of 4096 bytes for each: 4096 to
    /// 16 TiB. 0: 1 TiB. The library reserves addresses for a table in proportion, and takes memory as
    /// extents are put.
    pub max_bytes: u64,
    /// A name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
    /// copies it. Several tiers may have the same. NULL: none.
    pub name: *const c_char,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// What a tier has, and what happened on it since it was added: see zswap_tier_stats(). The figures are
/// read one after the other while other threads go on.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct zswap_tier_stats {
    /// sizeof(struct zswap_tier_stats), set by the caller.
    pub struct_size: usize,
    /// The number of the tier.
    pub tier: u32,
    /// 1: it is a file or a block device of the library's. 0: it is a tier of the program's own.
    pub is_file: u32,
    /// The number that names its extents: the argument `owner` of its functions.
    pub owner: u64,
    /// Pages on the tier now.
    pub pages: u64,
    /// Bytes of these pages, compressed as they are there.
    pub page_bytes: u64,
    /// Bytes of their extents, in whole blocks of 4096 bytes, dead pages included.
    pub bytes: u64,
    /// The most bytes that the tier may have.
    pub max_bytes: u64,
    /// Extents on the tier now. Those count that have no page any more and are to be removed.
    pub extents: u64,
    /// Bytes of memory of the tier's tables and buffers.
    pub memory_bytes: u64,
    /// Extents that were put.
    pub puts: u64,
    /// Bytes of these extents.
    pub put_bytes: u64,
    /// Pages that were loaded from the tier. zswap_tier_latency_permille() says how long that took.
    pub loads: u64,
    /// Pages that were moved to another extent, so that mostly dead ones could be removed.
    pub moved: u64,
    /// How often the tier had no room for an extent, or for all of its pages.
    pub full: u64,
    /// How often the tier was away, or its file could not be read or written.
    pub away: u64,
    /// How often a page was damaged, lost or that of another time.
    pub damaged: u64,
}

// SAFETY: 64-bit integers, and pointers to functions that may be NULL.
unsafe impl SizedStruct for zswap_tier_ops {}
// SAFETY: 64-bit integers and a raw pointer.
unsafe impl SizedStruct for zswap_tier_options {}
// SAFETY: 64-bit integers, and a pair of 32-bit integers.
unsafe impl SizedStruct for zswap_tier_stats {}

const _: () = assert!(size_of::<zswap_tier_ops>() == offset_of!(zswap_tier_ops, reserved) + 32);
const _: () = assert!(size_of::<zswap_tier_options>() == offset_of!(zswap_tier_options, reserved) + 32);

impl From<TierStats> for zswap_tier_stats {
    fn from(stats: TierStats) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            tier: stats.tier,
            is_file: stats.is_file.into(),
            owner: stats.owner,
            pages: stats.pages,
            page_bytes: stats.page_bytes,
            bytes: stats.bytes,
            max_bytes: stats.max_bytes,
            extents: stats.extents,
            memory_bytes: stats.memory_bytes,
            puts: stats.puts,
            put_bytes: stats.put_bytes,
            loads: stats.loads,
            moved: stats.moved,
            full: stats.full,
            away: stats.away,
            damaged: stats.damaged,
        }
    }
}
