//! How long touches took to serve, as a histogram.

use crate::error::Result;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::{heap, os};
#[cfg(feature = "json")]
use serde::{Serialize, Serializer};

/// The number of buckets of a [`LatencyHistogram`]: four for each power of two of nanoseconds.
pub const LATENCY_BUCKETS: usize = 128;

/// The most processors that have counters of their own. With more, some share them.
const PROCESSORS: usize = 16;

/// The counters of a [`LatencyHistogram`], by processor: threads on different ones do not write the same memory. On the
/// heap, because pagers pass through the stack as they are created.
pub struct Latencies(Box<[OfProcessor]>);

/// The counters of one processor, on cache lines of their own.
#[repr(align(128))]
struct OfProcessor([AtomicU64; LATENCY_BUCKETS]);

/// Returns the bucket of a time in nanoseconds.
pub fn bucket_of(nanoseconds: u64) -> usize {
    if nanoseconds < 4 {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2() as usize;
    ((power - 1) * 4 + (nanoseconds >> (power - 2) & 3) as usize).min(LATENCY_BUCKETS - 1)
}

/// Returns the least time of a bucket, in nanoseconds.
pub fn bucket_start(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    (4 + bucket as u64 % 4) << (bucket / 4 - 1)
}

impl Latencies {
    /// Counters that are 0.
    pub fn new() -> Result<Self> {
        let zeros = |_| Ok(OfProcessor([const { AtomicU64::new(0) }; LATENCY_BUCKETS]));
        Ok(Self(heap::slice(os::processors().min(PROCESSORS), zeros)?))
    }

    /// Counts a touch that took `nanoseconds` to serve.
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        let OfProcessor(buckets) = &self.0[os::current_cpu() % self.0.len()];
        buckets[bucket_of(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self) -> LatencyHistogram {
        let sum = |bucket: usize| self.0.iter().map(|OfProcessor(buckets)| buckets[bucket].load(Relaxed)).sum();
        LatencyHistogram { buckets: std::array::from_fn(sum) }
    }
}

/// How long touches took to serve: every eighth touch of a pager, and every touch of a guest. The time begins when the
/// touch is known and ends when it is served. It does not include the system's part before and after: the signal, or
/// the wake-up.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LatencyHistogram {
    /// How many touches took a time in each bucket. There are four buckets for each power of two of nanoseconds.
    /// [`LatencyHistogram::start`] returns where a bucket begins.
    #[cfg_attr(feature = "json", serde(serialize_with = "serialize_buckets"))]
    pub buckets: [u64; LATENCY_BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: [0; LATENCY_BUCKETS] }
    }
}

/// Writes the buckets. serde has no implementation for arrays of more than 32 elements.
#[cfg(feature = "json")]
fn serialize_buckets<S: Serializer>(buckets: &[u64], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    buckets.serialize(serializer)
}

impl LatencyHistogram {
    /// Returns the least time in a bucket, in nanoseconds.
    pub fn start(bucket: usize) -> u64 {
        bucket_start(bucket)
    }

    /// Returns the time within which `permille` of 1000 touches were served, in nanoseconds, rounded up by at most a
    /// quarter. 0 if there was no touch.
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
        let latencies = Latencies::new().unwrap();
        (0..990).for_each(|_| latencies.add(1000));
        (0..10).for_each(|_| latencies.add(100_000));
        let read = latencies.read();
        assert!((1000..1280).contains(&read.permille(500)));
        assert!((100_000..128_000).contains(&read.permille(999)));
        assert_eq!(Latencies::new().unwrap().read().permille(500), 0);
    }
}
