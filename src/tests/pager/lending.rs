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
    let memory = Memory::new(ROUNDS);
    let pager = Arc::new(Pager::new("test", &limited(64, FaultMode::Threads)).unwrap());
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    let region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &RegionOptions::default()) }.unwrap();
    for round in 0..ROUNDS {
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
    (0..ROUNDS).for_each(|round| memory.check(round, round as u64 + 1));
}
