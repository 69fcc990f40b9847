//! Tests of the layers together, which see private parts. Random tests print their seed.

mod chunks;
mod compaction;
mod faults;
#[cfg(feature = "uffd")]
mod guest;
mod huge_file;
mod limits;
mod long_stops;
mod model;
mod object_tags;
mod objects;
pub mod options;
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
