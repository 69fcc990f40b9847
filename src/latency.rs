//! How long touches took to serve, as a histogram.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use serde::{Serialize, Serializer};

/// Buckets of a [`LatencyHistogram`]: four for each power of two of nanoseconds.
pub const LATENCY_BUCKETS: usize = 128;

/// How long touches took to serve.
pub struct Latencies([AtomicU64; LATENCY_BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; LATENCY_BUCKETS])
    }
}

/// The bucket of a time in nanoseconds.
pub fn bucket_of(nanoseconds: u64) -> usize {
    if nanoseconds < 4 {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2() as usize;
    ((power - 1) * 4 + (nanoseconds >> (power - 2) & 3) as usize).min(LATENCY_BUCKETS - 1)
}

/// The least time of a bucket, in nanoseconds.
pub fn bucket_start(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    (4 + bucket as u64 % 4) << (bucket / 4 - 1)
}

impl Latencies {
    /// Counts one.
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        self.0[bucket_of(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// All of them.
    pub fn read(&self) -> LatencyHistogram {
        LatencyHistogram { buckets: self.0.each_ref().map(|bucket| bucket.load(Relaxed)) }
    }
}

/// How long every eighth touch took to serve, from when the pager was told until it was done. The system's part before
/// and after, the signal or the wake-up, is not in it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LatencyHistogram {
    /// Four buckets for each power of two of nanoseconds: how many there were. [`LatencyHistogram::start`] tells which
    /// times are in which.
    #[serde(serialize_with = "serialize_buckets")]
    pub buckets: [u64; LATENCY_BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: [0; LATENCY_BUCKETS] }
    }
}

/// serde knows no arrays of more than 32 elements.
fn serialize_buckets<S: Serializer>(buckets: &[u64], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    buckets.serialize(serializer)
}

impl LatencyHistogram {
    /// The least time in a bucket, in nanoseconds.
    pub fn start(bucket: usize) -> u64 {
        bucket_start(bucket)
    }

    /// A time that so many of 1000 do not exceed by more than a quarter, in nanoseconds; 0 if there was none.
    pub fn permille(&self, permille: u64) -> u64 {
        let all: u64 = self.buckets.iter().sum();
        let wanted = (all * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |bucket| bucket_start(bucket + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_starts_before_it() {
        for time in (0..10_000).chain([u64::from(u32::MAX), 1 << 31, (1 << 31) - 1]) {
            let bucket = bucket_of(time);
            assert!(bucket_start(bucket) <= time, "{time}");
            assert!(bucket == LATENCY_BUCKETS - 1 || time < bucket_start(bucket + 1), "{time}");
        }
    }

    #[test]
    fn a_permille_is_where_so_many_are() {
        let latencies = Latencies::default();
        (0..990).for_each(|_| latencies.add(1000));
        (0..10).for_each(|_| latencies.add(100_000));
        let read = latencies.read();
        assert!((1000..1280).contains(&read.permille(500)));
        assert!((100_000..128_000).contains(&read.permille(999)));
        assert_eq!(Latencies::default().read().permille(500), 0);
    }
}
