//! Everything that needs x86-64.
//!
//! | module | what it does |
//! |---|---|
//! | `program` | what the guest runs, instruction by instruction |
//! | `model` | the same in plain Rust |
//! | `layout` | the layout of the guest's memory, and its page tables |
//! | `machine` | the virtual machine and its processors |
//! | `memory` | the guest's memory: its contents, and whether they are right at the end |
//! | `watch` | the thread that samples resident memory |
//! | `data`, `proc` | pages of real programs, and resident memory: shared with the example `userswap` |
//! | `table` | prints the results |

use super::{Args, MIB, PAGE, Problem, Result};

#[path = "../../userswap/data.rs"]
mod data;
mod layout;
mod machine;
mod memory;
mod model;
#[allow(dead_code, reason = "userswap has use for more of it")]
#[path = "../../userswap/proc.rs"]
mod proc;
mod program;
mod table;
mod watch;

pub use self::table::table;

use self::layout::Layout;
use self::machine::{Machine, Processor, Said};
use self::memory::{Memory, Wrong};
use self::proc::Process;
use self::watch::Watched;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use zsalloc::{Backing, Duty, Error, Eviction, FaultMode, Pager, PagerOptions, PagerSnapshot, RegionOptions};

/// All results.
pub struct Report {
    args: Args,
    /// Number of pages that the guest worked on, of different ones among them, and of files they came from.
    pages: (u64, usize, usize),
    watched: Watched,
    /// The pager's statistics when the guest was done.
    snapshot: PagerSnapshot,
    /// Times to fill the memory, to run the guest, and to compare.
    times: [Duration; 3],
    /// Pages that the guest gave back.
    given_back: u64,
    /// The last checksum of each processor.
    checksums: Vec<u64>,
    wrong: Wrong,
}

impl Report {
    /// Returns whether every checksum and page was right, and the limit held.
    pub fn is_well(&self) -> bool {
        self.wrong == Wrong::default() && self.limit_held()
    }

    /// Returns whether the limit held in every sample.
    fn limit_held(&self) -> bool {
        self.watched.looks > 0 && self.watched.private <= self.allowed()
    }

    /// Returns how many bytes of private memory are allowed: the limit, 2 % and 1 MiB.
    fn allowed(&self) -> u64 {
        self.args.limit + self.args.limit / 50 + MIB
    }
}

/// Runs everything, and returns the results.
pub fn run(args: &Args) -> Result<Report> {
    let machine = Machine::new()?;
    let memory = Memory::new(args)?;
    let pager = pager(args)?;
    // They are given back when this function ends, whatever happens in between.
    let lent = [Duty::Serve, Duty::Serve, Duty::Evict].map(|duty| pager.lend(duty));
    let lent: std::result::Result<Vec<_>, _> = lent.into_iter().collect();
    let _lent = lent.map_err(|error| failed("a lent thread", error))?;
    let (at, bytes) = memory.range();
    // SAFETY: the memory is used through these addresses alone, and unmapped after the region is removed.
    let region = unsafe { pager.add_region(at as *mut u8, bytes, &RegionOptions::default()) };
    let mut region = region.map_err(|error| failed("the region", error))?;
    let report = work(args, machine, &memory, &pager);
    // SAFETY: the guest has ended, and its memory was compared: nothing reads it any more.
    let removed = unsafe { region.remove_discarding() };
    removed.map_err(|error| failed("removing the region", error))?;
    report
}

/// Fills the memory, runs the guest, and compares.
fn work(args: &Args, machine: Machine, memory: &Memory, pager: &Pager) -> Result<Report> {
    let before = Process::now()?.anonymous;
    let (stop, staging) = (AtomicBool::new(false), pager.staging_range());
    let begin = Instant::now();
    let (ran, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch::watch(memory.range(), (staging.start, staging.len()), before, &stop));
        let ran = memory
            .fill()
            .map(|()| begin.elapsed())
            .and_then(|filled| Ok((filled, guest(args, machine, memory, pager)?)));
        stop.store(true, Relaxed);
        (ran, watcher.join())
    });
    let (filled, outcomes) = ran?;
    let watched = watched.map_err(|_| Problem::Failed("the thread that looks panicked".to_owned()))??;
    let ended = begin.elapsed();
    let snapshot = pager.snapshot().map_err(|error| failed("statistics", error))?;
    let said: Vec<_> = outcomes.iter().map(|outcome| outcome.checksums.clone()).collect();
    let wrong = memory.compare(&said)?;
    Ok(Report {
        args: args.clone(),
        pages: memory.source(),
        watched,
        snapshot,
        times: [filled, ended - filled, begin.elapsed() - ended],
        given_back: outcomes.iter().map(|outcome| outcome.given_back).sum(),
        checksums: said.iter().filter_map(|checksums| checksums.last().copied()).collect(),
        wrong,
    })
}

/// Results of a processor of the guest.
#[derive(Default)]
struct Outcome {
    /// Its checksum after each pass.
    checksums: Vec<u64>,
    /// Pages that it gave back.
    given_back: u64,
}

/// Runs the guest to its end, and drops the machine.
fn guest(args: &Args, machine: Machine, memory: &Memory, pager: &Pager) -> Result<Vec<Outcome>> {
    // SAFETY: the memory outlives this function, and machine and processors do not.
    unsafe { machine.set_memory(memory.mapping()) }?;
    let layout = Layout::new(args.memory);
    let processors =
        (0..args.processors).map(|number| machine.processor(number, layout.orders_at(number), layout.device()));
    let processors = processors.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let begin = |(number, processor)| scope.spawn(move || follow(args, processor, number, memory, pager));
        let threads: Vec<_> = processors.into_iter().enumerate().map(begin).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, Result<Outcome>>| match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(Problem::Failed("a processor's thread panicked".to_owned())),
        };
        // All threads have ended before the first error is reported.
        threads.into_iter().map(ended).collect::<Vec<_>>().into_iter().collect()
    })
}

/// Runs a processor, and does what its messages ask for.
fn follow(args: &Args, processor: Processor, number: usize, memory: &Memory, pager: &Pager) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    processor.run(|said| {
        match said {
            Said::Pass(pass) if pass == outcome.checksums.len() as u64 => {
                outcome.checksums.push(memory.checksum(number)?);
            }
            Said::End => {}
            Said::Pass(pass) => return Err(Problem::Failed(format!("the guest's pass {pass} came out of turn"))),
            Said::Balloon(first) => {
                let (at, bytes) = memory.balloon(number, first)?;
                // With eviction in place the pager is not told of madvise().
                let through_pager = args.evict_in_place || outcome.checksums.len().is_multiple_of(2);
                give_back(pager, at, bytes, through_pager)?;
                outcome.given_back += (bytes / PAGE) as u64;
            }
        }
        Ok(())
    })?;
    Ok(outcome)
}

/// Gives pages back that the guest does not need: through the pager, or as a program would that knows of none.
fn give_back(pager: &Pager, at: usize, bytes: usize, through_pager: bool) -> Result<()> {
    if through_pager {
        // SAFETY: the guest has said that it does not need them.
        return unsafe { pager.discard(at as *mut u8, bytes) }.map_err(|error| failed("a discard", error));
    }
    // SAFETY: the guest has said that it does not need them.
    match unsafe { libc::madvise(at as *mut _, bytes, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(Problem::Failed(format!("madvise of a range: {}", std::io::Error::last_os_error()))),
    }
}

fn pager(args: &Args) -> Result<Pager> {
    let mut options = PagerOptions {
        resident_bytes: Some(args.limit),
        // KVM touches the memory inside the kernel, where SIGBUS can't be handled.
        fault_mode: FaultMode::Threads,
        ..PagerOptions::default()
    };
    // The guest also gives memory back by madvise(), which the pager is told of only if it moves pages.
    options.eviction = if args.evict_in_place { Eviction::InPlace } else { Eviction::MovingBesideSwap };
    // The system counts memory files separately, so that its private memory is only the guest's and the staging range.
    options.tuning.zswap.pool.backing = Backing::MemoryFile;
    Pager::new("kvm_guest", &options).map_err(|error| match error {
        Error::System { errno: libc::EPERM | libc::EACCES | libc::ENOSYS, .. } => {
            Problem::Missing(format!("no userfaultfd that serves KVM's touches: {error}"))
        }
        error => failed("no pager", error),
    })
}

fn failed(what: &str, error: Error) -> Problem {
    Problem::Failed(format!("{what}: {error}"))
}
