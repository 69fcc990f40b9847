//! The C functions of the pager.

mod create;
mod options;
mod pointers;
mod regions;
mod stats;
mod tiers;
mod types;
mod upkeep;

use zsalloc::Pager;

/// The pager behind C's `struct zspager *`.
#[allow(non_camel_case_types)]
pub struct zspager {
    rust: Pager,
}
