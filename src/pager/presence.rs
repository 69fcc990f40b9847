//! Which threads are in something right now. A thread that changes it can wait until nobody is there who may not have
//! seen the change.
//!
//! A user counts itself first and looks afterwards. The thread that changes something reads the count last. Both are
//! read-modify-writes of one word, so one of them comes first: either that thread sees the user, or the user sees all
//! that the thread did before. If either used a plain load or store instead, both could miss.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
    Wait,
};

/// Counts the users.
#[derive(Default)]
pub struct Presence(AtomicU64);

/// A user, while this lives.
pub struct Present<'a>(&'a Presence);

impl Presence {
    /// Nobody is there, for statics.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts the calling thread as a user. What it looks at next is as the last thread that waited left it, or that
    /// thread waits for this one.
    #[inline]
    pub fn enter(&self) -> Present<'_> {
        // Acquire pairs with the Release in `wait_for_all`.
        self.0.fetch_add(1, Acquire);
        Present(self)
    }

    /// Whether nobody is there. Orders nothing.
    #[cfg(not(loom))]
    pub fn is_empty(&self) -> bool {
        self.0.load(crate::sync::Ordering::Relaxed) == 0
    }

    /// Waits until nobody is there who may not have seen what this thread did before. Users that come later make this
    /// wait, too, but they see it.
    pub fn wait_for_all(&self) {
        let mut wait = Wait::default();
        // Adds nothing, but has its place among the changes of the word. Release pairs with the Acquire in `enter`,
        // Acquire with the Release of the users that left.
        let mut there = self.0.fetch_add(0, AcqRel);
        while there != 0 {
            wait.a_moment();
            // Acquire pairs with the Release of the users that left. All changes in between are read-modify-writes.
            there = self.0.load(Acquire);
        }
    }
}

impl Drop for Present<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquires in `wait_for_all`: what this user did is over.
        self.0.0.fetch_sub(1, Release);
    }
}
