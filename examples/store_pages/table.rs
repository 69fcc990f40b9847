//! The figures, for people and for machines.

use super::input::Source;
use super::measure::{Report, Step};
use super::{MIB, PAGE};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// The figures as a table.
pub fn text(source: &Source, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write_pages(&mut out, source, report);
    let _ = write_steps(&mut out, report);
    let _ = write_times(&mut out, report);
    out
}

fn write_pages(out: &mut String, source: &Source, report: &Report) -> std::fmt::Result {
    let pages = source.pages().len() as u64;
    write!(
        out,
        "{} pages of 4 KiB: {} of {} files",
        grouped(pages),
        grouped(pages - source.heap_pages as u64),
        source.files
    )?;
    if source.heap_pages > 0 {
        write!(out, ", {} of this program's own heap", grouped(source.heap_pages as u64))?;
        write!(out, " ({} records)", grouped(source.heap_records() as u64))?;
    }
    writeln!(out)?;
    if source.padded > 0 {
        writeln!(out, "the last page of {} of the files is filled up with zeros", source.padded)?;
    }
    if source.shortened > 0 {
        writeln!(out, "of {} of the files only the first part was taken (--max-mib)", source.shortened)?;
    }
    let share = |part: u64| format!("{:>11} {:>5.1} %", grouped(part), 100.0 * part as f64 / pages as f64);
    writeln!(out)?;
    writeln!(out, "same-filled {}   one word again and again; not stored", share(report.same_filled))?;
    writeln!(out, "raw         {}   stored as they are: LZ4 makes them no smaller", share(report.raw))?;
    writeln!(out, "compressed  {}", share(report.stored - report.raw))?;
    writeln!(out, "ratio       {:>11}           stored pages to the bytes they took", or_dash(ratio(report), 2))?;
    writeln!(out)
}

fn write_steps(out: &mut String, report: &Report) -> std::fmt::Result {
    let [objects, live, pool, tables, process] = ["objects", "live MiB", "pool MiB", "its tables", "process MiB"];
    writeln!(out, "{:<12}{objects:>11}{live:>11}{pool:>11}{tables:>12}{process:>13}{:>10}", "", "density")?;
    for step in &report.steps {
        let [live, pool, tables, process] =
            [step.live_bytes, step.pool_bytes, step.table_bytes, step.growth_bytes].map(mib);
        let (objects, density) = (grouped(step.objects), or_dash(density(step), 3));
        write!(out, "{:<12}{objects:>11}{live:>11.2}{pool:>11.2}{tables:>12.2}{process:>13.2}", step.name)?;
        writeln!(out, "{density:>10}")?;
    }
    writeln!(out, "process: growth of this process's resident memory since before the pool was created")?;
    writeln!(out, "density: live / process, so everything that the pool costs is counted\n")
}

fn write_times(out: &mut String, report: &Report) -> std::fmt::Result {
    let mut line = |name, time, count, what| {
        writeln!(out, "{name:<12}{:>11} ns   {what}", or_dash(nanoseconds_each(time, count), 1))
    };
    line("malloc", report.malloc, report.stored, "mapped to be written")?;
    line("write", report.write, report.stored, "the copy, the unmap, and the system giving the memory")?;
    line("map, unmap", report.map, report.stored, "in random order")?;
    line("free", report.free, report.freed, "in random order")?;
    for compaction in &report.compactions {
        writeln!(
            out,
            "{:<12}{:>11} us   per page returned: {} pages, {} objects moved",
            "compaction",
            or_dash(microseconds_per_page(compaction.time, compaction.pages), 3),
            grouped(compaction.pages),
            grouped(compaction.objects_moved)
        )?;
    }
    writeln!(out, "\n{} times a page was read back, and every byte was equal", grouped(report.verified))
}

/// The same figures as one JSON object.
pub fn json(source: &Source, report: &Report) -> String {
    let step = |step: &Step| {
        json!({
            "step": step.name,
            "objects": step.objects,
            "live_bytes": step.live_bytes,
            "pool_bytes": step.pool_bytes,
            "table_bytes": step.table_bytes,
            "resident_growth_bytes": step.growth_bytes,
            "density": density(step),
        })
    };
    let compactions = report.compactions.iter().map(|compaction| {
        json!({
            "pages_returned": compaction.pages,
            "objects_moved": compaction.objects_moved,
            "microseconds": compaction.time.as_nanos() as f64 / 1e3,
            "microseconds_per_page": microseconds_per_page(compaction.time, compaction.pages),
        })
    });
    let object = json!({
        "pages": source.pages().len(),
        "files": source.files,
        "files_filled_up": source.padded,
        "files_shortened": source.shortened,
        "heap_pages": source.heap_pages,
        "same_filled": report.same_filled,
        "raw": report.raw,
        "compressed": report.stored - report.raw,
        "stored_bytes": report.stored_bytes,
        "ratio": ratio(report),
        "steps": report.steps.iter().map(step).collect::<Vec<Value>>(),
        "malloc_ns": nanoseconds_each(report.malloc, report.stored),
        "write_ns": nanoseconds_each(report.write, report.stored),
        "map_unmap_ns": nanoseconds_each(report.map, report.stored),
        "free_ns": nanoseconds_each(report.free, report.freed),
        "compactions": compactions.collect::<Vec<Value>>(),
        "pages_verified": report.verified,
    });
    format!("{object:#}\n")
}

/// Of nothing there is no ratio; the table says "-" then, and JSON null.
fn ratio(report: &Report) -> Option<f64> {
    (report.stored_bytes > 0).then(|| (report.stored * PAGE as u64) as f64 / report.stored_bytes as f64)
}

fn density(step: &Step) -> Option<f64> {
    (step.live_bytes > 0 && step.growth_bytes > 0).then(|| step.density())
}

fn nanoseconds_each(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_nanos() as f64 / count as f64)
}

fn microseconds_per_page(time: Duration, pages: u64) -> Option<f64> {
    nanoseconds_each(time, pages).map(|nanoseconds| nanoseconds / 1e3)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

fn or_dash(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// A number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn of_nothing_there_is_no_figure() {
        assert_eq!(or_dash(nanoseconds_each(Duration::ZERO, 0), 1), "-");
        assert_eq!(or_dash(microseconds_per_page(Duration::from_micros(3), 2), 3), "1.500");
    }
}
