//! The gate: no thread is inside while another has closed it, and each sees what the other did.

use super::{look, put, race};
use crate::pager::gate::Gate;
use crate::sync::{AtomicU32, Cell, Lock, Ordering::Relaxed, Rank};

/// The gate, the lock of events, and what the events change.
struct Scene {
    gate: Gate,
    events: Lock<()>,
    changed: Cell<u32>,
    inside: [Cell<u32>; 2],
    next: AtomicU32,
}

fn open() -> Scene {
    Scene {
        gate: Gate::default(),
        events: Lock::new(Rank::Inbox, ()),
        changed: Cell::new(0),
        inside: [Cell::new(0), Cell::new(0)],
        next: AtomicU32::new(0),
    }
}

/// Moves a page, if the gate is open.
fn enter(scene: &Scene) {
    enter_of(scene, 0);
}

/// Moves a page on another processor.
fn enter_elsewhere(scene: &Scene) {
    enter_of(scene, 1);
}

fn enter_of(scene: &Scene, processor: usize) {
    let own = &scene.inside[scene.next.fetch_add(1, Relaxed) as usize];
    if let Some(inside) = scene.gate.enter_of(processor) {
        let before = look(&scene.changed);
        put(own, 1);
        assert_eq!(look(&scene.changed), before);
        put(own, 2);
        drop(inside);
    }
}

/// Reads events.
fn close(scene: &Scene) {
    let events = scene.events.lock();
    let closed = scene.gate.close();
    scene.inside.iter().for_each(|cell| assert_ne!(look(cell), 1));
    put(&scene.changed, look(&scene.changed) + 1);
    drop(closed);
    drop(events);
}

fn check(scene: &Scene) {
    assert!(scene.gate.enter().is_some(), "nobody is left, and it is open");
    drop(scene.gate.close());
}

#[test]
fn nobody_is_inside_a_closed_gate() {
    race(None, open, &[close, enter], check);
}

#[test]
fn two_inside() {
    race(Some(3), open, &[close, enter, enter], check);
}

#[test]
fn two_inside_on_two_processors() {
    race(None, open, &[close, enter_elsewhere], check);
    race(Some(3), open, &[close, enter, enter_elsewhere], check);
}

/// A thread that enters again and again does not keep the gate from being closed.
#[test]
fn entered_again() {
    fn twice(scene: &Scene) {
        drop(scene.gate.enter());
        drop(scene.gate.enter());
    }
    race(None, open, &[close, twice], check);
}

#[test]
fn closed_again() {
    fn twice(scene: &Scene) {
        close(scene);
        close(scene);
    }
    race(Some(4), open, &[twice, enter], check);
}

#[test]
fn closed_by_two() {
    race(Some(3), open, &[close, close, enter], |scene| {
        check(scene);
        assert_eq!(look(&scene.changed), 2);
    });
}
