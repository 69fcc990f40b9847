//! A mover beside threads that use the objects.

use super::{Scene, WRITTEN, put, race, race_in, unmap};
use crate::pool::MapMode;

fn mover(scene: &Scene) {
    scene.move_source();
}

fn reader(scene: &Scene) {
    scene.expect_moves();
}

fn writer(scene: &Scene) {
    scene.write(scene.moves);
}

fn free(scene: &Scene) {
    assert!(scene.free(scene.moves));
}

fn try_free(scene: &Scene) {
    scene.free(scene.moves);
}

fn free_and_malloc(scene: &Scene) {
    scene.free(scene.moves);
    let handle = scene.malloc();
    assert_eq!(scene.read(handle), Ok(WRITTEN));
}

#[test]
fn read() {
    race(None, &[mover, reader]);
}

#[test]
fn write() {
    race(
        None,
        &[mover, |scene| {
            scene.write(scene.moves);
            assert_eq!(scene.read(scene.moves), Ok(WRITTEN));
        }],
    );
}

#[test]
fn freed() {
    race(None, &[mover, free]);
}

#[test]
fn freed_then_malloc() {
    race(None, &[mover, free_and_malloc]);
}

/// A malloc and the mover want the same slot of the target.
#[test]
fn malloc_into_the_target() {
    race(
        None,
        &[mover, |scene| {
            let handle = scene.malloc();
            scene.free(scene.moves);
            assert_eq!(scene.read(handle), Ok(WRITTEN));
        }],
    );
}

/// The object was just allocated, and is being written while the mover looks at it.
#[test]
fn fresh_object() {
    race(
        None,
        &[mover, |scene| {
            let (handle, place) = scene.pool.allocate(1, 1).unwrap();
            put(&scene.pool, place, WRITTEN);
            unmap(&scene.pool, handle);
            assert_eq!(scene.read(handle), Ok(WRITTEN));
        }],
    );
}

#[test]
fn two_readers() {
    race(Some(4), &[mover, reader, reader]);
}

#[test]
fn reader_and_writer() {
    race(
        Some(4),
        &[
            mover,
            |scene| _ = scene.pool.pin(scene.moves, MapMode::Read).map(|_| unmap(&scene.pool, scene.moves)),
            writer,
        ],
    );
}

/// A reader's pin makes the mover give up. A writer that comes under that pin waits for the mover nevertheless.
#[test]
fn writer_under_a_readers_pin() {
    race(
        None,
        &[mover, |scene| {
            let place = scene.pool.pin(scene.moves, MapMode::Read).unwrap();
            super::look(&scene.pool, place);
            scene.write(scene.moves);
            unmap(&scene.pool, scene.moves);
        }],
    );
}

#[test]
fn map_and_free() {
    race(Some(4), &[mover, reader, free]);
}

#[test]
fn map_and_free_then_malloc() {
    race(Some(3), &[mover, reader, free_and_malloc]);
}

#[test]
fn writer_and_free() {
    race(Some(4), &[mover, writer, free]);
}

#[test]
fn two_frees() {
    race(Some(4), &[mover, try_free, try_free]);
}

/// Two movers of one class: only one of them isolates the source.
#[test]
fn second_mover() {
    race(None, &[mover, mover]);
}

/// Two movers want to empty each other's target.
#[test]
fn movers_against_each_other() {
    race(Some(4), &[mover, |scene| scene.pool.drain_into(0, scene.target, scene.source)]);
}

/// A free in another class gives its zspage back, which may come to this class.
#[test]
fn free_in_another_class() {
    fn with_other_class() -> Scene {
        let mut scene = Scene::new();
        let (handle, place) = scene.pool.allocate(80, 1).unwrap();
        put(&scene.pool, place, WRITTEN);
        unmap(&scene.pool, handle);
        scene.stays = handle;
        scene
    }
    race_in(None, with_other_class, &[mover, |scene| assert!(scene.free(scene.stays))]);
}

/// A whole compaction, and not only the emptying of a zspage.
#[test]
fn whole_compaction() {
    race(
        Some(3),
        &[
            |scene| _ = scene.pool.compact(&crate::pool::CompactBudget::default()),
            |scene| {
                scene.expect_moves();
                scene.free(scene.moves);
            },
        ],
    );
}
