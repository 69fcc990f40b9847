//! Removable values: nobody uses a value once it was taken away, and no user is missed.

use super::{look, put, race};
use crate::pager::removable::{Removable, Users};
use crate::sync::Cell;
use loom::sync::Mutex;

const USED: u32 = 1;
const FREED: u32 = 2;

/// Stands in for a region.
struct Region(Cell<u32>);

// SAFETY: threads share it by the protocol of the place. If that does not suffice, loom finds out.
unsafe impl Sync for Region {}
// SAFETY: it goes from thread to thread by the protocol of the place.
unsafe impl Send for Region {}

/// A place, and the regions that were taken away. They are overwritten when they are taken away, and freed only at the
/// end, so that a thread that still uses one is found out.
struct Scene {
    place: Removable<Region>,
    freed: Mutex<Vec<Box<Region>>>,
}

fn region() -> Box<Region> {
    let region = Box::new(Region(Cell::new(0)));
    put(&region.0, USED);
    region
}

fn empty() -> Scene {
    Scene { place: Removable::default(), freed: Mutex::default() }
}

fn put_there(scene: &Scene) -> Result<(), Box<Region>> {
    scene.place.fill(region(), &mut Some(Users::new().unwrap()))
}

fn filled() -> Scene {
    let scene = empty();
    assert!(put_there(&scene).is_ok());
    scene
}

fn enter(scene: &Scene) {
    use_region(scene, 0);
}

fn enter_on_another_processor(scene: &Scene) {
    use_region(scene, 1);
}

fn use_region(scene: &Scene, processor: usize) {
    if let Some(region) = scene.place.enter_of(processor) {
        assert_eq!(look(&region.0), USED);
        // Looks twice, so that others may run in between.
        loom::thread::yield_now();
        assert_eq!(look(&region.0), USED);
    }
}

fn clear(scene: &Scene) {
    if let Some(region) = scene.place.clear() {
        put(&region.0, FREED);
        scene.freed.lock().unwrap().push(region);
    }
}

fn fill(scene: &Scene) {
    if let Err(back) = put_there(scene) {
        put(&back.0, FREED);
        scene.freed.lock().unwrap().push(back);
    }
}

#[test]
fn no_region_is_used_after_it_was_freed() {
    race(None, filled, &[clear, enter], |scene| assert_eq!(scene.freed.lock().unwrap().len(), 1));
}

#[test]
fn two_users_are_waited_for() {
    race(Some(3), filled, &[clear, enter, enter], |scene| assert_eq!(scene.freed.lock().unwrap().len(), 1));
}

#[test]
fn users_on_two_processors_are_waited_for() {
    race(Some(3), filled, &[clear, enter, enter_on_another_processor], |scene| {
        assert_eq!(scene.freed.lock().unwrap().len(), 1);
    });
}

/// A place is filled again while others look there.
#[test]
fn another_region_in_the_same_place() {
    fn clear_and_fill(scene: &Scene) {
        clear(scene);
        assert!(put_there(scene).is_ok());
    }
    race(Some(3), filled, &[clear_and_fill, enter, enter], |scene| assert!(scene.place.clear().is_some()));
}

#[test]
fn a_region_is_seen_as_it_was_put_there() {
    race(None, empty, &[fill, enter, clear], |scene| {
        let freed = scene.freed.lock().unwrap().len();
        assert_eq!(freed + usize::from(scene.place.clear().is_some()), 1);
    });
}

/// Two threads fill one place at the same time: one region is there, and the other one comes back.
#[test]
fn filled_once() {
    race(None, empty, &[fill, fill], |scene| {
        assert_eq!(scene.freed.lock().unwrap().len(), 1);
        assert!(scene.place.clear().is_some() && scene.place.enter().is_none());
    });
}
