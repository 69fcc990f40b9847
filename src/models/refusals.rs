//! Calls that the handle word refuses.

use super::{Scene, race, unmap, word_of};
use crate::error::Error;
use crate::pool::MapMode;
use crate::word::{MAX_PINS, ObjectState};

fn unmap_too_often(scene: &Scene) -> bool {
    // SAFETY: this is the misuse under test.
    unsafe { scene.pool.unmap_raw(scene.moves) }.is_err()
}

#[test]
fn one_unmap_too_many_on_a_live_object() {
    race(
        None,
        &[
            |scene| scene.expect_moves(),
            |scene| {
                scene.pool.pin(scene.stays, MapMode::Read).unwrap();
                unmap(&scene.pool, scene.stays);
                // SAFETY: as above.
                assert!(unsafe { scene.pool.unmap_raw(scene.stays) }.is_err());
            },
        ],
    );
}

#[test]
fn one_unmap_too_many_on_a_dying_object() {
    race(
        None,
        &[
            |scene| {
                scene.pool.pin(scene.moves, MapMode::Read).unwrap();
                scene.free(scene.moves);
                assert_eq!(word_of(&scene.pool, scene.moves).state(), ObjectState::Dying);
                unmap(&scene.pool, scene.moves);
                assert!(unmap_too_often(scene));
            },
            |scene| _ = scene.malloc(),
        ],
    );
}

#[test]
fn pins_at_their_limit() {
    loom::model(|| {
        let scene = Scene::new();
        for _ in 0..MAX_PINS {
            scene.pool.pin(scene.moves, MapMode::Read).unwrap();
        }
        assert!(matches!(scene.pool.pin(scene.moves, MapMode::Read), Err(Error::Busy(_))));
        for _ in 0..MAX_PINS {
            unmap(&scene.pool, scene.moves);
        }
        assert!(unmap_too_often(&scene));
        super::check(&scene.pool);
    });
}
