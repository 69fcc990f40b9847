//! Tables of operations per second by number of threads.

use super::machine::Machine;
use super::team::{self, Turn, Worker};
use std::cell::RefCell;
use std::time::Duration;

/// How everything is measured.
pub struct Plan {
    /// The processors to use.
    pub machine: Machine,
    /// The numbers of threads, one turn for each. Gains are relative to the first one.
    pub threads: Vec<usize>,
    /// The number of rounds.
    pub rounds: usize,
    /// The duration of each turn.
    pub length: Duration,
}

impl Plan {
    /// Returns the largest number of threads, which is how many workers a side needs.
    pub fn most_threads(&self) -> usize {
        self.threads.iter().copied().max().unwrap_or(1)
    }
}

/// A column of a table: the measured side, or a peer.
pub struct Side {
    /// Name in the table's head.
    pub name: &'static str,
    /// The sides that it is compared to.
    pub peers: &'static [usize],
}

/// Units of a table's numbers.
pub struct Units {
    /// What is measured, for the table's head.
    pub title: &'static str,
    /// A printed rate of 1 means this many operations per second.
    pub rate: f64,
    /// Name of the unit of cost, and how many seconds it is.
    pub cost: (&'static str, f64),
}

/// A table whose head was printed.
pub struct Table<'a> {
    plan: &'a Plan,
    sides: &'a [Side],
    units: Units,
    /// For each turn of a peer, the share that it got of the processors it could use.
    shares: RefCell<Vec<f64>>,
}

/// Turns of a case, by number of threads, side and round. A side that does not take part has none.
type Turns = Vec<Vec<Vec<Turn>>>;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a number, or a dash if there is none.
fn cell(value: f64, width: usize, digits: usize) {
    match value.is_nan() {
        true => print!("{:>width$}", "-"),
        false => print!("{value:>width$.digits$}"),
    }
}

impl<'a> Table<'a> {
    /// Prints the head.
    pub fn new(plan: &'a Plan, sides: &'a [Side], units: Units) -> Self {
        println!("\n{}", units.title);
        print!("{:<32}{:>8}", "", "threads");
        for side in sides {
            print!("{:>10}{:>7}{:>8}", side.name, "gain", units.cost.0);
            side.peers.iter().for_each(|&peer| print!("{:>13}", format!("to {}", sides[peer].name)));
        }
        println!();
        Self { plan, sides, units, shares: RefCell::default() }
    }

    /// Measures a workload and prints its lines. The sides are in the order of the table's. A side has one worker per
    /// thread, or none at all.
    pub fn case(&self, name: &str, sides: Vec<Vec<Worker<'_>>>) {
        let turns = self.turns(sides);
        for (at, &threads) in self.plan.threads.iter().enumerate() {
            let mark = if self.plan.machine.has_one_for_each(threads) { " " } else { "*" };
            print!("{:<32}{threads:>7}{mark}", if at == 0 { name } else { "" });
            for (number, side) in self.sides.iter().enumerate() {
                let (first, now) = (&turns[0][number], &turns[at][number]);
                cell(median(now.iter().map(|turn| turn.rate)) / self.units.rate, 10, 2);
                cell(ratio(now, first), 7, 2);
                cell(median(now.iter().map(|turn| turn.cost)) / self.units.cost.1, 8, 1);
                if side.peers.is_empty() {
                    let most = threads.min(self.plan.machine.processors()) as f64;
                    self.shares.borrow_mut().extend(now.iter().map(|turn| turn.rate * turn.cost / most));
                }
                side.peers.iter().for_each(|&peer| cell(ratio(now, &turns[at][peer]), 13, 2));
            }
            println!();
        }
    }

    /// Prints how much of the processors the peers got, which never wait. If that is little, other programs had the
    /// rest, and rates, gains and ratios say little about the sides.
    pub fn end(self) {
        let share = median(self.shares.into_inner().into_iter());
        println!("the peers had {:.0} % of the processors that their threads could use", share * 100.0);
    }

    fn turns(&self, mut sides: Vec<Vec<Worker<'_>>>) -> Turns {
        let mut turns: Turns = self.plan.threads.iter().map(|_| vec![Vec::new(); sides.len()]).collect();
        for round in 0..self.plan.rounds {
            for (turns, &threads) in turns.iter_mut().zip(&self.plan.threads) {
                for turn in 0..sides.len() {
                    // A different side comes first in each round.
                    let side = (round + turn) % sides.len();
                    if let Some(workers) = sides[side].get_mut(..threads) {
                        turns[side].push(team::turn(workers, &self.plan.machine, self.plan.length));
                    }
                }
            }
        }
        turns
    }
}

/// Returns the median of the rounds' ratios.
fn ratio(of: &[Turn], to: &[Turn]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of.rate / to.rate))
}
