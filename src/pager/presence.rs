//! Which threads are in something right now. A thread that changes it can wait until nobody is there who may not have
//! seen the change.
//!
//! The thread that changes something sleeps until the last user that leaves wakes it.
//!
//! A user counts itself first and looks afterwards. The thread that changes something reads the count last. Both are
//! read-modify-writes of one word, so one of them comes first: either that thread sees the user, or the user sees all
//! that the thread did before. If either used a plain load or store instead, both could miss.

use crate::parking::Futex;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// A thread waits until nobody is there, and sleeps on the word.
const AWAITED: u32 = 1 << 31;

/// Counts the users.
#[derive(Default)]
pub struct Presence(Futex);

/// A user, while this lives.
pub struct Present<'a>(&'a Presence);

impl Presence {
    /// Nobody is there, for statics.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(Futex::new())
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
        self.0.load(Relaxed) & !AWAITED == 0
    }

    /// Waits until nobody is there who may not have seen what this thread did before. Users that come later make this
    /// wait, too, but they see it. The last user that leaves wakes this thread.
    pub fn wait_for_all(&self) {
        // Adds nothing, but has its place among the changes of the word. Release pairs with the Acquire in `enter`,
        // Acquire with the Release of the users that left. All changes are read-modify-writes.
        if self.0.fetch_add(0, AcqRel) & !AWAITED != 0 {
            self.sleep_until_empty();
        }
    }

    #[cold]
    fn sleep_until_empty(&self) {
        loop {
            // Another thread that waits may have removed the mark. Acquire pairs with the Release of the users that
            // left.
            let there = self.0.fetch_or(AWAITED, Acquire);
            if there & !AWAITED == 0 {
                break;
            }
            self.0.sleep(there | AWAITED);
        }
        // Relaxed: users that leave need wake nobody any more.
        self.0.fetch_and(!AWAITED, Relaxed);
    }
}

impl Drop for Present<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquires of the thread that waits: what this user did is over.
        if self.0.0.fetch_sub(1, Release) == AWAITED | 1 {
            self.0.0.wake_all();
        }
    }
}
