//! What was done for a guest.

use crate::latency::LatencyHistogram;
use serde::Serialize;

/// What was done for a guest since it was handed over.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GuestCounts {
    /// Touches that were served, of whatever kind.
    pub faults: u64,
    /// Pages that were filled from the snapshot because they were touched.
    pub copied: u64,
    /// Pages that were filled from the snapshot ahead of a touch.
    pub copied_ahead: u64,
    /// Pages that were filled with zeros, for the guest had given them back.
    pub zeroed: u64,
    /// Touches of pages that were there already: another touch was served first.
    pub present: u64,
    /// Pages in the ranges that the guest gave back: by a balloon, mostly.
    pub removed: u64,
    /// Calls that had to be made again, for an event had to be read first.
    pub retries: u64,
    /// Pages whose stored copy is damaged or missing, and that were poisoned.
    pub poisoned: u64,
    /// Touches of memory that was gone when they were served.
    pub stale: u64,
    /// Touches of addresses outside of all ranges. Pages that were missing there were poisoned.
    pub strays: u64,
    /// Events that were read, other than touches.
    pub events: u64,
    /// Writes to protected pages, whose protection was lifted.
    pub unprotected: u64,
    /// Pages that the memory file had, and that were mapped where they were touched.
    pub mapped: u64,
    /// Pages of the snapshot that were written to the memory file, before they were mapped or because a processor of
    /// the guest asked for them.
    pub written: u64,
    /// Events, and touches, of a kind that this version does not know. Whoever made such a touch waits for ever.
    pub unknown: u64,
}

/// What a guest has, and what was done for it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GuestStats {
    /// Bytes of its ranges.
    pub bytes: u64,
    /// Touches that were read and are not served yet.
    pub waiting: u64,
    /// Its process has ended.
    pub ended: bool,
    /// What was done.
    pub counts: GuestCounts,
    /// How long touches took to serve, from when they were read on.
    pub latencies: LatencyHistogram,
}
