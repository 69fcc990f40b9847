//! The threads that fill, touch and verify.

use super::args::Args;
use super::latency::{Counted, Latencies};
use super::memory::Memory;
use super::picks::{Kind, Picks};
use super::random::Random;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Touches that take no longer than this found their page in memory.
pub const FAULT_NANOSECONDS: u64 = 1000;
/// Pages that a thread fills or verifies at a time.
const AT_ONCE: usize = 64;
/// Operations after which a thread reports progress.
const TELL: u64 = 64;

/// Progress of the run: the working threads write it, the others show it.
pub struct Progress {
    /// Number of the current phase.
    pub phase: AtomicUsize,
    /// Pages filled, touched or verified.
    pub operations: AtomicU64,
    /// How often a page was not right.
    pub wrong: AtomicU64,
    /// Times of touches that took longer than a touch of a page in memory.
    pub latencies: Latencies,
}

impl Progress {
    /// Creates the state before the first phase.
    pub fn new() -> Self {
        let (operations, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { phase: AtomicUsize::new(0), operations, wrong, latencies: Latencies::new() }
    }
}

/// Results of a workload.
pub struct Ran {
    /// Pages touched.
    pub operations: u64,
    /// Duration.
    pub time: Duration,
    /// Times of slow touches.
    pub slow: Counted,
}

impl Ran {
    /// Returns touches per second.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }
}

/// What the threads work on.
pub struct Work<'a> {
    /// The memory to work on.
    pub memory: &'a Memory<'a>,
    /// Where the threads report progress.
    pub progress: &'a Progress,
    /// The arguments of the run.
    pub args: &'a Args,
}

impl Work<'_> {
    /// Fills all pages. Returns how long that took.
    pub fn fill(&self) -> Duration {
        self.each(|page| self.memory.fill(page))
    }

    /// Compares every byte of all pages. Returns how long that took.
    pub fn verify(&self) -> Duration {
        self.each(|page| {
            if !self.memory.is_right(page) {
                self.progress.wrong.fetch_add(1, Relaxed);
            }
        })
    }

    fn each(&self, what: impl Fn(usize) + Sync) -> Duration {
        let (begin, next, pages) = (Instant::now(), AtomicUsize::new(0), self.memory.pages());
        let some = || {
            let first = next.fetch_add(AT_ONCE, Relaxed);
            let end = (first + AT_ONCE).min(pages);
            (first..end).for_each(&what);
            self.progress.operations.fetch_add(end.saturating_sub(first) as u64, Relaxed);
            first < pages
        };
        std::thread::scope(|scope| (0..self.args.threads).for_each(|_| _ = scope.spawn(|| while some() {})));
        begin.elapsed()
    }

    /// Runs a workload for `time`.
    pub fn run(&self, kind: Kind, time: Duration) -> Ran {
        let picks = Picks::new(kind, self.memory.pages(), self.args.seed);
        let (before, slow) = (self.progress.operations.load(Relaxed), self.progress.latencies.read());
        let (begin, stop) = (Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for thread in 0..self.args.threads {
                let (picks, stop) = (&picks, &stop);
                scope.spawn(move || self.touch(picks, thread, stop));
            }
            std::thread::sleep(time);
            stop.store(true, Relaxed);
        });
        Ran {
            operations: self.progress.operations.load(Relaxed) - before,
            time: begin.elapsed(),
            slow: self.progress.latencies.read().since(&slow),
        }
    }

    fn touch(&self, picks: &Picks, thread: usize, stop: &AtomicBool) {
        let mut next = picks.thread(thread, self.args.threads, self.args.seed);
        let mut random = Random(self.args.seed ^ (thread as u64) << 32);
        let mut untold = 0;
        while !stop.load(Relaxed) {
            let (page, writes) = (next(), random.below(100) < self.args.writes);
            let begin = Instant::now();
            let right = if writes { self.memory.write(page) } else { self.memory.read(page) };
            let time = begin.elapsed().as_nanos() as u64;
            if time > FAULT_NANOSECONDS {
                self.progress.latencies.add(time);
            }
            if !right {
                self.progress.wrong.fetch_add(1, Relaxed);
            }
            untold += 1;
            if untold == TELL {
                self.progress.operations.fetch_add(untold, Relaxed);
                untold = 0;
            }
        }
        self.progress.operations.fetch_add(untold, Relaxed);
    }
}
