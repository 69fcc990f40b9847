//! How long touches took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets: eight for each power of two of nanoseconds, up to a minute.
const BUCKETS: usize = 8 * 36;

/// Counts of times that threads add to.
pub struct Latencies([AtomicU64; BUCKETS]);

/// The same at one moment.
#[derive(Clone)]
pub struct Counted(Vec<u64>);

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 8 {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2() as usize;
    ((power - 2) * 8 + (nanoseconds >> (power - 3) & 7) as usize).min(BUCKETS - 1)
}

/// The least time of a bucket.
fn start(bucket: usize) -> u64 {
    if bucket < 8 { bucket as u64 } else { (8 + bucket as u64 % 8) << (bucket / 8 - 1) }
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// One more.
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        self.0[bucket(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// All so far.
    pub fn read(&self) -> Counted {
        Counted(self.0.iter().map(|count| count.load(Relaxed)).collect())
    }
}

impl Counted {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// Both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one + other).collect())
    }

    /// The time in microseconds that so many of 1000 do not exceed, to an eighth of it; none if there is none at all.
    pub fn permille(&self, permille: u64) -> Option<f64> {
        let wanted = (self.count() * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map(|bucket| start(bucket + 1) as f64 / 1e3)
    }

    /// For each power of two of nanoseconds that has any, or lies between such: its least time, and how many.
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
    fn parts_of_known_times() {
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
