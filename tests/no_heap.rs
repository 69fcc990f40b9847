//! After its creation a pool calls the global allocator no more: it may be the heap itself that is swapped out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use zsalloc::{Backing, CompactBudget, Error, HugePages, MAX_ALLOC_SIZE, MapMode, Pool, PoolOptions};

/// The system's allocator, counting the calls of threads that ask for it.
struct Counting;

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    if COUNTED.get() {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `act` and says how often it called the allocator.
fn calls_of(act: impl FnOnce()) -> u64 {
    CALLS.set(0);
    COUNTED.set(true);
    act();
    COUNTED.set(false);
    CALLS.get()
}

const OBJECTS: usize = 4000;

fn size_of_object(at: usize) -> usize {
    1 + at * 37 % MAX_ALLOC_SIZE
}

/// Everything but creating and destroying. `handles` has room for all.
fn use_pool(pool: &Pool, handles: &mut Vec<u64>) {
    let mut buffer = [0; MAX_ALLOC_SIZE];
    for at in 0..OBJECTS {
        let size = size_of_object(at);
        let Ok(handle) = pool.malloc_raw(size) else { continue };
        handles.push(handle);
        // SAFETY: nothing borrows the object's bytes.
        unsafe { pool.write_raw(handle, &buffer[..size]) }.unwrap();
        pool.read_raw(handle, &mut buffer[..size]).unwrap();
        pool.map_raw(handle, MapMode::ReadWrite).unwrap();
        // SAFETY: mapped above.
        unsafe { pool.unmap_raw(handle) }.unwrap();
        if let Ok(mut new) = pool.malloc_mapped(size) {
            new[0] = 1;
            let mut handle = new.finish();
            pool.map_mut(&mut handle).unwrap()[0] = 2;
            assert_eq!(pool.map(&handle).unwrap()[0], 2);
            pool.free(handle).unwrap();
        }
        drop(pool.malloc_mapped(size));
    }
    let length = handles.len();
    for at in (0..length).rev().filter(|at| at % 4 != 0) {
        // SAFETY: there are raw handles only.
        unsafe { pool.free_raw(handles.swap_remove(at)) }.unwrap();
    }
    pool.compact(&CompactBudget { max_bytes_moved: 10_000, max_microseconds: 1000 }).unwrap();
    pool.compact(&CompactBudget::default()).unwrap();
    pool.stats().unwrap();
    pool.set_max_bytes(0).unwrap();
    assert!(pool.malloc_raw(0).is_err() && pool.map_raw(0, MapMode::Read).is_err());
    assert!(pool.shrink(10).unwrap() > 0);
    while pool.shrink(1000).is_ok() {}
    handles.clear();
    pool.compact(&CompactBudget::default()).unwrap();
    pool.total_pages();
}

fn assert_quiet(options: &PoolOptions) {
    let pool = Pool::new("no heap", options).unwrap();
    let evict = |pool: &Pool, handle: u64| -> Result<(), Error> {
        // SAFETY: there are raw handles only.
        unsafe { pool.free_raw(handle) }
    };
    pool.set_evict(Some(Arc::new(evict))).unwrap();
    let mut handles = Vec::with_capacity(OBJECTS);
    // What the first call does is no different from what later ones do.
    for _ in 0..2 {
        let calls = calls_of(|| use_pool(&pool, &mut handles));
        assert_eq!(calls, 0, "calls of the allocator with {options:?}");
    }
}

#[test]
fn the_allocator_counts() {
    assert_eq!(calls_of(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn a_pool_in_use_does_not_call_the_allocator() {
    for max_bytes in [64 << 20, 2 << 20] {
        let plain = PoolOptions { max_bytes, ..PoolOptions::default() };
        assert_quiet(&plain);
        assert_quiet(&PoolOptions { hardened: true, dont_fork: true, ..plain.clone() });
        assert_quiet(&PoolOptions { backing: Backing::MemoryFile, ..plain });
    }
    let huge_pages = HugePages::Always;
    assert_quiet(&PoolOptions { max_bytes: 64 << 20, huge_pages, ..PoolOptions::default() });
}

#[test]
fn nor_do_threads_that_share_one() {
    let pool = Pool::new("no heap", &PoolOptions { max_bytes: 64 << 20, ..PoolOptions::default() }).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut handles = Vec::with_capacity(OBJECTS);
                let calls = calls_of(|| {
                    for at in 0..20 * OBJECTS {
                        handles.push(pool.malloc_raw(size_of_object(at)).unwrap());
                        if handles.len() == OBJECTS / 4 {
                            // SAFETY: there are raw handles only.
                            handles.drain(..).for_each(|handle| unsafe { pool.free_raw(handle) }.unwrap());
                            pool.compact(&CompactBudget::default()).unwrap();
                        }
                    }
                });
                assert_eq!(calls, 0);
            });
        }
    });
}
