//! Threads that do everything at once, for ThreadSanitizer: `.ci/sanitize thread sanitized`.
//!
//! The standard library is not instrumented, so the threads share nothing of it: their data is leaked and not counted,
//! each thread is joined by itself, and they hand data to each other through this crate only.

use super::shared::{Rng, pattern};
use crate::{
    Area, AreaOptions, Codec, CompactBudget, Error, LoadFlags, PAGE_SIZE, Patience, Pool, PoolOptions, Zswap,
    ZswapOptions, ZswapTuning,
};
use std::thread::JoinHandle;

const THREADS: u64 = 4;
const STEPS: usize = 4000;

fn run(work: fn(u64)) -> Vec<JoinHandle<()>> {
    (0..THREADS).map(|thread| std::thread::spawn(move || work(thread))).collect()
}

/// The data of a test's threads. Written before they are started.
macro_rules! shared {
    ($name:ident: $type:ty) => {
        static mut $name: Option<&'static $type> = None;
    };
}

shared!(POOL: Pool);
shared!(ZSWAP: Zswap);
shared!(AREA: Area);

fn work_on_the_pool(thread: u64) {
    // SAFETY: written before this thread was started.
    let pool = unsafe { POOL }.unwrap();
    let (mut rng, mut live) = (Rng::new(thread + 1), Vec::new());
    for step in 0..STEPS {
        match rng.below(10) {
            0..4 => {
                let (key, size) = (thread << 16 | step as u64, rng.between(8, 4000));
                let mut handle = pool.malloc(size).unwrap();
                pool.write(&mut handle, pattern(key, size)).unwrap();
                live.push((handle, key, size));
            }
            4..8 if !live.is_empty() => {
                let (handle, key, size) = &live[rng.below(live.len())];
                assert!(pool.map(handle).unwrap()[..*size] == *pattern(*key, *size));
            }
            8 if !live.is_empty() => {
                let (handle, ..) = live.swap_remove(rng.below(live.len()));
                pool.free(handle).unwrap();
            }
            _ => _ = pool.compact(&CompactBudget { max_bytes_moved: Some(64 << 10), max_time: None }).unwrap(),
        }
    }
    for (handle, key, size) in live {
        assert!(pool.map(&handle).unwrap()[..size] == *pattern(key, size));
        pool.free(handle).unwrap();
    }
}

#[test]
fn objects() {
    // The table of noise is made before there are threads.
    let _ = pattern(0, 8);
    let pool = Pool::new("sanitized", &PoolOptions { max_bytes: Some(64 << 20), ..PoolOptions::default() }).unwrap();
    let pool: &'static Pool = Box::leak(Box::new(pool));
    // SAFETY: no thread of this test has been started.
    unsafe { POOL = Some(pool) };
    run(work_on_the_pool).into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(pool.stats().unwrap().objects, 0);
}

const PAGES: u64 = 256;

/// The page of an offset, which any thread may have stored.
fn page(offset: u64) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    let filled = (offset as usize * 61) % PAGE_SIZE;
    page[..filled].copy_from_slice(pattern(offset * 8, filled));
    page
}

fn work_on_pages(thread: u64) {
    // SAFETY: written before this thread was started.
    let (zswap, area) = unsafe { (ZSWAP.unwrap(), AREA.unwrap()) };
    let (mut rng, mut loaded) = (Rng::new(thread + 1), [0; PAGE_SIZE]);
    for _ in 0..STEPS {
        let offset = rng.below(PAGES as usize - 8) as u64;
        match rng.below(40) {
            0..14 => area.store(offset, &page(offset)).unwrap(),
            14..30 => {
                let flags = if rng.chance(30) { LoadFlags::TAKE } else { LoadFlags::KEEP };
                match area.load(offset, &mut loaded, flags) {
                    Ok(()) => assert!(loaded == page(offset), "page {offset}"),
                    Err(error) => assert!(matches!(error, Error::NotFound(_)), "{error}"),
                }
            }
            30..33 => area.invalidate(offset, 8, Patience::Wait).unwrap(),
            33..35 => area.store_pages(offset, &[page(offset), page(offset + 1), page(offset + 2)]).unwrap(),
            35 => {
                let mut pages = [[0; PAGE_SIZE]; 8];
                let _ = area.load_pages(offset, &mut pages, LoadFlags::KEEP, |_, _| ());
            }
            36 => _ = area.recompress(16, Codec::Zstd(1)).unwrap(),
            37 => _ = area.stats().unwrap(),
            _ => _ = zswap.compact(&CompactBudget { max_bytes_moved: Some(64 << 10), max_time: None }).unwrap(),
        }
    }
}

#[test]
fn pages() {
    let _ = pattern(0, 8);
    let options = ZswapOptions {
        max_bytes: Some(16 << 20),
        tuning: ZswapTuning { contexts: Some(2), ..ZswapTuning::default() },
        ..ZswapOptions::default()
    };
    let zswap: &'static Zswap = Box::leak(Box::new(Zswap::new("sanitized", &options).unwrap()));
    let area: &'static Area = Box::leak(Box::new(zswap.add_area(PAGES, &AreaOptions::default()).unwrap()));
    // SAFETY: no thread of this test has been started.
    unsafe { (ZSWAP, AREA) = (Some(zswap), Some(area)) };
    run(work_on_pages).into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(area.invalidate(0, PAGES, Patience::Wait), Ok(()));
    assert_eq!(zswap.stats().unwrap().used_bytes, 0);
}
