//! Threads that are lent, given back, and lent again.

use super::{Memory, limited};
use crate::pager::{Duty, FaultMode, Pager, RegionOptions};
use crate::sync::Ordering::Relaxed;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const ROUNDS: usize = 20;

fn lend(pager: &Arc<Pager>, duty: Duty) -> JoinHandle<()> {
    let pager = pager.clone();
    thread::spawn(move || pager.run(duty).unwrap())
}

/// Until something holds; false: it did not for long.
fn soon(holds: impl Fn() -> bool) -> bool {
    (0..4000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        holds()
    })
}

/// That threads may be lent again keeps none that was lent before.
#[test]
fn threads_that_are_given_back_return_whatever_comes_then() {
    threads_are_given_back_from(0, ROUNDS);
}

/// What tells threads that were lent before from those lent after counts how often they were given back.
#[test]
fn threads_are_given_back_where_the_count_of_that_goes_round() {
    threads_are_given_back_from(u64::MAX - 3, 4);
}

fn threads_are_given_back_from(lending: u64, rounds: usize) {
    let memory = Memory::new(rounds);
    let pager = Arc::new(Pager::new("test", &limited(64, FaultMode::Threads)).unwrap());
    pager.0.lending.store(lending, Relaxed);
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    let region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &RegionOptions::default()) }.unwrap();
    for round in 0..rounds {
        let mut lent = vec![lend(&pager, Duty::Serve)];
        // It is there, for who else brings this page?
        memory.fill(round, round as u64 + 1);
        lent.extend([Duty::All, Duty::Evict].map(|duty| lend(&pager, duty)));
        assert!(soon(|| pager.0.evictors.load(Relaxed) == 2));
        pager.stop();
        pager.resume();
        let back = soon(|| lent.iter().all(JoinHandle::is_finished));
        pager.stop();
        lent.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(back, "round {round}");
        // None is lent while all are given back, however often that is said.
        pager.stop();
        lend(&pager, Duty::All).join().unwrap();
        pager.resume();
        pager.resume();
    }
    pager.remove_region(region).unwrap();
    (0..rounds).for_each(|round| memory.check(round, round as u64 + 1));
}
