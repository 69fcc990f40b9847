//! Times of single calls.

use super::{Problem, Result};
use std::time::Duration;

/// A time for each page, in nanoseconds.
pub struct Times(Vec<u32>);

impl Times {
    /// Makes room for `pages` times, already touched.
    pub fn new(pages: usize) -> Result<Self> {
        let mut times = Vec::new();
        let no_memory = |_| Problem::Refused("out of memory for the times of the pages".to_owned());
        times.try_reserve_exact(pages).map_err(no_memory)?;
        // Not zero: the system would not provide memory for zeros before their first use.
        times.resize(pages, u32::MAX);
        Ok(Self(times))
    }

    /// Records the time of a page.
    pub fn note(&mut self, page: usize, time: Duration) {
        self.0[page] = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
    }

    /// Summarises the times of `pages`.
    pub fn of(&self, pages: impl Iterator<Item = usize>) -> Option<Summary> {
        Summary::of(pages.map(|page| self.0[page]).collect())
    }
}

/// Summary of times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Number of calls.
    pub count: usize,
    /// Mean time.
    pub mean: f64,
    /// Median time.
    pub p50: f64,
    /// Time that 99 of 100 calls did not exceed.
    pub p99: f64,
}

impl Summary {
    fn of(mut nanoseconds: Vec<u32>) -> Option<Self> {
        nanoseconds.sort_unstable();
        let count = nanoseconds.len();
        let at = |percent: usize| f64::from(nanoseconds[(count * percent).div_ceil(100) - 1]) / 1e3;
        let sum: u64 = nanoseconds.iter().map(|&time| u64::from(time)).sum();
        (count > 0).then(|| Self { count, mean: sum as f64 / count as f64 / 1e3, p50: at(50), p99: at(99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_known_times() {
        assert_eq!(Summary::of(Vec::new()), None);
        assert_eq!(Summary::of(vec![7000]), Some(Summary { count: 1, mean: 7.0, p50: 7.0, p99: 7.0 }));
        let hundred = (1..=100).rev().map(|time| time * 1000).collect();
        assert_eq!(Summary::of(hundred), Some(Summary { count: 100, mean: 50.5, p50: 50.0, p99: 99.0 }));
    }

    #[test]
    fn a_summary_covers_only_the_given_pages() {
        let mut times = Times::new(3).unwrap();
        times.note(1, Duration::from_micros(5));
        assert_eq!(times.of([1].into_iter()).unwrap().mean, 5.0);
        assert_eq!(times.of(std::iter::empty()), None);
    }
}
