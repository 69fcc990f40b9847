//! A cache of compressed values under string keys that keeps to a memory limit. [`Cache`] is made to be copied. It
//! shows the evict callback: the pool knows which of its memory was unused longest, and the tag of each object, here
//! the hash of its key, tells the cache whose memory that is.
//!
//! ```text
//! cargo run --release --example compressed_cache [-- [--requests N] [--limit-mib N]]
//! ```
//!
//! When the pool is full, `put` makes it shrink: the pool offers the objects of its coldest parts, one by one, to the
//! callback, which drops the entry that owns the object. Four rules keep that free of races and deadlocks; the
//! documentation of `Pool::set_evict` gives their reasons:
//!
//! 1. An object is finished and entered into the index under the index's lock.
//! 2. The thread that takes an entry out of the index, under the lock, frees the object.
//! 3. The callback looks under the lock whether the index has this very object.
//! 4. No thread holds the lock while the pool shrinks.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use zsalloc::{
    CompactBudget, Error, Handle, Limit, MAX_TAGGED_SIZE, NewObject, Pool, PoolOptions, PoolTuning, Result, Verdict,
    Victim,
};

/// A cache of values under string keys, compressed with LZ4. All methods may be called from any thread.
///
/// The limit covers the memory of the stored values and the pool's own tables; keys and index come on top. A value must
/// compress to [`MAX_TAGGED_SIZE`] bytes or less.
pub struct Cache {
    pool: Pool,
    shared: Arc<Shared>,
    hasher: RandomState,
    /// Pages to free at a time when the pool is full.
    pages_at_once: u64,
}

/// The part of a cache that the callback uses too.
#[derive(Default)]
struct Shared {
    index: RwLock<Index>,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

/// The values by the hashes of their keys, which are the tags of their objects. Two keys with one hash push each other
/// out, as a cache may: among a billion keys that is one pair in forty caches.
type Index = HashMap<u64, Entry>;

/// A stored value.
struct Entry {
    key: Box<str>,
    /// The object, as long as what is stored. If that equals the value's size, the value is stored uncompressed,
    /// because LZ4 would not make it smaller.
    handle: Handle,
    /// Size of the value in bytes.
    bytes: usize,
}

/// Contents and history of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheStats {
    /// Number of values.
    pub values: u64,
    /// Uncompressed bytes of all values.
    pub value_bytes: u64,
    /// Bytes of memory of the pool.
    pub pool_bytes: u64,
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Values that were dropped to make room.
    pub evicted: u64,
}

/// How often `put` makes room for one value. Once is enough unless other threads take the room.
const ATTEMPTS: usize = 16;

impl Cache {
    /// Creates a cache whose values take at most `max_bytes` bytes of memory, at least 1 MiB.
    pub fn new(max_bytes: u64) -> Result<Self> {
        let tuning = PoolTuning { tags: true, ..PoolTuning::default() };
        let options = PoolOptions { max_bytes: Some(max_bytes), tuning, ..PoolOptions::default() };
        let pool = Pool::new("compressed_cache", &options)?;
        let shared = Arc::new(Shared::default());
        // The callback owns only the index: the cache owns the pool, and the pool the callback.
        let owner = Arc::clone(&shared);
        pool.set_evict(move |victim| owner.evict(&victim))?;
        let pages_at_once = (max_bytes / 4096 / 64).clamp(8, 1024);
        Ok(Self { pool, shared, hasher: RandomState::new(), pages_at_once })
    }

    /// Stores `value` under `key`, and replaces an older value. To make room, values that were unused longest are
    /// dropped.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the value does not compress well enough, [`Error::Limit`] or [`Error::NoMemory`] if there
    /// is no room and none could be made. The key then has no value: an old value must not outlive a newer one.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut compressed = vec![0; get_maximum_output_size(value.len())];
        let length = compress_into(value, &mut compressed).expect("there is room for the worst case");
        compressed.truncate(length);
        let stored = if compressed.len() < value.len() || value.is_empty() { &compressed } else { value };
        let hash = self.hasher.hash_one(key);
        let object = self.allocate(stored.len(), hash).map(|mut object| {
            object.copy_from_slice(stored);
            object
        });
        let mut index = self.shared.write();
        let (old, done) = match object {
            // `finish` unmaps the object; from here on it may be offered, and the callback waits for the lock.
            Ok(object) => {
                let entry = Entry { key: key.into(), handle: object.finish(), bytes: value.len() };
                (index.insert(hash, entry), Ok(()))
            }
            Err(error) => (index.remove(&hash), Err(error)),
        };
        drop(index);
        self.free(old)?;
        done
    }

    /// Returns the value under `key`, if there is one.
    ///
    /// # Errors
    /// [`Error::Busy`] if thousands of threads are reading it at this moment.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0; MAX_TAGGED_SIZE];
        // Copied under the lock, which keeps the entry from going, and decompressed without it.
        let (stored, bytes) = {
            let index = self.shared.read();
            let Some(entry) = index.get(&self.hasher.hash_one(key)).filter(|entry| *entry.key == *key) else {
                self.shared.misses.fetch_add(1, Relaxed);
                return Ok(None);
            };
            let stored = &mut buffer[..entry.handle.len()];
            self.pool.read(&entry.handle, stored)?;
            (&*stored, entry.bytes)
        };
        self.shared.hits.fetch_add(1, Relaxed);
        if stored.len() == bytes {
            return Ok(Some(stored.to_vec()));
        }
        let mut value = vec![0; bytes];
        decompress_into(stored, &mut value).expect("it was compressed here, and copied as it was");
        Ok(Some(value))
    }

    /// Drops the value under `key`. Returns whether there was one.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let entry = match self.shared.write().entry(self.hasher.hash_one(key)) {
            hash_map::Entry::Occupied(entry) if *entry.get().key == *key => Some(entry.remove()),
            _ => None,
        };
        let was_there = entry.is_some();
        self.free(entry)?;
        Ok(was_there)
    }

    /// Returns the cache's contents and history.
    pub fn stats(&self) -> Result<CacheStats> {
        let index = self.shared.read();
        Ok(CacheStats {
            values: index.len() as u64,
            value_bytes: index.values().map(|entry| entry.bytes as u64).sum(),
            pool_bytes: self.pool.total_pages() * 4096,
            hits: self.shared.hits.load(Relaxed),
            misses: self.shared.misses.load(Relaxed),
            evicted: self.shared.evicted.load(Relaxed),
        })
    }

    /// Allocates, and makes room until that succeeds. The caller holds no lock.
    fn allocate(&self, bytes: usize, tag: u64) -> Result<NewObject<'_>> {
        for _ in 0..ATTEMPTS {
            match self.pool.malloc_tagged(bytes, tag) {
                Err(Error::Limit(Limit::Pool) | Error::NoMemory(_)) => self.make_room()?,
                done => return done,
            }
        }
        self.pool.malloc_tagged(bytes, tag)
    }

    fn make_room(&self) -> Result<()> {
        match self.pool.shrink(self.pages_at_once) {
            // Nothing can be evicted, or other threads are evicting: what they free may be enough.
            Err(Error::Again(_) | Error::NotFound(_)) => std::thread::yield_now(),
            done => drop(done?),
        }
        // Removed and replaced values left holes. Compaction makes free pages of them.
        let budget = CompactBudget { max_bytes_moved: Some(self.pages_at_once * 4096), ..CompactBudget::default() };
        self.pool.compact(&budget)?;
        Ok(())
    }

    fn free(&self, entry: Option<Entry>) -> Result<()> {
        entry.map_or(Ok(()), |entry| self.pool.free(entry.handle))
    }
}

impl Shared {
    /// The evict callback: drops the value that owns the object, and has the object freed.
    fn evict(&self, victim: &Victim<'_>) -> Verdict {
        match self.write().entry(victim.tag()) {
            hash_map::Entry::Occupied(entry) if victim.is(&entry.get().handle) => {
                self.evicted.fetch_add(1, Relaxed);
                Verdict::Free(entry.remove().handle)
            }
            // Another thread has just taken the entry out, and is freeing the object.
            _ => Verdict::Gone,
        }
    }

    /// Locks the index to read. Every statement leaves the index consistent, so a thread that panicked with the lock
    /// did no harm.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// The rest of this file is a program that uses the cache.

/// A read-through workload: a missing value is made, which stands for a slow database, and put into the cache.
#[derive(Clone, Copy)]
struct Workload {
    requests: usize,
    threads: usize,
    keys: usize,
    limit_mib: u64,
}

const USAGE: &str = "Usage: compressed_cache [--requests N] [--limit-mib N]   (default: 400000 and 16)";

fn main() -> ExitCode {
    let done = match arguments() {
        Ok(Some(workload)) => run(workload).map_err(|error| format!("the cache failed: {error}")),
        Ok(None) => Ok(format!("{USAGE}\n")),
        Err(sentence) => Err(sentence),
    };
    match done {
        // That a reader has closed the pipe early is not an error.
        Ok(text) => drop(io::stdout().write_all(text.as_bytes())),
        Err(sentence) => {
            eprintln!("compressed_cache: {sentence}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn arguments() -> std::result::Result<Option<Workload>, String> {
    let mut workload = Workload { requests: 400_000, threads: 4, keys: 100_000, limit_mib: 16 };
    let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    while let Some(name) = args.next() {
        let mut number = |most: u64| {
            let number = args.next().and_then(|value| value.parse().ok()).filter(|number| (1..=most).contains(number));
            number.ok_or(format!("{name} needs a number from 1 to {most}. {USAGE}"))
        };
        match name.as_str() {
            "--requests" => workload.requests = number(1_000_000_000)? as usize,
            "--limit-mib" => workload.limit_mib = number(1 << 18)?,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{name} is not an option. {USAGE}")),
        }
    }
    Ok(Some(workload))
}

fn run(workload: Workload) -> Result<String> {
    let cache = Cache::new(workload.limit_mib << 20)?;
    let popularity = popularity(workload.keys);
    std::thread::scope(|scope| {
        let thread = |number| serve(&cache, &popularity, workload.requests / workload.threads, number);
        let threads: Vec<_> = (0..workload.threads as u64).map(|number| scope.spawn(move || thread(number))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread of the workload panicked"))
    })?;
    let stats = cache.stats()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(format!(
        "{} requests by {} threads for {} keys, the k-th most popular asked for 1/k as often as the first\n\
         hits     {:>10}  {:.1} %\nmisses   {:>10}\nevicted  {:>10}\n\
         {} values of {:.1} MiB together are held in {:.1} MiB of memory; the limit is {} MiB\n",
        stats.hits + stats.misses,
        workload.threads,
        workload.keys,
        stats.hits,
        100.0 * stats.hits as f64 / (stats.hits + stats.misses).max(1) as f64,
        stats.misses,
        stats.evicted,
        stats.values,
        mib(stats.value_bytes),
        mib(stats.pool_bytes),
        workload.limit_mib,
    ))
}

/// Runs one thread's requests. Compares every value that the cache returns with what it should be.
fn serve(cache: &Cache, popularity: &[f64], requests: usize, seed: u64) -> Result<()> {
    let mut random = seed + 1;
    for _ in 0..requests {
        let number = pick(popularity, next(&mut random));
        let key = format!("user/{number}/profile");
        match cache.get(&key)? {
            Some(value) => assert_eq!(value, document(number), "the value of another key, or a damaged one"),
            None => cache.put(&key, &document(number))?,
        }
    }
    Ok(())
}

/// Returns for each key the share of requests for it and all more popular keys, by Zipf's law.
fn popularity(keys: usize) -> Vec<f64> {
    let sums = (1..=keys).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64;
        Some(*sum)
    });
    sums.collect()
}

fn pick(popularity: &[f64], random: u64) -> usize {
    let most = popularity.last().copied().unwrap_or(0.0);
    let wanted = random as f64 / u64::MAX as f64 * most;
    popularity.partition_point(|&sum| sum < wanted).min(popularity.len() - 1)
}

/// Makes a document as programs keep them, with recurring names and different values. The same number gives the same
/// document.
fn document(number: usize) -> Vec<u8> {
    let mut random = number as u64;
    let mut text = format!("{{\"user\":{number},\"orders\":[");
    for _ in 0..next(&mut random) % 40 {
        let (order, amount) = (next(&mut random) % 1_000_000, next(&mut random) % 100_000);
        let status = ["paid", "shipped", "returned"][(next(&mut random) % 3) as usize];
        text += &format!("{{\"order\":{order},\"amount\":{amount},\"status\":\"{status}\"}},");
    }
    (text + "]}").into_bytes()
}

/// Returns the next number of a pseudo-random sequence (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes bytes that LZ4 can't compress.
    fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
        (0..bytes).map(|_| next(&mut seed) as u8).collect()
    }

    /// Checks that index and pool have the same objects.
    fn check(cache: &Cache) {
        assert_eq!(cache.pool.stats().unwrap().objects, cache.shared.read().len() as u64);
    }

    #[test]
    fn values_come_back_as_they_were() {
        let cache = Cache::new(4 << 20).unwrap();
        let values = [vec![], vec![7], vec![0; 100_000], noise(1, 1), noise(4096, 2), noise(MAX_TAGGED_SIZE, 3)];
        for (number, value) in values.iter().enumerate() {
            cache.put(&number.to_string(), value).unwrap();
        }
        for (number, value) in values.iter().enumerate() {
            assert_eq!(cache.get(&number.to_string()).unwrap().as_ref(), Some(value), "value {number}");
        }
        assert_eq!(cache.get("").unwrap(), None);
        check(&cache);
    }

    #[test]
    fn a_value_is_replaced_and_removed() {
        let cache = Cache::new(1 << 20).unwrap();
        cache.put("key", b"old").unwrap();
        cache.put("key", b"new").unwrap();
        assert_eq!(cache.get("key").unwrap().unwrap(), b"new");
        assert!(cache.remove("key").unwrap());
        assert!(!cache.remove("key").unwrap());
        assert_eq!(cache.get("key").unwrap(), None);
        check(&cache);
    }

    #[test]
    fn a_put_that_fails_leaves_no_old_value() {
        let cache = Cache::new(1 << 20).unwrap();
        cache.put("key", b"old").unwrap();
        assert!(matches!(cache.put("key", &noise(MAX_TAGGED_SIZE + 1, 1)), Err(Error::TooLarge(_))));
        assert_eq!(cache.get("key").unwrap(), None);
        check(&cache);
    }

    #[test]
    fn the_limit_holds_and_used_values_stay_longer() {
        let cache = Cache::new(2 << 20).unwrap();
        for number in 0..4000 {
            cache.put(&number.to_string(), &noise(1000 + number % 3000, number as u64)).unwrap();
            assert!(cache.stats().unwrap().pool_bytes <= 2 << 20);
        }
        let stats = cache.stats().unwrap();
        assert!(stats.evicted > 2000 && stats.values > 300, "{stats:?}");
        assert_eq!(cache.get("0").unwrap(), None, "the first value is the coldest");
        assert!(cache.get("3999").unwrap().is_some());
        check(&cache);
    }

    /// Puts, gets, removals and evictions of the same few keys race. Each value says which key it belongs to.
    #[test]
    fn threads_meet_evictions() {
        let cache = Cache::new(1 << 20).unwrap();
        let work = |seed: u64| {
            let mut random = seed;
            for _ in 0..6000 {
                let number = next(&mut random) % 500;
                let key = number.to_string();
                match next(&mut random) % 4 {
                    0 => drop(cache.remove(&key).unwrap()),
                    1 | 2 => {
                        let mut value = noise(16 + (next(&mut random) % 4000) as usize, random);
                        value[..8].copy_from_slice(&number.to_le_bytes());
                        cache.put(&key, &value).unwrap();
                    }
                    _ => {
                        let value = cache.get(&key).unwrap();
                        assert!(value.is_none_or(|value| value[..8] == number.to_le_bytes()));
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                scope.spawn(move || work(seed));
            }
        });
        assert!(cache.stats().unwrap().evicted > 0);
        check(&cache);
    }

    #[test]
    fn popular_keys_are_picked_more_often() {
        let popularity = popularity(1000);
        assert_eq!((pick(&popularity, 0), pick(&popularity, u64::MAX)), (0, 999));
        let mut random = 1;
        let first = (0..10_000).filter(|_| pick(&popularity, next(&mut random)) == 0).count();
        assert!((1000..1700).contains(&first), "{first}");
    }

    #[test]
    fn the_workload_runs() {
        let text = run(Workload { requests: 4000, threads: 4, keys: 2000, limit_mib: 1 }).unwrap();
        assert!(text.contains("hits"), "{text}");
    }
}
