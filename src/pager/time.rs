//! The time in nanoseconds, for what is remembered for a while. It may be read in a signal handler.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
/// Added to every reading, so that 0 can mean "never" and a new clock is already older than every timeout (under 2 s).
const BEFORE: u64 = 2_000_000_000;

/// Starts the clock with the first pager, so that no signal handler has to.
pub fn start() {
    START.get_or_init(Instant::now);
}

/// Nanoseconds since the clock was started, and two seconds more.
pub fn now() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + BEFORE
}
