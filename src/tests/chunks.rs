//! Chunks with huge pages go back whole, after compaction emptied them.

use super::shared::{Rng, assert_holds, free, options, resident_pages, store, unmap};
use crate::geometry::MAX_ALLOC_SIZE;
use crate::units::{CHUNK, CHUNK_PAGES};
use crate::word::RawHandle;
use crate::{Backing, CompactBudget, HugePages, MapMode, Pool, PoolOptions, PoolTuning};
use std::collections::HashMap;

/// An object: its handle, the key of its pattern, and its size.
type Object = (u64, u64, usize);

const CHUNKS: u64 = 16;

struct Scene {
    pool: Pool,
    rng: Rng,
    objects: Vec<Object>,
}

impl Scene {
    /// Fills some chunks with objects of this many sizes.
    fn new(seed: u64, sizes: usize) -> Self {
        let options = PoolOptions {
            tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() },
            ..options(128 << 20, Backing::Anonymous)
        };
        let (pool, mut rng) = (Pool::new("chunks", &options).unwrap(), Rng::new(seed));
        let sizes: Vec<_> = (0..sizes).map(|_| rng.between(32, MAX_ALLOC_SIZE)).collect();
        let mut objects = Vec::new();
        while pool.stats().unwrap().whole_chunks < CHUNKS {
            for _ in 0..100 {
                let (key, size) = (rng.next(), rng.pick(&sizes));
                objects.push((store(&pool, key, size).unwrap(), key, size));
            }
        }
        rng.shuffle(&mut objects);
        Self { pool, rng, objects }
    }

    fn free_all_but(&mut self, percent: usize) {
        let (kept, freed): (Vec<_>, Vec<_>) = self.objects.drain(..).partition(|_| self.rng.chance(percent));
        self.objects = kept;
        freed.into_iter().for_each(|(handle, ..)| free(&self.pool, handle).unwrap());
        // The last chunk has few.
        assert!(self.pool.stats().unwrap().whole_chunks >= CHUNKS - 1, "objects by lot hold every chunk");
        assert!(self.resident() >= (CHUNKS - 1) * CHUNK_PAGES as u64);
    }

    /// Returns how many pages the system has for the arena.
    fn resident(&self) -> u64 {
        resident_pages(&self.pool.memory.spans()[1..])
    }

    /// Panics if there are more chunks beyond those that the objects would fill.
    fn assert_dense(&self, slack: u64) {
        self.pool.check();
        self.objects.iter().for_each(|&(handle, key, size)| assert_holds(&self.pool, handle, key, size));
        let stats = self.pool.stats().unwrap();
        let needed = stats.object_bytes.div_ceil(CHUNK as u64);
        assert!(stats.whole_chunks <= needed + slack, "{} chunks for {needed}, {stats:?}", stats.whole_chunks);
        assert_eq!(stats.chunks, stats.whole_chunks);
        assert!(self.resident() <= stats.whole_chunks * CHUNK_PAGES as u64, "{} pages, {stats:?}", self.resident());
    }

    fn chunk_of(&self, handle: u64) -> usize {
        let place = self.pool.memory.word(RawHandle::unpack(handle).index).peek().place();
        self.pool.memory.chunk_of(place.zspage)
    }
}

#[test]
fn compaction_returns_whole_chunks() {
    for (seed, keep) in [(1, 50), (2, 15), (3, 3)] {
        let mut scene = Scene::new(seed, 4);
        scene.free_all_but(keep);
        let gone = scene.pool.compact(&CompactBudget::default()).unwrap();
        assert!(gone >= CHUNK_PAGES as u64 && gone % CHUNK_PAGES as u64 <= 64, "{gone} pages: chunks, and some tables");
        scene.assert_dense(1);
    }
}

#[test]
fn compaction_returns_whole_chunks_also_in_small_steps() {
    for budget in [20_000, 500_000] {
        let mut scene = Scene::new(budget, 4);
        scene.free_all_but(15);
        let (mut idle, mut before) = (0, 0);
        while idle < 3 {
            let moved = scene.pool.stats().unwrap().objects_moved;
            scene.pool.compact(&CompactBudget { max_bytes_moved: Some(budget), max_time: None }).unwrap();
            let now = scene.pool.stats().unwrap().objects_moved;
            // At most one zspage is finished after the budget is spent.
            assert!(now - moved <= budget / 32 + 64);
            idle = if now == before { idle + 1 } else { 0 };
            before = now;
            assert!(before < 20 * scene.objects.len() as u64, "it goes on and on");
        }
        scene.assert_dense(1);
    }
}

/// The zspages that are not full, one of each class, lie together as well.
#[test]
fn many_classes_share_the_chunks_that_are_left() {
    let mut scene = Scene::new(5, 100);
    scene.free_all_but(20);
    scene.pool.compact(&CompactBudget::default()).unwrap();
    scene.assert_dense(5);
    let stats = scene.pool.stats().unwrap();
    let pages: u64 = stats.whole_chunks * CHUNK_PAGES as u64;
    assert!(stats.zspages * 16 <= pages, "{stats:?}");
}

#[test]
fn mapped_objects_hold_their_chunks_and_no_others() {
    for (sizes, slack) in [(4, 1), (100, 5)] {
        let mut scene = Scene::new(6, sizes);
        scene.free_all_but(5);
        // One each in every fourth chunk.
        let mut held = HashMap::new();
        scene.objects.iter().for_each(|&(handle, ..)| _ = held.entry(scene.chunk_of(handle)).or_insert(handle));
        held.retain(|chunk, _| chunk % 4 == 3);
        assert!(held.len() >= CHUNKS as usize / 4 - 1);
        let map = |handle| scene.pool.map_raw(handle, MapMode::Read).unwrap();
        let places: HashMap<_, _> = held.values().map(|&handle| (handle, map(handle))).collect();
        scene.pool.compact(&CompactBudget::default()).unwrap();
        scene.assert_dense(slack + held.len() as u64);
        for (handle, place) in places {
            assert_eq!(scene.pool.map_raw(handle, MapMode::Read).unwrap(), place);
            (0..2).for_each(|_| unmap(&scene.pool, handle).unwrap());
        }
        scene.pool.compact(&CompactBudget::default()).unwrap();
        scene.assert_dense(slack);
    }
}

/// Each chunk has a zspage of another class with a few objects, so that only whole zspages can move. A mapped object
/// keeps the smallest one in place.
#[test]
fn a_held_chunk_does_not_keep_others_from_being_emptied() {
    let options = PoolOptions {
        tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() },
        ..options(128 << 20, Backing::Anonymous)
    };
    let pool = Pool::new("chunks", &options).unwrap();
    let (mut fillers, mut objects) = (Vec::new(), Vec::new());
    for size in (1..=12).map(|class| 300 * class) {
        let chunks = pool.stats().unwrap().whole_chunks;
        while pool.stats().unwrap().whole_chunks == chunks {
            fillers.extend((0..50).map(|_| pool.malloc_raw(2000).unwrap()));
        }
        objects.extend((0..5).map(|key| (store(&pool, key, size).unwrap(), key, size)));
    }
    fillers.into_iter().for_each(|handle| free(&pool, handle).unwrap());
    let mut scene = Scene { pool, rng: Rng::new(0), objects };
    let before = scene.pool.stats().unwrap().whole_chunks;
    assert!(before >= 8, "{before} chunks");
    let held = scene.objects[0].0;
    scene.pool.map_raw(held, MapMode::Read).unwrap();
    scene.pool.compact(&CompactBudget::default()).unwrap();
    scene.assert_dense(2);
    unmap(&scene.pool, held).unwrap();
    scene.pool.compact(&CompactBudget::default()).unwrap();
    scene.assert_dense(1);
    scene.objects.clear();
}

#[test]
fn emptied_chunks_are_used_again() {
    let mut scene = Scene::new(7, 4);
    for _ in 0..3 {
        scene.free_all_but(10);
        scene.pool.compact(&CompactBudget::default()).unwrap();
        scene.assert_dense(1);
        let size = scene.objects[0].2;
        while scene.pool.stats().unwrap().whole_chunks < CHUNKS {
            let key = scene.rng.next();
            scene.objects.push((store(&scene.pool, key, size).unwrap(), key, size));
        }
        scene.rng.shuffle(&mut scene.objects);
    }
    scene.pool.check();
}
