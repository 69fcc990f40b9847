//! Loom models of the pager, on the product's own protocols: the claims of state words, the table of extents, the gate,
//! places, and lots. What only one thread may do at a time is done to a cell, whose races loom finds.

mod extents;
mod gate;
mod lots;
mod moves;
mod page;
mod place;

use crate::sync::Cell;
use loom::sync::Arc;
use loom::thread;

/// Runs the threads against each other in every order, or in those with at most `preemptions`, and then `end`.
fn race<S: 'static>(preemptions: Option<usize>, scene: fn() -> S, threads: &'static [fn(&S)], end: fn(&S)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scene = Arc::new(scene());
        let run = |work: fn(&S)| {
            let scene = scene.clone();
            thread::spawn(move || work(&scene))
        };
        let (first, others) = threads.split_first().unwrap();
        let running: Vec<_> = others.iter().map(|&work| run(work)).collect();
        first(&scene);
        running.into_iter().for_each(|thread| thread.join().unwrap());
        end(&scene);
    });
    let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
    println!("{}: {executions} executions", std::thread::current().name().unwrap_or("a model"));
}

/// What a cell holds.
fn look<T: Copy>(cell: &Cell<T>) -> T {
    // SAFETY: the protocol keeps writers away; loom finds out if it does not.
    cell.with(|at| unsafe { *at })
}

/// Writes a cell.
fn put<T>(cell: &Cell<T>, value: T) {
    // SAFETY: the protocol keeps all others away; loom finds out if it does not.
    cell.with_mut(|at| unsafe { *at = value });
}
