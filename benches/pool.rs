//! The pool's operations beside jemalloc and the system's malloc, measured by criterion.
//!
//! On a busy machine use `cargo bench --bench ratios`: there the allocators take turns, and the ratios hold.

mod common;

use common::peers::{Jemalloc, Malloc, Peer, Zsalloc};
use common::sizes;
use common::workloads::{self, Live};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use std::time::Duration;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Live objects in the workloads on many objects.
const MANY: usize = 200_000;
/// Bytes of objects, of which half are freed before compaction.
const COMPACTED: u64 = 64 << 20;

/// Calls a function for each allocator in turn.
macro_rules! beside {
    ($run:ident, $($argument:expr),*) => {
        $run::<Zsalloc>($($argument),*);
        $run::<Jemalloc>($($argument),*);
        $run::<Malloc>($($argument),*);
    };
}

fn pairs<P: Peer>(group: &mut Group, size: usize) {
    let peer = P::new();
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|count| timed(|| workloads::pairs(&peer, size, count)));
    });
}

fn replace<P: Peer>(group: &mut Group, sizes: &[u16], count: usize) {
    let peer = P::new();
    let mut live = Live::new(&peer, sizes, count);
    live.replace(count as u64);
    group.bench_function(P::NAME, |bencher| bencher.iter_custom(|count| timed(|| live.replace(count))));
}

fn map_one<P: Peer>(group: &mut Group) {
    let peer = P::new();
    let token = peer.alloc(1500);
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|count| timed(|| workloads::map_one(&peer, token, count)));
    });
    peer.free(token);
}

fn read_random<P: Peer>(group: &mut Group, sizes: &[u16], count: usize) {
    let peer = P::new();
    let mut live = Live::new(&peer, sizes, count);
    group.bench_function(P::NAME, |bencher| bencher.iter_custom(|count| timed(|| live.read(count))));
}

fn map_random(group: &mut Group, sizes: &[u16], count: usize) {
    let peer = Zsalloc::new();
    let mut live = Live::new(&peer, sizes, count);
    group.bench_function(Zsalloc::NAME, |bencher| bencher.iter_custom(|count| timed(|| live.map(count))));
}

fn free_elsewhere<P: Peer>(group: &mut Group, sizes: &[u16]) {
    let peer = P::new();
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|count| {
            let (took, done) = workloads::free_elsewhere(&peer, sizes, count);
            took.mul_f64(count as f64 / done as f64)
        });
    });
}

fn give_back<P: Peer>(group: &mut Group, sizes: &[u16], bytes: u64) {
    let (mut time, mut pages) = (Duration::ZERO, 0);
    group.bench_function(P::NAME, |bencher| {
        bencher.iter_custom(|count| {
            let runs = (0..count).map(|_| workloads::give_back::<P>(sizes, bytes));
            let (took, gone) = runs.fold((Duration::ZERO, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
            (time, pages) = (time + took, pages + gone);
            took
        });
    });
    if pages > 0 {
        let each = time.as_secs_f64() * 1e6 / pages as f64;
        println!("{}: {each:.3} us for each page of 4096 bytes that the system got back\n", P::NAME);
    }
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    run();
    start.elapsed()
}

fn main() {
    common::with_peers("pool");
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    let sizes = &sizes::mixed()[..];
    let (many, compacted) = if common::is_trial() { (MANY / 100, COMPACTED / 100) } else { (MANY, COMPACTED) };
    for size in [64, 1024, 1500, 3000] {
        let mut group = criterion.benchmark_group(format!("malloc+free {size} B"));
        beside!(pairs, &mut group, size);
    }
    let mut group = criterion.benchmark_group("replace 1 of 200,000");
    beside!(replace, &mut group, sizes, many);
    group.finish();
    let mut group = criterion.benchmark_group("map+unmap hot");
    beside!(map_one, &mut group);
    group.finish();
    let mut group = criterion.benchmark_group("map+unmap 1 of 200,000");
    map_random(&mut group, sizes, many);
    group.finish();
    let mut group = criterion.benchmark_group("map+read a byte+unmap 1 of 200,000");
    beside!(read_random, &mut group, sizes, many);
    group.finish();
    let mut group = criterion.benchmark_group("free by another thread");
    beside!(free_elsewhere, &mut group, sizes);
    group.finish();
    let mut group = criterion.benchmark_group("give back half of 64 MiB");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(30));
    beside!(give_back, &mut group, sizes, compacted);
    group.finish();
    criterion.final_summary();
}
