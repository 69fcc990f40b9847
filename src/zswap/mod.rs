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
//!           written: EMPTY, or BACKED (place on the library's own file)
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `word` | the bits of a page word |
//! | `page` | the protocol of the page word: every race about a page is decided there |
//! | `index` | an area's page words: reserved, committed, given back |
//! | `entry` | a stored page: header, check, payload |
//! | `codec` | the codecs, and the contexts that compress |
//! | `limit` | limits, charges, batches that reserve |
//! | `stats` | counts, in parts, read at one moment |
//! | `area` | an area, and the calls that run on it |
//! | `store`, `batch`, `load`, `remove` | what is done to pages |
//! | `turn` | an area's turn in a shrink of all |
//! | `walk` | all areas one after the other, without memory for a list of them |
//! | `waiting` | who may wait for a writeback |
//! | `writeback`, `claims`, `file` | the clock hand; the callback, the pull, the library's own file |
//! | `places` | which places of that file are taken, and the lowest that is free |
//! | `fork`, `forking` | a moment to fork at which no call runs; the calls that ask for it |
//! | `recompress` | stronger codecs for what stayed cold |
//! | `shared`, `options` | what the areas share; how it is to be |

pub mod page;
pub mod word;

#[cfg(not(loom))]
mod area;
#[cfg(not(loom))]
mod batch;
#[cfg(not(loom))]
mod claims;
#[cfg(not(loom))]
pub(crate) mod codec;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
pub(crate) mod entry;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod forking;
pub mod index;
pub mod limit;
#[cfg(not(loom))]
mod load;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod places;
#[cfg(not(loom))]
mod recompress;
#[cfg(not(loom))]
mod remove;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod turn;
#[cfg(not(loom))]
mod waiting;
#[cfg(not(loom))]
mod walk;
#[cfg(not(loom))]
mod writeback;

#[cfg(all(feature = "uffd", not(loom)))]
pub(crate) use self::area::DAMAGED;
#[cfg(all(feature = "uffd", not(loom)))]
pub(crate) use self::store::AREA_FULL;
#[cfg(not(loom))]
pub use self::writeback::Foreign;
#[cfg(not(loom))]
pub use self::{
    area::{Area, PAST_END},
    batch::MAX_BATCH,
    claims::{Claim, MAX_CLAIMS},
    codec::{Codec, MAX_CONTEXTS},
    create::{Snapshot, Zswap},
    forking::Forking,
    index::MAX_PAGES as MAX_AREA_PAGES,
    load::LoadFlags,
    options::{AreaOptions, ZswapOptions},
    remove::Patience,
    stats::{AreaStats, Counts, ZswapStats},
    writeback::{Refusal, Writeback},
};
