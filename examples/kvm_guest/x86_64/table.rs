//! Prints the results.

use super::super::{MIB, PAGE};
use super::Report;
use super::watch::EVERY;
use std::fmt::{self, Write};

/// Formats the results as a table.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write_memory(&mut out, report);
    let _ = write_pager(&mut out, report);
    let _ = write_end(&mut out, report);
    out
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

fn write_memory(out: &mut String, report: &Report) -> fmt::Result {
    let (args, watched) = (&report.args, &report.watched);
    let (pages, different, files) = report.pages;
    writeln!(
        out,
        "a guest with {} processors hashes and changes {pages} pages {} times;",
        args.processors, args.passes
    )?;
    writeln!(out, "{different} are different pages of {files} files, the others repeat those with small changes\n")?;
    let mut line = |what: &str, bytes: u64, note: &str| writeln!(out, "{what:<27}{:>9.1} MiB   {note}", mib(bytes));
    line("memory of the guest", args.memory, "")?;
    line("limit on what is resident", args.limit, "")?;
    let held = if report.limit_held() { "held" } else { "EXCEEDED" };
    let allowed = format!("{held}: {:.1} MiB allowed (limit + 2 % + 1 MiB)", mib(report.allowed()));
    line("largest, all private", watched.private, &allowed)?;
    line("largest, guest's memory", watched.guest, "")?;
    line("largest, staging range", watched.staged, "uncompressed, next to be compressed")?;
    let zswap = &report.snapshot.zswap.zswap;
    let stored = (zswap.counts.pool_pages() + zswap.counts.filled_pages) * PAGE as u64;
    line("compressed, at the end", zswap.pool_bytes, &format!("for {:.1} MiB of pages", mib(stored)))?;
    let looks = watched.looks;
    writeln!(
        out,
        "measured by the system: {looks} samples, one every {} ms. all private: growth of RssAnon",
        EVERY.as_millis()
    )?;
    writeln!(out, "since before the first page. the others: mincore\n")
}

fn write_pager(out: &mut String, report: &Report) -> fmt::Result {
    let stats = &report.snapshot.pager;
    let counts = &stats.counts;
    let [filled, ran, compared] = report.times.map(|time| time.as_secs_f64());
    let mut line = |what: &str, count: u64, note: &str| writeln!(out, "{what:<27}{count:>9}       {note}");
    let [p50, p99] = [500, 990].map(|permille| stats.latencies.permille(permille) as f64 / 1e3);
    line("faults", counts.faults, &format!("p50 {p50:.1} us, p99 {p99:.1} us, without the wake-ups"))?;
    line("  first touches", counts.zero_fills, "zeros")?;
    line("  rescues", counts.rescues, "moved back from the staging range")?;
    line("  loads", counts.loads, &format!("decompressed; {} more ahead of a touch", counts.loads_ahead))?;
    line("evictions: staged", counts.staged, "moved to the staging range while mapped by the guest")?;
    line("  compressed", counts.stored, "")?;
    line("  dropped", counts.dropped, "without compression: a compressed copy existed")?;
    line("  refused", counts.pinned, "KVM, or the system, had them pinned")?;
    let how = if report.args.evict_in_place { "all" } else { "half by madvise, half" };
    line("given back by the guest", report.given_back, &format!("as by a balloon: {how} through the pager"))?;
    writeln!(out, "{:<27}{ran:>11.1} s   filled in {filled:.1} s, compared in {compared:.1} s\n", "the guest ran")
}

fn write_end(out: &mut String, report: &Report) -> fmt::Result {
    let wrong = &report.wrong;
    let checksums: Vec<_> = report.checksums.iter().map(|checksum| format!("{checksum:016x}")).collect();
    let passes = report.args.passes;
    match wrong.checksums.first() {
        None => writeln!(out, "checksums {}: right, after each of {passes} passes", checksums.join(" "))?,
        Some((processor, pass)) => {
            let count = wrong.checksums.len();
            writeln!(out, "checksums WRONG: {count}, the first of processor {processor} after pass {pass}")?;
        }
    }
    match wrong.pages {
        0 => writeln!(out, "every byte of all {} pages: right", report.pages.0),
        pages => writeln!(out, "WRONG pages: {pages}"),
    }
}
