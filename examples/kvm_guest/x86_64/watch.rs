//! The thread that samples resident memory every ten milliseconds.

use super::super::Result;
use super::proc::{self, Process};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time between two samples.
pub const EVERY: Duration = Duration::from_millis(10);

/// A range of addresses: its beginning, and its size in bytes.
pub type Range = (usize, usize);

/// The largest number of bytes seen of each kind.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watched {
    /// Number of samples.
    pub looks: u64,
    /// Bytes of the guest's memory.
    pub guest: u64,
    /// Bytes of the staging range.
    pub staged: u64,
    /// Private bytes beyond those from before the guest's first page. Of one moment, and at least the guest's memory
    /// and the staging range together.
    pub private: u64,
}

/// Samples until `stop` is set. `before` is the private memory from before the guest's first page.
pub fn watch(guest: Range, staging: Range, before: u64, stop: &AtomicBool) -> Result<Watched> {
    proc::go_first();
    let mut seen = Watched::default();
    let mut pages = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Relaxed) {
        seen.looks += 1;
        seen.private = seen.private.max(Process::now()?.anonymous.saturating_sub(before));
        seen.guest = seen.guest.max(proc::resident(&(guest.0..guest.0 + guest.1), &mut pages));
        seen.staged = seen.staged.max(proc::resident(&(staging.0..staging.0 + staging.1), &mut pages));
        next = (next + EVERY).max(Instant::now());
        std::thread::sleep(next - Instant::now());
    }
    Ok(seen)
}
