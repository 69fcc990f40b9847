//! Times of operations. Each allocator is in a process of its own, with its settings, and these processes take turns in
//! many short rounds: what else the machine does falls on all of them.

use crate::common::kinds::{Kind, send_sizes, sizes_from_parent, this_program};
use crate::common::peers::Peer;
use crate::common::workloads::{self, Live};
use crate::common::{give_up, median, option};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

/// What one round of a row does, and what its time is of.
#[derive(Clone, Copy)]
pub enum Work {
    /// Allocates and frees objects of one size.
    Pairs(usize),
    /// Replaces random ones of many objects by objects of other sizes.
    Replace,
    /// Allocates in one thread and frees in another.
    FreeElsewhere,
    /// Frees half of all objects, and has the allocator give memory back to the system.
    GiveBack,
}

/// A line of the table.
pub struct Row {
    /// Name on the command line of a child.
    pub name: &'static str,
    /// Name in the table.
    pub title: &'static str,
    pub work: Work,
}

const fn row(name: &'static str, title: &'static str, work: Work) -> Row {
    Row { name, title, work }
}

/// All lines of operations.
pub const ROWS: [Row; 5] = [
    row("pair", "malloc+free, 1500 bytes", Work::Pairs(1500)),
    row("small", "malloc+free, 64 bytes", Work::Pairs(64)),
    row("replace", "replace a random object: free it, allocate another size", Work::Replace),
    row("elsewhere", "malloc, and free by another thread", Work::FreeElsewhere),
    row("give-back", "give memory back after half of the objects was freed", Work::GiveBack),
];

/// How much is done.
#[derive(Clone, Copy)]
pub struct Scale {
    pub rounds: usize,
    /// Operations of a round.
    pub operations: u64,
    /// Objects among which one is replaced.
    pub objects: usize,
    /// Bytes of objects of which half are freed.
    pub bytes: u64,
}

impl Scale {
    /// Returns the scale of a run that only tries the benchmark out, or of one that people read.
    pub fn of(is_quick: bool) -> Self {
        match is_quick {
            true => Self { rounds: 5, operations: 1000, objects: 5000, bytes: 4 << 20 },
            false => Self { rounds: 100, operations: 20_000, objects: 200_000, bytes: 64 << 20 },
        }
    }
}

/// What an allocator did in a round.
#[derive(Clone, Copy, Default)]
pub struct Round {
    /// Nanoseconds for each operation, or for all that was given back.
    pub time: f64,
    /// Bytes that the system got back.
    pub given_back: f64,
}

fn timed(count: u64, run: impl FnOnce(u64)) -> Round {
    let start = Instant::now();
    run(count);
    Round { time: start.elapsed().as_nanos() as f64 / count as f64, given_back: 0.0 }
}

/// Lets this process use all processors, so that two threads run at once although the parent is on one.
fn use_all_processors() {
    // SAFETY: all zero is a valid `cpu_set_t`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: `set` has the size that is passed. A refusal leaves the thread where it is.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

/// Prepares what a round repeats.
fn prepare<'a, P: Peer>(peer: &'a P, sizes: &'a [u16], work: Work, scale: Scale) -> Box<dyn FnMut() -> Round + 'a> {
    let count = scale.operations;
    match work {
        Work::Pairs(size) => Box::new(move || timed(count, |count| workloads::pairs(peer, size, count))),
        Work::Replace => {
            let mut live = Live::new(peer, sizes, scale.objects);
            live.replace(2 * scale.objects as u64);
            Box::new(move || {
                // Warms the caches up again after the other allocators' rounds.
                live.replace(count);
                timed(count, |count| live.replace(count))
            })
        }
        Work::FreeElsewhere => {
            use_all_processors();
            Box::new(move || {
                workloads::free_elsewhere(peer, sizes, count);
                let (took, done) = workloads::free_elsewhere(peer, sizes, 2 * count);
                Round { time: took.as_nanos() as f64 / done as f64, given_back: 0.0 }
            })
        }
        Work::GiveBack => Box::new(move || {
            let (took, pages) = workloads::give_back::<P>(sizes, scale.bytes);
            Round { time: took.as_nanos() as f64, given_back: pages as f64 * 4096.0 }
        }),
    }
}

/// Runs a round for each line of the standard input, in a process that [`compare`] started.
pub fn serve<P: Peer>(row: &str, scale: Scale) {
    let count = option("--sizes").and_then(|count| count.parse().ok());
    let mut sizes = vec![0; count.unwrap_or_else(|| give_up("--sizes needs a number"))];
    sizes_from_parent(&mut sizes);
    let row = ROWS.iter().find(|known| known.name == row);
    let row = row.unwrap_or_else(|| give_up("--turns needs the name of a row"));
    let peer = P::new();
    let mut run = prepare(&peer, &sizes, row.work, scale);
    for _ in std::io::stdin().lines() {
        let round = run();
        println!("{} {}", round.time, round.given_back);
    }
}

/// A process with an allocator of its own, which runs a round when it is told to.
struct Runner {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Runner {
    fn start(kind: &Kind, row: &Row, sizes: &[u16], is_quick: bool) -> Self {
        let mut child = this_program(kind)
            .args(["--turns", kind.name, "--row", row.name, "--sizes", &sizes.len().to_string()])
            .args(is_quick.then_some("--quick"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| give_up(&format!("the measuring process did not start: {error}")));
        let mut input = child.stdin.take().expect("piped");
        send_sizes(&mut input, sizes);
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input: Some(input), output }
    }

    fn round(&mut self) -> Round {
        let input = self.input.as_mut().expect("open until this is dropped");
        input.write_all(b"\n").expect("the child waits for its turn");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the child answers");
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [time, given_back] = numbers[..] else { give_up("a measuring process failed") };
        Round { time, given_back }
    }
}

impl Drop for Runner {
    /// Ends the process: it has nothing to read any more.
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// What the allocators did in all rounds.
pub struct Compared {
    /// The medians of each allocator.
    pub medians: Vec<Round>,
    /// The first one's time over that of each: medians of the rounds' own ratios.
    pub ratios: Vec<f64>,
}

/// Has the allocators take turns at one row.
pub fn compare(kinds: &[&Kind], row: &Row, sizes: &[u16], is_quick: bool) -> Compared {
    let scale = Scale::of(is_quick);
    let rounds = if matches!(row.work, Work::GiveBack) { scale.rounds.div_ceil(5) } else { scale.rounds };
    // The first tenth of the rounds warms up, and its results are dropped.
    let dropped = rounds.div_ceil(10);
    let mut runners: Vec<_> = kinds.iter().map(|kind| Runner::start(kind, row, sizes, is_quick)).collect();
    let mut found: Vec<Vec<Round>> = vec![Vec::new(); runners.len()];
    for round in 0..rounds + dropped {
        for turn in 0..runners.len() {
            // A different allocator comes first in each round.
            let who = (round + turn) % runners.len();
            let result = runners[who].round();
            if round >= dropped {
                found[who].push(result);
            }
        }
    }
    let of = |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let medians = found
        .iter()
        .map(|rounds| Round { time: of(rounds, |round| round.time), given_back: of(rounds, |round| round.given_back) });
    let ratio = |theirs: &Vec<Round>| {
        let pairs = found[0].iter().zip(theirs);
        median(pairs.map(|(ours, theirs)| ours.time / theirs.time).collect())
    };
    Compared { medians: medians.collect(), ratios: found.iter().map(ratio).collect() }
}
