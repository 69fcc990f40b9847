//! The thread that looks every ten milliseconds at what the system says is resident, and whether the limits held.

use super::args::Args;
use super::latency::Counted;
use super::memory::Memory;
use super::proc::{self, Mappings, Process};
use super::workload::Progress;
use super::{MIB, PAGE, Result};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use zsalloc::Pager;

/// How often it looks.
pub const EVERY: Duration = Duration::from_millis(10);
/// How many looks there are for a point of the picture.
const FOR_A_POINT: u32 = 10;
/// How often it looks what other mappings have.
const OTHERS_EVERY: Duration = Duration::from_secs(1);
/// A look that comes so near to what is allowed is not believed: other mappings may have grown or shrunk since they
/// were looked at, for each thread has a stack and a heap. Much more than that is not freed but at the end of a
/// workload.
const NEAR: u64 = MIB / 2;
/// Most points that are kept; then every second goes, and new ones are half as often.
const MOST_POINTS: usize = 2000;

/// What was at one moment; memory in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Point {
    /// Since the beginning.
    pub seconds: f64,
    /// What was done.
    pub phase: usize,
    /// Of private memory, beyond what other mappings had a little before; if that is near to what is allowed, what the
    /// region and the staging range had straight after.
    pub resident: u64,
    /// Of the region, in memory.
    pub region: u64,
    /// Of the staging range, in memory.
    pub staged: u64,
    /// Of the whole process.
    pub process: u64,
    /// Of the pool: its own count.
    pub compressed: u64,
    /// On the backing file: its own count.
    pub file: u64,
    /// Touches per second since the last point.
    pub operations: f64,
    /// Faults per second since the last point, as the pager counts them.
    pub faults: f64,
    /// How long the slow touches since the last point took, in microseconds.
    pub p50: Option<f64>,
    /// 99 of 100 of them took no longer.
    pub p99: Option<f64>,
}

/// What it saw.
#[derive(Clone, Default, Debug)]
pub struct Watched {
    /// Over time.
    pub points: Vec<Point>,
    /// How often it looked.
    pub looks: u64,
    /// How long a look took, all together.
    pub looking: Duration,
    /// The longest time between two looks.
    pub longest_gap: Duration,
    /// The most private bytes of mappings other than those of the region and the staging range.
    pub most_others: u64,
    /// The most bytes of the region and the staging range.
    pub most_resident: u64,
    /// How often they were near to what is allowed, or above it, and were counted by themselves.
    pub counted: u64,
    /// The most bytes of the process.
    pub most_process: u64,
}

impl Watched {
    /// What the region and the staging range may have together.
    pub fn may_resident(args: &Args) -> u64 {
        args.limit + args.limit / 50 + MIB
    }

    /// What the process may have.
    pub fn may_process(args: &Args) -> u64 {
        let both = args.limit + args.pool_limit;
        both + both / 20 + 16 * MIB
    }
}

/// What the region and the staging range had when all private memory was looked at. All mappings are counted after
/// that, which takes a while in which pages come and go, and what other mappings had before is known: what they had at
/// the moment itself is taken to be between the two. So what was counted afterwards is believed as far as it is
/// possible: what is above the limit however much the others had stays an excess though it went meanwhile, and pages
/// that were counted twice since they moved make none.
fn judged(private: u64, before: [u64; 2], after: Mappings) -> u64 {
    let least = before[0].min(before[1]).min(after.others);
    let most = before[0].max(before[1]).max(after.others);
    after.inside.clamp(private.saturating_sub(most), private.saturating_sub(least))
}

/// The thread's.
pub struct Watcher<'a> {
    region: Range<usize>,
    staging: Range<usize>,
    pager: &'a Pager,
    progress: &'a Progress,
    entries: Vec<u8>,
    /// Private bytes of other mappings, the last two times, and when that was.
    others: ([u64; 2], Instant),
    /// What was done then.
    phase: usize,
    may: u64,
    begin: Instant,
    every: u32,
    last: (Instant, u64, u64, Counted),
    seen: Watched,
}

impl<'a> Watcher<'a> {
    /// It begins now.
    pub fn new(memory: &Memory<'_>, pager: &'a Pager, progress: &'a Progress, args: &Args) -> Result<Self> {
        let (begin, none) = (Instant::now(), progress.latencies.read());
        let range = |at: usize, bytes: usize| at..at + bytes;
        let region = range(memory.at() as usize, memory.pages() * PAGE);
        let (at, bytes) = pager.staging_range();
        let staging = range(at, bytes);
        Process::now()?;
        let others = ([proc::mappings(&[&region, &staging]).others; 2], begin);
        let (phase, may, entries) = (0, Watched::may_resident(args), vec![0; memory.pages()]);
        let (last, seen, every) = ((begin, 0, 0, none), Watched::default(), FOR_A_POINT);
        Ok(Self { region, staging, pager, progress, entries, others, phase, may, begin, every, last, seen })
    }

    /// Looks until it is to stop. The latest point is for the display.
    pub fn run(mut self, stop: &AtomicBool, latest: &Mutex<Point>) -> Watched {
        proc::go_first();
        let (mut next, mut before) = (Instant::now(), Instant::now());
        let mut until_point = 0;
        while !stop.load(Relaxed) {
            let begin = Instant::now();
            self.seen.longest_gap = self.seen.longest_gap.max(begin - before);
            before = begin;
            let point = self.look();
            if until_point == 0 {
                until_point = self.every;
                let point = self.complete(point);
                self.keep(point);
                *latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = point;
            }
            until_point -= 1;
            self.seen.looking += begin.elapsed();
            next = (next + EVERY).max(Instant::now());
            std::thread::sleep(next - Instant::now());
        }
        self.seen
    }

    fn look(&mut self) -> Point {
        let phase = self.progress.phase.load(Relaxed);
        if phase != self.phase {
            // The threads of what was done before are gone, and what they had.
            self.phase = phase;
            self.others.0 = [self.mappings().others; 2];
        }
        let process = Process::now().unwrap_or_default();
        let mut resident = process.anonymous.saturating_sub(self.others.0[0].min(self.others.0[1]));
        if resident > self.may.saturating_sub(NEAR) {
            let now = self.mappings();
            resident = judged(process.anonymous, self.others.0, now);
            self.others.0 = [now.others; 2];
            self.seen.counted += 1;
        }
        let all = process.anonymous + process.shared;
        let seen = &mut self.seen;
        seen.looks += 1;
        seen.most_resident = seen.most_resident.max(resident);
        seen.most_process = seen.most_process.max(all);
        Point { resident, process: all, ..Point::default() }
    }

    fn mappings(&mut self) -> Mappings {
        let found = proc::mappings(&[&self.region, &self.staging]);
        self.others.1 = Instant::now();
        self.seen.most_others = self.seen.most_others.max(found.others);
        found
    }

    /// Adds what the library counts, and what the threads do.
    fn complete(&mut self, mut point: Point) -> Point {
        point.staged = proc::resident(&self.staging, &mut self.entries);
        point.region = proc::resident(&self.region, &mut self.entries);
        if self.others.1.elapsed() >= OTHERS_EVERY {
            self.others.0 = [self.others.0[1], self.mappings().others];
        }
        let now = Instant::now();
        if let Ok(snapshot) = self.pager.snapshot() {
            let zswap = &snapshot.zswap.zswap;
            (point.compressed, point.file) = (zswap.pool_bytes, zswap.counts.file_pages * PAGE as u64);
            let (operations, faults) = (self.progress.operations.load(Relaxed), snapshot.pager.counts.faults);
            let latencies = self.progress.latencies.read();
            let (then, operations_then, faults_then, latencies_then) = &self.last;
            let seconds = (now - *then).as_secs_f64().max(1e-3);
            point.operations = (operations - operations_then) as f64 / seconds;
            point.faults = (faults - faults_then) as f64 / seconds;
            let new = latencies.since(latencies_then);
            (point.p50, point.p99) = (new.permille(500), new.permille(990));
            self.last = (now, operations, faults, latencies);
        }
        point.seconds = (now - self.begin).as_secs_f64();
        point.phase = self.progress.phase.load(Relaxed);
        point
    }

    fn keep(&mut self, point: Point) {
        self.seen.points.push(point);
        if self.seen.points.len() >= MOST_POINTS {
            let mut kept = false;
            self.seen.points.retain(|_| {
                kept = !kept;
                kept
            });
            self.every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_mappings_have_is_no_excess_and_an_excess_is_not_hidden() {
        let after = |inside, others| Mappings { inside, others };
        // Threads came, and the others grew from 10 to 15.
        assert_eq!(judged(115, [10, 10], after(100, 15)), 100);
        // Pages were dropped before they were counted: what can't have been of the others was there.
        assert_eq!(judged(135, [10, 11], after(90, 15)), 120);
        // Threads went, and the others shrank from 15 to 10: 105 were there, and are.
        assert_eq!(judged(115, [15, 15], after(105, 10)), 105);
        // Pages moved while they were counted, and were counted twice.
        assert_eq!(judged(110, [10, 10], after(130, 10)), 100);
    }
}
