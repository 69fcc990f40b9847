//! The limit holds exactly, by the count of the pool and by that of the system. A full pool refuses allocations, and
//! allocates again after frees.

use super::shared::{Rng, assert_holds, free, options, set_evict, store, system_pages};
use crate::geometry::MAX_ALLOC_SIZE;
use crate::units::{CHUNK_PAGES, PAGE};
use crate::{Backing, CompactBudget, Error, HugePages, LentMemory, MIN_BYTES, Pool, PoolOptions, PoolTuning, Result};
use std::sync::{Arc, Mutex};

/// An object: its handle, the key of its pattern, and its size.
type Object = (u64, u64, usize);

/// How many pages of tables outside the mapping are charged.
fn mapped_pages(pool: &Pool) -> u64 {
    pool.total_pages() - pool.fixed_pages()
}

fn allocate(pool: &Pool, rng: &mut Rng, sizes: &[usize]) -> Result<Object> {
    let (key, size) = (rng.next(), rng.pick(sizes));
    store(pool, key, size).map(|handle| (handle, key, size))
}

/// Allocates until nothing more fits, whatever its size.
fn fill(pool: &Pool, rng: &mut Rng, sizes: &[usize]) -> Vec<Object> {
    let (mut objects, mut fitting) = (Vec::new(), sizes.to_vec());
    while !fitting.is_empty() {
        let which = rng.below(fitting.len());
        match allocate(pool, rng, &fitting[which..=which]) {
            Ok(object) => objects.push(object),
            Err(error) => {
                assert!(matches!(error, Error::Limit(_)), "{error:?}");
                fitting.swap_remove(which);
            }
        }
    }
    objects
}

fn assert_all_hold(pool: &Pool, objects: &[Object]) {
    objects.iter().for_each(|&(handle, key, size)| assert_holds(pool, handle, key, size));
}

/// A refused allocation leaves everything as it was.
fn assert_refused(pool: &Pool, size: usize) {
    let before = pool.stats().unwrap();
    assert!(matches!(pool.malloc_raw(size), Err(Error::Limit(_))), "{size} bytes fit");
    assert!(matches!(pool.malloc_mapped_raw(size), Err(Error::Limit(_))), "{size} bytes fit");
    assert_eq!(pool.stats().unwrap(), before, "{size} bytes were refused");
    pool.check();
}

/// Frees half of the objects at random, compacts, and returns those that are left.
fn free_half(pool: &Pool, rng: &mut Rng, objects: Vec<Object>) -> Vec<Object> {
    let (freed, kept): (Vec<_>, Vec<_>) = objects.into_iter().partition(|_| rng.chance(50));
    freed.iter().for_each(|&(handle, ..)| free(pool, handle).unwrap());
    let before = pool.total_pages();
    let gone = pool.compact(&CompactBudget::default()).unwrap();
    assert!(gone > 0 && pool.total_pages() <= before - gone, "{gone} of {before} pages went");
    pool.check();
    assert!(system_pages(pool) <= mapped_pages(pool));
    assert_all_hold(pool, &kept);
    kept
}

fn fill_free_and_fill_again(options: &PoolOptions, seed: u64) {
    println!("limits: {options:?}, seed {seed}");
    let (pool, mut rng) = (Pool::new("limits", options).unwrap(), Rng::new(seed));
    let sizes: Vec<_> = (0..4).map(|_| rng.between(1, MAX_ALLOC_SIZE)).collect();
    let mut objects = fill(&pool, &mut rng, &sizes);
    let limit = pool.stats().unwrap().max_bytes / PAGE as u64;
    assert_eq!(Some(limit), options.max_bytes.map(|bytes| bytes / PAGE as u64));
    // A slot that needs memory takes two pages at most, with a page for its record and one for its word.
    let reach = if options.tuning.huge_pages == HugePages::Always { CHUNK_PAGES as u64 + 2 } else { 4 };
    assert!(pool.total_pages() + reach > limit, "{} of {limit} pages are in use", pool.total_pages());
    for _ in 0..3 {
        assert!(pool.total_pages() <= limit);
        sizes.iter().for_each(|&size| assert_refused(&pool, size));
        assert!(system_pages(&pool) <= mapped_pages(&pool));
        assert_all_hold(&pool, &objects);
        objects = free_half(&pool, &mut rng, objects);
        objects.extend(fill(&pool, &mut rng, &sizes));
        pool.check();
    }
}

#[test]
fn the_limit_holds_and_a_full_pool_works_on() {
    let limits = [MIN_BYTES, MIN_BYTES + 12_345, 3 << 20, 9 << 20];
    for (seed, max_bytes) in limits.into_iter().enumerate() {
        fill_free_and_fill_again(&options(max_bytes, Backing::Anonymous), seed as u64);
        fill_free_and_fill_again(&options(max_bytes, Backing::MemoryFile), seed as u64);
    }
}

#[test]
fn the_limit_holds_with_huge_pages() {
    for max_bytes in [(6 << 20) + 5000, 17 << 20] {
        let options = PoolOptions {
            tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() },
            ..options(max_bytes, Backing::Anonymous)
        };
        fill_free_and_fill_again(&options, max_bytes);
    }
}

/// Statistics do not touch the tables of a pool that could be much larger.
#[test]
fn a_large_pool_that_holds_little_costs_little() {
    for backing in [Backing::Anonymous, Backing::MemoryFile] {
        let pool = Pool::new("limits", &options(16 << 30, backing)).unwrap();
        let mut rng = Rng::new(1);
        let objects: Vec<_> = (0..1000).map(|_| allocate(&pool, &mut rng, &[500, 3000]).unwrap()).collect();
        objects[..900].iter().for_each(|&(handle, ..)| free(&pool, handle).unwrap());
        pool.stats().unwrap();
        pool.compact(&CompactBudget::default()).unwrap();
        assert_all_hold(&pool, &objects[900..]);
        assert!(system_pages(&pool) <= mapped_pages(&pool), "{} of {}", system_pages(&pool), mapped_pages(&pool));
    }
}

#[test]
fn shrink_works_at_the_limit() {
    let pool = Pool::new("limits", &options(2 << 20, Backing::Anonymous)).unwrap();
    let mut rng = Rng::new(3);
    let objects = Arc::new(Mutex::new(fill(&pool, &mut rng, &[100, 1000, 3000])));
    let entries = objects.clone();
    let evict = move |pool: &Pool, handle: u64| {
        entries.lock().unwrap().retain(|&(other, ..)| other != handle);
        free(pool, handle)
    };
    set_evict(&pool, evict);
    for _ in 0..5 {
        let before = pool.total_pages();
        let freed = pool.shrink(20).unwrap();
        assert!(freed >= 20 && pool.total_pages() <= before - freed);
        pool.check();
        assert_all_hold(&pool, &objects.lock().unwrap());
        let more = fill(&pool, &mut rng, &[100, 1000, 3000]);
        assert!(!more.is_empty());
        objects.lock().unwrap().extend(more);
    }
}

#[test]
fn the_limit_can_be_moved() {
    let pool = Pool::new("limits", &options(4 << 20, Backing::Anonymous)).unwrap();
    let mut rng = Rng::new(4);
    let sizes = [700, 2500];
    pool.set_max_bytes(Some(2 << 20)).unwrap();
    let mut objects = fill(&pool, &mut rng, &sizes);
    assert!(pool.total_pages() <= (2 << 20) / PAGE as u64);
    // Back to what it was created with.
    pool.set_max_bytes(None).unwrap();
    assert_eq!(pool.stats().unwrap().max_bytes, 4 << 20);
    objects.extend(fill(&pool, &mut rng, &sizes));
    assert!(pool.total_pages() > (3 << 20) / PAGE as u64);
    // Below what it has: nothing is lost, nothing is added until enough was freed.
    pool.set_max_bytes(Some(1 << 20)).unwrap();
    sizes.iter().for_each(|&size| assert_refused(&pool, size));
    assert_all_hold(&pool, &objects);
    objects = free_half(&pool, &mut rng, objects);
    assert!(pool.total_pages() > (1 << 20) / PAGE as u64);
    // What has its memory already may be used, and no more memory is taken.
    let before = pool.total_pages();
    objects.extend(fill_as_it_is(&pool, &mut rng, &sizes));
    assert!(pool.total_pages() <= before);
    while pool.total_pages() > (1 << 20) / PAGE as u64 {
        objects = free_half(&pool, &mut rng, objects);
    }
    assert!(!fill(&pool, &mut rng, &sizes).is_empty());
    assert!(pool.total_pages() <= (1 << 20) / PAGE as u64);
    // More than it was created with is for the system to refuse.
    pool.set_max_bytes(Some(6 << 20)).unwrap();
    fill(&pool, &mut rng, &sizes);
    assert!(pool.total_pages() > (5 << 20) / PAGE as u64);
    pool.check();
}

/// Fills a pool as [`fill`] does, which has more than it may.
fn fill_as_it_is(pool: &Pool, rng: &mut Rng, sizes: &[usize]) -> Vec<Object> {
    std::iter::from_fn(|| allocate(pool, rng, sizes).ok()).collect()
}

#[test]
fn a_pool_in_supplied_memory_takes_no_other() {
    let memory = crate::os::Os::default();
    for (bytes, releasable) in [(MIN_BYTES as usize, false), (3 << 20, true), ((5 << 20) + PAGE, false)] {
        let mapping = memory.reserve(bytes, PAGE).unwrap();
        memory.commit(mapping.base().as_ptr(), bytes).unwrap();
        // SAFETY: the mapping outlives the pool, which is dropped in this turn, and is used by nobody else.
        let lent = unsafe { LentMemory::new(mapping.base().as_ptr(), bytes, releasable) };
        let pool =
            Pool::new("limits", &PoolOptions { backing: Backing::Lent(lent), ..PoolOptions::default() }).unwrap();
        assert_eq!(pool.stats().unwrap().max_bytes, bytes as u64 / PAGE as u64 * PAGE as u64);
        let mut rng = Rng::new(bytes as u64);
        // More handles than the tables have, then sizes that come for the first time.
        for sizes in [[60, 61], [900, 4000], [61, 64], [3000, 3100], [500, 600], [62, 63]] {
            let objects = fill(&pool, &mut rng, &sizes);
            assert!(objects.len() > 50, "{} objects of {sizes:?} in {bytes} bytes", objects.len());
            sizes.iter().for_each(|&size| assert_refused(&pool, size));
            assert_all_hold(&pool, &objects);
            objects.iter().for_each(|&(handle, ..)| free(&pool, handle).unwrap());
            pool.check();
        }
        drop(pool);
    }
}

/// Memory that is supplied is one pool's, however often the options are cloned or used.
#[test]
fn memory_that_is_supplied_is_given_to_one_pool_at_a_time() {
    let system = crate::os::Os::default();
    let mapping = system.reserve(4 << 20, PAGE).unwrap();
    system.commit(mapping.base().as_ptr(), 4 << 20).unwrap();
    // SAFETY: the mapping outlives the pools, and is used by nobody else.
    let lent = unsafe { LentMemory::new(mapping.base().as_ptr(), 4 << 20, true) };
    let options = PoolOptions { backing: Backing::Lent(lent), ..PoolOptions::default() };
    let first = Pool::new("first", &options).unwrap();
    for again in [&options, &options.clone()] {
        assert!(matches!(Pool::new("second", again).err(), Some(Error::Busy(_))));
    }
    let handle = first.malloc(100).unwrap();
    first.free(handle).unwrap();
    drop(first);
    Pool::new("second", &options).unwrap();
}
