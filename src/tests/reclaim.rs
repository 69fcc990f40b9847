//! The evict callback: which objects it is offered, in which order, and what it may do.

use super::shared::{assert_holds, free, options, set_evict, store, unmap};
use crate::error::sentence;
use crate::geometry::{self, class_of};
use crate::word::RawHandle;
use crate::{
    Backing, CompactBudget, Error, Handle, HugePages, MapMode, Pool, PoolOptions, PoolTuning, Result, Verdict, Victim,
};
use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const SIZE: usize = 1000;
const NOT_NOW: Error = Error::Again(sentence(&"the test's callback keeps it"));

/// Returns how many objects of [`SIZE`] a zspage holds.
fn slots() -> usize {
    geometry::of(class_of(SIZE)).slots as usize
}

fn pages() -> u64 {
    geometry::of(class_of(SIZE)).pages as u64
}

fn pool() -> Pool {
    Pool::new("reclaim", &options(64 << 20, Backing::Anonymous)).unwrap()
}

/// A callback that frees each object and notes its handle.
fn set_free(pool: &Pool) -> Arc<Mutex<Vec<u64>>> {
    let offered = Arc::<Mutex<Vec<u64>>>::default();
    let note = offered.clone();
    set_evict(pool, move |pool, handle| {
        note.lock().unwrap().push(handle);
        free(pool, handle)
    });
    offered
}

/// Fills this many zspages with objects, and returns the handles of each.
fn fill(pool: &Pool, zspages: usize) -> Vec<Vec<u64>> {
    let zspage =
        |first: usize| (first * slots()..(first + 1) * slots()).map(|key| store(pool, key as u64, SIZE).unwrap());
    (0..zspages).map(|first| zspage(first).collect()).collect()
}

fn zspage_of(pool: &Pool, handle: u64) -> u32 {
    pool.memory.word(RawHandle::unpack(handle).index).peek().place().zspage.0
}

fn assert_again<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Again(_))), "{result:?}");
}

#[test]
fn results_say_why_nothing_went() {
    let pool = pool();
    assert!(matches!(pool.shrink(1), Err(Error::Invalid(_))), "there is no callback");
    let offered = set_free(&pool);
    assert!(matches!(pool.shrink(1), Err(Error::NotFound(_))), "there is nothing");
    let handles = fill(&pool, 3);
    assert_eq!(pool.shrink(0).unwrap(), 0);
    assert!(offered.lock().unwrap().is_empty());
    assert_eq!(pool.shrink(1).unwrap(), pages(), "a zspage goes whole");
    assert_eq!(pool.shrink(1000).unwrap(), 2 * pages(), "all that there is");
    assert_eq!(offered.lock().unwrap().len(), 3 * slots());
    assert!(matches!(pool.shrink(1), Err(Error::NotFound(_))));
    assert_eq!(pool.stats().unwrap().pages_reclaimed, 3 * pages());
    assert!(handles.iter().flatten().all(|&handle| pool.map_raw(handle, MapMode::Read).is_err()));
    pool.clear_evict().unwrap();
    assert!(matches!(pool.shrink(1), Err(Error::Invalid(_))));
    pool.check();
}

#[test]
fn the_zspage_longest_unused_goes_first() {
    // Also where the count of epochs goes round in between.
    [0, u32::MAX - 15, u32::MAX - 8, u32::MAX - 2, u32::MAX].into_iter().for_each(longest_unused_goes_first_from);
}

fn longest_unused_goes_first_from(epoch: u32) {
    let pool = pool();
    let offered = set_free(&pool);
    pool.reclaim.set_epoch(epoch);
    let handles = fill(&pool, 6);
    // A new zspage begins another epoch.
    for used in [0, 4, 2] {
        pool.map_raw(handles[used][1], MapMode::Read).unwrap();
        unmap(&pool, handles[used][1]).unwrap();
        fill(&pool, 1);
    }
    let mut order = Vec::new();
    while order.len() < 6 {
        pool.shrink(1).unwrap();
        let mut offered = offered.lock().unwrap();
        let first = offered[0];
        order.extend(handles.iter().position(|zspage| zspage.contains(&first)));
        offered.clear();
        pool.check();
    }
    assert_eq!(order, [1, 3, 5, 0, 4, 2]);
}

#[test]
fn a_failing_callback_keeps_its_object_and_ends_its_zspage() {
    for fails_at in [0, 1, slots() / 2, slots() - 1] {
        let pool = pool();
        let handles = fill(&pool, 3);
        let failing: HashSet<_> = handles.iter().map(|zspage| zspage[fails_at]).collect();
        set_evict(&pool, move |pool, handle| if failing.contains(&handle) { Err(NOT_NOW) } else { free(pool, handle) });
        assert_again(pool.shrink(1));
        pool.check();
        for (zspage, handles) in handles.iter().enumerate() {
            let gone = handles.iter().take_while(|&&handle| pool.map_raw(handle, MapMode::Read).is_err()).count();
            assert!(gone == 0 || gone == fails_at, "{gone} of zspage {zspage} are gone");
            let kept = handles.iter().enumerate().skip(gone);
            kept.for_each(|(slot, &handle)| assert_holds(&pool, handle, (zspage * slots() + slot) as u64, SIZE));
        }
        assert!(pool.stats().unwrap().objects < 3 * slots() as u64 || fails_at == 0);
        set_free(&pool);
        // Mapped in the loop above.
        assert_again(pool.shrink(1));
        pool.check();
    }
}

#[test]
fn a_shrink_ends_after_eight_zspages_that_gave_nothing() {
    let pool = pool();
    let handles = fill(&pool, 20);
    let offered = Arc::<Mutex<Vec<u64>>>::default();
    let note = offered.clone();
    set_evict(&pool, move |_, handle| {
        note.lock().unwrap().push(handle);
        Err(NOT_NOW)
    });
    assert_again(pool.shrink(1));
    assert_eq!(offered.lock().unwrap().len(), 8);
    // Those that failed are not the coldest any more: the next shrinks offer the others.
    assert_again(pool.shrink(1));
    assert_again(pool.shrink(1));
    let met: HashSet<_> = offered.lock().unwrap().iter().map(|&handle| zspage_of(&pool, handle)).collect();
    assert_eq!(met.len(), 20);
    handles.iter().flatten().enumerate().for_each(|(key, &handle)| assert_holds(&pool, handle, key as u64, SIZE));
    pool.check();
}

#[test]
fn a_panic_counts_as_a_failure() {
    let pool = pool();
    let handles = fill(&pool, 3);
    let bad = handles[1][0];
    set_evict(&pool, move |pool, handle| match handle == bad {
        true => resume_unwind(Box::new("the test's callback")),
        false => free(pool, handle),
    });
    assert_eq!(pool.shrink(1000).unwrap(), 2 * pages());
    assert_eq!(pool.stats().unwrap().objects, slots() as u64);
    assert_holds(&pool, bad, slots() as u64, SIZE);
    pool.check();
}

#[test]
fn a_callback_may_free_mapped_and_other_objects() {
    let pool = pool();
    let handles: Arc<Mutex<Vec<u64>>> = Arc::new(Mutex::new(fill(&pool, 5).concat()));
    let left = handles.clone();
    set_evict(&pool, move |pool, handle| {
        // The one that it was offered, the next in the same zspage, and the last of all.
        let mut left = left.lock().unwrap();
        let at = left.iter().position(|&other| other == handle).unwrap();
        let last = left.len() - 1;
        for index in [last, at + 1, at] {
            if index < left.len() {
                free(pool, left.remove(index)).unwrap();
            }
        }
        Ok(())
    });
    assert!(pool.shrink(2 * pages()).unwrap() >= pages());
    pool.check();
    assert_eq!(pool.stats().unwrap().objects, handles.lock().unwrap().len() as u64);
    while pool.shrink(100).is_ok() {}
    assert_eq!(pool.stats().unwrap().objects, 0);
    pool.check();
}

#[test]
fn a_callback_may_allocate_compact_and_shrink() {
    let pool = pool();
    // Zspages are stamped once there was a callback: the small objects are younger than the others.
    set_free(&pool);
    let handles = fill(&pool, 6).concat();
    let small: Vec<_> = (0..3000).map(|key| store(&pool, key, 100).unwrap()).collect();
    small.iter().skip(1).step_by(2).for_each(|&handle| free(&pool, handle).unwrap());
    let (made, inside) = (Arc::<Mutex<Vec<u64>>>::default(), AtomicBool::new(false));
    let (note, all) = (made.clone(), handles.clone());
    set_evict(&pool, move |pool, handle| {
        if !all.contains(&handle) {
            return Err(NOT_NOW);
        }
        if !inside.swap(true, Relaxed) {
            note.lock().unwrap().push(store(pool, 77, 3000).unwrap());
            pool.compact(&CompactBudget { max_bytes_moved: Some(1000), max_time: None }).unwrap();
            assert!(pool.stats().unwrap().objects > 0);
            let inner = pool.shrink(1);
            assert!(matches!(inner, Ok(_) | Err(Error::Again(_))), "{inner:?}");
            inside.store(false, Relaxed);
        }
        free(pool, handle)
    });
    pool.shrink(3 * pages()).unwrap();
    pool.check();
    assert!(pool.stats().unwrap().objects_moved > 0);
    let made = made.lock().unwrap();
    assert!(!made.is_empty());
    made.iter().for_each(|&handle| assert_holds(&pool, handle, 77, 3000));
    assert!(handles.iter().any(|&handle| pool.map_raw(handle, MapMode::Read).is_err()));
    small.iter().step_by(2).enumerate().for_each(|(at, &handle)| assert_holds(&pool, handle, 2 * at as u64, 100));
}

#[test]
fn mapped_objects_are_not_offered() {
    let pool = pool();
    let handles = fill(&pool, 2);
    let mapped = handles[0][3];
    let object = pool.map_raw(mapped, MapMode::Read).unwrap();
    // Published, and still being written.
    let (new, _) = pool.malloc_mapped_raw(SIZE).unwrap();
    let offered = set_free(&pool);
    assert_eq!(pool.shrink(1000).unwrap(), pages(), "the second zspage; the others are held");
    assert!(!offered.lock().unwrap().contains(&mapped) && !offered.lock().unwrap().contains(&new));
    assert_eq!(offered.lock().unwrap().len(), 2 * slots() - 1);
    assert_eq!(pool.map_raw(mapped, MapMode::Read).unwrap(), object);
    assert_holds(&pool, mapped, 3, SIZE);
    pool.check();
    unmap(&pool, mapped).unwrap();
    unmap(&pool, mapped).unwrap();
    unmap(&pool, new).unwrap();
    // Pages that were never touched were not the pool's.
    assert!(pool.shrink(1000).unwrap() > pages());
    assert_eq!(pool.stats().unwrap().objects, 0);
    pool.check();
}

/// Zspages that can't go, because an object in them is mapped, do not keep others from their turn for ever.
#[test]
fn zspages_that_are_held_do_not_block_the_others() {
    let pool = pool();
    set_free(&pool);
    for _ in 0..20 {
        pool.malloc_mapped_raw(SIZE).unwrap();
        (1..slots()).for_each(|key| _ = store(&pool, key as u64, SIZE).unwrap());
    }
    fill(&pool, 10);
    let gone: u64 = (0..5).map(|_| pool.shrink(1).unwrap_or(0)).sum();
    assert!(gone > 0, "five shrinks met only zspages that are held");
    pool.check();
}

/// Objects that a callback says it frees, and frees later, do not keep others from their turn.
#[test]
fn objects_that_go_later_do_not_block_the_others() {
    let pool = pool();
    let later = Arc::<Mutex<HashSet<u64>>>::default();
    let kept = later.clone();
    set_evict(
        &pool,
        move |pool, handle| if kept.lock().unwrap().contains(&handle) { Ok(()) } else { free(pool, handle) },
    );
    later.lock().unwrap().extend(fill(&pool, 20).concat());
    fill(&pool, 10);
    let gone: u64 = (0..5).map(|_| pool.shrink(1).unwrap_or(0)).sum();
    assert!(gone > 0, "five shrinks met only objects that stay");
    pool.check();
}

#[test]
fn a_callback_may_unmap_once_too_often() {
    for frees in [true, false] {
        let pool = pool();
        let handles = fill(&pool, 2);
        set_evict(&pool, move |pool, handle| {
            unmap(pool, handle).unwrap();
            if frees { free(pool, handle) } else { Ok(()) }
        });
        let result = pool.shrink(1000);
        assert_eq!(result.is_ok(), frees, "{result:?}");
        pool.check();
        assert_eq!(pool.mappings(), 0);
        assert_eq!(pool.stats().unwrap().objects == 0, frees);
        assert!(frees || handles.concat().into_iter().all(|handle| free(&pool, handle).is_ok()));
        pool.check();
    }
}

#[test]
fn a_handle_is_not_reused_under_its_callback() {
    let pool = pool();
    fill(&pool, 3);
    let made = Arc::<Mutex<Vec<u64>>>::default();
    let note = made.clone();
    set_evict(&pool, move |pool, handle| {
        free(pool, handle).unwrap();
        let index = |handle| RawHandle::unpack(handle).index;
        for _ in 0..50 {
            let new = store(pool, 5, SIZE).unwrap();
            assert_ne!(index(new), index(handle), "{handle:#x} was reused under its callback");
            note.lock().unwrap().push(new);
        }
        note.lock().unwrap().drain(..).for_each(|new| free(pool, new).unwrap());
        assert!(pool.map_raw(handle, MapMode::Read).is_err());
        Ok(())
    });
    // If an assertion in the callback failed, nothing would go.
    assert_eq!(pool.shrink(1).unwrap(), pages());
    pool.check();
}

#[test]
fn a_shrink_goes_on_with_the_callback_that_it_began_with() {
    let pool = pool();
    fill(&pool, 2);
    set_evict(&pool, |pool, handle| {
        pool.clear_evict().unwrap();
        free(pool, handle)
    });
    assert_eq!(pool.shrink(1000).unwrap(), 2 * pages());
    assert!(matches!(pool.shrink(1), Err(Error::Invalid(_))));
    pool.check();
}

/// A zspage keeps its age when compaction moves all of it.
#[test]
fn a_move_to_another_chunk_does_not_make_a_zspage_old() {
    let all = PoolOptions {
        tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() },
        ..options(64 << 20, Backing::Anonymous)
    };
    let pool = Pool::new("reclaim", &all).unwrap();
    let offered = set_free(&pool);
    let handles = fill(&pool, 500);
    // Every third zspage stays; the emptiest chunks are emptied, and the zspages in them move.
    let (kept, gone): (Vec<_>, Vec<_>) = handles.iter().enumerate().partition(|(at, _)| at % 3 == 0);
    gone.iter().flat_map(|(_, zspage)| *zspage).for_each(|&handle| free(&pool, handle).unwrap());
    let chunks = pool.stats().unwrap().whole_chunks;
    pool.compact(&CompactBudget::default()).unwrap();
    assert!(pool.stats().unwrap().whole_chunks < chunks && pool.stats().unwrap().objects_moved > 0);
    pool.check();
    pool.shrink(1).unwrap();
    let oldest = kept[0].1;
    assert!(offered.lock().unwrap().iter().all(|handle| oldest.contains(handle)), "the oldest zspage goes first");
}

/// A callback that looks the victim up in an index of handles, as a cache does.
fn set_index(pool: &Pool) -> Arc<Mutex<HashMap<u64, Handle>>> {
    let index = Arc::<Mutex<HashMap<u64, Handle>>>::default();
    let shared = index.clone();
    let evict = move |victim: Victim<'_>| {
        let handle = shared.lock().unwrap().remove(&victim.raw());
        assert!(handle.as_ref().is_none_or(|handle| victim.is(handle)));
        handle.map_or(Verdict::Gone, Verdict::Free)
    };
    pool.set_evict(evict).unwrap();
    index
}

/// Allocates an object and enters its handle.
fn enter(pool: &Pool, index: &Mutex<HashMap<u64, Handle>>) {
    let (mut new, mut index) = (pool.malloc_mapped(SIZE).unwrap(), index.lock().unwrap());
    new.fill(7);
    let handle = new.finish();
    index.insert(handle.raw(), handle);
}

#[test]
fn the_pool_frees_what_the_callback_says_may_go() {
    let pool = pool();
    let index = set_index(&pool);
    (0..3 * slots()).for_each(|_| enter(&pool, &index));
    // Handles that another thread took out, and is about to free.
    let taken: Vec<_> = index.lock().unwrap().extract_if(|raw, _| raw % 5 == 0).map(|(_, handle)| handle).collect();
    assert!(!taken.is_empty());
    let _ = pool.shrink(1000);
    assert!(index.lock().unwrap().is_empty());
    assert_eq!(pool.stats().unwrap().objects, taken.len() as u64);
    taken.into_iter().for_each(|handle| pool.free(handle).unwrap());
    pool.check();
    assert_eq!((pool.stats().unwrap().objects, pool.mappings()), (0, 0));
}

/// The handle of another pool frees nothing, and the victim stays.
#[test]
fn a_verdict_about_another_pools_object_frees_nothing() {
    let (pool, other) = (pool(), Arc::new(pool()));
    let handles = fill(&pool, 1).concat();
    let strange = other.clone();
    pool.set_evict(move |_| Verdict::Free(strange.malloc(SIZE).unwrap())).unwrap();
    assert!(matches!(pool.shrink(1), Err(Error::Again(_))));
    assert_eq!(other.stats().unwrap().objects, 8, "each of eight offers of the zspage ends at its first object");
    handles.into_iter().enumerate().for_each(|(key, handle)| assert_holds(&pool, handle, key as u64, SIZE));
    pool.check();
}

/// A callback may read its victim through the handle, and keep it.
#[test]
fn a_callback_may_map_what_it_is_offered() {
    let pool = pool();
    let index = Arc::<Mutex<Vec<Handle>>>::default();
    let shared = index.clone();
    pool.set_evict(move |victim| {
        let mut index = shared.lock().unwrap();
        let at = index.iter().position(|handle| victim.is(handle)).unwrap();
        victim.pool().map_mut(&mut index[at]).unwrap()[0] += 1;
        if index.len() > 1 { Verdict::Free(index.swap_remove(at)) } else { Verdict::Keep }
    })
    .unwrap();
    for byte in 0..3 {
        let mut new = pool.malloc_mapped(SIZE).unwrap();
        new[0] = byte * 10;
        index.lock().unwrap().push(new.finish());
    }
    assert!(matches!(pool.shrink(1), Err(Error::Again(_))));
    let index = index.lock().unwrap();
    assert_eq!(pool.map(&index[0]).unwrap()[0], 20 + 8, "it was offered last, and eight times, and kept");
    assert_eq!(pool.stats().unwrap().objects, 1);
}
