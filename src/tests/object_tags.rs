//! Tags: eight bytes of the program's beside each object, which the evict callback gets.

use super::shared::{assert_holds, free, options, pattern, write};
use crate::geometry::MAX_ALLOC_SIZE;
use crate::{Backing, CompactBudget, Error, Handle, MAX_TAGGED_SIZE, Pool, PoolOptions, PoolTuning, Verdict};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

fn pool(hardened: bool) -> Pool {
    let tuning = PoolTuning { tags: true, ..PoolTuning::default() };
    Pool::new("tags", &PoolOptions { hardened, tuning, ..options(64 << 20, Backing::Anonymous) }).unwrap()
}

/// Allocates an object that holds the pattern of its tag.
fn store(pool: &Pool, tag: u64, size: usize) -> u64 {
    let (handle, at) = pool.malloc_tagged_raw(size, tag).unwrap();
    // SAFETY: the object is mapped, this thread's, and that long.
    unsafe { at.copy_from(pattern(tag, size).as_ptr(), size) };
    super::shared::unmap(pool, handle).unwrap();
    handle
}

#[test]
fn tags_move_with_their_objects_and_writes_do_not_reach_them() {
    for hardened in [false, true] {
        let pool = pool(hardened);
        let mut objects: Vec<_> =
            (1..=MAX_TAGGED_SIZE).map(|size| (store(&pool, size as u64 * 3, size), size)).collect();
        for every in [2, 3, 5] {
            let (kept, gone): (Vec<_>, Vec<_>) = objects.into_iter().partition(|&(_, size)| size % every != 0);
            gone.into_iter().for_each(|(handle, _)| free(&pool, handle).unwrap());
            pool.compact(&CompactBudget::default()).unwrap();
            objects = kept;
            for &(handle, size) in &objects {
                assert_holds(&pool, handle, size as u64 * 3, size);
                assert_eq!(pool.tag_raw(handle), Ok(size as u64 * 3));
            }
        }
        assert!(pool.stats().unwrap().objects_moved > 0);
        for (handle, size) in objects {
            let usable = pool.class_size(size).unwrap();
            write(&pool, handle, pattern(1, usable)).unwrap();
            assert!(matches!(write(&pool, handle, pattern(1, usable + 1)), Err(Error::OutOfRange(_))));
            assert_eq!(pool.tag_raw(handle), Ok(size as u64 * 3), "the last byte was written");
            // SAFETY: there is no other handle of it.
            let long = unsafe { Handle::from_raw(handle, usable + 1) };
            assert!(long.is_none_or(|long| pool.map(&long).is_err()), "a mapping would show the tag");
        }
        pool.check();
    }
}

#[test]
fn objects_without_a_tag_have_0_in_a_slot_that_had_another() {
    let pool = pool(false);
    let first: Vec<_> = (0..500).map(|_| store(&pool, u64::MAX, 100)).collect();
    first.into_iter().for_each(|handle| free(&pool, handle).unwrap());
    for _ in 0..500 {
        assert_eq!(pool.tag_raw(pool.malloc_raw(100).unwrap()), Ok(0));
        assert_eq!(pool.tag_raw(pool.malloc_mapped_raw(100).unwrap().0), Ok(0));
    }
    pool.check();
}

#[test]
fn tags_are_refused_where_there_are_none_and_sizes_that_leave_no_room() {
    let pool = pool(false);
    for size in [MAX_TAGGED_SIZE + 1, MAX_ALLOC_SIZE, MAX_ALLOC_SIZE + 1, usize::MAX] {
        assert!(matches!(pool.malloc(size), Err(Error::TooLarge(_))), "{size}");
        assert!(matches!(pool.malloc_mapped(size).map(drop), Err(Error::TooLarge(_))), "{size}");
        assert!(matches!(pool.malloc_tagged(size, 1).map(drop), Err(Error::TooLarge(_))), "{size}");
        assert!(matches!(pool.class_size(size), Err(Error::TooLarge(_))), "{size}");
    }
    assert!(matches!(pool.malloc_tagged(0, 1).map(drop), Err(Error::Invalid(_))));
    assert!(matches!(pool.class_size(0), Err(Error::Invalid(_))));
    assert_eq!(pool.malloc_tagged(MAX_TAGGED_SIZE, 1).unwrap().len(), MAX_TAGGED_SIZE);
    let plain = Pool::new("tags", &options(64 << 20, Backing::Anonymous)).unwrap();
    assert!(matches!(plain.malloc_tagged(10, 1).map(drop), Err(Error::Invalid(_))));
    let handle = plain.malloc_raw(10).unwrap();
    assert!(matches!(plain.tag_raw(handle), Err(Error::Invalid(_))));
    plain.set_evict(|victim| if victim.tag() == 0 { Verdict::Keep } else { Verdict::Gone }).unwrap();
    assert!(matches!(plain.shrink(1), Err(Error::Again(_))), "without tags each is 0");
    assert_eq!((pool.mappings(), plain.mappings()), (0, 0));
    pool.check();
}

/// Threads fill a cache, another compacts, and all shrink. A victim that the index has under its tag is that of the
/// tag, and holds its pattern.
#[test]
fn a_victim_is_found_by_its_tag_while_others_allocate_and_compact() {
    const SIZE: usize = 300;
    let pool = pool(false);
    let index = Arc::<Mutex<HashMap<u64, Handle>>>::default();
    let shared = index.clone();
    pool.set_evict(move |victim| {
        let handle = shared.lock().unwrap().remove(&victim.tag()).expect("no other thread takes it out");
        assert!(victim.is(&handle));
        assert!(*victim.pool().map(&handle).unwrap() == *pattern(victim.tag(), SIZE));
        Verdict::Free(handle)
    })
    .unwrap();
    let done = AtomicBool::new(false);
    let work = |first: u64| {
        for tag in (first..first + 40_000).step_by(4) {
            let mut new = pool.malloc_tagged(SIZE, tag).unwrap();
            new.copy_from_slice(pattern(tag, SIZE));
            assert!(index.lock().map(|mut index| index.insert(tag, new.finish())).unwrap().is_none());
            if tag % 64 < 4 {
                let _ = pool.shrink(1);
            }
        }
    };
    thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Relaxed) {
                pool.compact(&CompactBudget::default()).unwrap();
            }
        });
        let workers: Vec<_> = (0..4).map(|first| threads.spawn(move || work(first))).collect();
        let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        done.store(true, Relaxed);
        assert_eq!(failed, 0);
    });
    let left = index.lock().unwrap().len() as u64;
    // A panic in the callback would have kept its object, and lost the handle.
    assert_eq!(pool.stats().unwrap().objects, left);
    assert!(left < 40_000, "some were evicted");
    pool.check();
}
