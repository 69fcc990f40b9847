//! Slots and indices that are used again while somebody still holds what was there before.

use super::{MOVES, Scene, WRITTEN, look, race, unmap};
use crate::error::Error;
use crate::pool::MapMode;

/// Pinned, freed by another, unmapped, and the slot used again: the new owner comes after the old reader.
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

/// Two readers, of whom the last releases what the free left.
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

/// Read, moved, and the old slot's zspage used again.
#[test]
fn old_slot_after_the_move() {
    race(
        Some(4),
        &[
            |scene| scene.expect_moves(),
            |scene| {
                scene.move_source();
                let handles = [scene.malloc(), scene.malloc()];
                handles.map(|handle| assert_eq!(scene.read(handle), Ok(WRITTEN)));
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
                Err(error) => assert!(matches!(error, Error::Invalid(_))),
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

/// Frees and unmaps that find the class's lock taken leave their slots to whoever takes it next.
#[test]
fn deferred_releases() {
    race(
        Some(4),
        &[
            |scene| assert!(scene.free(scene.moves)),
            |scene| assert!(scene.free(scene.stays)),
            |scene| drop(scene.malloc()),
        ],
    );
}
