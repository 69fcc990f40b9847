//! Nanoseconds, for what is remembered for a while. Whoever reads them may be in a signal handler.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
/// So that no time is 0, which is none, and none is younger than what is remembered for less.
const BEFORE: u64 = 2_000_000_000;

/// Starts it, with the first pager, so that no handler does.
pub fn start() {
    START.get_or_init(Instant::now);
}

/// Nanoseconds since it was started, and two seconds more.
pub fn now() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + BEFORE
}
