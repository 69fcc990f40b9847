//! Shelves: slots that a free leaves for the next malloc of its processor. In the models all threads share one.

use super::{Scene, WRITTEN, check, look, race_in, race_of, unmap};
use crate::pool::{MapMode, Verdict, Victim};
use crate::size_class::Shelves;

/// The scene, with open shelves.
fn shelved() -> Scene {
    let mut scene = Scene::new();
    scene.pool.shelves = Shelves::new(u64::MAX, false).unwrap();
    scene.pool.classes[0].lock(&scene.pool.memory).open_shelves(&scene.pool.shelves);
    scene
}

/// Allocates an object, writes it, and reads it back.
fn use_a_slot(scene: &Scene) -> u64 {
    let handle = scene.malloc();
    assert_eq!(scene.read(handle), Ok(WRITTEN));
    handle
}

fn mover(scene: &Scene) {
    scene.move_source();
}

fn give_up(scene: &Scene) {
    scene.pool.give_shelves_up();
}

/// The next owner of a slot that came by a shelf comes after the reader of the object before.
#[test]
fn slot_after_a_reader() {
    race_in(
        None,
        shelved,
        &[Scene::expect_moves, |scene| {
            scene.free(scene.moves);
            use_a_slot(scene);
        }],
    );
}

/// Two threads that put on the shelf and take from it have different slots.
#[test]
fn two_that_put_and_take() {
    race_in(
        Some(4),
        shelved,
        &[
            |scene| {
                assert!(scene.free(scene.moves));
                use_a_slot(scene);
            },
            |scene| {
                assert!(scene.free(scene.stays));
                let handle = use_a_slot(scene);
                assert!(scene.free(handle));
            },
        ],
    );
}

/// A malloc that finds the shelf empty puts more on it, which other threads take.
#[test]
fn two_that_refill() {
    race_in(
        Some(4),
        shelved,
        &[
            |scene| {
                use_a_slot(scene);
                use_a_slot(scene);
            },
            |scene| _ = use_a_slot(scene),
        ],
    );
}

/// A free beside the thread that closes the shelves leaves nothing on a closed one.
#[test]
fn free_beside_the_end() {
    race_in(None, shelved, &[give_up, |scene| assert!(scene.free(scene.moves))]);
}

#[test]
fn malloc_beside_the_end() {
    race_in(
        Some(4),
        shelved,
        &[give_up, |scene| {
            assert!(scene.free(scene.moves));
            use_a_slot(scene);
        }],
    );
}

/// A shelf that is full makes room beside the thread that closes it.
#[test]
fn full_shelf_beside_the_end() {
    race_in(
        Some(4),
        || {
            let scene = shelved();
            let handles = [(); 3].map(|()| scene.malloc());
            handles.into_iter().for_each(|handle| assert!(scene.free(handle)));
            scene
        },
        &[give_up, |scene| {
            assert!(scene.free(scene.moves));
            assert!(scene.free(scene.stays));
        }],
    );
}

/// The mover needs no closed shelves to be right: an object that it copies is not put on one when it is freed.
#[test]
fn mover_beside_an_open_shelf() {
    race_in(
        None,
        shelved,
        &[mover, |scene| {
            scene.free(scene.moves);
            use_a_slot(scene);
        }],
    );
}

/// As above, with a reader: its unmap ends the object under the copy.
#[test]
fn reader_and_mover_beside_an_open_shelf() {
    race_in(
        Some(3),
        shelved,
        &[
            mover,
            |scene| {
                if let Ok(place) = scene.pool.pin(scene.moves, MapMode::Read) {
                    look(&scene.pool, place);
                    unmap(&scene.pool, scene.moves);
                    use_a_slot(scene);
                }
            },
            |scene| _ = scene.free(scene.moves),
        ],
    );
}

/// Nothing is put on shelves that are paused.
#[test]
fn paused_shelves_stay_closed() {
    race_in(
        None,
        shelved,
        &[
            |scene| {
                let class = &scene.pool.classes[0];
                let paused = scene.pool.pause_shelves(class);
                let memory = &scene.pool.memory;
                assert!(class.lock(memory).check_shelves(memory, &scene.pool.shelves).is_empty());
                drop(paused);
            },
            |scene| assert!(scene.free(scene.moves)),
        ],
    );
}

/// A slot on a shelf does not keep a shrink from giving the zspage back. The shrink itself puts nothing on a shelf: it
/// has pinned the objects that its callback frees.
#[test]
fn shrink_beside_a_free() {
    race_of(
        None,
        || {
            let scene = shelved();
            assert!(scene.free(scene.moves));
            scene
        },
        &[
            |scene: &Scene| {
                let free = |victim: Victim<'_>| {
                    // SAFETY: models use raw handles.
                    unsafe { victim.pool().free_raw(victim.raw()) }.map_or(Verdict::Keep, |()| Verdict::Gone)
                };
                scene.pool.evict_zspage(&scene.pool.classes[0], scene.source, &free);
            },
            |scene| assert!(scene.free(scene.stays)),
        ],
        |scene| {
            assert!(scene.pool.memory.unused().contains(&scene.source), "the zspage was not given back");
            check(&scene.pool);
        },
    );
}

/// Compaction keeps the shelves closed, and opens them again.
#[test]
fn compaction_beside_a_free_and_a_malloc() {
    race_of(
        Some(3),
        shelved,
        &[
            |scene| _ = scene.pool.compact(&Default::default()).unwrap(),
            |scene| {
                assert!(scene.free(scene.moves));
                use_a_slot(scene);
            },
        ],
        |scene| {
            assert!(scene.pool.shelves.are_any_in_use(), "the shelves are open again");
            check(&scene.pool);
        },
    );
}
