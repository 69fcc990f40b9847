//! Shrinks while other threads free, map, allocate and compact, and several shrinks at once.

use super::shared::{Rng, free, options, pattern, set_evict, store, unless_zero, unmap};
use crate::{Backing, CompactBudget, Error, MapMode, Pool};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

const SIZES: [usize; 3] = [300, 1000, 3000];

/// The index of a cache. The thread that takes an entry out owns its object, and frees it.
type Index = Arc<Mutex<HashMap<u64, (u64, usize)>>>;

struct Scene {
    pool: Pool,
    index: Index,
    /// Assertions that failed in the callback, where the pool takes a panic for a refusal.
    wrong: Arc<AtomicU64>,
}

impl Scene {
    /// A pool whose callback frees the objects that it finds in the index, as a cache does.
    fn new(objects: u64) -> Self {
        let pool = Pool::new("races", &options(64 << 20, Backing::Anonymous)).unwrap();
        let scene = Self { pool, index: Index::default(), wrong: Arc::default() };
        let (index, wrong) = (scene.index.clone(), scene.wrong.clone());
        let evict = move |pool: &Pool, handle: u64| {
            // An entry that is gone was freed by another thread, or is being freed.
            if index.lock().unwrap().remove(&handle).is_some() && free(pool, handle).is_err() {
                wrong.fetch_add(1, Relaxed);
            }
            Ok(())
        };
        set_evict(&scene.pool, evict);
        (0..objects).for_each(|key| scene.insert(key));
        scene
    }

    fn insert(&self, key: u64) {
        let size = SIZES[key as usize % SIZES.len()];
        match store(&self.pool, key, size) {
            Ok(handle) => assert!(self.index.lock().unwrap().insert(handle, (key, size)).is_none()),
            Err(error) => assert!(matches!(error, Error::Limit(_)), "{error:?}"),
        }
    }

    fn handles(&self) -> Vec<u64> {
        let mut handles: Vec<_> = self.index.lock().unwrap().keys().copied().collect();
        handles.sort_unstable();
        handles
    }

    fn remove(&self, handle: u64) -> bool {
        let there = self.index.lock().unwrap().remove(&handle).is_some();
        assert!(!there || free(&self.pool, handle).is_ok(), "who has the entry frees the object");
        there
    }

    /// Shrinks until nothing is left.
    fn shrink_all(&self) -> u64 {
        let mut pages = 0;
        while !self.index.lock().unwrap().is_empty() {
            match self.pool.shrink(20) {
                Ok(freed) => pages += freed,
                Err(error) => assert!(matches!(error, Error::Again(_) | Error::NotFound(_)), "{error:?}"),
            }
        }
        pages
    }

    /// Checks the pool against the index once all threads are gone.
    fn end(self) {
        assert_eq!(self.wrong.load(Relaxed), 0, "the callback could not free what was its own");
        self.pool.check();
        assert_eq!(self.pool.mappings(), 0);
        let left = self.index.lock().unwrap();
        assert_eq!(self.pool.stats().unwrap().objects, left.len() as u64);
        left.iter().for_each(|(&handle, &(key, size))| super::shared::assert_holds(&self.pool, handle, key, size));
    }
}

#[test]
fn evict_meets_free() {
    let scene = Scene::new(9000);
    let mut handles = scene.handles();
    Rng::new(1).shuffle(&mut handles);
    thread::scope(|threads| {
        for part in handles.chunks(handles.len() / 2 + 1) {
            let scene = &scene;
            threads.spawn(move || part.iter().for_each(|&handle| _ = scene.remove(handle)));
        }
        scene.shrink_all();
    });
    assert!(scene.handles().is_empty());
    scene.end();
}

#[test]
fn evict_meets_map() {
    let scene = Scene::new(6000);
    let handles = scene.handles();
    let keys = scene.index.lock().unwrap().clone();
    let mapped = AtomicU64::new(0);
    thread::scope(|threads| {
        for seed in 0..2 {
            let (scene, handles, keys, mapped) = (&scene, &handles, &keys, &mapped);
            threads.spawn(move || {
                let mut rng = Rng::new(seed);
                while !scene.index.lock().unwrap().is_empty() {
                    let handle = rng.pick(handles);
                    let Ok(object) = scene.pool.map_raw(handle, MapMode::Read) else { continue };
                    let (key, size) = keys[&handle];
                    // SAFETY: it is mapped, that long, and nobody writes it.
                    let bytes = unsafe { std::slice::from_raw_parts(object, size) };
                    assert!(*bytes == *pattern(key, size), "a mapping outlives the eviction of its object");
                    unmap(&scene.pool, handle).unwrap();
                    mapped.fetch_add(1, Relaxed);
                }
            });
        }
        scene.shrink_all();
    });
    println!("{} mappings met", mapped.load(Relaxed));
    scene.end();
}

#[test]
fn several_shrinks_at_once_offer_each_object_once() {
    let scene = Scene::new(9000);
    let before = scene.pool.total_pages();
    let pages: u64 = thread::scope(|threads| {
        let shrinks: Vec<_> = (0..4).map(|_| threads.spawn(|| scene.shrink_all())).collect();
        shrinks.into_iter().map(|shrink| shrink.join().unwrap()).sum()
    });
    assert!(pages > 0 && pages <= before, "{pages} of {before} pages were freed");
    assert_eq!(scene.pool.stats().unwrap().pages_reclaimed, pages);
    scene.end();
}

#[test]
fn shrink_meets_everything() {
    let scene = Scene::new(3000);
    thread::scope(|threads| {
        let scene = &scene;
        threads.spawn(|| {
            for key in 0..12_000 {
                scene.insert(key);
                if key % 3 == 0 {
                    // One that is written while others shrink and compact.
                    let (handle, object) = scene.pool.malloc_mapped_raw(1000).unwrap();
                    // SAFETY: it is mapped to write, that long, and nobody else knows it.
                    unsafe { object.copy_from(pattern(key, 1000).as_ptr(), 1000) };
                    assert!(scene.index.lock().unwrap().insert(handle, (key, 1000)).is_none());
                    unmap(&scene.pool, handle).unwrap();
                }
            }
        });
        threads.spawn(|| {
            let mut rng = Rng::new(7);
            for _ in 0..200 {
                let handles = scene.handles();
                (0..20).filter(|_| !handles.is_empty()).for_each(|_| _ = scene.remove(rng.pick(&handles)));
            }
        });
        threads.spawn(|| {
            for turn in 0..300 {
                scene
                    .pool
                    .compact(&CompactBudget { max_bytes_moved: unless_zero(4000 * (turn % 3)), max_time: None })
                    .unwrap();
            }
        });
        for _ in 0..2 {
            threads.spawn(|| (0..300).for_each(|_| _ = scene.pool.shrink(3)));
        }
    });
    scene.end();
}
