//! Loom models of the handle word, on the product's own code: pool, classes and words as they are shipped, over a
//! stand-in for the memory. Run them by `RUSTFLAGS="--cfg loom" cargo test --release --lib models`.
//! `docs/protocols.md` says which model holds which step.
//!
//! The scene: a class whose zspages have two slots. `stays` lies in the target, `moves` in the source, and each has a
//! slot free beside it. Every execution ends in the same check: the slots that are taken are those of the live
//! words, every free index is on one list, and every zspage is in its class or given back. Zspages that were given back
//! are written over. The bytes of objects are cells, whose races loom finds.

mod counted;
mod lock;
mod mover;
mod pager;
mod pages;
mod parking;
mod refusals;
mod rename;
mod reuse;
mod shelf;
mod shrink;
mod word;

use crate::error::{Error, Result};
use crate::memory::{PoolMemory, SCRIBBLE};
use crate::pool::{MapMode, Pool};
use crate::units::{HandleIndex, Place, ZspageId};
use crate::word::{ObjectState, RawHandle, Word};
use loom::sync::Arc;
use loom::thread;
use std::collections::HashSet;

const STAYS: u64 = 1;
const MOVES: u64 = 3;
/// The value that writers write.
const WRITTEN: u64 = 7;

/// A pool with two zspages of class 0 that have an object each.
pub struct Scene {
    pub pool: Pool,
    /// The object in the target.
    pub stays: u64,
    /// The object in the source.
    pub moves: u64,
    pub source: ZspageId,
    pub target: ZspageId,
}

impl Scene {
    pub fn new() -> Self {
        let pool = Pool::with_memory(PoolMemory::new(8), None, false).unwrap();
        let stays = object(&pool, STAYS);
        let between = object(&pool, 2);
        let moves = object(&pool, MOVES);
        // SAFETY: the raw handle is not used any more.
        unsafe { pool.free_raw(between).unwrap() };
        let (target, source) = (place_of(&pool, stays).zspage, place_of(&pool, moves).zspage);
        assert_ne!(source, target);
        Self { pool, stays, moves, source, target }
    }

    pub fn move_source(&self) {
        self.pool.drain_into(0, self.source, self.target);
    }

    /// Reads an object. Fails if the handle is stale.
    pub fn read(&self, handle: u64) -> Result<u64> {
        let place = self.pool.pin(handle, MapMode::Read)?;
        let value = look(&self.pool, place);
        unmap(&self.pool, handle);
        Ok(value)
    }

    /// Reads the object that moves, and checks that it is as it was, as written, or gone.
    pub fn expect_moves(&self) {
        match self.read(self.moves) {
            Ok(value) => assert!(value == MOVES || value == WRITTEN, "read {value:#x}"),
            Err(error) => assert!(matches!(error, Error::Stale(_))),
        }
    }

    /// Writes an object, unless it is gone.
    pub fn write(&self, handle: u64) {
        if let Ok(place) = self.pool.pin(handle, MapMode::ReadWrite) {
            put(&self.pool, place, WRITTEN);
            unmap(&self.pool, handle);
        }
    }

    /// Frees an object. Returns false if it was gone.
    pub fn free(&self, handle: u64) -> bool {
        // SAFETY: models use raw handles, stale ones on purpose.
        unsafe { self.pool.free_raw(handle) }.is_ok()
    }

    /// Allocates an object and writes it.
    pub fn malloc(&self) -> u64 {
        object(&self.pool, WRITTEN)
    }
}

/// Allocates an object that holds `value`. Like those of a zswap it is mapped until it is written.
pub fn object(pool: &Pool, value: u64) -> u64 {
    let (handle, place) = pool.allocate(1, 1).unwrap();
    put(pool, place, value);
    unmap(pool, handle);
    handle
}

pub fn unmap(pool: &Pool, handle: u64) {
    // SAFETY: the mapping was made by the caller.
    unsafe { pool.unmap_raw(handle).unwrap() };
}

pub fn look(pool: &Pool, place: Place) -> u64 {
    // SAFETY: the object is pinned. If anybody writes it nevertheless, loom finds it.
    let value = pool.memory.bytes(place).with(|at| unsafe { *at });
    assert_ne!(value, SCRIBBLE, "a mapped object's zspage was given back");
    value
}

pub fn put(pool: &Pool, place: Place, value: u64) {
    // SAFETY: the object is pinned to write. If anybody looks at it meanwhile, loom finds it.
    pool.memory.bytes(place).with_mut(|at| unsafe { *at = value });
}

pub fn place_of(pool: &Pool, handle: u64) -> Place {
    word_of(pool, handle).place()
}

pub fn word_of(pool: &Pool, handle: u64) -> Word {
    pool.memory.word(RawHandle::unpack(handle).index).peek()
}

/// Runs the threads against each other in every order, or in those with at most `preemptions`, and checks the end.
pub fn race(preemptions: Option<usize>, threads: &'static [fn(&Scene)]) {
    race_in(preemptions, Scene::new, threads);
}

/// Runs the threads as [`race`] does, in a scene of their own.
pub fn race_in(preemptions: Option<usize>, scene: fn() -> Scene, threads: &'static [fn(&Scene)]) {
    race_of(preemptions, scene, threads, |scene| check(&scene.pool));
}

/// Runs the threads against each other in every order, or in those with at most `preemptions`, and then `end`.
pub fn race_of<S: 'static>(preemptions: Option<usize>, scene: fn() -> S, threads: &'static [fn(&S)], end: fn(&S)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scene = Arc::new(scene());
        let run = |work: fn(&S)| {
            let scene = scene.clone();
            thread::spawn(move || work(&scene))
        };
        let (first, others) = threads.split_first().unwrap();
        let running: Vec<_> = others.iter().map(|&work| run(work)).collect();
        first(&scene);
        running.into_iter().for_each(|thread| thread.join().unwrap());
        end(&scene);
    });
    let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
    println!("{}: {executions} executions", std::thread::current().name().unwrap_or("a model"));
}

/// Checks the whole pool at the end of an execution.
pub fn check(pool: &Pool) {
    let memory = &pool.memory;
    for class in &pool.classes {
        class.lock(memory).check_shelves(memory, &pool.shelves);
    }
    pool.give_shelves_up();
    pool.shelves.return_stocks(memory);
    let (mut owned, mut zspages, mut free) = (HashSet::new(), memory.unused(), memory.indices());
    for class in &pool.classes {
        // Taking the lock releases what was deferred.
        let state = class.lock(memory);
        let (mut objects, mut count) = (0, 0);
        for id in state.iter(memory) {
            let slots = state.peek(memory, id);
            assert!(!slots.isolated && memory.zspage(id).is_of(class.index()));
            assert_eq!(slots.taken.count(), slots.count as usize);
            for slot in slots.taken.iter().map(|slot| slot as u8) {
                let (place, index) = (Place { zspage: id, slot }, memory.zspage(id).handle_at(slot));
                let word = memory.word(index).peek();
                assert_eq!((word.state(), word.place()), (ObjectState::Live, place), "slot of {index:?}");
                assert!(owned.insert(index.0), "{index:?} has two slots");
                objects += 1;
            }
            zspages.push(id);
            count += 1;
        }
        assert_eq!((state.objects, state.zspages), (objects, count));
        free.extend(state.free_handles(memory));
    }
    let live = (0..memory.word_count()).filter(|&i| memory.word(HandleIndex(i)).peek().state() != ObjectState::Free);
    assert_eq!(live.count(), owned.len(), "every object has its slot");
    assert_eq!(free.len() + owned.len(), memory.word_count() as usize, "every other index is free");
    assert_eq!(free.iter().map(|index| index.0).collect::<HashSet<_>>().len(), free.len(), "an index is free twice");
    zspages.sort_by_key(|id| id.0);
    assert_eq!(zspages, (0..4).map(ZspageId).collect::<Vec<_>>(), "every zspage is in a class or given back, once");
}
