//! A place for a region, which threads enter without a lock while others may take the region away.

use super::users::{User, Users};
use crate::sync::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use std::ptr;

/// The place. Places are never freed, so that a thread may look there at any time.
pub struct Place<T: Send + Sync> {
    /// Who is in the region right now.
    users: Users,
    region: AtomicPtr<T>,
}

/// A region that stays while this lives.
pub struct Entered<'a, T> {
    _user: User<'a>,
    region: &'a T,
}

impl<T> std::ops::Deref for Entered<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.region
    }
}

impl<T: Send + Sync> Default for Place<T> {
    fn default() -> Self {
        Self { users: Users::default(), region: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl<T: Send + Sync> Place<T> {
    /// Enters the region, if there is one.
    #[inline]
    pub fn enter(&self) -> Option<Entered<'_, T>> {
        // Either `clear` waits for this user, or this sees that there is no region.
        let user = self.users.enter();
        // Acquire pairs with the Release in `fill`.
        let region = self.region.load(Acquire);
        // SAFETY: a pointer that is not null is a region, which is not freed before its users have left.
        unsafe { region.as_ref() }.map(|region| Entered { _user: user, region })
    }

    /// Puts a region here; if there is one already, it comes back.
    pub fn fill(&self, region: Box<T>) -> std::result::Result<(), Box<T>> {
        // Relaxed: it is a hint, which saves a locked instruction for each place that is taken.
        if !self.region.load(Relaxed).is_null() {
            return Err(region);
        }
        let new = Box::into_raw(region);
        // Release pairs with the Acquire in `enter`, and with that in `clear`.
        let put = self.region.compare_exchange(ptr::null_mut(), new, Release, Relaxed);
        // SAFETY: it was not put there, and is still this thread's.
        put.map(|_| ()).map_err(|_| unsafe { Box::from_raw(new) })
    }

    /// Takes the region away, and waits until nobody is in it.
    pub fn clear(&self) -> Option<Box<T>> {
        // Acquire pairs with the Release in `fill`, should nobody have entered since.
        let old = self.region.swap(ptr::null_mut(), Acquire);
        self.users.wait_for_all();
        // SAFETY: `fill` made it from a box; nobody finds it any more, and nobody is in it.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }

    /// Takes the region away, and waits for nobody.
    ///
    /// # Safety
    /// Nobody is in it: those who are counted were so in the parent of this process.
    #[cfg(not(loom))]
    pub unsafe fn abandon(&self) -> Option<Box<T>> {
        let old = self.region.swap(ptr::null_mut(), Acquire);
        // SAFETY: `fill` made it from a box; nobody finds it any more, and the caller vouches that nobody is in it.
        (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
    }
}

impl<T: Send + Sync> Drop for Place<T> {
    fn drop(&mut self) {
        drop(self.clear());
    }
}
