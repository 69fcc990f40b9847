//! The thread that samples resident memory every ten milliseconds, and checks the limits.

use super::args::Args;
use super::latency::Counted;
use super::memory::Memory;
use super::page_cache::PageCache;
use super::proc::{self, Mappings, Process};
use super::swap::Swap;
use super::workload::Progress;
use super::{MIB, PAGE, Result};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use zsalloc::Pager;

/// Time between two samples.
pub const EVERY: Duration = Duration::from_millis(10);
/// Samples per point of the picture.
const FOR_A_POINT: u32 = 10;
/// Time between two measurements of the other mappings.
const OTHERS_EVERY: Duration = Duration::from_secs(1);
/// A sample this near to the allowed bytes is measured again in detail: other mappings may have grown or shrunk since
/// they were measured, because each thread has a stack and a heap. Only the end of a workload frees much more than
/// this.
const NEAR: u64 = MIB / 2;
/// Maximum number of points. When it is reached, every second point is dropped, and new ones come half as often.
const MOST_POINTS: usize = 2000;

/// A moment of the run. Memory is in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Point {
    /// Seconds since the beginning.
    pub seconds: f64,
    /// Number of the current phase.
    pub phase: usize,
    /// Private memory beyond what other mappings had shortly before. If that is near to the allowed bytes: what region
    /// and staging range had right after.
    pub resident: u64,
    /// Bytes of the region in memory.
    pub region: u64,
    /// Bytes of the staging range in memory.
    pub staged: u64,
    /// Bytes of the whole process.
    pub process: u64,
    /// Bytes of the pool, by its own count.
    pub compressed: u64,
    /// Bytes of the pages on tiers, by the pager's own count.
    pub file: u64,
    /// Touches per second since the last point.
    pub operations: f64,
    /// Faults per second since the last point, as the pager counts them.
    pub faults: f64,
    /// Median time of slow touches since the last point, in microseconds.
    pub p50: Option<f64>,
    /// Time that 99 of 100 slow touches did not exceed.
    pub p99: Option<f64>,
}

/// What the thread saw.
#[derive(Clone, Default, Debug)]
pub struct Watched {
    /// Points over time.
    pub points: Vec<Point>,
    /// Number of samples.
    pub looks: u64,
    /// Time that all samples together took.
    pub looking: Duration,
    /// The longest time between two samples.
    pub longest_gap: Duration,
    /// The most private bytes of mappings other than the region and the staging range.
    pub most_others: u64,
    /// The most bytes of region and staging range.
    pub most_resident: u64,
    /// How often samples were near to the allowed bytes or above them, and were measured in detail.
    pub counted: u64,
    /// The most bytes of the process.
    pub most_process: u64,
    /// The most bytes of the tiers' files in the page cache. `None`: there are no tiers, or the system does not
    /// tell.
    pub most_cached: Option<u64>,
    /// How the pages in the page cache were counted.
    pub cached_by: &'static str,
}

impl Watched {
    /// Returns how many bytes region and staging range may have together.
    pub fn may_resident(args: &Args) -> u64 {
        args.limit + args.limit / 50 + MIB
    }

    /// Returns how many bytes the process may have.
    pub fn may_process(args: &Args) -> u64 {
        let both = args.limit + args.pool_limit;
        both + both / 20 + 16 * MIB
    }
}

/// Returns how many bytes region and staging range had when all private memory was sampled. All mappings are measured
/// after that, which takes a while in which pages come and go; what other mappings had before is known. What they had
/// at the moment of the sample is taken to lie between the two. So the later measurement counts as far as it is
/// possible. An excess that exists whatever the others had stays an excess, even if it has gone meanwhile; and pages
/// that were counted twice because they moved make no excess.
fn judged(private: u64, before: [u64; 2], after: Mappings) -> u64 {
    let least = before[0].min(before[1]).min(after.others);
    let most = before[0].max(before[1]).max(after.others);
    after.inside.clamp(private.saturating_sub(most), private.saturating_sub(least))
}

/// State of the watching thread.
pub struct Watcher<'a> {
    region: Range<usize>,
    staging: Range<usize>,
    pager: &'a Pager,
    progress: &'a Progress,
    cache: PageCache,
    entries: Vec<u8>,
    /// Private bytes of other mappings in the last two measurements, and the time of the last one.
    others: ([u64; 2], Instant),
    /// The phase of the last sample.
    phase: usize,
    may: u64,
    begin: Instant,
    every: u32,
    last: (Instant, u64, u64, Counted),
    seen: Watched,
}

impl<'a> Watcher<'a> {
    /// Begins to watch.
    pub fn new(memory: &Memory<'_>, swap: &'a Swap, progress: &'a Progress, args: &Args) -> Result<Self> {
        let (pager, cache) = (&swap.pager, swap.page_cache()?);
        let (begin, none) = (Instant::now(), progress.latencies.read());
        let range = |at: usize, bytes: usize| at..at + bytes;
        let region = range(memory.at() as usize, memory.pages() * PAGE);
        let staging = pager.staging_range();
        Process::now()?;
        let others = ([proc::mappings(&[&region, &staging]).others; 2], begin);
        let (phase, may, entries) = (0, Watched::may_resident(args), vec![0; memory.pages()]);
        let seen = Watched { cached_by: cache.means(), ..Watched::default() };
        let (last, every) = ((begin, 0, 0, none), FOR_A_POINT);
        Ok(Self { region, staging, pager, progress, cache, entries, others, phase, may, begin, every, last, seen })
    }

    /// Samples until `stop` is set. The display reads the latest point.
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
            // The threads of the last phase are gone, with their memory.
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
        if self.cache.is_quick() {
            self.look_at_cache();
        }
        let all = process.anonymous + process.shared;
        let seen = &mut self.seen;
        seen.looks += 1;
        seen.most_resident = seen.most_resident.max(resident);
        seen.most_process = seen.most_process.max(all);
        Point { resident, process: all, ..Point::default() }
    }

    fn look_at_cache(&mut self) {
        self.seen.most_cached = self.seen.most_cached.max(self.cache.bytes());
    }

    fn mappings(&mut self) -> Mappings {
        let found = proc::mappings(&[&self.region, &self.staging]);
        self.others.1 = Instant::now();
        self.seen.most_others = self.seen.most_others.max(found.others);
        found
    }

    /// Adds the library's own counts, and the progress of the threads.
    fn complete(&mut self, mut point: Point) -> Point {
        point.staged = proc::resident(&self.staging, &mut self.entries);
        point.region = proc::resident(&self.region, &mut self.entries);
        if !self.cache.is_quick() {
            self.look_at_cache();
        }
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
    fn growth_of_other_mappings_is_not_an_excess() {
        let after = |inside, others| Mappings { inside, others };
        // Threads came, and the others grew from 10 to 15.
        assert_eq!(judged(115, [10, 10], after(100, 15)), 100);
        // Pages were dropped before they were counted. The part that other mappings can't have had was there.
        assert_eq!(judged(135, [10, 11], after(90, 15)), 120);
        // Threads ended, and the others shrank from 15 to 10: 105 were there, and still are.
        assert_eq!(judged(115, [15, 15], after(105, 10)), 105);
        // Pages moved while they were counted, and were counted twice.
        assert_eq!(judged(110, [10, 10], after(130, 10)), 100);
    }
}
