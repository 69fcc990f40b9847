//! Prints the results for people, and as JSON.

use super::MIB;
use super::input::Source;
use super::report::{Report, Step};
use super::tier_table::{self, grouped, microseconds};
use super::times::Summary;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::time::Duration;
use zsalloc::TierSnapshot;

/// Formats the results as a table.
pub fn text(source: &Source, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write_source(&mut out, source);
    let _ = write_pages(&mut out, source, report);
    let _ = write_steps(&mut out, report);
    let _ = write_tiers(&mut out, report);
    let _ = write_times(&mut out, report);
    out
}

fn write_source(out: &mut String, source: &Source) -> fmt::Result {
    let pages = source.pages().len() as u64;
    let of_files = pages - source.heap_pages as u64;
    write!(out, "{} pages of 4 KiB: {} of {} files", grouped(pages), grouped(of_files), source.files)?;
    if source.heap_pages > 0 {
        write!(out, ", {} of this program's own heap", grouped(source.heap_pages as u64))?;
        write!(out, " ({} records)", grouped(source.heap_records() as u64))?;
    }
    writeln!(out)?;
    if source.padded > 0 {
        writeln!(out, "the last page of {} of the files is padded with zeros", source.padded)?;
    }
    if source.shortened > 0 {
        writeln!(out, "only the first part of {} of the files was taken (--max-mib)", source.shortened)?;
    }
    writeln!(out)
}

fn write_pages(out: &mut String, source: &Source, report: &Report) -> fmt::Result {
    let pages = source.pages().len();
    let counts = &report.counts;
    let mut line = |name, part: u64, what: &str| {
        writeln!(out, "{name:<15}{:>11} {:>5.1} %   {what}", grouped(part), 100.0 * part as f64 / pages as f64)
    };
    line("compressed", counts.compressed_pages, "in the pool")?;
    line("incompressible", counts.raw_pages, "in the pool, uncompressed")?;
    line("same-filled", counts.filled_pages, "one repeated word: takes no memory of the pool")?;
    if !report.tiers.is_empty() {
        line("written back", counts.written_back, "to tiers")?;
    }
    if let Some(why) = report.kept {
        line("stayed", counts.pool_pages(), why)?;
    }
    if let Some(why) = &report.stopped {
        line("not taken", (pages - report.held) as u64, why)?;
    }
    if let Some(limit) = report.limit {
        let (limit, hits) = (grouped(limit), grouped(report.limit_hits));
        writeln!(out, "{:<15}{limit:>11} bytes     of slots; times reached: {hits}", "limit")?;
    }
    let ratio = report.steps.first().and_then(Step::ratio);
    writeln!(out, "{:<15}{:>11}           pages in the pool / bytes of their slots\n", "ratio", or_dash(ratio, 2))
}

fn write_steps(out: &mut String, report: &Report) -> fmt::Result {
    let headings = ["pages", "slots", "pool", "tables", "all", "effective", "process", "effective"];
    writeln!(out, "{:<13}{}", "MiB", headings.map(|heading| format!("{heading:>11}")).concat())?;
    for step in &report.steps {
        let [slots, pool, tables, all, process] =
            [step.slot_bytes, step.pool_bytes, step.metadata_bytes, step.all_bytes, step.growth_bytes]
                .map(|bytes| format!("{:.2}", mib(bytes)));
        let [own, resident] = [step.effective_ratio(), step.resident_ratio()].map(|ratio| or_dash(ratio, 2));
        let figures = [grouped(step.pages), slots, pool, tables, all, own, process, resident];
        writeln!(out, "{:<13}{}", step.name, figures.map(|figure| format!("{figure:>11}")).concat())?;
    }
    writeln!(out, "pages: number in memory. pool: its memory, including its tables. tables: the pool's tables, page")?;
    writeln!(out, "words and contexts. all: pool and tables. process: growth of this process's resident memory.")?;
    writeln!(out, "effective: bytes of pages in memory / all, and / process\n")
}

fn write_tiers(out: &mut String, report: &Report) -> fmt::Result {
    tier_table::write(out, &report.tiers)?;
    if report.tiers.is_empty() { Ok(()) } else { writeln!(out) }
}

fn write_times(out: &mut String, report: &Report) -> fmt::Result {
    let calls = &report.calls;
    writeln!(out, "{:<25}{:>9}{:>9}{:>9}", "microseconds", "mean", "p50", "p99")?;
    let both = [
        ("store", calls.store, calls.plain_store, "the system provides memory meanwhile"),
        ("store again", calls.store_again, calls.plain_store_again, "half of the pages, into existing memory"),
        ("load, random order", calls.load, calls.plain_load, "checked before it is decoded"),
    ];
    for (name, own, plain, what) in both {
        if let (Some(own), Some(plain)) = (own, plain) {
            let what = format!("{:.2} times plain LZ4; {what}", own.mean / plain.mean);
            write_summary(out, name, own, &what)?;
            write_summary(out, "  plain LZ4 and a copy", plain, "the same pages in the same order, in turns")?;
        }
    }
    if let Some(summary) = calls.file_load {
        let what = format!("{} pages, read and decoded", grouped(summary.count as u64));
        write_summary(out, "load from tiers, random", summary, &what)?;
    }
    if let Some(summary) = calls.file_load_in_order {
        write_summary(out, "load from tiers, in order", summary, "the same pages: those that follow are read ahead")?;
    }
    let mut each = |name, time, count, what: &str| {
        writeln!(out, "{name:<25}{:>9}{:18}   {what}", or_dash(microseconds_each(time, count), 3), "")
    };
    if report.counts.written_back > 0 {
        each("write back", report.writeback, report.counts.written_back, "per page")?;
    }
    each("remove", report.removed.0, report.removed.1, "in random order")?;
    let compaction = &report.compaction;
    let (pages, moved) = (grouped(compaction.pages), grouped(compaction.objects_moved));
    let what = format!("per page of memory returned: {pages} pages, {moved} objects moved");
    each("compact", compaction.time, compaction.pages, &what)?;
    writeln!(out, "\n{} page loads were compared: every byte was right", grouped(report.verified))
}

fn write_summary(out: &mut String, name: &str, summary: Summary, what: &str) -> fmt::Result {
    let figures = [summary.mean, summary.p50, summary.p99].map(|figure| format!("{figure:>9.3}")).concat();
    writeln!(out, "{name:<25}{figures}   {what}")
}

/// Formats the same figures as one JSON object.
pub fn json(source: &Source, report: &Report) -> String {
    let (calls, counts, compaction) = (&report.calls, &report.counts, &report.compaction);
    let object = json!({
        "pages": source.pages().len(),
        "files": source.files,
        "files_filled_up": source.padded,
        "files_shortened": source.shortened,
        "heap_pages": source.heap_pages,
        "held": report.held,
        "stopped": report.stopped,
        "limit_bytes": report.limit,
        "limit_hits": report.limit_hits,
        "same_filled": counts.filled_pages,
        "incompressible": counts.raw_pages,
        "compressed": counts.compressed_pages,
        "written_back": counts.written_back,
        "stayed": report.kept,
        "tiers": report.tiers.iter().map(tier_json).collect::<Vec<Value>>(),
        "ratio": report.steps.first().and_then(Step::ratio),
        "effective_ratio": report.steps.first().and_then(Step::effective_ratio),
        "steps": report.steps.iter().map(step_json).collect::<Vec<Value>>(),
        "store_us": calls.store.map(summary_json),
        "plain_store_us": calls.plain_store.map(summary_json),
        "store_again_us": calls.store_again.map(summary_json),
        "plain_store_again_us": calls.plain_store_again.map(summary_json),
        "load_us": calls.load.map(summary_json),
        "plain_load_us": calls.plain_load.map(summary_json),
        "file_load_us": calls.file_load.map(summary_json),
        "file_load_in_order_us": calls.file_load_in_order.map(summary_json),
        "writeback_us_per_page": microseconds_each(report.writeback, counts.written_back),
        "remove_us": microseconds_each(report.removed.0, report.removed.1),
        "compaction": {
            "pages_returned": compaction.pages,
            "objects_moved": compaction.objects_moved,
            "microseconds": compaction.time.as_nanos() as f64 / 1e3,
            "microseconds_per_page": microseconds_each(compaction.time, compaction.pages),
        },
        "pages_verified": report.verified,
    });
    format!("{object:#}\n")
}

fn step_json(step: &Step) -> Value {
    json!({
        "step": step.name,
        "pages_in_memory": step.pages,
        "pages_on_file": step.file_pages,
        "slot_bytes": step.slot_bytes,
        "pool_bytes": step.pool_bytes,
        "metadata_bytes": step.metadata_bytes,
        "all_bytes": step.all_bytes,
        "resident_growth_bytes": step.growth_bytes,
        "effective_ratio": step.effective_ratio(),
        "resident_ratio": step.resident_ratio(),
    })
}

fn tier_json(tier: &TierSnapshot) -> Value {
    let stats = &tier.stats;
    json!({
        "file": tier.name,
        "pages": stats.pages,
        "bytes": stats.bytes,
        "compressed_bytes": stats.page_bytes,
        "extents": stats.extents,
        "memory_bytes": stats.memory_bytes,
        "loads": stats.loads,
        "load_p50_us": microseconds(&stats.load_latencies, 500),
        "load_p99_us": microseconds(&stats.load_latencies, 990),
    })
}

fn summary_json(summary: Summary) -> Value {
    json!({ "count": summary.count, "mean": summary.mean, "p50": summary.p50, "p99": summary.p99 })
}

/// Returns the time per item; none without items. The table shows "-" then, and JSON null.
fn microseconds_each(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_nanos() as f64 / 1e3 / count as f64)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

fn or_dash(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_figure_is_a_dash() {
        assert_eq!(or_dash(microseconds_each(Duration::ZERO, 0), 1), "-");
        assert_eq!(or_dash(microseconds_each(Duration::from_micros(3), 2), 3), "1.500");
    }
}
