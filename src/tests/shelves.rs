//! Shelves: slots that processors keep at hand where they meet. They cost no memory, and no call shows them.

use super::shared::{Rng, free, open_shelves, options, run_on, set_evict, store};
use crate::geometry::{self, class_of};
use crate::units::ClassIndex;
use crate::word::RawHandle;
use crate::{Backing, CompactBudget, Error, MapMode, Pool, PoolOptions};
use std::collections::VecDeque;
use std::thread;

const SIZE: usize = 1500;

fn pool_of(max_bytes: u64) -> Pool {
    let pool = Pool::new("shelves", &options(max_bytes, Backing::Anonymous)).unwrap();
    open_shelves(&pool, SIZE);
    run_on(0);
    pool
}

fn has_shelves(pool: &Pool) -> bool {
    pool.shelves.are_in_use(class_of(SIZE))
}

/// Returns how many indices are on shelves of a class.
fn shelved(pool: &Pool, class: ClassIndex) -> usize {
    pool.classes[class.0 as usize].lock(&pool.memory).check_shelves(&pool.memory, &pool.shelves).len()
}

fn malloc(pool: &Pool, count: usize) -> Vec<u64> {
    (0..count).map(|_| pool.malloc_raw(SIZE).unwrap()).collect()
}

/// Returns how many objects fill two zspages. With more of them the shelves close while the objects are freed.
fn two_zspages() -> usize {
    2 * geometry::of(class_of(SIZE)).slots as usize
}

fn free_all(pool: &Pool, handles: impl IntoIterator<Item = u64>) {
    handles.into_iter().for_each(|handle| free(pool, handle).unwrap());
}

#[test]
fn slots_on_shelves_are_no_objects_and_are_used_again() {
    let pool = pool_of(64 << 20);
    let handles = malloc(&pool, 10);
    free_all(&pool, handles.clone());
    pool.check();
    assert_eq!((pool.stats().unwrap().objects, pool.stats().unwrap().object_bytes), (0, 0));
    let on_shelf = shelved(&pool, class_of(SIZE));
    assert!(on_shelf >= 10, "{on_shelf} indices are on the shelf");
    assert!(handles.iter().all(|&handle| matches!(pool.map_raw(handle, MapMode::Read), Err(Error::Stale(_)))));
    let pages = pool.total_pages();
    let again = malloc(&pool, 10);
    let index = |handle: &u64| RawHandle::unpack(*handle).index.0;
    assert!(again.iter().all(|handle| handles.iter().any(|old| index(old) == index(handle))));
    assert_eq!(pool.total_pages(), pages);
    pool.check();
    assert_eq!(pool.stats().unwrap().objects, 10);
}

#[test]
fn compaction_gives_back_what_is_on_shelves_and_leaves_them_open() {
    let pool = pool_of(64 << 20);
    let handles = malloc(&pool, two_zspages());
    free_all(&pool, handles);
    assert!(shelved(&pool, class_of(SIZE)) > 0);
    pool.compact(&CompactBudget::default()).unwrap();
    let stats = pool.stats().unwrap();
    assert_eq!((stats.zspages, stats.total_pages), (0, stats.metadata_pages), "{stats:?}");
    pool.check();
    let handles = malloc(&pool, 5);
    open_shelves(&pool, SIZE);
    free_all(&pool, handles);
    pool.compact(&CompactBudget::default()).unwrap();
    assert!(has_shelves(&pool));
    pool.check();
}

/// What one processor left on its shelf is used by another one before the class takes memory.
#[test]
fn a_class_grows_only_when_its_shelves_are_empty() {
    let pool = pool_of(64 << 20);
    let mut handles: VecDeque<_> = malloc(&pool, 5 * 64).into();
    let pages = pool.total_pages();
    for round in 0..1000 {
        run_on(round / 3);
        let count = 1 + round % 20;
        free_all(&pool, handles.drain(..count).collect::<Vec<_>>());
        run_on(round);
        handles.extend(malloc(&pool, count));
        // The last page has room for slots after the last one that was used.
        assert!(pool.total_pages() <= pages + 1, "round {round}: {} pages were enough", pages);
        pool.check();
    }
}

#[test]
fn an_allocation_that_would_be_refused_gets_what_is_on_shelves() {
    const OTHER: usize = 3000;
    let pool = pool_of(16 << 20);
    let mut ours = malloc(&pool, two_zspages());
    let others: Vec<_> = std::iter::from_fn(|| pool.malloc_raw(OTHER).ok()).collect();
    assert!(!has_shelves(&pool), "a refusal closes them");
    open_shelves(&pool, SIZE);
    free_all(&pool, ours.drain(..));
    assert!(shelved(&pool, class_of(SIZE)) > 0);
    while pool.malloc_raw(OTHER).is_ok() {}
    pool.check();
    let state = pool.classes[class_of(SIZE).0 as usize].lock(&pool.memory);
    // One zspage stays, empty and warm.
    assert!(state.objects == 0 && state.zspages <= 1, "{} zspages, {} slots taken", state.zspages, state.objects);
    assert!(others.len() > 1000);
}

#[test]
fn a_class_that_becomes_mostly_free_closes_its_shelves() {
    let pool = pool_of(64 << 20);
    let handles = malloc(&pool, 20 * 64);
    for (at, handle) in handles.into_iter().enumerate() {
        run_on(at);
        free(&pool, handle).unwrap();
    }
    pool.check();
    assert!(!has_shelves(&pool));
    let stats = pool.stats().unwrap();
    assert!(stats.zspages <= 3, "{stats:?}");
}

#[test]
fn a_shrink_gives_back_what_its_callback_frees() {
    let pool = pool_of(64 << 20);
    let handles = malloc(&pool, 4 * 64);
    set_evict(&pool, free);
    let reclaimed = pool.shrink(1).unwrap();
    assert!(reclaimed > 0 && has_shelves(&pool), "{reclaimed} pages were reclaimed");
    assert_eq!(shelved(&pool, class_of(SIZE)), 0, "the callback's frees went to shelves");
    pool.check();
    drop(handles);
}

/// An index on a shelf goes to the end of a queue from time to time.
#[test]
fn a_stale_handle_is_refused_for_longer_than_one_index_lasts() {
    let pool = pool_of(64 << 20);
    let first = pool.malloc_raw(SIZE).unwrap();
    free(&pool, first).unwrap();
    let mut count = 0;
    loop {
        let handle = pool.malloc_raw(SIZE).unwrap();
        free(&pool, handle).unwrap();
        count += 1;
        if handle == first || count > 5 * 65_536 {
            break;
        }
    }
    assert!(count >= 4 * 65_536, "the handle was given out again after {count} allocations");
    pool.check();
}

#[test]
fn a_hardened_pool_with_shelves_refuses_a_stale_handle_for_ever() {
    let options = PoolOptions { hardened: true, ..options(64 << 20, Backing::Anonymous) };
    let pool = Pool::new("shelves", &options).unwrap();
    open_shelves(&pool, SIZE);
    run_on(0);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 * 65_536 {
        let handle = pool.malloc_raw(SIZE).unwrap();
        let RawHandle { index, generation, .. } = RawHandle::unpack(handle);
        assert!(!seen.contains(&index.0), "{handle:#x} has an index that came to its last use before");
        if generation == u16::MAX {
            seen.insert(index.0);
        }
        free(&pool, handle).unwrap();
    }
    assert!(seen.len() > 5, "{} indices came to their last use", seen.len());
    pool.check();
}

/// The child finds on the shelves what the parent left there. No other thread changes them meanwhile.
#[test]
fn shelves_survive_a_fork_that_is_prepared() {
    let pool = pool_of(64 << 20);
    free_all(&pool, malloc(&pool, 9));
    let on_shelves = shelved(&pool, class_of(SIZE));
    let work = || {
        assert_eq!(shelved(&pool, class_of(SIZE)), on_shelves);
        let handles = malloc(&pool, 9);
        pool.check();
        free_all(&pool, handles);
        pool.check();
    };
    let forking = pool.prepare_fork().unwrap();
    assert!(pool.shelves.are_locked());
    // SAFETY: the child uses the pool, and ends.
    let child = unsafe { libc::fork() };
    drop(forking);
    if child == 0 {
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!worked)) };
    }
    let mut status = -1;
    // SAFETY: the status can be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child failed");
    work();
}

/// A malloc meets another thread also if that one freed an object while the class was locked.
#[test]
fn threads_that_meet_in_one_class_open_its_shelves() {
    let pool = Pool::new("shelves", &options(64 << 20, Backing::Anonymous)).unwrap();
    let class = &pool.classes[class_of(SIZE).0 as usize];
    let mut met = 0;
    for handle in malloc(&pool, 20) {
        assert!(!has_shelves(&pool), "they are open after {met} meetings");
        let locked = class.lock(&pool.memory);
        thread::scope(|threads| threads.spawn(|| free(&pool, handle).unwrap()).join().unwrap());
        drop(locked);
        pool.malloc_raw(SIZE).unwrap();
        met += 1;
        if met == 8 {
            break;
        }
    }
    assert!(has_shelves(&pool), "they are closed after {met} meetings");
    pool.check();
}

#[test]
fn threads_on_two_processors_work_on_one_class_with_shelves() {
    let pool = pool_of(64 << 20);
    thread::scope(|threads| {
        for processor in 0..4_usize {
            let pool = &pool;
            threads.spawn(move || {
                run_on(processor);
                let mut handles = VecDeque::new();
                for round in 0..3000_u64 {
                    let key = processor as u64 * 1_000_000 + round;
                    handles.push_back((store(pool, key, SIZE).unwrap(), key));
                    while handles.len() > (round % 200) as usize {
                        let (handle, key) = handles.pop_front().unwrap();
                        super::shared::assert_holds(pool, handle, key, SIZE);
                        free(pool, handle).unwrap();
                    }
                    if round % 500 == 0 {
                        pool.compact(&CompactBudget::default()).unwrap();
                        open_shelves(pool, SIZE);
                    }
                }
                handles.into_iter().for_each(|(handle, _)| free(pool, handle).unwrap());
            });
        }
    });
    pool.check();
    assert_eq!(pool.stats().unwrap().objects, 0);
}

/// Replaces objects of many sizes at random, on two processors in turn. Returns how many pages the pool has then.
fn pages_after_churn(with_shelves: bool) -> u64 {
    let pool = Pool::new("shelves", &options(256 << 20, Backing::Anonymous)).unwrap();
    let mut rng = Rng::new(7);
    let size = |rng: &mut Rng| 300 + 32 * (rng.below(16) + rng.below(16));
    let mut handles: Vec<_> = (0..4000).map(|_| pool.malloc_raw(size(&mut rng)).unwrap()).collect();
    for round in 0..200_000 {
        run_on(round / 16);
        if with_shelves && round % 1000 == 0 {
            (0..31).for_each(|step| open_shelves(&pool, 300 + 32 * step));
        }
        let at = rng.below(handles.len());
        free(&pool, handles[at]).unwrap();
        handles[at] = pool.malloc_raw(size(&mut rng)).unwrap();
    }
    assert_eq!(pool.shelves.are_any_in_use(), with_shelves);
    pool.check();
    pool.total_pages()
}

#[test]
fn shelves_cost_no_memory_where_objects_of_many_sizes_are_replaced() {
    let (without, with) = (pages_after_churn(false), pages_after_churn(true));
    assert!(with * 1000 <= without * 1002, "{with} pages with shelves, {without} without");
}
