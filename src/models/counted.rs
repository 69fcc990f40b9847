//! The counted pointer: its value and its memory go once, after all threads that used them.

use crate::heap::Counted;
use crate::sync::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;

/// A value that is written when it is dropped, so that a use beside that is a race.
struct Value {
    bytes: Cell<u32>,
    gone: Arc<AtomicU32>,
}

impl Value {
    fn new() -> (Counted<Self>, Arc<AtomicU32>) {
        let gone = Arc::new(AtomicU32::new(0));
        (Counted::new(Self { bytes: Cell::new(1), gone: gone.clone() }).unwrap(), gone)
    }

    fn read(&self) {
        // SAFETY: the value is written when it is dropped. Loom finds a drop beside this.
        assert_eq!(self.bytes.with(|at| unsafe { *at }), 1);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: as above.
        self.bytes.with_mut(|at| unsafe { *at = 2 });
        self.gone.fetch_add(1, Relaxed);
    }
}

#[test]
fn two_that_read_and_drop() {
    loom::model(|| {
        let (first, gone) = Value::new();
        let second = first.clone();
        let thread = thread::spawn(move || second.read());
        first.read();
        drop(first);
        thread.join().unwrap();
        assert_eq!(gone.load(Relaxed), 1);
    });
}

#[test]
fn upgrade_beside_the_last_drop() {
    loom::model(|| {
        let (first, gone) = Value::new();
        let weak = first.downgrade();
        let thread = thread::spawn(move || {
            let Some(counted) = weak.upgrade() else { return };
            counted.read();
        });
        first.read();
        drop(first);
        thread.join().unwrap();
        assert_eq!(gone.load(Relaxed), 1);
    });
}
