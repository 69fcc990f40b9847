//! Costs of evicting pages and touching them again, with memory to spare. Runs in a process of its own.

use super::child::{Numbers, Order};
use super::common::random::Random;
use super::common::region::{Region, resident_and_swapped};
use super::sides::{Side, side};
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use zsalloc::{Duty, PAGE_SIZE};

/// Times in nanoseconds.
pub struct Times(Vec<u32>);

impl Times {
    /// Makes room for `count` times, in memory that is already resident.
    pub fn new(count: usize) -> Self {
        let mut times = vec![1; count];
        times.clear();
        Self(times)
    }

    /// Touches a page, and records how long that took.
    #[inline]
    pub fn touch(&mut self, region: &Region, page: usize) {
        let start = Instant::now();
        black_box(region.first(page).load(Relaxed));
        self.0.push(start.elapsed().as_nanos() as u32);
    }

    /// Writes to a page, and records how long that took.
    #[inline]
    fn write(&mut self, region: &Region, page: usize) {
        let start = Instant::now();
        black_box(region.first(page).fetch_add(1, Relaxed));
        self.0.push(start.elapsed().as_nanos() as u32);
    }

    /// Adds the percentiles, in microseconds, to `numbers`.
    pub fn tell(&mut self, name: &str, numbers: &mut Numbers) {
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        for (percentile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            numbers.insert(format!("{name}-{percentile}"), at(share));
        }
        let sum: f64 = self.0.iter().map(|&time| f64::from(time)).sum();
        numbers.insert(format!("{name}-mean"), sum / 1000.0 / self.0.len() as f64);
    }
}

/// Evicts all pages and touches them in random order, three times. Before the first two evictions all pages were
/// written; before the third they were only read.
pub fn measure(order: &Order) -> Result<Numbers, String> {
    let (data, region) = order.regions()?;
    let by_threads = order.get::<String>("side")? == "threads";
    let duties: &[Duty] = if by_threads { &[Duty::Serve] } else { &[] };
    // The limit is far above the size of the region, so touches never make room.
    let side = side(order, &region, region.pages() * 2, duties)?;
    region.fill(&data);
    let mut numbers = Numbers::new();
    let mut sequence: Vec<u32> = (0..region.pages() as u32).collect();
    let mut random = Random::new(order.get("seed")?);
    for round in ["first", "second", "read"] {
        let start = Instant::now();
        side.evict_all(&region)?;
        let took = start.elapsed().as_secs_f64();
        let (left, _) = resident_and_swapped(region.base() as usize, region.bytes());
        numbers.insert(format!("{round}-left"), left / PAGE_SIZE as f64);
        numbers.insert(format!("{round}-evict"), took * 1e6 / region.pages() as f64);
        numbers.insert(format!("{round}-pool"), side.pool());
        numbers.insert(format!("{round}-stored"), side.stored());
        random.shuffle(&mut sequence);
        let mut times = Times::new(region.pages());
        sequence.iter().for_each(|&page| times.touch(&region, page as usize));
        times.tell(round, &mut numbers);
        if round == "first" {
            let mut times = Times::new(region.pages());
            sequence.iter().for_each(|&page| times.write(&region, page as usize));
            times.tell("write", &mut numbers);
        }
    }
    if let Side::Ours(lent) = &side {
        let counts = lent.snapshot().pager.counts;
        numbers.insert("ahead".into(), counts.loads_ahead as f64);
        numbers.insert("rescues".into(), counts.rescues as f64);
    }
    region.check(&data, region.pages() as u64)?;
    Ok(numbers)
}
