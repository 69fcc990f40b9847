//! Prints the results for people, and as JSON.

use super::latency::Counted;
use super::report::{Phase, Report};
use super::tier_table;
use super::watch::{EVERY, Watched};
use super::workload::{FAULT_NANOSECONDS, Ran};
use serde_json::{Value, json};
use std::fmt::{self, Write};
use zsalloc::FaultMode;

/// Formats the results as a table.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write_limits(&mut out, report);
    let _ = write_gain(&mut out, report);
    let _ = write_tiers(&mut out, report);
    let _ = write_phases(&mut out, report);
    let _ = write_histogram(&mut out, &report.slow());
    let _ = write_end(&mut out, report);
    out
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn write_limits(out: &mut String, report: &Report) -> fmt::Result {
    let (args, watched) = (&report.args, &report.watched);
    let (pages, files) = report.source;
    let mode = if args.mode == FaultMode::Sigbus { "in the thread that touches" } else { "by lent threads" };
    writeln!(out, "{:.0} MiB, filled with {pages} different pages of {files} files", mib(args.bytes()))?;
    let evicted = if args.in_place { "evicted in place" } else { "moved to a staging range, and evicted there" };
    writeln!(out, "{} threads; touches are served {mode}; pages are {evicted}\n", args.threads)?;
    writeln!(out, "{:<28}{:>10}{:>10}{:>10}", "MiB", "limit", "allowed", "largest")?;
    let mut line = |what: &str, limit: u64, may: u64, most: u64| {
        let held = if most <= may { "held" } else { "EXCEEDED" };
        writeln!(out, "{what:<28}{:>10.1}{:>10.1}{:>10.1}   {held}", mib(limit), mib(may), mib(most))
    };
    line("region and staging range", args.limit, Watched::may_resident(args), watched.most_resident)?;
    line("the whole process", args.limit + args.pool_limit, Watched::may_process(args), watched.most_process)?;
    let look = watched.looking.as_secs_f64() * 1e3 / watched.looks.max(1) as f64;
    let gap = watched.longest_gap.as_millis();
    let others = mib(watched.most_others);
    writeln!(
        out,
        "measured by the system. region and staging range: RssAnon in /proc/self/status every 10 ms, less the other"
    )?;
    writeln!(
        out,
        "mappings in /proc/self/smaps every second (up to {others:.1} MiB). process: RssAnon and RssShmem (the pool)"
    )?;
    writeln!(
        out,
        "{} samples, one every {} ms (longest gap {gap} ms), {look:.2} ms per sample",
        watched.looks,
        EVERY.as_millis()
    )?;
    if watched.counted > 0 {
        writeln!(
            out,
            "{} samples came near the allowed bytes or above: for these, smaps was read at once and counts as far as\n\
            RssAnon confirms it, because pages come and go while smaps is read",
            watched.counted
        )?;
    }
    let over = report.held.pager.counts.over_limit;
    if over > 0 {
        writeln!(
            out,
            "{over} pages were let in above the limit because none could leave: the pool was full and had nowhere to\n\
            write to, or all other pages were being evicted by other threads, held or pinned"
        )?;
    }
    writeln!(out)
}

fn write_gain(out: &mut String, report: &Report) -> fmt::Result {
    let (zswap, point) = (&report.held.zswap.zswap, &report.held_point);
    let mut line = |what: &str, bytes: u64, note: &str| writeln!(out, "{what:<28}{:>10.1}   {note}", mib(bytes));
    line("memory held, MiB", report.args.bytes(), "")?;
    line("  resident", point.region, "of the region")?;
    line("  staged", point.staged, "uncompressed, next to be compressed")?;
    let pages = zswap.counts.pool_pages() + zswap.counts.filled_pages;
    line("  compressed", zswap.pool_bytes, &format!("for {:.1} MiB of pages", mib(pages * 4096)))?;
    line("  tables", report.tables(), "of the pager and of zswap")?;
    line("  on tiers", zswap.counts.file_pages * 4096, "takes no memory but tables")?;
    writeln!(
        out,
        "{:<28}{:>10.2}   memory held / all that it costs ({:.1} MiB)\n",
        "effective memory",
        report.gained(),
        mib(report.cost())
    )
}

fn write_tiers(out: &mut String, report: &Report) -> fmt::Result {
    let tiers = &report.held.zswap.tiers;
    if tiers.is_empty() {
        return Ok(());
    }
    tier_table::write(out, tiers)?;
    match report.watched.most_cached {
        Some(bytes) => {
            let (most, by) = (mib(bytes), report.watched.cached_by);
            writeln!(out, "of these files at most {most:.1} MiB were in the page cache, as {by} counts\n")
        }
        None => writeln!(out, "the system does not tell how much of these files is in the page cache\n"),
    }
}

fn write_phases(out: &mut String, report: &Report) -> fmt::Result {
    let headings = ["pages/s", "no limit", "faults", "of touches", "p50 us", "p99 us", "p99.9 us"];
    writeln!(out, "{:<10}{}", "", headings.map(|heading| format!("{heading:>13}")).concat())?;
    for phase in &report.phases {
        let (ran, slow) = (&phase.swapped, &phase.swapped.slow);
        let plain = phase.plain.as_ref().map(Ran::per_second);
        let share = 100.0 * phase.faults() as f64 / ran.operations.max(1) as f64;
        let figures = [
            format!("{:.0}", ran.per_second()),
            plain.map_or_else(|| "-".to_owned(), |plain| format!("{plain:.0}")),
            phase.faults().to_string(),
            format!("{share:.1} %"),
            shown(slow, 500),
            shown(slow, 990),
            shown(slow, 999),
        ];
        writeln!(out, "{:<10}{}", phase.kind.name(), figures.map(|figure| format!("{figure:>13}")).concat())?;
    }
    writeln!(
        out,
        "faults: counted by the pager. p50, p99, p99.9: times of touches of more than {FAULT_NANOSECONDS} ns, measured \
        by the\nthreads, including the signal or wake-up and time in which another thread had the processor\n"
    )
}

fn shown(slow: &Counted, permille: u64) -> String {
    slow.permille(permille).map_or_else(|| "-".to_owned(), |time| format!("{time:.1}"))
}

fn write_histogram(out: &mut String, slow: &Counted) -> fmt::Result {
    let (powers, all) = (slow.powers(), slow.count());
    let most = powers.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    writeln!(out, "slow touches of all workloads")?;
    for (least, count) in powers {
        let bar = "#".repeat((count * 50).div_ceil(most) as usize);
        let (least, share) = (least as f64 / 1e3, 100.0 * count as f64 / all as f64);
        writeln!(out, "{least:>12.1} us {count:>10} {share:>7.3} %  {bar}")?;
    }
    writeln!(out)
}

fn write_end(out: &mut String, report: &Report) -> fmt::Result {
    let pages = report.args.pages;
    let (fill, verify) = (report.fill.as_secs_f64(), report.verify.as_secs_f64());
    writeln!(
        out,
        "filled in {fill:.1} s, verified in {verify:.1} s: {:.0} and {:.0} pages/s",
        pages as f64 / fill,
        pages as f64 / verify
    )?;
    match report.wrong {
        0 => writeln!(out, "every byte of all {pages} pages was right"),
        wrong => writeln!(out, "WRONG: {wrong} times a page did not hold what was written to it"),
    }
}

/// Formats the results as JSON.
pub fn json(report: &Report) -> String {
    let (args, watched, point) = (&report.args, &report.watched, &report.held_point);
    let object = json!({
        "memory_bytes": args.bytes(),
        "threads": args.threads,
        "mode": if args.mode == FaultMode::Sigbus { "sigbus" } else { "threads" },
        "evict": if args.in_place { "in-place" } else { "move" },
        "different_pages": report.source.0,
        "well": report.is_well(),
        "wrong_pages": report.wrong,
        "resident": limit(args.limit, Watched::may_resident(args), watched.most_resident),
        "process": limit(args.limit + args.pool_limit, Watched::may_process(args), watched.most_process),
        "page_cache_largest_bytes": watched.most_cached,
        "looks": watched.looks,
        "counted_by_smaps": watched.counted,
        "look_us": watched.looking.as_secs_f64() * 1e6 / watched.looks.max(1) as f64,
        "longest_gap_ms": watched.longest_gap.as_secs_f64() * 1e3,
        "effective_memory": report.gained(),
        "cost_bytes": report.cost(),
        "region_bytes": point.region,
        "staged_bytes": point.staged,
        "table_bytes": report.tables(),
        "fill_seconds": report.fill.as_secs_f64(),
        "verify_seconds": report.verify.as_secs_f64(),
        "workloads": report.phases.iter().map(phase_json).collect::<Vec<_>>(),
        "statistics": report.held,
    });
    format!("{object:#}\n")
}

fn limit(limit: u64, may: u64, most: u64) -> Value {
    json!({ "limit_bytes": limit, "allowed_bytes": may, "largest_bytes": most, "held": most <= may })
}

fn phase_json(phase: &Phase) -> Value {
    let slow = &phase.swapped.slow;
    let [p50, p99, p999] = [500, 990, 999].map(|permille| slow.permille(permille));
    let before = serde_json::to_value(phase.stats.0.counts).unwrap_or_default();
    let mut counts = serde_json::to_value(phase.stats.1.counts).unwrap_or_default();
    for (name, count) in counts.as_object_mut().into_iter().flatten() {
        *count = json!(count.as_u64().unwrap_or(0) - before[name].as_u64().unwrap_or(0));
    }
    json!({
        "name": phase.kind.name(),
        "operations": phase.swapped.operations,
        "operations_per_second": phase.swapped.per_second(),
        "operations_per_second_without_limit": phase.plain.as_ref().map(Ran::per_second),
        "faults": phase.faults(),
        "slow_touches": { "count": slow.count(), "p50_us": p50, "p99_us": p99, "p999_us": p999 },
        "counts": counts,
    })
}
