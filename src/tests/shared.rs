//! Helpers of the tests: random numbers, patterns, pools whose system calls fail, and the system's view of a pool.

use crate::geometry::{MAX_ALLOC_SIZE, class_of};
use crate::os::{Os, injected::Faults};
use crate::size_class::PROCESSOR;
use crate::units::PAGE;
use crate::{Backing, Pool, PoolOptions, Result, Verdict};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
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

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() as u128 * end as u128) >> 64) as usize
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Returns true in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the elements.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Shuffles the elements.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Gives the class of objects of `size` bytes shelves, as threads that meet in it do.
pub fn open_shelves(pool: &Pool, size: usize) {
    let bytes = pool.class_size(size).unwrap() + pool.tag_bytes();
    pool.classes[class_of(bytes).0 as usize].lock(&pool.memory).open_shelves(&pool.shelves);
}

/// Makes the pool take this thread as one that runs on `processor`.
pub fn run_on(processor: usize) {
    PROCESSOR.set(Some(processor));
}

/// Returns the number in an environment variable.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Returns `size` bytes. No other key up to a million has the same bytes at the same place.
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
pub fn pool_with(faults: &Arc<Faults>, options: &PoolOptions) -> Result<Pool> {
    Pool::with_os(Os { faults: Some(faults.clone()) }, "test", options)
}

/// Options for a pool of at most this many bytes of this memory.
pub fn options(max_bytes: u64, backing: Backing) -> PoolOptions {
    PoolOptions { max_bytes: Some(max_bytes), backing, ..PoolOptions::default() }
}

/// Returns the value of an option that was drawn at random, where 0 stands for none.
pub fn unless_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Returns how many pages of the pool's memory file have memory. None without a memory file.
pub fn file_pages(pool: &Pool) -> Option<u64> {
    let fd = pool.fd().ok()?;
    // SAFETY: the pool keeps the descriptor open, and this does not close it.
    let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd.as_raw_fd()) });
    Some(file.metadata().expect("an open file has metadata").blocks() * 512 / PAGE as u64)
}

/// Returns how many pages of the process in these ranges are in memory, as the system counts.
pub fn resident_pages(spans: &[Range<usize>]) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("the tests run on Linux");
    let (mut inside, mut kibibytes) = (false, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).expect("an address");
            let range = number(start)..number(end);
            inside = spans.iter().any(|span| span.start < range.end && range.start < span.end);
        } else if inside && first == "Rss:" {
            kibibytes += words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number of kB");
        }
    }
    kibibytes * 1024 / PAGE as u64
}

/// Returns how many pages the system has for a pool: in its memory file if it has one, else in the process.
pub fn system_pages(pool: &Pool) -> u64 {
    file_pages(pool).unwrap_or_else(|| resident_pages(&pool.memory.spans()))
}

/// Frees an object of a test that uses raw handles only.
pub fn free(pool: &Pool, handle: u64) -> Result<()> {
    // SAFETY: there is no `Handle` of it.
    unsafe { pool.free_raw(handle) }
}

/// Sets an evict callback of a test that uses raw handles only. If it fails, the object stays.
pub fn set_evict(pool: &Pool, evict: impl Fn(&Pool, u64) -> Result<()> + Send + Sync + 'static) {
    let answer = move |result: Result<()>| result.map_or(Verdict::Keep, |()| Verdict::Gone);
    pool.set_evict(move |victim| answer(evict(victim.pool(), victim.raw()))).unwrap();
}

/// Unmaps an object of a test that uses raw handles only.
pub fn unmap(pool: &Pool, handle: u64) -> Result<()> {
    // SAFETY: the mapping is one that the test made with `map_raw`, or none, which is to be refused.
    unsafe { pool.unmap_raw(handle) }
}

/// Writes an object of a test that uses raw handles only.
pub fn write(pool: &Pool, handle: u64, bytes: &[u8]) -> Result<()> {
    // SAFETY: nothing borrows the object's bytes, and `bytes` are that many.
    unsafe { pool.write_from(handle, bytes.as_ptr(), bytes.len()) }
}

/// Reading by raw handles, for tests that use nothing else.
pub trait ReadObject {
    /// Copies the first bytes of an object into `buffer`.
    fn read_object(&self, handle: u64, buffer: &mut [u8]) -> Result<()>;
}

impl ReadObject for Pool {
    fn read_object(&self, handle: u64, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: tests do not write objects that others read. `buffer` is that long.
        unsafe { self.read_to(handle, buffer.as_mut_ptr(), buffer.len()) }
    }
}

/// Allocates an object of `size` bytes and writes the pattern of `key`.
pub fn store(pool: &Pool, key: u64, size: usize) -> Result<u64> {
    let handle = pool.malloc_raw(size)?;
    write(pool, handle, pattern(key, size)).map(|()| handle)
}

/// Panics unless an object begins with the pattern of `key`.
#[track_caller]
pub fn assert_holds(pool: &Pool, handle: u64, key: u64, size: usize) {
    let mut buffer = [0; MAX_ALLOC_SIZE];
    pool.read_object(handle, &mut buffer[..size]).unwrap();
    assert!(buffer[..size] == *pattern(key, size), "the object of {size} bytes with key {key}");
}
