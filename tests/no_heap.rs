//! After their creation a pool and a zswap call the global allocator no more: it may be the heap itself that is swapped
//! out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use zsalloc::{
    Area, AreaOptions, Backing, Claim, Codec, CompactBudget, Error, HugePages, LoadFlags, MAX_ALLOC_SIZE, MapMode,
    PAGE_SIZE, Patience, Pool, PoolOptions, Refusal, Zswap, ZswapOptions,
};

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

/// A page that compresses, another for each number; every fifth does not, every seventh repeats one word.
fn page(number: u64, page: &mut [u8; PAGE_SIZE]) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (at, byte) in page.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = if number.is_multiple_of(7) {
            7
        } else if number.is_multiple_of(5) || at.is_multiple_of(8) {
            state as u8
        } else {
            at as u8
        };
    }
}

const PAGES: u64 = 512;

/// Everything that is done to pages; `batch` is room for all of them.
fn use_area(area: &Area, codec: Codec, batch: &mut [[u8; PAGE_SIZE]]) {
    let mut one = [0; PAGE_SIZE];
    for offset in 0..PAGES {
        page(offset, &mut one);
        area.store(offset, &one).unwrap();
    }
    area.load_pages(0, batch, LoadFlags::KEEP, |_, done| done.unwrap()).unwrap();
    area.store_pages(PAGES, batch).unwrap();
    let offsets: [u64; 64] = std::array::from_fn(|at| at as u64 * 31 % PAGES);
    area.load_scattered(&offsets, &mut batch[..64], LoadFlags::KEEP, |_, done| done.unwrap()).unwrap();
    area.load(1, &mut one, LoadFlags::TAKE).unwrap();
    assert!(area.load(1, &mut one, LoadFlags::KEEP).is_err());
    let mut claims = [Claim::default(); 16];
    let count = area.begin_writeback(&mut claims, &mut batch[..16]).unwrap();
    assert!(count > 0);
    for (at, claim) in claims[..count].iter().enumerate() {
        let result = if at % 2 == 0 { Ok(()) } else { Err(Refusal::Again) };
        area.end_writeback(claim, result).unwrap();
    }
    assert!(area.shrink(100).unwrap() > 0);
    area.recompress(PAGES, codec).unwrap();
    area.recompress(PAGES, codec).unwrap();
    for offset in 0..PAGES * 2 {
        let _ = area.load(offset, &mut one, LoadFlags::KEEP);
    }
    area.next_stored(0).unwrap();
    area.invalidate(5, 1, Patience::Wait).unwrap();
    area.invalidate(0, area.pages(), Patience::Wait).unwrap();
}

#[test]
fn nor_does_zswap() {
    let mut batch = vec![[0; PAGE_SIZE]; PAGES as usize];
    let zswap = Zswap::new("no heap", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area(4096, &AreaOptions::default()).unwrap();
    let codec = Codec::Zstd(3);
    zswap.set_codec(codec).unwrap();
    zswap.set_codec(Codec::Lz4).unwrap();
    let file = tempfile();
    for to_file in [false, true] {
        match to_file {
            true => zswap.set_backing_file(Some((file.as_raw_fd(), 1 << 20))).unwrap(),
            false => zswap.set_writeback(Some(Arc::new(|_, _, _| Ok(())))).unwrap(),
        }
        for _ in 0..2 {
            assert_eq!(calls_of(|| use_area(&area, codec, &mut batch)), 0, "with a file: {to_file}");
        }
    }
    // At the limit, where stores are refused, and where the pool is compacted.
    zswap.set_limit(256 << 10).unwrap();
    let calls = calls_of(|| {
        let mut one = [0; PAGE_SIZE];
        for offset in 0..PAGES {
            page(offset, &mut one);
            let _ = area.store(offset, &one);
        }
        zswap.shrink(10).unwrap();
        assert!(area.store_pages(0, &batch).is_err());
    });
    assert_eq!(calls, 0, "at the limit");
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("zsalloc-no-heap-{}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}
