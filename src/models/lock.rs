//! The lock word.

use crate::sync::{Cell, Leftovers, Raw, RawLock};
use loom::sync::Arc;
use loom::thread;

#[derive(Default)]
struct Guarded {
    lock: RawLock,
    value: Cell<u32>,
}

impl Guarded {
    fn add(&self) {
        // SAFETY: the lock is held. Loom finds out if that is not enough.
        self.value.with_mut(|at| unsafe { *at += 1 });
    }
}

#[test]
fn one_holder_at_a_time() {
    loom::model(|| {
        let guarded = Arc::new(Guarded { lock: RawLock::default(), value: Cell::new(0) });
        let other = guarded.clone();
        let thread = thread::spawn(move || {
            other.lock.lock();
            other.add();
            other.lock.unlock();
        });
        let mut added = 1;
        if guarded.lock.try_lock() {
            guarded.add();
            guarded.lock.unlock();
            added += 1;
        }
        thread.join().unwrap();
        guarded.lock.lock();
        // SAFETY: as above.
        assert_eq!(guarded.value.with(|at| unsafe { *at }), added);
    });
}

/// An index that is left is taken once, with its link.
#[test]
fn leftovers() {
    loom::model(|| {
        let left = Arc::new((Leftovers::default(), [Cell::new(0), Cell::new(0)]));
        // SAFETY: the link belongs to the thread that leaves the index, then to the one that takes it. Loom checks
        // that.
        let leave = |left: &(Leftovers, [Cell<u32>; 2]), index: u32| {
            left.0.leave(index, |next| left.1[index as usize].with_mut(|at| unsafe { *at = next }));
        };
        let take = |left: &(Leftovers, [Cell<u32>; 2])| {
            let mut taken = 0;
            left.0.take(|index| {
                taken += 1;
                // SAFETY: as above.
                left.1[index as usize].with_mut(|at| unsafe { std::mem::replace(&mut *at, 9) })
            });
            taken
        };
        let other = left.clone();
        let thread = thread::spawn(move || leave(&other, 1));
        leave(&left, 0);
        let taken: u32 = take(&left);
        thread.join().unwrap();
        assert_eq!(taken + take(&left), 2);
    });
}
