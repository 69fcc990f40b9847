//! zswap for C.

mod areas;
mod options;
mod pages;
mod pointers;
mod stats;
mod types;
mod upkeep;
mod writeback;
