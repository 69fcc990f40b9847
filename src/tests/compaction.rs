//! Compaction keeps to its budget, goes on where it stopped, moves only what pays, and reports what the system got.

use super::shared::{Rng, assert_holds, free, options, pattern, store, system_pages, write};
use crate::{Backing, CompactBudget, MapMode, Pool};
use std::time::Duration;

/// An object: its handle, the key of its pattern, and its size.
type Object = (u64, u64, usize);

const ALL: CompactBudget = CompactBudget { max_bytes_moved: None, max_time: None };

/// A pool of objects that fill their slots, most of which are freed again at random. The seed determines all of it.
fn sparse_pool(seed: u64, backing: Backing) -> (Pool, Vec<Object>) {
    let (pool, mut rng) = (Pool::new("compaction", &options(64 << 20, backing)).unwrap(), Rng::new(seed));
    let sizes: Vec<_> = (0..6).map(|_| pool.class_size(rng.between(1, crate::MAX_ALLOC_SIZE)).unwrap()).collect();
    let mut objects: Vec<Object> = (0..8000)
        .map(|key| {
            let size = rng.pick(&sizes);
            (store(&pool, key, size).unwrap(), key, size)
        })
        .collect();
    rng.shuffle(&mut objects);
    objects.drain(1500..).for_each(|(handle, ..)| free(&pool, handle).unwrap());
    (pool, objects)
}

fn assert_all_hold(pool: &Pool, objects: &[Object]) {
    pool.check();
    objects.iter().for_each(|&(handle, key, size)| assert_holds(pool, handle, key, size));
}

/// Returns how many pages are in use when compaction gains nothing more.
fn compacted_pages(pool: &Pool) -> u64 {
    pool.compact(&ALL).unwrap();
    pool.total_pages()
}

/// A thread that lost its processor for the time of its budget has not seen that there is nothing to move.
#[test]
fn a_compaction_that_the_clock_ends_is_not_taken_for_a_whole_one() {
    let (pool, _objects) = sparse_pool(4, Backing::Anonymous);
    let budget = CompactBudget { max_bytes_moved: Some(1 << 20), max_time: Some(Duration::from_micros(1)) };
    let calls = (0..10_000).map(|_| pool.try_to_compact(budget.begin()).unwrap());
    let mut idle = calls.filter(|done| done.is_idle());
    assert!(idle.next().is_none_or(|first| first.is_cut_short));
    pool.compact(&ALL).unwrap();
    let unhurried = CompactBudget { max_bytes_moved: Some(1 << 20), max_time: None };
    let whole = pool.try_to_compact(unhurried.begin()).unwrap();
    assert!(whole.is_idle() && !whole.is_cut_short);
}

#[test]
fn small_budgets_come_to_the_same_end() {
    let (pool, objects) = sparse_pool(1, Backing::Anonymous);
    let best = compacted_pages(&pool);
    assert_all_hold(&pool, &objects);
    for budget in [1, 10_000, 300_000, u64::MAX] {
        let (pool, objects) = sparse_pool(1, Backing::Anonymous);
        let (mut idle, mut calls) = (0, 0);
        while idle < 2 {
            let before = pool.stats().unwrap();
            let gone = pool.compact(&CompactBudget { max_bytes_moved: Some(budget), max_time: None }).unwrap();
            let after = pool.stats().unwrap();
            assert!(before.total_pages <= after.total_pages + gone);
            let moved = after.objects_moved - before.objects_moved;
            assert!(budget > 1 || moved <= 1, "{moved} objects moved on a budget of a byte");
            idle = if moved == 0 && gone == 0 { idle + 1 } else { 0 };
            calls += 1;
            assert!(calls < 20_000, "it goes on and on");
        }
        assert_all_hold(&pool, &objects);
        // A call with a bound leaves some tables, and memory that is kept warm.
        let pages = pool.total_pages();
        assert!(pages <= best + best / 50 + 64, "{pages} pages, {best} without a bound, in {calls} calls");
        assert!(compacted_pages(&pool) <= best + best / 100);
    }
}

#[test]
fn a_time_limit_is_a_budget_too() {
    let (pool, objects) = sparse_pool(2, Backing::Anonymous);
    let mut calls = 0;
    let short = CompactBudget { max_bytes_moved: None, max_time: Some(Duration::from_micros(50)) };
    while pool.compact(&short).unwrap() > 0 || calls < 100 {
        calls += 1;
    }
    pool.compact(&CompactBudget { max_bytes_moved: Some(u64::MAX), max_time: Some(Duration::from_micros(u64::MAX)) })
        .unwrap();
    assert_all_hold(&pool, &objects);
}

/// The system has as many pages less as compaction reports.
#[test]
fn the_pages_reported_are_those_the_system_got() {
    for backing in [Backing::Anonymous, Backing::MemoryFile] {
        let (pool, objects) = sparse_pool(3, backing);
        for _ in 0..20 {
            let before = system_pages(&pool);
            let gone = pool.compact(&CompactBudget { max_bytes_moved: Some(100_000), max_time: None }).unwrap();
            assert_eq!(before - system_pages(&pool), gone);
        }
        let before = system_pages(&pool);
        let gone = pool.compact(&ALL).unwrap();
        // The last page of a group's records counts as the pool's once a record reaches into it, touched there or not.
        let less = before - system_pages(&pool);
        assert!(less <= gone && gone <= less + 1, "{gone} pages told, {less} gone");
        assert_all_hold(&pool, &objects);
    }
}

#[test]
fn nothing_moves_where_nothing_can_be_gained() {
    let pool = Pool::new("compaction", &options(64 << 20, Backing::Anonymous)).unwrap();
    for size in (100..4000).step_by(100) {
        (0..40).for_each(|key| _ = store(&pool, key, size).unwrap());
    }
    let before = pool.total_pages();
    assert_eq!(pool.compact(&ALL).unwrap(), 0);
    assert_eq!((pool.stats().unwrap().objects_moved, pool.total_pages()), (0, before));
    let (pool, _) = sparse_pool(4, Backing::Anonymous);
    pool.compact(&ALL).unwrap();
    let moved = pool.stats().unwrap().objects_moved;
    assert!(moved > 0);
    pool.compact(&ALL).unwrap();
    assert_eq!(pool.stats().unwrap().objects_moved, moved, "what was compacted is compact");
}

/// Mapped objects stay, all others move past them, and writes through a mapping are kept.
#[test]
fn mapped_objects_are_passed_by() {
    let (pool, mut objects) = sparse_pool(5, Backing::Anonymous);
    let (held, others) = objects.split_at_mut(10);
    let places: Vec<_> = held.iter().map(|&(handle, ..)| pool.map_raw(handle, MapMode::ReadWrite).unwrap()).collect();
    let gone = pool.compact(&ALL).unwrap();
    assert!(gone > 1000 && pool.stats().unwrap().objects_moved > 100);
    for ((handle, key, size), place) in held.iter_mut().zip(places) {
        *key += 100_000;
        // SAFETY: the object is mapped to write, that long, and nobody else uses it.
        unsafe { place.copy_from(pattern(*key, *size).as_ptr(), *size) };
        super::shared::unmap(&pool, *handle).unwrap();
    }
    assert_all_hold(&pool, others);
    pool.compact(&ALL).unwrap();
    assert_all_hold(&pool, held);
    let (handle, key, size) = held[0];
    write(&pool, handle, pattern(key, size)).unwrap();
    assert_all_hold(&pool, &objects);
}
