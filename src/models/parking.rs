//! The lock that threads sleep for: no thread sleeps for ever, and one at a time has it.

use super::race_of as race;
use crate::parking::Parking;
use crate::sync::{Cell, Raw};

#[derive(Default)]
struct Guarded {
    lock: Parking,
    value: Cell<u32>,
}

impl Guarded {
    fn add(&self) {
        self.lock.lock();
        // SAFETY: the lock is held. Loom finds out if that is not enough.
        self.value.with_mut(|at| unsafe { *at += 1 });
        self.lock.unlock();
    }

    fn count(&self) -> u32 {
        self.lock.lock();
        // SAFETY: as above.
        let count = self.value.with(|at| unsafe { *at });
        self.lock.unlock();
        assert!(self.lock.try_lock(), "nobody waits, and it is free");
        self.lock.unlock();
        count
    }
}

fn add(guarded: &Guarded) {
    guarded.add();
}

fn add_twice(guarded: &Guarded) {
    guarded.add();
    guarded.add();
}

#[test]
fn two_wait_for_each_other() {
    race(None, Guarded::default, &[add, add], |guarded| assert_eq!(guarded.count(), 2));
}

/// A thread that takes the lock again at once makes the other one sleep in vain, until the lock is handed to it.
#[test]
fn taken_again_at_once() {
    race(Some(4), Guarded::default, &[add_twice, add], |guarded| assert_eq!(guarded.count(), 3));
    race(Some(2), Guarded::default, &[add_twice, add_twice], |guarded| assert_eq!(guarded.count(), 4));
}

/// A thread that was woken in vain goes first while another one sleeps.
#[test]
fn three_threads() {
    race(Some(2), Guarded::default, &[add, add, add], |guarded| assert_eq!(guarded.count(), 3));
    race(Some(1), Guarded::default, &[add_twice, add_twice, add], |guarded| assert_eq!(guarded.count(), 5));
}

/// A thread that only tries the lock keeps no other from being woken.
#[test]
fn tried_and_waited_for() {
    fn try_to_add(guarded: &Guarded) {
        if guarded.lock.try_lock() {
            // SAFETY: as above.
            guarded.value.with_mut(|at| unsafe { *at += 1 });
            guarded.lock.unlock();
        }
    }
    race(Some(2), Guarded::default, &[try_to_add, add, add], |guarded| assert!(guarded.count() >= 2));
}
