//! The pool beside jemalloc and the system's malloc.

use super::common;
use super::common::peers::{Jemalloc, Malloc, Peer, Zsalloc, alloc_written};
use super::common::random::Random;
use super::common::sizes;
use super::common::workloads::{self, Live};
use super::table::{Plan, Side, Table, Units};
use super::team::Worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::thread;

/// Operations per call of a worker.
const BATCH: u64 = 256;
/// Live objects per thread.
const LIVE: usize = 20_000;

/// Measures calls of a pool, and prints the table.
pub fn measure(plan: &Plan) {
    let sizes = &sizes::mixed()[..];
    let live = if common::is_trial() { LIVE / 100 } else { LIVE };
    let threads = plan.most_threads();
    let peers = &(Zsalloc::new(), Jemalloc::new(), Malloc::new());
    const SIDES: [Side; 3] = [
        Side { name: Zsalloc::NAME, peers: &[1, 2] },
        Side { name: Jemalloc::NAME, peers: &[] },
        Side { name: Malloc::NAME, peers: &[] },
    ];
    let units = Units { title: "pool: million operations a second", rate: 1e6, cost: ("CPU ns", 1e-9) };
    let table = Table::new(plan, &SIDES, units);
    macro_rules! case {
        ($name:expr, $workers:ident, $($argument:expr),*) => {
            table.case($name, vec![
                $workers(&peers.0, $($argument),*),
                $workers(&peers.1, $($argument),*),
                $workers(&peers.2, $($argument),*),
            ])
        };
    }
    case!("malloc+free 1500 B", pairs, threads);
    case!("replace, objects of one thread", on_live, sizes, live, threads, Live::replace);
    case!("replace, objects of all threads", replace_shared, sizes, live, threads);
    case!("map+read a byte+unmap", on_live, sizes, live, threads, Live::read);
    let pool = Zsalloc::new();
    table.case("map+unmap, neighbouring handles", vec![map_neighbours(&pool, threads), Vec::new(), Vec::new()]);
    table.end();
}

/// Each thread allocates and frees one object.
fn pairs<P: Peer>(peer: &P, threads: usize) -> Vec<Worker<'_>> {
    let worker = |_| -> Worker {
        Box::new(|| {
            workloads::pairs(peer, 1500, BATCH);
            BATCH
        })
    };
    (0..threads).map(worker).collect()
}

/// Each thread works on objects of real sizes that it allocated itself.
fn on_live<'a, P: Peer>(
    peer: &'a P,
    sizes: &'a [u16],
    count: usize,
    threads: usize,
    run: fn(&mut Live<'a, P>, u64),
) -> Vec<Worker<'a>> {
    // Each thread has its own sizes, so that the threads do not go from class to class in step.
    let parts = sizes.chunks(sizes.len().div_ceil(threads)).cycle().take(threads);
    let lives: Vec<Live<'a, P>> = thread::scope(|scope| {
        let fill = |part| {
            scope.spawn(move || {
                let mut live = Live::new(peer, part, count);
                live.replace(2 * count as u64);
                live
            })
        };
        let filling: Vec<_> = parts.map(fill).collect();
        filling.into_iter().map(|thread| thread.join().expect("memory")).collect()
    });
    let worker = |mut live| -> Worker {
        Box::new(move || {
            run(&mut live, BATCH);
            BATCH
        })
    };
    lives.into_iter().map(worker).collect()
}

/// Objects that any thread may replace.
struct Shared<'a, P: Peer> {
    peer: &'a P,
    tokens: Vec<AtomicUsize>,
}

impl<P: Peer> Drop for Shared<'_, P> {
    fn drop(&mut self) {
        self.tokens.drain(..).for_each(|token| self.peer.free(token.into_inner()));
    }
}

/// Each thread replaces objects that mostly were allocated by other threads.
fn replace_shared<'a, P: Peer>(peer: &'a P, sizes: &'a [u16], count: usize, threads: usize) -> Vec<Worker<'a>> {
    let alloc = |size: &u16| AtomicUsize::new(alloc_written(peer, *size as usize));
    let tokens = sizes.iter().cycle().take(count * threads).map(alloc).collect();
    let shared = Arc::new(Shared { peer, tokens });
    let worker = |thread: usize| -> Worker {
        let (shared, mut random) = (shared.clone(), Random::new(17 + thread as u64));
        Box::new(move || {
            for _ in 0..BATCH {
                let size = sizes[random.below(sizes.len())] as usize;
                let token = &shared.tokens[random.below(shared.tokens.len())];
                peer.free(token.swap(alloc_written(peer, size), AcqRel));
            }
            BATCH
        })
    };
    (0..threads).map(worker).collect()
}

/// Each thread maps an object of its own; the objects' handles are neighbours.
fn map_neighbours(pool: &Zsalloc, threads: usize) -> Vec<Worker<'_>> {
    let tokens: Vec<usize> = (0..threads).map(|_| pool.alloc(1500)).collect();
    let worker = |token| -> Worker {
        Box::new(move || {
            workloads::map_one(pool, token, BATCH);
            BATCH
        })
    };
    tokens.into_iter().map(worker).collect()
}
