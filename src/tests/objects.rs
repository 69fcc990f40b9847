//! Objects and handles: sizes, modes, pins, generations, and every misuse that is refused.

use super::shared::{assert_holds, free, options, pattern, store, unmap, write};
use crate::geometry::{self, MAX_ALLOC_SIZE, class_of};
use crate::tests::shared::ReadObject;
use crate::units::Place;
use crate::word::{MAX_PINS, RawHandle};
use crate::{Backing, CompactBudget, Error, Handle, MapMode, Pool, PoolOptions};

fn pool() -> Pool {
    Pool::new("objects", &options(64 << 20, Backing::Anonymous)).unwrap()
}

fn hardened() -> Pool {
    Pool::new("objects", &PoolOptions { hardened: true, ..options(64 << 20, Backing::Anonymous) }).unwrap()
}

/// Returns where an object lies.
fn place_of(pool: &Pool, handle: u64) -> Place {
    pool.memory.word(RawHandle::unpack(handle).index).peek().place()
}

fn assert_stale<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Stale(_))), "{result:?}");
}

#[test]
fn every_size_is_read_back_across_compactions() {
    for pool in [pool(), hardened()] {
        // Two objects of each size.
        let keys = (1..=2 * MAX_ALLOC_SIZE as u64).map(|key| (key, key.div_ceil(2) as usize));
        let mut objects: Vec<_> = keys.map(|(key, size)| (key, size, store(&pool, key, size).unwrap())).collect();
        for every in [2, 3, 10] {
            let before = pool.total_pages();
            let (kept, freed): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(key, ..)| key.is_multiple_of(every));
            freed.into_iter().for_each(|(.., handle)| free(&pool, handle).unwrap());
            let gone = pool.compact(&CompactBudget::default()).unwrap();
            assert!(gone > 0 && pool.total_pages() < before);
            pool.check();
            objects = kept;
            objects.iter().for_each(|&(key, size, handle)| assert_holds(&pool, handle, key, size));
        }
        assert!(pool.stats().unwrap().objects_moved > 0);
        objects.into_iter().for_each(|(.., handle)| free(&pool, handle).unwrap());
        pool.check();
    }
}

#[test]
fn class_sizes_fit_and_wrong_sizes_are_refused() {
    let pool = pool();
    for size in 1..=MAX_ALLOC_SIZE {
        let bytes = pool.class_size(size).unwrap();
        assert!(bytes >= size && (size == 1 || bytes >= pool.class_size(size - 1).unwrap()));
        let handle = pool.malloc_raw(size).unwrap();
        let mut buffer = [0; MAX_ALLOC_SIZE + 1];
        pool.read_object(handle, &mut buffer[..bytes]).unwrap();
        let past_end = [pool.read_object(handle, &mut buffer[..=bytes]), write(&pool, handle, &buffer[..=bytes])];
        assert!(past_end.iter().all(|refused| matches!(refused, Err(Error::OutOfRange(_)))), "{past_end:?}");
        free(&pool, handle).unwrap();
    }
    assert!(matches!(pool.malloc_raw(0), Err(Error::Invalid(_))));
    assert!(matches!(pool.malloc_mapped_raw(0), Err(Error::Invalid(_))));
    assert!(matches!(pool.class_size(0), Err(Error::Invalid(_))));
    for size in [MAX_ALLOC_SIZE + 1, 2 * MAX_ALLOC_SIZE, usize::MAX] {
        assert!(matches!(pool.malloc_raw(size), Err(Error::TooLarge(_))));
        assert!(matches!(pool.malloc_mapped_raw(size), Err(Error::TooLarge(_))));
        assert!(matches!(pool.class_size(size), Err(Error::TooLarge(_))));
    }
    pool.check();
}

#[test]
fn objects_go_to_the_fullest_zspage_with_room() {
    let (pool, size) = (pool(), 1024);
    let slots = crate::geometry::of(class_of(size)).slots as usize;
    let handles: Vec<_> = (0..3 * slots).map(|key| store(&pool, key as u64, size).unwrap()).collect();
    // The first keeps a quarter, the second loses a quarter, the third keeps half.
    let quarter = slots / 4;
    handles[quarter..slots].iter().for_each(|&handle| free(&pool, handle).unwrap());
    handles[slots..slots + quarter].iter().for_each(|&handle| free(&pool, handle).unwrap());
    handles[2 * slots..2 * slots + slots / 2].iter().for_each(|&handle| free(&pool, handle).unwrap());
    let fullest = place_of(&pool, handles[2 * slots - 1]).zspage;
    for _ in 0..quarter {
        assert_eq!(place_of(&pool, pool.malloc_raw(size).unwrap()).zspage, fullest);
    }
    let next = place_of(&pool, handles[3 * slots - 1]).zspage;
    assert_eq!(place_of(&pool, pool.malloc_raw(size).unwrap()).zspage, next);
    pool.check();
}

#[test]
fn modes_map_the_same_bytes() {
    let pool = pool();
    let handle = store(&pool, 5, 2000).unwrap();
    for mode in [MapMode::Read, MapMode::ReadWrite, MapMode::Write] {
        let object = pool.map_raw(handle, mode).unwrap();
        // SAFETY: the object is mapped, and that long.
        let mapped = unsafe { std::slice::from_raw_parts(object, 2000) };
        assert!(*mapped == *pattern(5, 2000), "{mode:?}: what is not written stays");
        unmap(&pool, handle).unwrap();
    }
    let object = pool.map_raw(handle, MapMode::Write).unwrap();
    // SAFETY: the object is mapped to write, and that long.
    unsafe { object.copy_from(pattern(6, 1000).as_ptr(), 1000) };
    unmap(&pool, handle).unwrap();
    assert_holds(&pool, handle, 6, 1000);
    let mut buffer = [0; 2000];
    pool.read_object(handle, &mut buffer).unwrap();
    assert!(buffer[1000..] == pattern(5, 2000)[1000..]);
    free(&pool, handle).unwrap();
}

#[test]
fn a_mapped_object_stays_where_it_is_and_outlives_its_free() {
    let pool = pool();
    let handles: Vec<_> = (0..200).map(|key| store(&pool, key, 3000).unwrap()).collect();
    let kept = handles[199];
    let object = pool.map_raw(kept, MapMode::Read).unwrap();
    assert_eq!(pool.map_raw(kept, MapMode::ReadWrite).unwrap(), object);
    handles[..199].iter().for_each(|&handle| free(&pool, handle).unwrap());
    pool.compact(&CompactBudget::default()).unwrap();
    pool.check();
    free(&pool, kept).unwrap();
    assert_stale(free(&pool, kept));
    assert_stale(pool.map_raw(kept, MapMode::Read));
    assert_stale(pool.read_object(kept, &mut [0]));
    pool.compact(&CompactBudget::default()).unwrap();
    // SAFETY: the object is still mapped, and that long.
    assert!(unsafe { std::slice::from_raw_parts(object, 3000) } == pattern(199, 3000));
    assert_eq!(pool.stats().unwrap().objects, 1);
    unmap(&pool, kept).unwrap();
    assert_eq!(pool.stats().unwrap().objects, 1, "one mapping is left");
    unmap(&pool, kept).unwrap();
    assert_stale(unmap(&pool, kept));
    assert_eq!(pool.stats().unwrap().objects, 0);
    pool.check();
}

#[test]
fn one_mapping_too_many_is_busy() {
    let pool = pool();
    let handle = store(&pool, 1, 100).unwrap();
    (0..MAX_PINS).for_each(|_| assert!(pool.map_raw(handle, MapMode::Read).is_ok()));
    for mode in [MapMode::Read, MapMode::ReadWrite, MapMode::Write] {
        assert!(matches!(pool.map_raw(handle, mode), Err(Error::Busy(_))));
    }
    assert!(matches!(pool.read_object(handle, &mut [0]), Err(Error::Busy(_))));
    unmap(&pool, handle).unwrap();
    assert_holds(&pool, handle, 1, 100);
    (0..MAX_PINS - 1).for_each(|_| unmap(&pool, handle).unwrap());
    assert_stale(unmap(&pool, handle));
    free(&pool, handle).unwrap();
    pool.check();
}

#[test]
fn stale_foreign_and_made_up_handles_are_refused() {
    let (pool, other) = (pool(), super::objects::pool());
    let (handle, foreign) = (store(&pool, 1, 100).unwrap(), store(&other, 2, 100).unwrap());
    let freed = store(&pool, 3, 100).unwrap();
    free(&pool, freed).unwrap();
    let bits = (0..64).map(|bit| handle ^ 1 << bit);
    for wrong in [freed, foreign, 0, 1, u64::MAX, handle.wrapping_add(1 << 32)].into_iter().chain(bits) {
        for mode in [MapMode::Read, MapMode::ReadWrite, MapMode::Write] {
            assert_stale(pool.map_raw(wrong, mode));
        }
        assert_stale(unmap(&pool, wrong));
        assert_stale(free(&pool, wrong));
        assert_stale(pool.read_object(wrong, &mut [0]));
        assert_stale(write(&pool, wrong, &[0]));
    }
    assert_stale(unmap(&pool, handle));
    assert_holds(&pool, handle, 1, 100);
    assert_holds(&other, foreign, 2, 100);
    pool.check();
}

#[test]
fn a_pool_with_mappings_is_not_destroyed_from_c() {
    let pool = pool();
    let handle = store(&pool, 1, 100).unwrap();
    pool.map_raw(handle, MapMode::Read).unwrap();
    assert!(matches!(pool.check_unmapped(), Err(Error::Busy(_))));
    free(&pool, handle).unwrap();
    assert!(matches!(pool.check_unmapped(), Err(Error::Busy(_))));
    unmap(&pool, handle).unwrap();
    store(&pool, 2, 100).unwrap();
    assert_eq!(pool.check_unmapped(), Ok(()), "live objects go with it");
}

#[test]
fn handles_and_guards_do_what_raw_calls_do() {
    let pool = pool();
    let mut new = pool.malloc_mapped(500).unwrap();
    new.copy_from_slice(pattern(9, 500));
    pool.compact(&CompactBudget::default()).unwrap();
    let mut handle = new.finish();
    assert!(*pool.map(&handle).unwrap() == *pattern(9, 500));
    pool.map_mut(&mut handle).unwrap().copy_from_slice(pattern(10, 500));
    let mut buffer = [0; 500];
    pool.read(&handle, &mut buffer).unwrap();
    assert!(buffer == *pattern(10, 500));
    pool.write(&mut handle, pattern(11, 500)).unwrap();
    let raw = handle.into_raw();
    // SAFETY: its `Handle` is gone.
    let handle = unsafe { Handle::from_raw(raw, 500) }.unwrap();
    assert!(*pool.map(&handle).unwrap() == *pattern(11, 500));
    pool.free(handle).unwrap();
    drop(pool.malloc_mapped(500).unwrap());
    assert_eq!(pool.stats().unwrap().objects, 0, "a new object that is dropped unfinished is freed");
    let lost = pool.malloc(10).unwrap();
    assert_stale(super::objects::pool().free(lost));
    pool.check();
}

/// Objects are as long as was asked for, whatever their slots have.
#[test]
fn a_mapped_object_is_as_long_as_was_asked_for() {
    let pool = pool();
    for size in 1..=MAX_ALLOC_SIZE {
        let mut new = pool.malloc_mapped(size).unwrap();
        assert_eq!(new.len(), size);
        new.copy_from_slice(pattern(3, size));
        let mut handle = new.finish();
        assert_eq!(handle.len(), size);
        assert!(*pool.map(&handle).unwrap() == *pattern(3, size));
        assert_eq!(pool.map_mut(&mut handle).unwrap().len(), size);
        let mut buffer = [0; MAX_ALLOC_SIZE + 1];
        pool.read(&handle, &mut buffer[..size]).unwrap();
        assert!(matches!(pool.read(&handle, &mut buffer[..=size]), Err(Error::OutOfRange(_))));
        assert!(matches!(pool.write(&mut handle, &buffer[..=size]), Err(Error::OutOfRange(_))));
        assert_eq!(pool.malloc(size).unwrap().len(), size);
        pool.free(handle).unwrap();
    }
    pool.check();
}

/// A handle that is made of a number may be given any length, so its length is checked against the slot.
#[test]
fn a_handle_of_a_number_is_never_longer_than_its_slot() {
    let pool = pool();
    for size in [1, 64, 1000, MAX_ALLOC_SIZE] {
        let raw = pool.malloc(size).unwrap().into_raw();
        let slot = pool.class_size(size).unwrap();
        // SAFETY: its `Handle` is gone, and each of these goes before the next is made.
        let made_of = |len| unsafe { Handle::from_raw(raw, len) };
        assert_eq!(pool.map_mut(&mut made_of(slot).unwrap()).unwrap().len(), slot);
        assert!(made_of(0).is_none() && made_of(MAX_ALLOC_SIZE + 1).is_none());
        if let Some(mut long) = made_of(slot + 1) {
            let refused = |result| assert!(matches!(result, Err(Error::OutOfRange(_))));
            refused(pool.map(&long).map(drop));
            refused(pool.map_mut(&mut long).map(drop));
            refused(pool.read(&long, &mut [0]));
            refused(pool.write(&mut long, &[0]));
        }
        assert_eq!(pool.mappings(), 0, "what was refused is not mapped");
        pool.free(made_of(size).unwrap()).unwrap();
    }
    // SAFETY: 0 is never a handle.
    assert!(unsafe { Handle::from_raw(0, 1) }.is_none());
    pool.check();
}

#[test]
fn a_hardened_pool_shows_nothing_of_what_was_freed_or_moved() {
    let (pool, size) = (hardened(), 1000);
    let bytes = pool.class_size(size).unwrap();
    let mut handles: Vec<_> = (0..500).map(|key| store(&pool, key, bytes).unwrap()).collect();
    let mut freed: Vec<_> = handles.iter().copied().filter(|handle| handle % 7 != 0).collect();
    handles.retain(|handle| handle % 7 == 0);
    // Some while mapped, some with the lock taken.
    let (mapped, others) = freed.split_at_mut(50);
    mapped.iter().for_each(|&handle| assert!(pool.map_raw(handle, MapMode::Read).is_ok()));
    mapped.iter().for_each(|&handle| free(&pool, handle).unwrap());
    let lock = pool.classes[class_of(size).0 as usize].lock(&pool.memory);
    others[..50].iter().for_each(|&handle| free(&pool, handle).unwrap());
    drop(lock);
    others[50..].iter().for_each(|&handle| free(&pool, handle).unwrap());
    mapped.iter().for_each(|&handle| unmap(&pool, handle).unwrap());
    pool.compact(&CompactBudget { max_bytes_moved: Some(30_000), max_time: None }).unwrap();
    for _ in 0..600 {
        let (handle, mut buffer) = (pool.malloc_raw(size).unwrap(), [1; MAX_ALLOC_SIZE]);
        pool.read_object(handle, &mut buffer[..bytes]).unwrap();
        assert!(buffer[..bytes].iter().all(|&byte| byte == 0), "{handle:#x} shows what another held");
    }
    pool.check();
}

#[test]
fn the_next_holder_of_the_lock_releases_what_was_freed_under_it() {
    let pool = pool();
    let handles: Vec<_> = (0..100).map(|key| store(&pool, key, 700).unwrap()).collect();
    let lock = pool.classes[class_of(700).0 as usize].lock(&pool.memory);
    handles[..99].iter().for_each(|&handle| free(&pool, handle).unwrap());
    handles[..99].iter().for_each(|&handle| assert_stale(free(&pool, handle)));
    assert_eq!(lock.objects, 100, "nobody waits for the lock");
    drop(lock);
    assert_eq!(pool.stats().unwrap().objects, 1);
    pool.check();
    assert_holds(&pool, handles[99], 99, 700);
    pool.compact(&CompactBudget::default()).unwrap();
    pool.check();
    assert_eq!(pool.stats().unwrap().zspages, 1);
}

/// How often an index is used before its generation wraps.
const GENERATIONS: usize = 1 << 16;

#[test]
fn a_stale_handle_is_refused_until_its_index_was_used_65536_times() {
    let pool = pool();
    let first = pool.malloc_raw(64).unwrap();
    let index = RawHandle::unpack(first).index;
    free(&pool, first).unwrap();
    let mut uses = 1;
    loop {
        let handle = pool.malloc_raw(64).unwrap();
        uses += usize::from(RawHandle::unpack(handle).index == index);
        assert_eq!(handle == first, uses == GENERATIONS + 1, "use {uses}");
        if handle == first {
            break;
        }
        assert!(!uses.is_multiple_of(1000) || pool.map_raw(first, MapMode::Read).is_err());
        free(&pool, handle).unwrap();
    }
    pool.check();
}

#[test]
fn a_hardened_pool_refuses_a_stale_handle_for_ever() {
    let (pool, mut seen) = (hardened(), std::collections::HashSet::new());
    // Freed for the last time with the class's lock free, and with the lock taken.
    for round in 0..20 * GENERATIONS {
        let handle = pool.malloc_raw(64).unwrap();
        let last = RawHandle::unpack(handle).generation == u16::MAX;
        assert!(!last || seen.insert(handle), "{handle:#x} was given out again");
        let lock = (last && round % 2 == 1).then(|| {
            let mut state = pool.classes[class_of(64).0 as usize].lock(&pool.memory);
            // Mallocs that find the lock taken would open shelves, and frees would not come here.
            state.give_shelves_up(&pool.shelves);
            state
        });
        free(&pool, handle).unwrap();
        drop(lock);
    }
    assert!(seen.len() > 15, "{} indices came to their last use", seen.len());
    let indices: std::collections::HashSet<_> = seen.iter().map(|&handle| RawHandle::unpack(handle).index.0).collect();
    (0..1000).map(|_| pool.malloc_raw(64).unwrap()).for_each(|handle| {
        assert!(!indices.contains(&RawHandle::unpack(handle).index.0), "{handle:#x} uses a worn-out index");
    });
    pool.check();
}

/// A thread that panics or hangs with locks held can print what it has: no `Debug` of the pool's types takes a lock.
#[test]
fn types_of_a_pool_are_printed_while_all_its_locks_are_held() {
    let pool = pool();
    let mut new = pool.malloc_mapped(5).unwrap();
    new.copy_from_slice(b"hello");
    let mut handle = new.finish();
    let new = pool.malloc_mapped(6).unwrap();
    let forking = pool.prepare_fork().unwrap();
    let text = format!("{pool:?} {forking:?} {new:?} {handle:?} {:?}", pool.map(&handle).unwrap());
    for part in ["Pool {", "PoolForking {", "NewObject {", "Handle {", "Mapped {", "len: 5", "len: 6"] {
        assert!(text.contains(part), "{part} of {text}");
    }
    assert!(!text.contains("hello") && !text.contains("104, 101"), "the bytes are not shown: {text}");
    assert!(format!("{:?}", pool.map_mut(&mut handle).unwrap()).starts_with("MappedMut {"));
    drop(forking);
    drop(new);
    pool.check();
}

/// Bytes of memory for each object, its share of all tables included, when a pool has a hundred thousand of one size.
fn bytes_each(size: usize) -> f64 {
    let pool = Pool::new("objects", &options(1 << 30, Backing::Anonymous)).unwrap();
    const COUNT: usize = 100_000;
    let before = pool.total_pages();
    (0..COUNT).for_each(|_| _ = pool.malloc_raw(size).unwrap());
    ((pool.total_pages() - before) * 4096) as f64 / COUNT as f64
}

/// What the documentation of [`Pool::malloc`] says of small objects, and of which sizes hardly cost more than their
/// bytes. Prints the figures: `cargo test -p zsalloc --lib costs -- --nocapture`.
#[test]
fn small_objects_cost_more_than_their_bytes_and_larger_ones_hardly() {
    // By the geometry: pages and record of a zspage, shared by its slots, and a handle word.
    for size in 500..=MAX_ALLOC_SIZE {
        let class = geometry::of(class_of(size));
        let each = (class.pages as usize * 4096 + geometry::RECORD_BYTES) as f64 / f64::from(class.slots) + 8.0;
        assert!(each < size as f64 * 1.06, "{size} bytes take {each}");
    }
    for size in [1, 16, 64, 65, 80, 100, 128, 200, 256, 400, 512, 1000, 1024, 2000, 2048, 3000, 4000, MAX_ALLOC_SIZE] {
        let each = bytes_each(size);
        println!("{size:>5} bytes take {each:>7.1}: {:>6.1} % more", 100.0 * (each / size as f64 - 1.0));
        // The tail of a zspage, a handle word of 8 bytes, and a record of 320 bytes for at least 32 objects.
        assert!(each < pool().class_size(size).unwrap() as f64 * 1.02 + 18.0, "{size} bytes take {each}");
    }
}
