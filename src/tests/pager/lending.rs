//! Threads that are lent, given back, and lent again.

use super::{Memory, limited, soon};
use crate::pager::for_c::PagerForC;
use crate::pager::{Duty, FaultMode, Pager, RegionOptions};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

const ROUNDS: usize = 20;

fn lend(pager: &Arc<Pager>, duty: Duty) -> JoinHandle<()> {
    let pager = pager.clone();
    thread::spawn(move || pager.run(duty).unwrap())
}

/// A thread that was lent before returns, even if threads may be lent again at once.
#[test]
fn threads_return_after_a_stop_even_if_others_are_lent_at_once() {
    threads_are_given_back_from(0, ROUNDS);
}

/// The count of stops and resumes, which tells old lent threads from new ones, may wrap.
#[test]
fn threads_return_when_the_count_of_stops_wraps() {
    threads_are_given_back_from(u64::MAX - 3, 4);
}

fn threads_are_given_back_from(lending: u64, rounds: usize) {
    let memory = Memory::new(rounds);
    let pager = Arc::new(Pager::new("test", &limited(64, FaultMode::Threads)).unwrap());
    pager.0.lending.set_round(lending);
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    let region = unsafe { pager.add_region_by_id(memory.at(0), memory.bytes(), &RegionOptions::default()) }.unwrap();
    for round in 0..rounds {
        let mut lent = vec![lend(&pager, Duty::Serve)];
        // A lent thread is there: no other thread brings this page.
        memory.fill(round, round as u64 + 1);
        lent.extend([Duty::All, Duty::Evict].map(|duty| lend(&pager, duty)));
        assert!(soon(|| pager.0.lending.evictors() == 2));
        pager.stop();
        pager.resume();
        let back = soon(|| lent.iter().all(JoinHandle::is_finished));
        pager.stop();
        lent.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(back, "round {round}");
        // No thread is lent after a stop, or after several.
        pager.stop();
        lend(&pager, Duty::All).join().unwrap();
        pager.resume();
        pager.resume();
    }
    pager.remove_by_id(region).unwrap();
    (0..rounds).for_each(|round| memory.check(round, round as u64 + 1));
}
