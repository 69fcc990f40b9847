//! zswap: pages in, pages out, one word per page, over the pool's public interface.
//!
//! # The path of a page
//!
//! ```text
//!  store ─► copy, same-filled?; context: compress ─► limits: charge ─► pool: allocate, write ─┐
//!                                                                                             ▼
//!           EMPTY ◄── invalidate, take ── STORED (handle) ◄──────────────────── publish the page word
//!                                          │   ▲
//!            clock hand: decode, claim, hand over │ refused: kept
//!                                          ▼   │
//!           written: EMPTY, or BACKED (entry of an extent on a tier: the library's own file, or the program's)
//! ```
//!
//! # The files
//!
//! Each file imports only from those above it in this table. `area` and `shared` are the exception: areas share what
//! `shared` has, and `shared` has the list of the areas and calls back with one.
//!
//! | file | what it knows |
//! |---|---|
//! | `word` | the bits of a page word |
//! | `page` | the protocol of the page word: every race about a page is decided there |
//! | `index` | an area's page words: reserved, committed, given back |
//! | `stats` | what is counted |
//! | `limit`, `reservation` | limits and charges; room that batches reserve |
//! | `store_load_failure`, `writeback_refusal` | why a page was not stored or loaded; why it was not written back |
//! | `patience` | whether a thread may wait for a writeback |
//! | `running_calls` | the calls that run, and the counts that they change |
//! | `claims` | the claims for writeback that callers hold |
//! | `entry`, `codec` | a stored page: header, check, payload; the codecs, and the contexts that compress |
//! | `pool_objects` | the objects that page words name: pinned, written, freed |
//! | `lanes` | where the words of a batch wait |
//! | `tier` | what a tier of the program's own has to do |
//! | `lowest_free`, `extents` | which slots are free; what is on tiers: see [`extents`] |
//! | `compaction_backoff` | when the pool was last compacted for nothing |
//! | `options`, `shrink_options` | options of a zswap and of an area; which pages a shrink takes, and how many |
//! | `area`, `shared` | an area; what the areas share |
//! | `stored_offsets` | which offsets of an area have a page |
//! | `aging` | time that passes for the pages of an area |
//! | `admission`, `allocate`, `store`, `batch` | storing: the limits, room in the pool, one page, many pages |
//! | `sweep` | the clock hand |
//! | `tier_load`, `fill_extents` | loading from tiers; writing pages back to them |
//! | `load`, `invalidate`, `recompress` | loading, removing, storing anew with a stronger codec |
//! | `area_turn`, `walk` | an area's turn in a shrink or in claims of all; all areas one after the other |
//! | `clean_extents` | moving what is left of mostly dead extents together |
//! | `handle_packing` | low handle indices, so that the handle table becomes shorter |
//! | `writeback`, `caller_writeback` | writeback by a shrink; writeback by the caller |
//! | `fork` | the moment to fork, at which no call runs |
//! | `zswap`, `create`, `snapshot`, `forking` | the calls on a zswap: for all areas, creation, statistics, forks |
//! | `tier_calls` | adding and removing tiers |
//! | `claiming`, `usage` | claims as guards, of an area and of all areas; how full they are |
//! | `plumbing` | what only the C library needs |

pub mod extents;
pub mod index;
pub mod limit;
pub mod page;
pub mod reservation;
pub mod word;

#[cfg(not(loom))]
mod admission;
#[cfg(not(loom))]
mod aging;
#[cfg(not(loom))]
mod allocate;
#[cfg(not(loom))]
mod area;
#[cfg(not(loom))]
mod area_turn;
#[cfg(not(loom))]
mod batch;
#[cfg(not(loom))]
mod caller_writeback;
#[cfg(not(loom))]
mod claiming;
#[cfg(not(loom))]
mod claims;
#[cfg(not(loom))]
mod clean_extents;
#[cfg(not(loom))]
pub(crate) mod codec;
#[cfg(not(loom))]
mod compaction_backoff;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
pub(crate) mod entry;
#[cfg(not(loom))]
mod fill_extents;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod forking;
#[cfg(not(loom))]
mod handle_packing;
#[cfg(not(loom))]
mod invalidate;
#[cfg(not(loom))]
mod lanes;
#[cfg(not(loom))]
mod load;
#[cfg(not(loom))]
mod lowest_free;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod patience;
#[cfg(not(loom))]
pub mod plumbing;
#[cfg(not(loom))]
mod pool_objects;
#[cfg(not(loom))]
mod recompress;
#[cfg(not(loom))]
mod running_calls;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod shrink_options;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod store_load_failure;
#[cfg(not(loom))]
mod stored_offsets;
#[cfg(not(loom))]
mod sweep;
#[cfg(not(loom))]
mod tier;
#[cfg(not(loom))]
mod tier_calls;
#[cfg(not(loom))]
mod tier_load;
#[cfg(not(loom))]
mod usage;
#[cfg(not(loom))]
mod walk;
#[cfg(not(feature = "zstd"))]
mod without_zstd;
#[cfg(not(loom))]
mod writeback;
#[cfg(not(loom))]
mod writeback_refusal;
#[cfg(not(loom))]
#[expect(clippy::module_inception, reason = "it has the type `Zswap`")]
mod zswap;

#[cfg(not(loom))]
pub use self::{
    area::Area,
    claiming::Claim,
    claims::MAX_CLAIMS,
    codec::{Codec, MAX_CONTEXTS},
    extents::tier_stats::TierStats,
    forking::Forking,
    index::MAX_PAGES as MAX_AREA_PAGES,
    lanes::MAX_BATCH,
    load::LoadFlags,
    options::{AreaOptions, ZswapOptions, ZswapTuning},
    patience::Patience,
    shrink_options::{ShrinkDone, ShrinkOptions},
    snapshot::TierSnapshot,
    snapshot::{AreaSnapshot, Snapshot},
    stats::{AreaStats, Counts, ZswapStats},
    stored_offsets::StoredOffsets,
    tier::{ExtentId, MAX_TIERS, Tier, TierFailure, TierOptions, TierResult},
    usage::Usage,
    writeback_refusal::Refusal,
    zswap::Zswap,
};
#[cfg(all(feature = "uffd", not(loom)))]
pub(crate) use self::{
    limit::OverLimit,
    store_load_failure::{NotLoaded, NotStored},
    tier::TierAccess,
};
