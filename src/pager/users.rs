//! Who is in something right now, for a thread that changes it and then has to know that nobody is who did not see.
//!
//! To be counted is the first thing that a user does, and to count the last thing that the other thread does; both are
//! read-modify-writes of one word, so one of them comes first: either the other thread sees the user, or the user sees
//! all that the other thread did before. A load and a store in the place of either could both miss.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
    Wait,
};

/// How many there are.
#[derive(Default)]
pub struct Users(AtomicU64);

/// One of them, while this lives.
pub struct User<'a>(&'a Users);

impl Users {
    /// From here on this thread is one. What it looks at next is as the last one to wait before left it, or it is
    /// waited for.
    #[inline]
    pub fn enter(&self) -> User<'_> {
        // Acquire pairs with the Release in `wait_for_all`.
        self.0.fetch_add(1, Acquire);
        User(self)
    }

    /// Whether nobody is there. Orders nothing.
    #[cfg(not(loom))]
    pub fn is_empty(&self) -> bool {
        self.0.load(crate::sync::Ordering::Relaxed) == 0
    }

    /// Waits until nobody is there who may not have seen what this thread did before. Those who come later make this
    /// wait, too, but they see it.
    pub fn wait_for_all(&self) {
        let mut wait = Wait::default();
        // Adds nothing, but has its place among the changes of the word. Release pairs with the Acquire in `enter`,
        // Acquire with the Release of those who left.
        let mut there = self.0.fetch_add(0, AcqRel);
        while there != 0 {
            wait.a_moment();
            // Acquire pairs with the Release of those who left; what lies between are read-modify-writes.
            there = self.0.load(Acquire);
        }
    }
}

impl Drop for User<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquires in `wait_for_all`: what this thread did is over.
        self.0.0.fetch_sub(1, Release);
    }
}
