//! Ratios to jemalloc and the system's malloc that hold on a busy machine. The allocators take turns in many short
//! rounds. Times are medians over the rounds; ratios are medians of each round's own ratio.

mod common;

use common::peers::{Jemalloc, Malloc, Peer, Zsalloc};
use common::workloads::{self, Live};
use common::{median, sizes};
use std::time::Instant;

const PEERS: usize = 3;
/// Runs one round of one allocator. Returns nanoseconds per operation.
type Round<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// How many rounds and operations to run.
struct Scale {
    rounds: usize,
    operations: u64,
    live: usize,
    compacted: u64,
}

const FULL: Scale = Scale { rounds: 100, operations: 20_000, live: 200_000, compacted: 64 << 20 };
const TRIAL: Scale = Scale { rounds: 3, operations: 200, live: 2000, compacted: 1 << 20 };

/// The three allocators, each of which several workloads use.
struct Peers(Zsalloc, Jemalloc, Malloc);

/// Runs the allocators in turns, and prints a line of the table. `unit` is the unit of the printed numbers in
/// nanoseconds.
fn compare(name: &str, rounds: usize, unit: f64, mut runs: [Round; PEERS]) {
    let mut times = [const { Vec::new() }; PEERS];
    // The first tenth of the rounds warms up, and its results are dropped.
    for round in 0..rounds + rounds.div_ceil(10) {
        for turn in 0..PEERS {
            // A different allocator comes first in each round.
            let who = (round + turn) % PEERS;
            let time = runs[who]() / unit;
            if round >= rounds.div_ceil(10) {
                times[who].push(time);
            }
        }
    }
    let ratio = |to: usize| median(times[0].iter().zip(&times[to]).map(|(ours, theirs)| ours / theirs).collect());
    let [ours, jemalloc, malloc] = [0, 1, 2].map(|who| median(times[who].clone()));
    println!("{name:<38}{ours:>9.2}{jemalloc:>10.2}{malloc:>9.2}{:>12.2}{:>10.2}", ratio(1), ratio(2));
}

/// Prints a line for an operation that only zsalloc has, because the others' objects never move.
fn alone(name: &str, rounds: usize, mut run: Round) {
    let time = median((0..rounds).map(|_| run()).collect());
    println!("{name:<38}{time:>9.2}{:>10}{:>9}{:>12}{:>10}", "-", "-", "-", "-");
}

/// Returns nanoseconds per operation of `count` operations.
fn timed(count: u64, run: impl FnOnce(u64)) -> f64 {
    let start = Instant::now();
    run(count);
    start.elapsed().as_nanos() as f64 / count as f64
}

fn pairs<P: Peer>(peer: &P, size: usize, count: u64) -> Round<'_> {
    Box::new(move || timed(count, |count| workloads::pairs(peer, size, count)))
}

fn map_one<P: Peer>(peer: &P, count: u64) -> Round<'_> {
    let token = peer.alloc(1500);
    Box::new(move || timed(count, |count| workloads::map_one(peer, token, count)))
}

fn on_live<'a, P: Peer + 'a>(mut live: Live<'a, P>, count: u64, run: fn(&mut Live<'a, P>, u64)) -> Round<'a> {
    Box::new(move || {
        // Warms the caches up again after the other allocators' rounds.
        run(&mut live, count);
        timed(count, |count| run(&mut live, count))
    })
}

fn free_elsewhere<'a, P: Peer>(peer: &'a P, sizes: &'a [u16], count: u64) -> Round<'a> {
    Box::new(move || {
        // Warms the caches up again.
        workloads::free_elsewhere(peer, sizes, count);
        let (took, done) = workloads::free_elsewhere(peer, sizes, count);
        took.as_nanos() as f64 / done as f64
    })
}

fn give_back<'a, P: Peer>(sizes: &'a [u16], bytes: u64) -> Round<'a> {
    Box::new(move || {
        let (took, pages) = workloads::give_back::<P>(sizes, bytes);
        took.as_nanos() as f64 / pages.max(1) as f64
    })
}

/// Compares the operations on many live objects. Each operation has objects of its own, all of which were replaced
/// about twice before.
fn compare_live(peers: &Peers, sizes: &[u16], scale: &Scale) {
    macro_rules! compare_on_live {
        ($name:expr, $run:ident) => {
            compare(
                $name,
                scale.rounds,
                1.0,
                [
                    on_live(churned(&peers.0, sizes, scale.live), scale.operations, Live::$run),
                    on_live(churned(&peers.1, sizes, scale.live), scale.operations, Live::$run),
                    on_live(churned(&peers.2, sizes, scale.live), scale.operations, Live::$run),
                ],
            );
        };
    }
    compare_on_live!("replace 1 of 200,000, written", replace);
    compare_on_live!("replace 1 of 200,000, not written", replace_unwritten);
    let map = on_live(churned(&peers.0, sizes, scale.live), scale.operations, Live::map);
    alone("map+unmap 1 of 200,000", scale.rounds, map);
    compare_on_live!("map+read a byte+unmap 1 of 200,000", read);
}

fn churned<'a, P: Peer>(peer: &'a P, sizes: &'a [u16], count: usize) -> Live<'a, P> {
    let mut live = Live::new(peer, sizes, count);
    live.replace(2 * count as u64);
    live
}

fn main() {
    common::with_peers("ratios");
    let scale = if common::is_trial() { TRIAL } else { FULL };
    let sizes = &sizes::mixed()[..];
    let peers = &Peers(Zsalloc::new(), Jemalloc::new(), Malloc::new());
    let count = scale.operations;
    println!("nanoseconds per operation, medians of {} rounds; ratios are zsalloc / other", scale.rounds);
    println!("{:<38}{:>9}{:>10}{:>9}{:>12}{:>10}", "", "zsalloc", "jemalloc", "malloc", "to jemalloc", "to malloc");
    for size in [64, 1024, 1500, 3000] {
        let runs = [pairs(&peers.0, size, count), pairs(&peers.1, size, count), pairs(&peers.2, size, count)];
        compare(&format!("malloc+free {size} B"), scale.rounds, 1.0, runs);
    }
    alone("one locked instruction, for comparison", scale.rounds, Box::new(|| timed(count, workloads::locked)));
    alone("map+unmap hot", scale.rounds, map_one(&peers.0, count));
    compare_live(peers, sizes, &scale);
    let runs = [
        free_elsewhere(&peers.0, sizes, 2 * count),
        free_elsewhere(&peers.1, sizes, 2 * count),
        free_elsewhere(&peers.2, sizes, 2 * count),
    ];
    compare("malloc, free by another thread", scale.rounds.div_ceil(4), 1.0, runs);
    println!("\nmicroseconds per 4 KiB page given back to the system, after half of 64 MiB was freed at random");
    let bytes = scale.compacted;
    let runs =
        [give_back::<Zsalloc>(sizes, bytes), give_back::<Jemalloc>(sizes, bytes), give_back::<Malloc>(sizes, bytes)];
    compare("compact / purge / trim", scale.rounds.div_ceil(10), 1000.0, runs);
}
