//! The C library: functions of a few lines each over the public calls of the crate zsalloc.
//!
//! `tests/header.rs` generates `include/zsalloc.h` from these files. The documentation of an exported item is what a C
//! programmer reads there, so it speaks of C and not of Rust. The macro [`export`] gives each function its NULL checks
//! and its panic barrier.
// Under loom the crate has only its protocols, which have no C functions.
#![cfg(not(loom))]

mod bytes;
mod errors;
mod export;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod last_error;
mod limits;
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
mod wrong;

/// All exported functions in one module, for the fuzz targets.
#[cfg(any(test, fuzzing))]
mod functions {
    pub use super::{last_error::*, objects::*, pool::*, reclaim::*, sized::*, structs::*, swap::functions::*};
}

use zsalloc::{Pool, Zswap};

/// The pool behind C's `struct zs_pool *`.
#[allow(non_camel_case_types)]
pub struct zs_pool(Pool);

/// The zswap behind C's `struct zswap *`.
#[allow(non_camel_case_types)]
pub struct zswap {
    rust: Zswap,
}

/// Opaque to C, and never constructed. The pointer is really
/// [`Area::into_raw`](zsalloc::Area::into_raw) of a state that all clones of an area share, so that
/// a callback, which gets a clone, can tell C which area it is.
#[allow(non_camel_case_types)]
pub struct zswap_area {
    _never_made: (),
}
