//! The thread that looks every ten milliseconds at what the system says is resident.

use super::super::Result;
use super::proc::{self, Process};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often it looks.
pub const EVERY: Duration = Duration::from_millis(10);

/// A range of addresses: where it begins, and its bytes.
pub type Range = (usize, usize);

/// What it saw: the most of each, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watched {
    /// How often it looked.
    pub looks: u64,
    /// Of the guest's memory.
    pub guest: u64,
    /// Of the staging range.
    pub staged: u64,
    /// Of private memory, beyond what there was before the guest's first page. It is of one moment, and no less than
    /// the guest's memory and the staging range together.
    pub private: u64,
}

/// Looks until it is to stop. `before` is the private memory that there was.
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
