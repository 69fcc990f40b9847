//! The tests that look inside. One that draws lots prints the seed that it draws from.

mod chunks;
mod compaction;
mod faults;
#[cfg(feature = "uffd")]
mod guest;
mod huge_file;
mod limits;
mod long_stops;
mod model;
mod objects;
#[cfg(feature = "uffd")]
mod pager;
mod reclaim;
mod reclaim_races;
mod sanitized;
mod shared;
#[path = "../../tests/skip/mod.rs"]
pub mod skip;
mod threads;
mod zswap;
