//! The locks of a class and of shelves across a fork.

use super::{ClassState, Shelves, SizeClass};
use crate::memory::PoolMemory;
#[cfg(doc)]
use crate::sync::Lock;
use crate::sync::Locked;
use std::time::Instant;

impl SizeClass {
    /// Takes the lock, or gives up at `until`, and releases the slots that were deferred.
    pub fn lock_until(&self, memory: &PoolMemory, until: Instant) -> Option<Locked<'_, ClassState>> {
        let mut state = self.state.lock_until(until)?;
        self.release_deferred(&mut state, memory);
        Some(state)
    }

    /// Lets a lock go that was kept across a fork. The child has no threads to end what the parent's were deferring, so
    /// it forgets the deferred slots: they stay taken there.
    ///
    /// # Safety
    /// As [`Lock::resume`].
    pub unsafe fn let_go(&self, in_child: bool) {
        if in_child {
            self.deferred.forget();
        }
        // SAFETY: the caller vouches for it.
        drop(unsafe { self.state.resume() });
    }
}

impl Shelves {
    /// Takes and keeps the locks of all shelves, so that the child finds on them what the parent has. Returns false if
    /// that takes longer than `until`.
    pub fn keep_locks(&self, until: Instant) -> bool {
        for (at, shelf) in self.all().enumerate() {
            let Some(kept) = shelf.lock_until(until) else {
                // SAFETY: this thread kept these just now, and lets each go once.
                self.all().take(at).for_each(|shelf| drop(unsafe { shelf.resume() }));
                return false;
            };
            kept.keep();
        }
        for (at, stock) in self.stocks().iter().enumerate() {
            let Some(indices) = stock.raw().lock_until(until) else {
                // SAFETY: as above.
                unsafe {
                    self.stocks()[..at].iter().for_each(|stock| drop(stock.raw().resume()));
                    self.all().for_each(|shelf| drop(shelf.resume()));
                }
                return false;
            };
            indices.keep();
        }
        true
    }

    /// Lets the kept locks go.
    ///
    /// # Safety
    /// [`Shelves::keep_locks`] kept them, and this is called once for that, in the parent or in the child.
    pub unsafe fn let_go_of_locks(&self) {
        // SAFETY: the caller vouches for it.
        unsafe {
            self.stocks().iter().for_each(|stock| drop(stock.raw().resume()));
            self.all().for_each(|shelf| drop(shelf.resume()));
        }
    }
}

#[cfg(test)]
impl Shelves {
    /// Returns whether the locks of all shelves and of all stocks are taken.
    pub fn are_locked(&self) -> bool {
        let shelves = self.all().all(|shelf| shelf.try_lock().is_none());
        shelves && self.stocks().iter().all(|stock| stock.try_lock().is_none())
    }
}
