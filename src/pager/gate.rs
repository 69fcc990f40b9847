//! The gate between those who read events and those who move pages.
//!
//! The system lets an owner go on as soon as its event was read, not when it took effect here. So while events are read
//! and take effect nobody puts pages in their places or takes them from there: what was decoded before a discard never
//! lands after it, no owner is served by a word that does not know of its discard yet, and no page is taken from an
//! address that is somebody else's by now.

use super::extents::Extents;
use super::users::{User, Users};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// The gate.
#[derive(Default)]
pub struct Gate {
    inside: Users,
    closed: AtomicU32,
}

/// While this lives no event is read.
pub struct Inside<'a> {
    _user: User<'a>,
}

/// While this lives nobody is inside.
pub struct Closed<'a>(&'a Gate);

impl Gate {
    /// Enters, if the gate is open. Who is inside waits for nobody.
    #[inline]
    pub fn enter(&self) -> Option<Inside<'_>> {
        // Either `close` waits for this user, or this sees that it is closed.
        let inside = self.inside.enter();
        // Acquire pairs with the Release in `Closed::drop`: who enters sees what the events did.
        (self.closed.load(Acquire) == 0).then(|| Inside { _user: inside })
    }

    /// Enters, if the gate is open and the table of extents is still of that version: what it said still holds, for as
    /// long as the caller is inside.
    #[inline]
    pub fn enter_if(&self, extents: &Extents, version: u64) -> Option<Inside<'_>> {
        self.enter().filter(|_| extents.version() == version)
    }

    /// Closes the gate, and waits until nobody is inside. One thread at a time does: it holds the lock of events.
    pub fn close(&self) -> Closed<'_> {
        // Relaxed: who enters after `wait_for_all` has begun sees this, and all others are waited for.
        self.closed.store(1, Relaxed);
        self.inside.wait_for_all();
        Closed(self)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // Release pairs with the load in `enter`.
        self.0.closed.store(0, Release);
    }
}
