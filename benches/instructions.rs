//! Counts instructions of malloc, free, map and unmap under valgrind. Other programs on the machine do not disturb
//! these figures.
//!
//! The program runs itself under `valgrind --tool=callgrind`, which counts inside one function at a time. Without
//! valgrind it prints a note and exits successfully.

mod common;

use common::c_library::{self, CLibrary};
use common::give_up;
use common::peers::{Jemalloc, Malloc, Peer, Zsalloc};
use common::random::Random;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// Operations counted in one run.
const COUNT: u64 = 100_000;
/// The operations. Each is part of the name of a function below that valgrind counts in.
const OPERATIONS: [&str; 4] = ["malloc", "free", "map", "unmap"];
/// Names of the allocators.
const PEERS: [&str; 4] = [Zsalloc::NAME, CLibrary::NAME, Jemalloc::NAME, Malloc::NAME];
/// The states of the heap: name in the table, number of live objects, smallest and largest size.
const STATES: [(&str, usize, usize, usize); 2] =
    [("64 objects of 1500 bytes", 64, 1500, 1500), ("20,000 objects of 500 to 3500 bytes", 20_000, 500, 3500)];

#[inline(never)]
fn counted_malloc<P: Peer>(peer: &P, size: usize) -> usize {
    peer.alloc(size)
}

#[inline(never)]
fn counted_free<P: Peer>(peer: &P, token: usize) {
    peer.free(token);
}

#[inline(never)]
fn counted_map<P: Peer>(peer: &P, token: usize) -> *mut u8 {
    peer.map(token)
}

#[inline(never)]
fn counted_unmap<P: Peer>(peer: &P, token: usize) {
    peer.unmap(token);
    // Keeps the compiler from making one function of this one and `counted_free`, which is as long from C.
    black_box(());
}

/// The run that valgrind watches: replaces random objects, and maps and unmaps each new one.
fn run<P: Peer>(state: usize) {
    let (_, live, from, to) = STATES[state];
    let peer = P::new();
    let mut random = Random::new(5);
    let size = |random: &mut Random| from + random.below(to - from + 1);
    let mut tokens: Vec<usize> = (0..live).map(|_| peer.alloc(size(&mut random))).collect();
    for _ in 0..COUNT {
        let at = random.below(live);
        counted_free(&peer, black_box(tokens[at]));
        let token = counted_malloc(&peer, black_box(size(&mut random)));
        black_box(counted_map(&peer, black_box(token)));
        counted_unmap(&peer, black_box(token));
        tokens[at] = token;
    }
}

/// Returns the instructions of one operation, including the call and the return.
fn count(library: &Path, peer: &str, state: usize, operation: &str) -> f64 {
    let program = std::env::current_exe().unwrap_or_else(|error| give_up(&error.to_string()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*counted_{operation}*"))
        .arg(program)
        .args(["--run", peer, "--state", &state.to_string(), "--library"])
        .arg(library)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| give_up(&format!("valgrind did not start: {error}")));
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        give_up(&format!("the run under valgrind failed:\n{text}"));
    }
    let counted = text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse::<f64>().ok());
    counted.unwrap_or_else(|| give_up(&format!("valgrind counted nothing:\n{text}"))) / COUNT as f64
}

fn main() {
    common::with_peers("instructions");
    if let Some(peer) = common::option("--run") {
        let state = common::option("--state").and_then(|state| state.parse().ok()).unwrap_or(0);
        return match PEERS.iter().position(|&name| name == peer) {
            Some(0) => run::<Zsalloc>(state),
            Some(1) => run::<CLibrary>(state),
            Some(2) => run::<Jemalloc>(state),
            _ => run::<Malloc>(state),
        };
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return println!("valgrind is not installed: instructions were not counted");
    }
    let library = c_library::path();
    println!("instructions per operation, call and return included; jemalloc and malloc need no map and unmap");
    for (state, (name, ..)) in STATES.iter().enumerate().take(if common::is_trial() { 1 } else { STATES.len() }) {
        println!("\n{name:<40}{:>9}{:>9}{:>9}{:>9}", OPERATIONS[0], OPERATIONS[1], OPERATIONS[2], OPERATIONS[3]);
        for peer in PEERS {
            print!("{peer:<40}");
            let moves = peer == Zsalloc::NAME || peer == CLibrary::NAME;
            let known = if moves { &OPERATIONS[..] } else { &OPERATIONS[..2] };
            known.iter().for_each(|operation| print!("{:>9.1}", count(&library, peer, state, operation)));
            println!();
        }
    }
}
