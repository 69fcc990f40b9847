//! Times of touches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Number of buckets: eight for each power of two of nanoseconds, up to a minute.
const BUCKETS: usize = 8 * 36;

/// Counts by time, which threads add to.
pub struct Latencies([AtomicU64; BUCKETS]);

/// Counts by time at one moment.
#[derive(Clone)]
pub struct Counted(Vec<u64>);

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 8 {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2() as usize;
    ((power - 2) * 8 + (nanoseconds >> (power - 3) & 7) as usize).min(BUCKETS - 1)
}

/// Returns the least time of a bucket.
fn start(bucket: usize) -> u64 {
    if bucket < 8 { bucket as u64 } else { (8 + bucket as u64 % 8) << (bucket / 8 - 1) }
}

impl Latencies {
    /// Creates counts of 0.
    pub fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// Counts one touch.
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        self.0[bucket(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// Returns the current counts.
    pub fn read(&self) -> Counted {
        Counted(self.0.iter().map(|count| count.load(Relaxed)).collect())
    }
}

impl Counted {
    /// Returns how many touches were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the counts since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// Returns the sum of both counts.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one + other).collect())
    }

    /// Returns the time in microseconds that `permille` of 1000 touches do not exceed, exact to an eighth; none if none
    /// was counted.
    pub fn permille(&self, permille: u64) -> Option<f64> {
        let wanted = (self.count() * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map(|bucket| start(bucket + 1) as f64 / 1e3)
    }

    /// Returns, for each power of two of nanoseconds from the first to the last that has any, its least time and its
    /// count.
    pub fn powers(&self) -> Vec<(u64, u64)> {
        let all: Vec<(u64, u64)> =
            (0..BUCKETS / 8).map(|power| (start(power * 8), self.0[power * 8..][..8].iter().sum())).collect();
        let first = all.iter().position(|(_, count)| *count > 0).unwrap_or(0);
        let end = all.iter().rposition(|(_, count)| *count > 0).map_or(0, |last| last + 1);
        all[first.min(end)..end].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_its_bucket() {
        for time in (0..5000).chain([1 << 20, (1 << 30) - 1, u64::from(u32::MAX)]) {
            assert!(start(bucket(time)) <= time && time < start(bucket(time) + 1), "{time}");
        }
    }

    #[test]
    fn percentiles_of_known_times() {
        let latencies = Latencies::new();
        assert_eq!(latencies.read().permille(500), None);
        assert!(latencies.read().powers().is_empty());
        (0..990).for_each(|_| latencies.add(4000));
        let before = latencies.read();
        (0..10).for_each(|_| latencies.add(100_000));
        let all = latencies.read();
        assert!((4.0..4.6).contains(&all.permille(500).unwrap()));
        assert!((100.0..113.0).contains(&all.permille(999).unwrap()));
        assert_eq!((all.count(), all.since(&before).count(), all.and(&before).count()), (1000, 10, 1990));
        assert_eq!(all.powers().first(), Some(&(2048, 990)));
        assert_eq!(all.powers().last(), Some(&(65536, 10)));
    }
}
