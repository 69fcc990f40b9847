//! All sequential orders of the operations of threads on a page, and the results of each.

use super::{GONE, KEPT, NOTHING, Op, UNCLAIMED};
use std::collections::HashSet;

/// The page at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Empty,
    Filled,
    Stored,
    /// An entry of an extent, which the other page has the second entry of.
    Backed,
}

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// The results of each thread, in its order.
    pub results: Vec<Vec<u64>>,
    /// The page at the end.
    pub page: u64,
    /// Whether it is in the pool.
    pub pooled: bool,
    /// The page that callbacks wrote last.
    pub disk: u64,
}

/// The page while operations happen one after the other. A writeback has two steps: its claim and its end.
#[derive(Clone)]
struct OrderState {
    page: u64,
    /// Whether the page is in the pool. Only there can it be claimed.
    pooled: bool,
    disk: u64,
    /// Whether pages are written back to the library's own file, where they stay.
    own_file: bool,
    /// The value that is claimed, and whether it was loaded or replaced since.
    claimed: Option<(u64, bool)>,
    /// How many steps each thread has done.
    done: Vec<usize>,
    results: Vec<Vec<u64>>,
}

/// A step of a thread: its operation, and whether it is the end of a writeback.
type Step = (Op, bool);

/// Returns every outcome that some order gives. The page at the start is `first`, unless it is EMPTY.
pub fn allowed(start: Start, first: u64, own_file: bool, threads: &[Vec<Op>]) -> HashSet<Outcome> {
    let steps: Vec<Vec<Step>> = threads
        .iter()
        .map(|ops| {
            let of = |&op: &Op| match op {
                Op::Written | Op::Refused => vec![(op, false), (op, true)],
                _ => vec![(op, false)],
            };
            ops.iter().flat_map(of).collect()
        })
        .collect();
    let state = OrderState {
        page: if start == Start::Empty { NOTHING } else { first },
        pooled: start == Start::Stored,
        disk: NOTHING,
        own_file,
        claimed: None,
        done: vec![0; threads.len()],
        results: vec![Vec::new(); threads.len()],
    };
    let mut found = HashSet::new();
    explore(&steps, state, &mut found);
    found
}

fn explore(steps: &[Vec<Step>], state: OrderState, found: &mut HashSet<Outcome>) {
    let mut moved = false;
    for thread in 0..steps.len() {
        let Some(&step) = steps[thread].get(state.done[thread]) else { continue };
        moved = true;
        let mut next = state.clone();
        next.done[thread] += 1;
        next.step(thread, step).into_iter().for_each(|after| explore(steps, after, found));
    }
    if !moved {
        let OrderState { results, page, pooled, disk, .. } = state;
        found.insert(Outcome { results, page, pooled, disk });
    }
}

impl OrderState {
    /// Returns the states that a step may lead to.
    fn step(mut self, thread: usize, (op, ends): Step) -> Vec<Self> {
        match op {
            Op::Load => {
                let page = self.page;
                self.results[thread].push(page);
                // The load may set REFERENCED on the claimed page, or be too late for that.
                let mut touched = self.clone();
                touched.touch();
                return vec![self, touched];
            }
            Op::Take => {
                let page = self.page;
                self.results[thread].push(page);
                self.replace(NOTHING);
            }
            Op::Store(value) => {
                self.results[thread].push(NOTHING);
                self.replace(value);
                self.pooled = true;
            }
            Op::FailedStore | Op::Invalidate => {
                self.results[thread].push(NOTHING);
                self.replace(NOTHING);
            }
            Op::Clean | Op::CleanRefused | Op::Age => self.results[thread].push(NOTHING),
            Op::Written | Op::Refused if !ends => return self.claim(thread),
            Op::Written | Op::Refused => self.end(thread, op == Op::Written),
        }
        vec![self]
    }

    fn touch(&mut self) {
        self.claimed = self.claimed.map(|(value, _)| (value, true));
    }

    fn replace(&mut self, value: u64) {
        self.touch();
        self.page = value;
        self.pooled = false;
    }

    /// Claims the page, or does not: the word may change between the look and the claim.
    fn claim(mut self, thread: usize) -> Vec<Self> {
        let mut not = self.clone();
        not.results[thread].push(UNCLAIMED);
        not.done[thread] += 1;
        if !self.pooled || self.page == NOTHING || self.claimed.is_some() {
            return vec![not];
        }
        self.claimed = Some((self.page, false));
        if !self.own_file {
            self.disk = self.page;
        }
        vec![self, not]
    }

    fn end(&mut self, thread: usize, succeeds: bool) {
        let (_, touched) = self.claimed.take().expect("claimed by this thread's step before");
        let gone = succeeds && !touched;
        if gone {
            self.pooled = false;
            if !self.own_file {
                self.page = NOTHING;
            }
        }
        self.results[thread].push(if gone { GONE } else { KEPT });
    }
}
