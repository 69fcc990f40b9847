//! The pager for C.

mod create;
mod options;
mod pointers;
mod regions;
mod stats;
mod types;
mod upkeep;

use std::sync::atomic::AtomicUsize;
use zsalloc::Pager;

/// What C holds a pointer to.
#[allow(non_camel_case_types)]
pub struct zspager {
    rust: Pager,
    /// Threads that are inside of zspager_run().
    lent: AtomicUsize,
}
