//! After their creation, a pool and a zswap never call the global allocator: they may be what swaps out the heap
//! itself.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;
use zsalloc::plumbing::{MapMode, PoolCalls};
use zsalloc::{
    Area, AreaOptions, Backing, Claim, Codec, CompactBudget, HugePages, LoadFlags, MAX_ALLOC_SIZE, PAGE_SIZE, Patience,
    Pool, PoolOptions, PoolTuning, Refusal, Verdict, Victim, Zswap, ZswapOptions, ZswapTuning,
};

/// The system's allocator, which counts the calls of threads that ask for it.
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

// SAFETY: every call is passed to the system's allocator unchanged.
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

/// Runs `act`, and returns how often it called the allocator.
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

/// Calls everything except creation and destruction. `handles` has room for all handles.
fn use_pool(pool: &Pool, handles: &mut Vec<u64>) {
    let mut buffer = [0; MAX_ALLOC_SIZE];
    for at in 0..OBJECTS {
        let size = size_of_object(at);
        let Ok(handle) = pool.malloc_raw(size) else { continue };
        handles.push(handle);
        // SAFETY: nothing borrows the object's bytes, and the buffer has as many.
        unsafe { pool.write_from(handle, buffer.as_ptr(), size) }.unwrap();
        // SAFETY: no thread writes the object, and the buffer has room.
        unsafe { pool.read_to(handle, buffer.as_mut_ptr(), size) }.unwrap();
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
    pool.compact(&CompactBudget { max_bytes_moved: Some(10_000), max_time: Some(Duration::from_micros(1000)) })
        .unwrap();
    pool.compact(&CompactBudget::default()).unwrap();
    pool.stats().unwrap();
    pool.set_max_bytes(None).unwrap();
    assert!(pool.malloc_raw(0).is_err() && pool.map_raw(0, MapMode::Read).is_err());
    assert!(pool.shrink(10).unwrap() > 0);
    while pool.shrink(1000).is_ok() {}
    handles.clear();
    pool.compact(&CompactBudget::default()).unwrap();
    pool.total_pages();
}

fn assert_quiet(options: &PoolOptions) {
    let pool = Pool::new("no heap", options).unwrap();
    let evict = |victim: Victim<'_>| {
        // SAFETY: there are raw handles only.
        unsafe { victim.pool().free_raw(victim.raw()) }.map_or(Verdict::Keep, |()| Verdict::Gone)
    };
    pool.set_evict(evict).unwrap();
    let mut handles = Vec::with_capacity(OBJECTS);
    // The first round must not allocate either.
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
        let plain = PoolOptions { max_bytes: Some(max_bytes), ..PoolOptions::default() };
        assert_quiet(&plain);
        let private = PoolTuning { dont_fork: true, ..PoolTuning::default() };
        assert_quiet(&PoolOptions { hardened: true, tuning: private, ..plain.clone() });
        assert_quiet(&PoolOptions { backing: Backing::MemoryFile, ..plain });
    }
    let tuning = PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() };
    assert_quiet(&PoolOptions { max_bytes: Some(64 << 20), tuning, ..PoolOptions::default() });
}

#[test]
fn threads_that_share_a_pool_do_not_call_the_allocator() {
    let pool = Pool::new("no heap", &PoolOptions { max_bytes: Some(64 << 20), ..PoolOptions::default() }).unwrap();
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

type Page = [u8; PAGE_SIZE];

/// Makes pages that repeat a word, that compress, and that do not, by turns.
fn page(number: u64) -> Page {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|at| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match number % 5 {
            0 => number as u8,
            1 => state as u8,
            _ if at % 8 == 0 => state as u8,
            _ => (at / 512) as u8,
        }
    })
}

const PAGES: u64 = 300;

/// What a test allocates before it watches the allocator.
struct Made {
    pages: Vec<Page>,
    loaded: Vec<Page>,
    offsets: Vec<u64>,
    claims: Vec<Claim>,
}

impl Made {
    fn new() -> Self {
        Self {
            pages: (0..PAGES).map(page).collect(),
            loaded: vec![[0; PAGE_SIZE]; PAGES as usize],
            offsets: (0..PAGES).map(|at| at * 7 % PAGES).collect(),
            claims: Vec::with_capacity(64),
        }
    }
}

/// Calls everything on pages. Limits may refuse some of it.
fn use_area(zswap: &Zswap, area: &Area, made: &mut Made) {
    for (offset, page) in (0..).zip(&made.pages) {
        area.store(offset, page).ok();
        area.load(offset, &mut made.loaded[0], LoadFlags::KEEP).ok();
        // Replaces the page by one of another kind.
        area.store(offset, &made.pages[(offset as usize + 1) % PAGES as usize]).ok();
    }
    area.store_pages(PAGES, &made.pages).ok();
    area.load_pages(0, &mut made.loaded, LoadFlags::KEEP, |_, _| {}).ok();
    area.load_scattered(&made.offsets, &mut made.loaded, LoadFlags::KEEP, |_, _| {}).ok();
    area.stored().next().unwrap();
    for at in 0..64 {
        let page = &mut made.loaded[at];
        let claim = if at % 2 == 0 { area.claim(page) } else { zswap.claim(page) };
        made.claims.extend(claim.unwrap());
    }
    for (at, claim) in made.claims.drain(..).enumerate() {
        match at % 3 {
            0 => _ = claim.written().unwrap(),
            1 => claim.refuse(Refusal::Io),
            _ => drop(claim),
        }
    }
    zswap.shrink(100).ok();
    area.shrink(50).ok();
    area.recompress(PAGES, Codec::Zstd(3)).ok();
    area.recompress(PAGES, Codec::Zstd(3)).ok();
    area.load_pages(0, &mut made.loaded, LoadFlags::KEEP, |_, _| {}).ok();
    for offset in 0..50 {
        area.load(offset, &mut made.loaded[0], LoadFlags::TAKE).ok();
    }
    area.load_pages(PAGES, &mut made.loaded[..100], LoadFlags::TAKE, |_, _| {}).ok();
    area.invalidate(100, 1, Patience::NoWait).unwrap();
    area.note_refaults(3).unwrap();
    area.invalidate(0, area.pages(), Patience::Wait).unwrap();
}

/// Makes calls that are refused because of their arguments.
fn misuse(area: &Area, made: &mut Made) {
    assert!(area.store(u64::MAX, &made.pages[0]).is_err());
    assert!(area.load(u64::MAX, &mut made.loaded[0], LoadFlags::KEEP).is_err());
    assert!(area.load(5, &mut made.loaded[0], LoadFlags::TAKE).is_err(), "it is not there");
    assert!(area.stored().next().is_none() && area.shrink(1).is_err());
}

fn assert_zswap_quiet(options: &ZswapOptions, area_options: &AreaOptions, file: Option<&File>) {
    let zswap = Zswap::new("no heap", options).unwrap();
    let area = zswap.add_area(1 << 20, area_options).unwrap();
    match file {
        Some(file) => zswap.set_backing_file(Some((file.as_fd(), 200 * PAGE_SIZE as u64))).unwrap(),
        None => {
            let callback = |_: &Area, offset: u64, _: &Page| if offset % 10 == 3 { Err(Refusal::Io) } else { Ok(()) };
            zswap.set_writeback(callback).unwrap();
        }
    }
    let mut made = Made::new();
    for codec in [options.codec, Codec::Zstd(3), Codec::Raw] {
        // Setting a codec allocates its contexts.
        zswap.set_codec(Codec::Zstd(3)).unwrap();
        zswap.set_codec(codec).unwrap();
        let calls = calls_of(|| {
            use_area(&zswap, &area, &mut made);
            misuse(&area, &mut made);
        });
        assert_eq!(calls, 0, "calls of the allocator with {codec:?}, {options:?}");
    }
    let counts = zswap.stats().unwrap().counts;
    assert!(counts.pages() == 0 && counts.written_back > 0 && counts.recompressed > 0, "{counts:?}");
}

fn with_contexts(contexts: usize) -> ZswapOptions {
    let tuning = ZswapTuning { contexts: Some(contexts), ..ZswapTuning::default() };
    ZswapOptions { tuning, ..ZswapOptions::default() }
}

#[test]
fn a_zswap_in_use_does_not_call_the_allocator() {
    let plain = with_contexts(1);
    let area = AreaOptions::default();
    assert_zswap_quiet(&plain, &area, None);
    assert_zswap_quiet(&ZswapOptions { codec: Codec::Zstd(5), ..with_contexts(3) }, &area, None);
    // This limit is reached.
    assert_zswap_quiet(&ZswapOptions { max_bytes: Some(250_000), ..plain.clone() }, &area, None);
    assert_zswap_quiet(&plain, &AreaOptions { max_bytes: Some(200_000), ..area.clone() }, None);
    assert_zswap_quiet(&plain, &AreaOptions { refuse_incompressible: true, ..area }, None);
}

#[test]
fn a_zswap_with_a_file_does_not_call_the_allocator() {
    let path = std::env::temp_dir().join(format!("zsalloc-no-heap-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_zswap_quiet(&with_contexts(1), &AreaOptions::default(), Some(&file));
}
