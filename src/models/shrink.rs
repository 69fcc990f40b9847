//! A shrink beside threads that use the objects.

use super::{MOVES, Scene, WRITTEN, look, put, race, unmap, word_of};
use crate::error::{Error, Result, sentence};
use crate::pool::{MapMode, Pool, Verdict, Victim};

/// Offers the objects of the source to a callback.
fn shrink_with(scene: &Scene, evict: impl Fn(&Pool, u64) -> Result<()>) {
    let answer = |result: Result<()>| result.map_or(Verdict::Keep, |()| Verdict::Gone);
    let evict = |victim: Victim<'_>| answer(evict(victim.pool(), victim.raw()));
    scene.pool.evict_zspage(&scene.pool.classes[0], scene.source, &evict);
}

/// Frees the object that is offered, as its owner would.
fn free_offered(pool: &Pool, handle: u64) -> Result<()> {
    // SAFETY: models use raw handles.
    unsafe { pool.free_raw(handle) }
}

fn shrink(scene: &Scene) {
    shrink_with(scene, free_offered);
}

fn mover(scene: &Scene) {
    scene.move_source();
}

#[test]
fn free_and_malloc_of_the_index() {
    race(
        None,
        &[
            |scene| {
                shrink_with(scene, |pool, handle| {
                    // The object is pinned: the handle names it, or nothing, and never another object.
                    assert_eq!(handle, super::Scene::offered(scene, handle));
                    free_offered(pool, handle)
                })
            },
            |scene| {
                scene.free(scene.moves);
                let handle = scene.malloc();
                scene.read(handle).ok();
            },
        ],
    );
}

#[test]
fn read_free_and_malloc() {
    race(
        Some(3),
        &[
            shrink,
            |scene| scene.expect_moves(),
            |scene| {
                scene.free(scene.moves);
                scene.malloc();
            },
        ],
    );
}

#[test]
fn map() {
    race(None, &[shrink, |scene| scene.expect_moves()]);
}

#[test]
fn map_and_free() {
    race(Some(4), &[shrink, |scene| scene.expect_moves(), |scene| _ = scene.free(scene.moves)]);
}

#[test]
fn writer_that_keeps_its_mapping() {
    race(
        None,
        &[shrink, |scene| {
            if let Ok(place) = scene.pool.pin(scene.moves, MapMode::ReadWrite) {
                put(&scene.pool, place, WRITTEN);
                assert_eq!(look(&scene.pool, place), WRITTEN);
                unmap(&scene.pool, scene.moves);
            }
        }],
    );
}

#[test]
fn mover_of_the_same_zspage() {
    race(None, &[shrink, mover]);
}

#[test]
fn mover_into_the_zspage() {
    race(None, &[shrink, |scene| scene.pool.drain_into(0, scene.target, scene.source)]);
}

#[test]
fn reader_and_mover_into_the_zspage() {
    race(
        Some(3),
        &[shrink, |scene| scene.pool.drain_into(0, scene.target, scene.source), |scene| scene.expect_moves()],
    );
}

#[test]
fn callback_that_calls_back_in() {
    race(
        Some(4),
        &[
            |scene| {
                shrink_with(scene, |pool, handle| {
                    free_offered(pool, handle)?;
                    let new = super::object(pool, WRITTEN);
                    pool.drain_into(0, scene.target, scene.source);
                    free_offered(pool, new)
                });
            },
            |scene| scene.expect_moves(),
        ],
    );
}

#[test]
fn callback_that_fails() {
    race(
        None,
        &[
            |scene| shrink_with(scene, |_, _| Err(Error::Again(sentence(&"not now")))),
            |scene| assert_eq!(scene.read(scene.moves), Ok(MOVES)),
        ],
    );
}

/// An object that is being written is mapped, and is not offered.
#[test]
fn object_just_published() {
    race(
        None,
        &[
            |scene| {
                shrink_with(scene, |pool, handle| {
                    // A callback that is offered the object may read it, because the writer has finished.
                    let place = pool.pin(handle, MapMode::Read)?;
                    assert_ne!(look(pool, place), 0);
                    unmap(pool, handle);
                    free_offered(pool, handle)
                })
            },
            |scene| {
                // The target fills up, so that the second one goes into the source.
                for _ in 0..2 {
                    let (handle, place) = scene.pool.allocate(1, 1).unwrap();
                    put(&scene.pool, place, WRITTEN);
                    unmap(&scene.pool, handle);
                }
            },
        ],
    );
}

#[test]
fn callback_that_unmaps_once_too_often() {
    race(
        None,
        &[
            |scene| {
                shrink_with(scene, |pool, handle| {
                    // SAFETY: this is the misuse under test, which takes the pin of the shrink.
                    unsafe { pool.unmap_raw(handle) }
                })
            },
            |scene| _ = scene.free(scene.moves),
        ],
    );
}

#[test]
fn reader_free_and_mover() {
    race(Some(2), &[shrink, mover, |scene| scene.expect_moves(), |scene| _ = scene.free(scene.moves)]);
}

impl Scene {
    /// Returns the handle, if its word still has its generation while it is offered.
    fn offered(&self, handle: u64) -> u64 {
        let word = word_of(&self.pool, handle);
        assert!(word.pins() > 0, "an offered object is pinned");
        assert_eq!(word.generation(), crate::word::RawHandle::unpack(handle).generation);
        handle
    }
}
