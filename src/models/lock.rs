//! The lock word.

use crate::sync::{Cell, RawLock};
use loom::sync::Arc;
use loom::thread;

#[derive(Default)]
struct Guarded {
    lock: RawLock,
    value: Cell<u32>,
}

impl Guarded {
    fn add(&self) {
        // SAFETY: the lock is held; loom finds out if that does not do.
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
