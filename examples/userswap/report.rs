//! The whole run, and its results.

use super::args::Args;
use super::data::Data;
use super::display;
use super::latency::Counted;
use super::memory::Memory;
use super::picks::Kind;
use super::proc;
use super::swap::Swap;
use super::watch::{Point, Watched, Watcher};
use super::workload::{Progress, Ran, Work};
use super::{Problem, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use zsalloc::{PagerSnapshot, PagerStats};

/// Results of one workload, with a limit and without.
pub struct Phase {
    /// The workload.
    pub kind: Kind,
    /// The run under the limit.
    pub swapped: Ran,
    /// The pager's statistics before and after.
    pub stats: (PagerStats, PagerStats),
    /// The run in memory without a limit.
    pub plain: Option<Ran>,
}

impl Phase {
    /// Returns the number of faults, as the pager counts them.
    pub fn faults(&self) -> u64 {
        self.stats.1.counts.faults - self.stats.0.counts.faults
    }
}

/// All results.
pub struct Report {
    /// The arguments of the run.
    pub args: Args,
    /// Number of different pages, and of files they came from.
    pub source: (usize, usize),
    /// Time to fill the memory.
    pub fill: Duration,
    /// Time to verify it.
    pub verify: Duration,
    /// Results of each workload.
    pub phases: Vec<Phase>,
    /// The pager's statistics after the last workload.
    pub held: PagerSnapshot,
    /// Resident memory after the last workload: region and staging range, as the system counts them.
    pub held_point: Point,
    /// What the watching thread saw.
    pub watched: Watched,
    /// How often a page was not right.
    pub wrong: u64,
}

/// Returns the names of the phases, in order.
pub fn phase_names(args: &Args) -> Vec<&'static str> {
    let mut names = vec!["fill"];
    names.extend(args.workloads.iter().map(|kind| kind.name()));
    names.push("verify");
    names
}

impl Report {
    /// Returns the slow touches of all workloads together.
    pub fn slow(&self) -> Counted {
        let mut all = self.phases.iter().map(|phase| phase.swapped.slow.clone());
        let first = all.next().expect("there is a workload");
        all.fold(first, |one, other| one.and(&other))
    }

    /// Returns the bytes that holding the memory costs: resident pages, the pool, and tables.
    pub fn cost(&self) -> u64 {
        let tables = self.tables();
        self.held_point.region + self.held_point.staged + self.held.zswap.zswap.pool_bytes + tables
    }

    /// Returns the bytes of tables outside the pool's memory.
    pub fn tables(&self) -> u64 {
        let zswap = &self.held.zswap.zswap;
        // zswap's metadata includes the pool's tables, which the pool's bytes include too. They count twice here, which
        // errs on the safe side.
        self.held.pager.table_bytes + zswap.metadata_bytes
    }

    /// Returns how many bytes of memory are held per byte that this costs.
    pub fn gained(&self) -> f64 {
        self.args.bytes() as f64 / self.cost() as f64
    }

    /// Returns a sentence for everything that went wrong.
    pub fn faults_found(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.wrong > 0 {
            found.push(format!("{} times a page did not hold what was written to it", self.wrong));
        }
        let mut over = |what: &str, most: u64, may: u64| {
            if most > may {
                found.push(format!("{what} had up to {most} bytes, but only {may} were allowed"));
            }
        };
        over("region and staging range", self.watched.most_resident, Watched::may_resident(&self.args));
        over("the process", self.watched.most_process, Watched::may_process(&self.args));
        found
    }

    /// Returns whether every page was right and the limits held.
    pub fn is_well(&self) -> bool {
        self.faults_found().is_empty()
    }
}

/// Runs all phases and returns the results.
pub fn measure(args: &Args) -> Result<Report> {
    let data = Data::open(args.pages)?;
    let memory = Memory::new(args.pages, &data)?;
    let owned = Swap::open(args)?;
    let swap = &owned;
    let progress = Progress::new();
    let lent = swap.lend()?;
    let region = swap.add(&memory)?;
    let watcher = Watcher::new(&memory, swap, &progress, args)?;
    let (stop, latest) = (AtomicBool::new(false), Mutex::new(Point::default()));
    let work = Work { memory: &memory, progress: &progress, args };
    let mut report = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watcher.run(&stop, &latest));
        let showing = scope.spawn(|| display::run(args, &progress, &stop, &latest));
        let done = limited(&work, swap, &latest);
        stop.store(true, Relaxed);
        let watched = watching.join().map_err(|_| Problem::Failed("the watcher panicked".to_owned()));
        let _ = showing.join();
        let done = done.and_then(|report| Ok(Report { watched: watched?, ..report }));
        let removed = Swap::remove(region);
        drop(lent);
        done.and_then(|report| removed.map(|()| report))
    })?;
    report.source = (data.pages(), data.files());
    drop(owned);
    plain(&work, &mut report);
    report.wrong = progress.wrong.load(Relaxed);
    Ok(report)
}

/// Fills the memory, runs the workloads under the limit, and verifies all pages.
fn limited(work: &Work, swap: &Swap, latest: &Mutex<Point>) -> Result<Report> {
    let fill = work.fill();
    let mut phases = Vec::new();
    for &kind in &work.args.workloads {
        work.progress.phase.fetch_add(1, Relaxed);
        let before = swap.pager.stats();
        let swapped = work.run(kind, Duration::from_secs_f64(work.args.seconds));
        phases.push(Phase { kind, swapped, stats: (before, swap.pager.stats()), plain: None });
    }
    let held = swap.pager.snapshot().map_err(|error| Problem::Failed(format!("no statistics: {error}")))?;
    let held_point = *latest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    work.progress.phase.fetch_add(1, Relaxed);
    let verify = work.verify();
    let (args, watched) = (work.args.clone(), Watched::default());
    Ok(Report { args, source: (0, 0), fill, verify, phases, held, held_point, watched, wrong: 0 })
}

/// Runs the same work in the same memory without a limit, if there is enough memory.
fn plain(work: &Work, report: &mut Report) {
    if proc::available() < work.args.bytes() + work.args.bytes() / 8 {
        return;
    }
    work.fill();
    for phase in &mut report.phases {
        phase.plain = Some(work.run(phase.kind, Duration::from_secs_f64(work.args.seconds / 4.0)));
    }
    work.verify();
}
