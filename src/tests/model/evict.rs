//! The evict callback of the random test, which does everything that a callback may do.

use super::run::{Shared, lock, new_object};
use crate::error::sentence;
use crate::geometry::MAX_ALLOC_SIZE;
use crate::tests::shared::ReadObject;
use crate::tests::shared::pattern;
use crate::{CompactBudget, Error, MapMode, Pool, Result};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// An action of the callback.
#[derive(Clone, Copy)]
enum Mood {
    /// Frees the object.
    Free,
    /// Frees it, and unmaps it once too often.
    FreeAndUnmap,
    /// Frees others first, mapped ones too.
    FreeOthers,
    Fail,
    /// Keeps the object, and returns success.
    Keep,
    /// Allocates, then frees it.
    Malloc,
    /// Compacts, then frees it.
    Compact,
    /// Maps it for good.
    Map,
    /// Shrinks, then frees it.
    Shrink,
    Panic,
}

const MOODS: [Mood; 9] = [
    Mood::FreeAndUnmap,
    Mood::FreeOthers,
    Mood::Fail,
    Mood::Keep,
    Mood::Malloc,
    Mood::Compact,
    Mood::Map,
    Mood::Shrink,
    Mood::Panic,
];
const FAILED: Error = Error::Again(sentence(&"the test's callback failed"));

/// A callback for this world's pool.
pub fn callback(world: Shared) -> impl Fn(&Pool, u64) -> Result<()> {
    move |pool: &Pool, handle: u64| match catch_unwind(AssertUnwindSafe(|| evict(&world, pool, handle))) {
        Ok(result) => result,
        Err(panic) => {
            // The pool takes a panic for a refusal. A panic that was not meant is reported to the step.
            lock(&world).failed |= !panic.is::<Meant>();
            resume_unwind(panic)
        }
    }
}

/// A panic that is part of the test.
struct Meant;

fn evict(shared: &Shared, pool: &Pool, handle: u64) -> Result<()> {
    let mood = {
        let mut world = lock(shared);
        let object = world.objects.get(&handle).expect("only what is there is offered");
        assert_eq!(object.pins, 0, "{handle:#x} was offered, and is mapped");
        let mut buffer = [0; MAX_ALLOC_SIZE];
        let read = &mut buffer[..object.bytes.len()];
        pool.read_object(handle, read).expect("what is offered can be read");
        assert!(*read == *object.bytes, "{handle:#x} was offered with other bytes than were written");
        object.check_tag(pool, handle);
        if world.rng.chance(60) { Mood::Free } else { world.rng.pick(&MOODS) }
    };
    match mood {
        Mood::Fail => return Err(FAILED),
        Mood::Keep => return Ok(()),
        Mood::Panic => resume_unwind(Box::new(Meant)),
        Mood::Map => {
            let address = pool.map_raw(handle, MapMode::ReadWrite)?;
            lock(shared).note_mapped(handle, address);
            return if lock(shared).rng.chance(50) { Ok(()) } else { Err(FAILED) };
        }
        Mood::FreeOthers => free_others(shared, pool, handle),
        Mood::Malloc => malloc(shared, pool),
        Mood::Compact => {
            pool.compact(&CompactBudget { max_bytes_moved: Some(10_000), max_time: None })?;
        }
        Mood::Shrink => shrink(shared, pool),
        Mood::Free | Mood::FreeAndUnmap => {}
    }
    free(shared, pool, handle);
    if matches!(mood, Mood::FreeAndUnmap) {
        // SAFETY: the mapping is the shrinker's, which is to bear it; that is what is tested.
        unsafe { pool.unmap_raw(handle) }?;
    }
    Ok(())
}

fn free(shared: &Shared, pool: &Pool, handle: u64) {
    // A callback inside this one may have freed what this one was offered.
    let there = lock(shared).objects.contains_key(&handle);
    // SAFETY: the world has no `Handle`s.
    let freed = unsafe { pool.free_raw(handle) };
    assert_eq!(freed.is_ok(), there, "{handle:#x}: {freed:?}");
    if there {
        lock(shared).remove(handle);
    }
}

fn free_others(shared: &Shared, pool: &Pool, not: u64) {
    for _ in 0..3 {
        let other = lock(shared).any_handle();
        if let Some(other) = other.filter(|&other| other != not) {
            free(shared, pool, other);
        }
    }
}

fn malloc(shared: &Shared, pool: &Pool) {
    let (size, key, hardened) = {
        let mut world = lock(shared);
        (world.draw_size(), world.rng.next(), world.shape.hardened)
    };
    if let Ok(handle) = pool.malloc_raw(size) {
        let bytes = pool.class_size(size).expect("it was allocated");
        new_object(pool, handle, bytes, key, hardened);
        lock(shared).insert(handle, pattern(key, bytes).to_vec());
    }
}

/// Another shrink, three deep at most.
fn shrink(shared: &Shared, pool: &Pool) {
    if lock(shared).depth < 3 {
        lock(shared).depth += 1;
        let result = pool.shrink(1);
        assert!(matches!(result, Ok(_) | Err(Error::Again(_))), "{result:?}");
        lock(shared).depth -= 1;
    }
}
