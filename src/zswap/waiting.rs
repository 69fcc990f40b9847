//! Who may wait for a writeback, and who may not.

use crate::error::Error;
use std::cell::Cell;

thread_local! {
    /// Callbacks that this thread is in, of whichever zswap. The first look may allocate, in a library that was loaded
    /// by dlopen: so a pager, which calls from a signal handler, asks for nothing that looks here.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

pub(super) const IN_CALLBACK: Error =
    Error::Busy(&"the page is being written back, and a callback can't wait for that");
pub(super) const OWN_CLAIM: Error = Error::Busy(&"this thread holds the claim that it would wait for: end it first");
pub(super) const NOT_NOW: Error = Error::Again(&"the page is being written back, and the caller does not wait");

/// This thread is in a callback for as long as this lives.
pub struct InCallback(());

impl InCallback {
    /// A callback begins.
    pub fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether this thread is in a callback, which another thread's callback may wait for.
pub fn in_callback() -> bool {
    DEPTH.get() != 0
}
