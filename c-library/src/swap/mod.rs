//! The C functions of zswap.

mod areas;
pub(super) mod options;
mod pages;
mod pointers;
mod shrink;
pub(super) mod stats;
pub(super) mod tier_types;
pub(super) mod tiers;
pub(super) mod types;
mod upkeep;
pub(super) mod writeback;

#[cfg(any(test, fuzzing))]
pub mod functions {
    pub use super::{
        areas::*, pages::*, shrink::*, stats::*, tier_types::*, tiers::*, types::*, upkeep::*, writeback::*,
    };
}
