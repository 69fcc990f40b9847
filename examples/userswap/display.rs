//! What a terminal shows during the run.

use super::args::Args;
use super::report::phase_names;
use super::watch::Point;
use super::workload::Progress;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Time between two frames.
const EVERY: Duration = Duration::from_millis(200);
/// Characters of a bar.
const BAR: usize = 40;
/// Lines of a frame.
const LINES: usize = 7;

/// Draws frames until `stop` is set, if standard output is a terminal; then erases the last one.
pub fn run(args: &Args, progress: &Progress, stop: &AtomicBool, latest: &Mutex<Point>) {
    let mut out = io::stdout();
    if args.quiet || !out.is_terminal() {
        return;
    }
    let names = phase_names(args);
    let mut drawn = false;
    while !stop.load(Relaxed) {
        let point = *latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = names.get(progress.phase.load(Relaxed)).unwrap_or(&"");
        let up = if drawn { format!("\x1b[{LINES}A") } else { String::new() };
        // An error means that the terminal is gone, which is no reason to end.
        let _ = write!(out, "{up}{}", frame(args, name, &point)).and_then(|()| out.flush());
        drawn = true;
        std::thread::sleep(EVERY);
    }
    if drawn {
        let _ = write!(out, "\x1b[{LINES}A\x1b[J").and_then(|()| out.flush());
    }
}

fn frame(args: &Args, name: &str, point: &Point) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let line = |what: &str, bytes: u64, of: u64| {
        let full = ((bytes as f64 / of.max(1) as f64 * BAR as f64).round() as usize).min(BAR);
        let bar = format!("{}{}", "#".repeat(full), " ".repeat(BAR - full));
        format!("{what:<12}[{bar}] {:>6} of {:>6} MiB\x1b[K\n", mib(bytes), mib(of))
    };
    let file = if args.tiers.is_empty() { 0 } else { args.bytes() };
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} us"));
    [
        format!("{name:<12}{:>5.0} s, {} MiB of memory\x1b[K\n", point.seconds, mib(args.bytes())),
        line("resident", point.resident, args.limit),
        line("  staged", point.staged, args.limit),
        line("compressed", point.compressed, args.pool_limit),
        line("on tiers", point.file, file),
        format!("{:>12.0} pages/s {:>12.0} faults/s\x1b[K\n", point.operations, point.faults),
        format!("slow touches: p50 {}, p99 {}\x1b[K\n", time(point.p50), time(point.p99)),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_as_many_lines_as_are_wiped_out() {
        let frame = frame(&Args::default(), "zipf", &Point { resident: 1 << 40, ..Point::default() });
        assert_eq!(frame.lines().count(), LINES);
    }
}
