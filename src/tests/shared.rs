//! What the tests share: lots, patterns, pools whose system calls fail, and what the system says of a pool's memory.

use crate::os::{Os, faults::Faults};
use crate::units::PAGE;
use crate::{Backing, Pool, PoolOptions, Result};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

/// Numbers that look random, the same for the same seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() as u128 * end as u128) >> 64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Puts them in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The number in an environment variable of the tests.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// `size` bytes that no other key up to a million has at the same place.
pub fn pattern(key: u64, size: usize) -> &'static [u8] {
    const KEYS: usize = 1 << 20;
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut rng = Rng::new(1);
        (0..(KEYS + 8192) / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
    });
    &noise[key as usize % KEYS..][..size]
}

/// A pool whose system calls can be made to fail.
pub fn faulty(options: &PoolOptions) -> (Result<Pool>, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    (pool_with(&faults, options), faults)
}

/// Another pool with the same faults.
pub fn pool_with(faults: &Arc<Faults>, options: &PoolOptions) -> Result<Pool> {
    Pool::with_os(Os { faults: Some(faults.clone()) }, "test", options)
}

/// Options for at most so many bytes of this memory.
pub fn options(max_bytes: u64, backing: Backing) -> PoolOptions {
    PoolOptions { max_bytes, backing, ..PoolOptions::default() }
}

/// Pages of the pool's memory file that the system has memory for; none without a memory file.
pub fn file_pages(pool: &Pool) -> Option<u64> {
    let fd = pool.fd().ok()?;
    // SAFETY: the pool keeps the descriptor open, and this does not close it.
    let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
    Some(file.metadata().expect("an open file has metadata").blocks() * 512 / PAGE as u64)
}
