//! zswap for C.

mod areas;
pub(super) mod options;
mod pages;
mod pointers;
pub(super) mod stats;
pub(super) mod types;
mod upkeep;
pub(super) mod writeback;
