//! Lent threads that serve touches of a pager's memory.

use super::Plan;
use super::common::lent::Lent;
use super::common::random::Random;
use super::common::region::Region;
use super::table::{Slow, Turn, head, line, medians, processor_time};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use zsalloc::{Duty, Eviction, FaultMode, PAGE_SIZE, PagerOptions, RegionOptions};

/// The memory is this many times as large as the limit.
const TIMES: usize = 4;
/// How long the process does nothing after a turn, for the figure of idle processor time.
const REST: Duration = Duration::from_millis(100);

/// A region under a pager with lent threads.
struct Served {
    // Dropped before the region.
    lent: Lent,
    region: Region,
    /// Number of touches that wrote.
    writes: AtomicU64,
}

impl Served {
    fn new(data: &Region, eviction: Eviction, settled: bool, lent: usize) -> Result<Self, String> {
        let region = Region::new(data.pages())?;
        let resident = (data.pages() / TIMES * PAGE_SIZE) as u64;
        let options = PagerOptions {
            resident_bytes: Some(resident),
            fault_mode: FaultMode::Threads,
            eviction,
            ..PagerOptions::default()
        };
        let of_region = RegionOptions { settled, ..RegionOptions::default() };
        let lent = Lent::of(&region, &options, &of_region, &vec![Duty::All; lent])?;
        region.fill(data);
        Ok(Self { lent, region, writes: AtomicU64::new(0) })
    }

    /// Touches pages in random order until `stop`.
    fn touch(&self, seed: u64, stop: &AtomicBool) -> Slow {
        let (mut random, mut slow, mut writes) = (Random::new(seed), Slow::default(), 0);
        while !stop.load(Relaxed) {
            let word = self.region.first(random.below(self.region.pages()));
            let start = Instant::now();
            if random.below(10) == 0 {
                word.fetch_add(1, Relaxed);
                writes += 1;
            } else {
                black_box(word.load(Relaxed));
            }
            slow.add(start.elapsed().as_nanos() as u64);
        }
        self.writes.fetch_add(writes, Relaxed);
        slow
    }

    /// Lets threads touch pages for a while.
    fn turn(&self, threads: usize, length: Duration, seed: u64) -> Turn {
        let stop = AtomicBool::new(false);
        let served = || self.lent.pager.stats().counts.faults;
        let (before, cpu, start) = (served(), processor_time(), Instant::now());
        let mut slow = thread::scope(|scope| {
            let touch = |thread: usize| {
                scope.spawn({
                    let stop = &stop;
                    move || self.touch(seed * 64 + thread as u64 + 1, stop)
                })
            };
            let touching: Vec<_> = (0..threads).map(touch).collect();
            thread::sleep(length);
            stop.store(true, Relaxed);
            let each = touching.into_iter().map(|thread| thread.join().expect("no page is lost"));
            each.fold(Slow::default(), |mut all, one| {
                all.0.extend(one.0);
                all
            })
        });
        let (count, time) = ((served() - before) as f64, start.elapsed().as_secs_f64());
        let cpu = (processor_time() - cpu).as_secs_f64();
        let idle = processor_time();
        thread::sleep(REST);
        let idle = (processor_time() - idle).as_secs_f64() * 1e3;
        let (middle, high) = (slow.percentile(0.5), slow.percentile(0.99));
        Turn { rate: count / time / 1e3, cost: cpu * 1e6 / count.max(1.0), middle, high, idle }
    }

    /// Checks that no page and no write was lost.
    fn check(&self, data: &Region) -> Result<(), String> {
        match self.lent.pager.stats().counts.failed {
            0 => self.region.check(data, self.writes.load(Relaxed)),
            failed => Err(format!("the pager gave {failed} touches up")),
        }
    }
}

/// Measures touches, and prints the table.
pub fn measure(plan: &Plan) -> Result<(), String> {
    head("touches that lent threads serve");
    let (in_place, moving) = (Eviction::InPlace, Eviction::MovingBesideSwap);
    let ways = [
        ("in place", in_place, false),
        ("in place, settled", in_place, true),
        ("moving", moving, false),
        ("moving, settled", moving, true),
    ];
    for (way, eviction, settled) in ways {
        let sides = plan.serving.iter().map(|&lent| Served::new(&plan.data, eviction, settled, lent));
        let sides = sides.collect::<Result<Vec<_>, _>>()?;
        for &threads in &plan.threads {
            let mut turns = vec![Vec::new(); sides.len()];
            for round in 0..plan.rounds {
                for (side, turns) in sides.iter().zip(&mut turns) {
                    turns.push(side.turn(threads, plan.length, round as u64 + 1));
                }
            }
            let turns: Vec<_> = turns.iter().map(|turns| medians(turns)).collect();
            for (lent, turn) in plan.serving.iter().zip(&turns) {
                line(&format!("{way}, {threads} touching, {lent} lent"), turn, turns[0].rate);
            }
        }
        sides.iter().try_for_each(|side| side.check(&plan.data))?;
    }
    Ok(())
}
