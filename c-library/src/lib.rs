//! The C library: functions of a few lines each over the public calls of the crate zsalloc.
//!
//! `include/zsalloc.h` is generated from these files by `tests/header.rs`; what stands above an item here is what a C
//! programmer reads there, so it says nothing of Rust. The macro [`export`] gives each function its NULL checks and its
//! panic barrier.
// The crate under loom is its protocols alone, which C has no functions for.
#![cfg(not(loom))]

mod bytes;
mod errors;
mod export;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod objects;
mod options;
mod pager;
mod pool;
mod reclaim;
mod sized;
mod structs;
mod swap;
mod system;
#[cfg(test)]
mod tests;

/// The functions by their names, for the fuzz targets.
#[cfg(any(test, fuzzing))]
mod functions {
    pub use super::{objects::*, pool::*, reclaim::*, sized::*, structs::*, swap::functions::*};
}

use zsalloc::{Pool, Zswap};

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zs_pool(Pool);

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zswap {
    rust: Zswap,
}

/// What C believes to hold a pointer to. It is one to what all clones of an [`Area`](zsalloc::Area) share, so that a
/// callback, which gets a clone, can tell C which area it is.
#[allow(non_camel_case_types)]
pub struct zswap_area {
    _never_made: (),
}
