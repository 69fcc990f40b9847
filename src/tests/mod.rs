//! Tests of the layers together, which see private parts. Random tests print their seed. Those of zswap and the pager
//! use every codec and JSON, so they need the default features.

mod chunks;
mod compaction;
mod faults;
#[cfg(all(feature = "uffd", feature = "zstd", feature = "json"))]
mod guest;
mod huge_file;
mod limits;
mod long_stops;
mod model;
mod object_tags;
mod objects;
#[cfg(all(feature = "zstd", feature = "json"))]
pub mod options;
#[cfg(all(feature = "uffd", feature = "zstd", feature = "json"))]
mod pager;
mod reclaim;
mod reclaim_races;
#[cfg(all(feature = "zstd", feature = "json"))]
mod sanitized;
mod shared;
mod shelves;
#[path = "../../tests/skip/mod.rs"]
pub mod skip;
mod threads;
#[cfg(all(feature = "zstd", feature = "json"))]
mod zswap;
