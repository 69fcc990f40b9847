//! Tables of operations per second by the number of threads.

use super::machine::Machine;
use super::team::{self, Turn, Worker};
use std::cell::RefCell;
use std::time::Duration;

/// How everything is measured.
pub struct Plan {
    /// Where.
    pub machine: Machine,
    /// With how many threads, in one turn after the other. Speed-ups are against the first number.
    pub threads: Vec<usize>,
    /// How often.
    pub rounds: usize,
    /// How long each turn takes.
    pub length: Duration,
}

impl Plan {
    /// How many workers a side needs.
    pub fn most_threads(&self) -> usize {
        self.threads.iter().copied().max().unwrap_or(1)
    }
}

/// A side of a table: one that is measured, or a peer.
pub struct Side {
    /// Its name.
    pub name: &'static str,
    /// The sides that it is compared to.
    pub peers: &'static [usize],
}

/// What the numbers of a table are in.
pub struct Units {
    /// What is measured, for the head.
    pub title: &'static str,
    /// A rate of 1 is so many operations per second.
    pub rate: f64,
    /// A cost of 1 is so many seconds, by its name.
    pub cost: (&'static str, f64),
}

/// A table, whose head is printed already.
pub struct Table<'a> {
    plan: &'a Plan,
    sides: &'a [Side],
    units: Units,
    /// What part of the processors that it could use each turn of a peer got.
    shares: RefCell<Vec<f64>>,
}

/// The turns of a case, by the number of threads, the side and the round. No turns for a side that does not take part.
type Turns = Vec<Vec<Vec<Turn>>>;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A number, or a dash where there is none.
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

    /// Measures a workload, whose sides are in the order of the table's, and prints its lines. A side has a worker for
    /// each thread, or none at all.
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

    /// Prints how much of the processors the peers got, which never wait: where that is little, other programs had the
    /// rest, and rates, gains and ratios tell more of them than of the sides.
    pub fn end(self) {
        let share = median(self.shares.into_inner().into_iter());
        println!("the peers had {:.0} % of the processors that their threads could use", share * 100.0);
    }

    fn turns(&self, mut sides: Vec<Vec<Worker<'_>>>) -> Turns {
        let mut turns: Turns = self.plan.threads.iter().map(|_| vec![Vec::new(); sides.len()]).collect();
        for round in 0..self.plan.rounds {
            for (turns, &threads) in turns.iter_mut().zip(&self.plan.threads) {
                for turn in 0..sides.len() {
                    // Which side comes first changes with each round.
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

/// The median of the rounds' ratios.
fn ratio(of: &[Turn], to: &[Turn]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of.rate / to.rate))
}
