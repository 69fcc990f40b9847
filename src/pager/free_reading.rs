//! Whether messages may be read while pages are being moved.
//!
//! A thread that reads a message may get an event, whose owner goes on at once: so the gate is closed before. But an
//! owner that leaves its memory where it is causes no events. While all regions are of such owners, every message is a
//! touch, and the threads that serve touches read without the gate, each for itself.

use super::presence::{Presence, Present};
use crate::sync::{AtomicU32, Ordering::Relaxed};

/// Counts the regions whose owners may move, unmap or give back memory by themselves.
#[derive(Default)]
pub struct FreeReading {
    readers: Presence,
    loose: AtomicU32,
}

impl FreeReading {
    /// Lets the calling thread read without the gate, while the returned guard lives. None: there may be events.
    #[inline]
    pub fn enter(&self) -> Option<Present<'_>> {
        // Either `end_for` waits for this reader, or this sees the region that it counted.
        let reader = self.readers.enter();
        // Relaxed: behind the Acquire in `enter` of the presence.
        (self.loose.load(Relaxed) == 0).then_some(reader)
    }

    /// Whether messages may be read without the gate. A hint.
    #[cfg(not(loom))]
    pub fn is_free(&self) -> bool {
        self.loose.load(Relaxed) == 0
    }

    /// Counts a region whose owner may cause events. Nobody reads without the gate from here on, until the region is
    /// gone. The caller holds the lock of events, and the region has no memory yet.
    pub fn add_loose(&self) {
        // Relaxed: a reader that enters after `wait_for_all` has begun sees it, and all others are waited for.
        self.loose.fetch_add(1, Relaxed);
        self.readers.wait_for_all();
    }

    /// Such a region is gone. The caller holds the lock of events.
    pub fn remove_loose(&self) {
        // Relaxed: a reader that misses it closes the gate, and that is always right.
        self.loose.fetch_sub(1, Relaxed);
    }
}
