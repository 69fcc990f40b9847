//! Reading without the gate: nobody does so once a region may have events.

use super::{look, put, race};
use crate::pager::free_reading::FreeReading;
use crate::sync::{AtomicU32, Cell, Lock, Ordering::Relaxed, Rank};

/// The regions, and what an event would change.
struct Scene {
    reading: FreeReading,
    events: Lock<()>,
    changed: Cell<u32>,
    read: [Cell<u32>; 2],
    next: AtomicU32,
}

fn settled() -> Scene {
    Scene {
        reading: FreeReading::default(),
        events: Lock::new(Rank::Inbox, ()),
        changed: Cell::new(0),
        read: [Cell::new(0), Cell::new(0)],
        next: AtomicU32::new(0),
    }
}

/// Reads a message without the gate, if there are no events.
fn read(scene: &Scene) {
    let own = &scene.read[scene.next.fetch_add(1, Relaxed) as usize];
    if let Some(_reader) = scene.reading.enter() {
        put(own, 1);
        assert_eq!(look(&scene.changed), 0);
        put(own, 2);
    }
}

/// Adds a region whose owner causes an event.
fn add(scene: &Scene) {
    let _events = scene.events.lock();
    scene.reading.add_loose();
    scene.read.iter().for_each(|cell| assert_ne!(look(cell), 1));
    put(&scene.changed, 1);
}

#[test]
fn nobody_reads_freely_once_there_may_be_events() {
    race(None, settled, &[add, read], |scene| {
        assert!(scene.reading.enter().is_none());
        scene.reading.remove_loose();
        assert!(scene.reading.enter().is_some());
    });
}

#[test]
fn two_readers_are_waited_for() {
    race(Some(3), settled, &[add, read, read], |scene| assert!(scene.reading.enter().is_none()));
}
