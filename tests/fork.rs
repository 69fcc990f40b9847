//! Pools and zswaps in forked children, and pools in a process with few addresses.
//!
//! Each test forks, so this runs without the test harness and its threads.

#[cfg(not(loom))]
#[path = "fork/forks.rs"]
mod forks;

fn main() {
    // Under loom the crate has no pool that could be created.
    #[cfg(not(loom))]
    forks::run();
}
