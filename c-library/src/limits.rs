//! The numbers of limits.

/// zswap_usage.refused_by: no limit refuses stores now. zs_last_limit(): no limit refused the call.
pub const ZSWAP_LIMIT_NONE: u32 = 0;
/// zswap_usage.refused_by and zs_last_limit(): the area's own limit was met, and refuses stores.
pub const ZSWAP_LIMIT_AREA: u32 = 1;
/// zswap_usage.refused_by and zs_last_limit(): the zswap's limit was met, and refuses stores of all
/// areas.
pub const ZSWAP_LIMIT_ZSWAP: u32 = 2;
/// zs_last_limit() only: the pool, of objects or of a zswap, has no room: its memory is at its own
/// limit, or its addresses or tables are used up. Free, compact or shrink before you try again.
pub const ZSWAP_LIMIT_POOL: u32 = 3;
