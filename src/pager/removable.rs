//! A value that threads use without a lock while another thread may take it away.

use super::presence::{Presence, Present};
use crate::sync::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use std::ptr;

/// A place for one value. Places are never freed, so a thread may look there at any time.
pub struct Removable<T: Send + Sync> {
    /// The threads that use the value right now.
    users: Presence,
    value: AtomicPtr<T>,
}

/// Access to the value, which stays while this lives.
pub struct Entered<'a, T> {
    _user: Present<'a>,
    value: &'a T,
}

impl<T> std::ops::Deref for Entered<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: Send + Sync> Default for Removable<T> {
    fn default() -> Self {
        Self { users: Presence::default(), value: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl<T: Send + Sync> Removable<T> {
    /// An empty place, for statics.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { users: Presence::new(), value: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether there was no value a moment ago. It is a hint: a value may have come or gone since.
    #[inline]
    #[cfg(not(loom))]
    pub fn looks_empty(&self) -> bool {
        self.value.load(Relaxed).is_null()
    }

    /// Enters the value, if there is one.
    #[inline]
    pub fn enter(&self) -> Option<Entered<'_, T>> {
        // Either `clear` waits for this user, or this sees that there is no value.
        let user = self.users.enter();
        // Acquire pairs with the Release in `fill`.
        let value = self.value.load(Acquire);
        // SAFETY: a pointer that is not null came from `fill`, and the value is not freed before its users have left.
        unsafe { value.as_ref() }.map(|value| Entered { _user: user, value })
    }

    /// Puts a value here. If there is one already, the new one comes back.
    pub fn fill(&self, value: Box<T>) -> std::result::Result<(), Box<T>> {
        // Relaxed: it is a hint, which saves a locked instruction for each place that is taken.
        if !self.value.load(Relaxed).is_null() {
            return Err(value);
        }
        let new = Box::into_raw(value);
        // Release pairs with the Acquire in `enter`, and with that in `clear`.
        let put = self.value.compare_exchange(ptr::null_mut(), new, Release, Relaxed);
        // SAFETY: the value was not put here, and is still this thread's.
        put.map(|_| ()).map_err(|_| unsafe { Box::from_raw(new) })
    }

    /// Takes the value away, and waits until nobody uses it.
    pub fn clear(&self) -> Option<Box<T>> {
        // Acquire pairs with the Release in `fill`, in case nobody has entered since.
        let old = self.value.swap(ptr::null_mut(), Acquire);
        self.users.wait_for_all();
        // SAFETY: `fill` made it from a box; nobody finds it any more, and nobody uses it.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }

    /// Takes the value away, and waits for nobody.
    ///
    /// # Safety
    /// Nobody uses the value: the users that are counted were threads of the parent of this process.
    #[cfg(not(loom))]
    pub unsafe fn abandon(&self) -> Option<Box<T>> {
        let old = self.value.swap(ptr::null_mut(), Acquire);
        // SAFETY: `fill` made it from a box; nobody finds it any more, and the caller vouches that nobody uses it.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl<T: Send + Sync> Drop for Removable<T> {
    fn drop(&mut self) {
        drop(self.clear());
    }
}
