//! Lots: each is one thread's at a time.

use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    Wait,
};

/// How many there are: so many threads may have one at once, and more wait.
pub const LOTS: usize = if cfg!(loom) { 2 } else { 64 };

/// Which are taken.
pub struct Lots([AtomicU32; LOTS]);

/// A lot that is this thread's.
pub struct Taken<'a> {
    lots: &'a Lots,
    /// Which.
    pub index: usize,
}

impl Lots {
    /// All of them free.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    /// Takes one: the `first`, if it is free.
    #[inline]
    pub fn take(&self, first: usize) -> Taken<'_> {
        let mut wait = Wait::default();
        loop {
            for index in (first..LOTS).chain(0..first) {
                // Acquire pairs with the Release in `Taken::drop`.
                if self.0[index].compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                    return Taken { lots: self, index };
                }
            }
            wait.a_moment();
        }
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `take`.
        self.lots.0[self.index].store(0, Release);
    }
}
