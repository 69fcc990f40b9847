//! Statistics of a guest.

use crate::latency::LatencyHistogram;

/// Counts of what was done for a guest since it was handed over. Each only grows, at the moment when the thing is done.
/// A page is 4096 bytes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuestCounts {
    /// Touches that were served, of all kinds: a thread of the guest went on after each.
    pub faults: u64,
    /// Pages that were filled from the snapshot because they were touched.
    pub copied: u64,
    /// Pages that were filled from the snapshot ahead of a touch.
    pub copied_ahead: u64,
    /// Pages that were filled with zeros, because the guest had given them back.
    pub zeroed: u64,
    /// Touches of pages that were there already, because another touch was served first.
    pub present: u64,
    /// Pages in the ranges that the guest gave back, mostly by a balloon.
    pub removed: u64,
    /// System calls that fill a page and were made again, because an event had to be read first.
    pub retries: u64,
    /// Pages whose stored copy is damaged or missing, and that were poisoned.
    pub poisoned: u64,
    /// Touches of memory that was gone when they were served.
    pub stale: u64,
    /// Touches of addresses outside all ranges. Missing pages there were poisoned.
    pub strays: u64,
    /// Events that were read, other than touches.
    pub events: u64,
    /// Writes to protected pages. The protection was lifted.
    pub unprotected: u64,
    /// Pages of the memory file that were mapped where they were touched.
    pub mapped: u64,
    /// Pages of the snapshot that were written to the memory file: before they were mapped, or because a processor of
    /// the guest asked for them.
    pub written: u64,
    /// Events and touches of a kind that this version does not know. A thread that made such a touch waits for ever.
    pub unknown: u64,
}

/// The state of a guest, and counts of what was done for it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuestStats {
    /// Bytes of its ranges, as they were handed over.
    pub bytes: u64,
    /// Touches that were read and not served yet, at most 4096: their threads wait.
    pub waiting: u64,
    /// Whether its process has ended, as far as a call has noticed: [`Guest::has_ended`](crate::Guest::has_ended) asks.
    pub ended: bool,
    /// Counts of what was done.
    pub counts: GuestCounts,
    /// How long touches took to serve, each of them, from the moment when they were read.
    pub latencies: LatencyHistogram,
}
