//! A workload over memory that is four times as large as its limit. Runs in a process of its own.

use super::cgroup;
use super::child::{Numbers, Order};
use super::common::region::Region;
use super::common::sequences::WRITE;
use super::latency::{Counted, Latencies};
use super::sides::{Side, side};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use zsalloc::{Duty, PAGE_SIZE};

/// Bytes of page tables per page.
const TABLES: usize = 8;
/// A touch that takes more nanoseconds than this waited: for its page, or for a processor.
const WAITED: u64 = 1000;

/// Returns the processor seconds of this process, its faults that had to wait for the device, and how often a thread of
/// it went to sleep.
fn usage() -> (f64, f64, f64) {
    // SAFETY: all zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` may be written.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_majflt as f64, usage.ru_nvcsw as f64)
}

/// Touches pages, and counts the times of the touches that waited. Reads the clock once for each touch: some 25 ns.
fn touch(region: &Region, touches: &[u32]) -> Counted {
    let waited = Latencies::new();
    let mut last = Instant::now();
    for &touch in touches {
        let word = region.first((touch & !WRITE) as usize);
        if touch & WRITE != 0 {
            word.fetch_add(1, Relaxed);
        } else {
            black_box(word.load(Relaxed));
        }
        let now = Instant::now();
        let took = (now - last).as_nanos() as u64;
        if took > WAITED {
            waited.add(took);
        }
        last = now;
    }
    waited.read()
}

/// The touches of each thread, which the parent process made.
struct Sequences(Region, usize);

impl Sequences {
    fn of(&self, thread: usize) -> &[u32] {
        assert!((thread + 1) * self.1 * 4 <= self.0.bytes());
        // SAFETY: inside the mapping, which no process writes.
        unsafe { std::slice::from_raw_parts(self.0.base().cast::<u32>().add(thread * self.1), self.1) }
    }
}

/// Returns the counts before or after the measured part.
fn counts(side: &Side) -> Vec<(&'static str, f64)> {
    let (seconds, major, sleeps) = usage();
    let mut all = vec![("cpu", seconds), ("misses", major), ("sleeps", sleeps)];
    if let Side::Ours(lent) = side {
        let counts = lent.snapshot().pager.counts;
        all[1].1 = counts.loads as f64;
        all.extend([
            ("ahead", counts.loads_ahead as f64),
            ("rescues", counts.rescues as f64),
            ("staged", counts.staged as f64),
            ("stored", counts.stored as f64),
            ("dropped", counts.dropped as f64),
            ("first-writes", counts.first_writes as f64),
            ("direct", counts.direct_reclaims as f64),
            ("above", counts.over_limit as f64),
            ("retries", counts.retries as f64),
        ]);
    }
    all
}

/// Runs the workload, and returns its numbers.
pub fn measure(order: &Order) -> Result<Numbers, String> {
    let limit: usize = order.get("limit")?;
    let group: Option<PathBuf> = order.get("cgroup").ok();
    if let Some(group) = &group {
        cgroup::join(group)?;
    }
    let (data, region) = order.regions()?;
    let (threads, touches): (usize, usize) = (order.get("threads")?, order.get("touches")?);
    let file = Region::of_file(order.get("sequence")?, (threads * touches * 4).div_ceil(PAGE_SIZE))?;
    let sequences = Sequences(file, touches);
    let warm: usize = order.get("warm")?;
    let lends = order.get("lent").unwrap_or(1) != 0;
    let side = side(order, &region, limit, if lends { &[Duty::Serve, Duty::Evict] } else { &[] })?;
    if let Some(group) = &group {
        cgroup::limit_growth(group, (limit * PAGE_SIZE + region.pages() * TABLES) as u64)?;
    }
    region.fill(&data);
    let mut numbers = Numbers::new();
    let barrier = Barrier::new(threads + 1);
    let waited = std::thread::scope(|scope| {
        let run = |thread| {
            let (sequence, barrier, region) = (sequences.of(thread), &barrier, &region);
            scope.spawn(move || {
                touch(region, &sequence[..warm]);
                barrier.wait();
                barrier.wait();
                let waited = touch(region, &sequence[warm..]);
                barrier.wait();
                waited
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        barrier.wait();
        let before = counts(&side);
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        numbers.insert("seconds".into(), start.elapsed().as_secs_f64());
        for ((name, after), (_, before)) in counts(&side).into_iter().zip(before) {
            numbers.insert(name.into(), after - before);
        }
        let all = running.into_iter().map(|thread| thread.join().expect("the thread does not panic"));
        all.reduce(|one, other| one.and(&other)).expect("there is a thread")
    });
    for (name, permille) in [("waited-p50", 500), ("waited-p99", 990)] {
        numbers.insert(name.into(), waited.permille(permille).unwrap_or(0.0));
    }
    numbers.insert("resident".into(), side.resident(&region));
    numbers.insert("pool".into(), side.pool());
    numbers.insert("slots".into(), side.slots());
    let writes = (0..threads).flat_map(|thread| sequences.of(thread)).filter(|&&touch| touch & WRITE != 0).count();
    region.check(&data, writes as u64)?;
    Ok(numbers)
}
