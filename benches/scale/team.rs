//! Threads that work at the same time.

use super::machine::Machine;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// One thread's part of a workload. Each call does a few operations, and returns how many.
pub type Worker<'a> = Box<dyn FnMut() -> u64 + Send + 'a>;

/// Results of a turn.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Operations per second of all threads together.
    pub rate: f64,
    /// Processor seconds per operation, including threads that help.
    pub cost: f64,
}

/// Returns the processor seconds that this process has used.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` may be written.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the system counts this process's time");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Makes all workers work for `length`.
pub fn turn(workers: &mut [Worker<'_>], machine: &Machine, length: Duration) -> Turn {
    let is_pinned = machine.has_one_for_each(workers.len());
    let (begin, is_over) = (Barrier::new(workers.len() + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let (begin, is_over) = (&begin, &is_over);
        let spawn = |(at, worker)| {
            let place = is_pinned.then_some((machine, at));
            scope.spawn(move || work(worker, begin, is_over, place))
        };
        let threads: Vec<_> = workers.iter_mut().enumerate().map(spawn).collect();
        begin.wait();
        let before = processor_seconds();
        thread::sleep(length);
        is_over.store(true, Relaxed);
        let done: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a worker that did not panic")).collect();
        let operations = done.iter().map(|one| one.0).sum::<u64>() as f64;
        // With more threads than processors some start late, so the turn lasts from the first start to the last end.
        let start = done.iter().map(|one| one.1).min().unwrap_or_else(Instant::now);
        let end = done.iter().map(|one| one.2).max().unwrap_or_else(Instant::now);
        let cost = (processor_seconds() - before) / operations;
        Turn { rate: operations / (end - start).as_secs_f64(), cost }
    })
}

/// Works until the turn is over. Returns how many operations that were, and the times of its start and end.
fn work(
    worker: &mut Worker,
    begin: &Barrier,
    is_over: &AtomicBool,
    place: Option<(&Machine, usize)>,
) -> (u64, Instant, Instant) {
    if let Some((machine, at)) = place {
        machine.pin(at);
    }
    // Warms the caches up again after the other sides' turns.
    worker();
    begin.wait();
    let (start, mut operations) = (Instant::now(), 0);
    loop {
        operations += worker();
        if is_over.load(Relaxed) {
            return (operations, start, Instant::now());
        }
    }
}
