//! The lines that the handler prints.

use super::Result;
use super::snapshot::Snapshot;
use std::fmt::Write;
use zsalloc::{GuestStats, LatencyHistogram, PAGE_SIZE};

/// Sums over all guests.
#[derive(Default)]
pub struct Total {
    /// Number of guests that were served.
    pub guests: u64,
    faults: u64,
    copied: u64,
    ahead: u64,
    zeroed: u64,
    removed: u64,
    poisoned: u64,
    unprotected: u64,
    mapped: u64,
    written: u64,
    unknown: u64,
    latencies: LatencyHistogram,
}

impl Total {
    /// Adds a guest's statistics.
    pub fn add(&mut self, stats: &GuestStats) {
        let counts = &stats.counts;
        self.faults += counts.faults;
        self.copied += counts.copied;
        self.ahead += counts.copied_ahead;
        self.zeroed += counts.zeroed;
        self.removed += counts.removed;
        self.poisoned += counts.poisoned;
        self.unprotected += counts.unprotected;
        self.mapped += counts.mapped;
        self.written += counts.written;
        self.unknown += counts.unknown;
        let buckets = &mut self.latencies.buckets;
        buckets.iter_mut().zip(&stats.latencies.buckets).for_each(|(sum, count)| *sum += count);
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn microseconds(latencies: &LatencyHistogram, permille: u64) -> f64 {
    latencies.permille(permille) as f64 / 1000.0
}

/// Returns the line about the stored snapshot.
pub fn stored(snapshot: &Snapshot) -> Result<String> {
    let stats = snapshot.area.stats().map_err(|error| error.to_string())?;
    let bytes = snapshot.area.pages() * PAGE_SIZE as u64;
    let seconds = snapshot.took.as_secs_f64();
    let (all, used) = (mib(bytes), mib(stats.used_bytes));
    Ok(format!("snapshot: {all:.1} MiB stored in {used:.1} MiB within {seconds:.1} s"))
}

/// Returns the line about a guest that began.
pub fn began(number: u64, ranges: usize, stats: &GuestStats) -> String {
    format!("microVM {number} began: {:.1} MiB in {ranges} ranges", mib(stats.bytes))
}

/// Returns the line about a guest that ended.
pub fn ended(number: u64, stats: &GuestStats) -> String {
    let counts = &stats.counts;
    let (middle, high) = (microseconds(&stats.latencies, 500), microseconds(&stats.latencies, 990));
    format!(
        "microVM {number} ended: {} faults, {} pages copied and {} ahead, {} zeroed, {} given back, \
         p50 {middle:.1} us, p99 {high:.1} us",
        counts.faults, counts.copied, counts.copied_ahead, counts.zeroed, counts.removed
    )
}

/// Returns the table of all statistics.
pub fn table(snapshot: &Snapshot, total: &Total, still: usize) -> Result<String> {
    let stats = snapshot.area.stats().map_err(|error| error.to_string())?;
    let pool = snapshot.zswap.stats().map_err(|error| error.to_string())?;
    let pages = snapshot.area.pages();
    let mut out = String::new();
    let mut line = |name: &str, value: String| writeln!(out, "{name:<24} {value:>16}").expect("a string has room");
    line("pages in the snapshot", pages.to_string());
    line("snapshot bytes", (pages * PAGE_SIZE as u64).to_string());
    line("compressed bytes", stats.used_bytes.to_string());
    line("memory of the pool", pool.pool_bytes.to_string());
    line("microVMs served", total.guests.to_string());
    line("of them still running", still.to_string());
    line("faults", total.faults.to_string());
    line("pages copied", total.copied.to_string());
    line("pages copied ahead", total.ahead.to_string());
    line("pages zeroed", total.zeroed.to_string());
    line("pages given back", total.removed.to_string());
    line("pages poisoned", total.poisoned.to_string());
    line("writes unprotected", total.unprotected.to_string());
    line("file pages mapped", total.mapped.to_string());
    line("file pages written", total.written.to_string());
    line("events unknown", total.unknown.to_string());
    line("latency p50", format!("{:.1} us", microseconds(&total.latencies, 500)));
    line("latency p99", format!("{:.1} us", microseconds(&total.latencies, 990)));
    Ok(out)
}
