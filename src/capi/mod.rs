//! The C face: the only functions this crate exports, each of a few lines over the Rust one.
//!
//! `include/zsalloc.h` is generated from these files by `tests/header.rs`; what stands above an item here is what a C
//! programmer reads there, so it says nothing of Rust. The macro [`export`] gives each function its NULL checks and its
//! panic barrier.

mod errors;
mod export;
mod objects;
mod options;
#[cfg(feature = "uffd")]
mod pager;
mod pool;
mod reclaim;
mod structs;
mod swap;
#[cfg(test)]
mod tests;

/// The functions by their names, for the fuzz targets.
#[cfg(all(any(test, fuzzing), feature = "uffd"))]
pub mod functions {
    pub use super::{objects::*, pool::*, reclaim::*, structs::*, swap::functions::*};
}

use crate::pool::Pool;
use crate::zswap::Zswap;

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zs_pool(Pool);

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zswap {
    rust: Zswap,
}

/// What C believes to hold a pointer to. It is one to what all clones of an [`Area`](crate::Area) share, so that a
/// callback, which gets a clone, can tell C which area it is.
#[allow(non_camel_case_types)]
pub struct zswap_area {
    _never_made: (),
}
