//! Slots and indices that are used again while a thread still has what was there before.

use super::{MOVES, Scene, WRITTEN, look, race, unmap};
use crate::error::Error;
use crate::pool::MapMode;

/// An object is pinned, freed by another thread, and unmapped. The next owner of its slot comes after the reader.
#[test]
fn slot_after_the_last_unmap() {
    race(
        None,
        &[
            |scene| {
                if let Ok(place) = scene.pool.pin(scene.moves, MapMode::Read) {
                    assert_eq!(look(&scene.pool, place), MOVES);
                    unmap(&scene.pool, scene.moves);
                }
            },
            |scene| {
                scene.free(scene.moves);
                let (one, two) = (scene.malloc(), scene.malloc());
                assert_eq!((scene.read(one), scene.read(two)), (Ok(WRITTEN), Ok(WRITTEN)));
            },
        ],
    );
}

/// Two readers have an object that is freed. The last one releases it.
#[test]
fn slot_after_two_unmaps() {
    fn reader(scene: &Scene) {
        if let Ok(place) = scene.pool.pin(scene.moves, MapMode::Read) {
            assert_eq!(look(&scene.pool, place), MOVES);
            unmap(&scene.pool, scene.moves);
        }
    }
    race(
        Some(4),
        &[reader, reader, |scene| {
            scene.free(scene.moves);
            scene.malloc();
            scene.malloc();
        }],
    );
}

/// An object is read and moved, and the zspage of its old slot is used again.
#[test]
fn old_slot_after_the_move() {
    race(
        Some(4),
        &[
            |scene| scene.expect_moves(),
            |scene| {
                scene.move_source();
                let handles = [scene.malloc(), scene.malloc()];
                handles.into_iter().for_each(|handle| assert_eq!(scene.read(handle), Ok(WRITTEN)));
            },
        ],
    );
}

#[test]
fn stale_handle_mapped() {
    race(
        None,
        &[
            |scene| match scene.read(scene.moves) {
                Ok(value) => assert_eq!(value, MOVES),
                Err(error) => assert!(matches!(error, Error::Stale(_))),
            },
            |scene| {
                scene.free(scene.moves);
                scene.malloc();
                scene.malloc();
            },
        ],
    );
}

#[test]
fn stale_handle_freed() {
    race(
        None,
        &[
            |scene| {
                scene.free(scene.moves);
                assert!(!scene.free(scene.moves), "freed twice");
            },
            |scene| {
                let handle = scene.malloc();
                assert_eq!(scene.read(handle), Ok(WRITTEN));
                assert!(scene.free(handle));
            },
        ],
    );
}

/// Frees and unmaps that find the lock of the class taken leave their slots to its next holder.
#[test]
fn deferred_releases() {
    race(
        Some(4),
        &[
            |scene| assert!(scene.free(scene.moves)),
            |scene| assert!(scene.free(scene.stays)),
            |scene| _ = scene.malloc(),
        ],
    );
}
