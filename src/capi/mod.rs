//! The C face: the only functions this crate exports, each of a few lines over the Rust one.
//!
//! `include/zsalloc.h` is generated from these files by `tests/header.rs`; what stands above an item here is what a C
//! programmer reads there, so it says nothing of Rust. The macro [`export`] gives each function its NULL checks and its
//! panic barrier.

mod errors;
mod export;
mod objects;
mod options;
mod pool;
mod reclaim;
mod structs;
#[cfg(test)]
mod tests;

use crate::pool::Pool;

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zs_pool(Pool);
