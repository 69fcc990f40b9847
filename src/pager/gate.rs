//! The gate between those who read events and those who move pages.
//!
//! The system lets an owner go on as soon as its event was read, not when it took effect here. So while events are read
//! and take effect nobody puts pages in their places or takes them from there: what was decoded before a discard never
//! lands after it, no owner is served by a word that does not know of its discard yet, and no page is taken from an
//! address that is somebody else's by now.

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Release, SeqCst},
    Wait,
};

/// The gate.
#[derive(Default)]
pub struct Gate {
    inside: AtomicU64,
    closed: AtomicU32,
}

/// While this lives no event is read.
pub struct Inside<'a>(&'a Gate);

/// While this lives nobody is inside.
pub struct Closed<'a>(&'a Gate);

impl Gate {
    /// Enters, if the gate is open. Who is inside waits for nobody.
    #[inline]
    pub fn enter(&self) -> Option<Inside<'_>> {
        // In one order with what `close` does: either that sees who is inside, or this sees that it is closed.
        self.inside.fetch_add(1, SeqCst);
        let inside = Inside(self);
        (self.closed.load(SeqCst) == 0).then_some(inside)
    }

    /// Closes the gate, and waits until nobody is inside. One thread at a time does: it holds the lock of events.
    pub fn close(&self) -> Closed<'_> {
        self.closed.store(1, SeqCst);
        let mut wait = Wait::default();
        while self.inside.load(SeqCst) != 0 {
            wait.a_moment();
        }
        Closed(self)
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release, and more, pairs with the load in `close`: what was done inside is over.
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // Release pairs with the load in `enter`: who enters sees what the events did.
        self.0.closed.store(0, Release);
    }
}
