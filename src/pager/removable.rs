//! A value that threads use without a lock while another thread may take it away.
//!
//! Its users are counted by processor, so that threads which use it at once seldom write the same word. The thread that
//! takes it away waits for the users of each count in turn.

use super::presence::{Presence, Present};
use crate::error::Result;
use crate::heap;
use crate::sync::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use crossbeam_utils::CachePadded;
use std::ptr;

/// How many counts of the users a place has. A thread takes that of its processor.
const COUNTS: usize = if cfg!(loom) { 2 } else { 16 };

/// The threads that use a value right now.
pub struct Users([CachePadded<Presence>; COUNTS]);

impl Users {
    /// Nobody uses the value of a place that has none yet.
    pub fn new() -> Result<Box<Self>> {
        heap::boxed(Self(Default::default()))
    }

    /// Nobody uses the value of a place that is a static.
    #[cfg(not(loom))]
    pub const fn of_static() -> Self {
        Self([const { CachePadded::new(Presence::new()) }; COUNTS])
    }
}

/// A place for one value. Places are never freed, so a thread may look there at any time.
pub struct Removable<T: Send + Sync> {
    /// Null until the first value comes. Most places of a pager never have one.
    users: AtomicPtr<Users>,
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
        Self { users: AtomicPtr::new(ptr::null_mut()), value: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl<T: Send + Sync> Removable<T> {
    /// An empty place, for statics.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { users: AtomicPtr::new(ptr::null_mut()), value: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Gives a place that is a static its counts, which are a static too: counts on the heap would never be freed. A
    /// place that has counts keeps those.
    #[cfg(not(loom))]
    pub fn count_in(&'static self, users: &'static Users) {
        let users = ptr::from_ref(users).cast_mut();
        // Release pairs with the Acquire in `users`. The place lives as long as the process, so its drop, which frees
        // counts as a box, never runs.
        let _ = self.users.compare_exchange(ptr::null_mut(), users, Release, Relaxed);
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
        self.enter_of(if cfg!(loom) { 0 } else { crate::os::current_cpu() })
    }

    /// Enters the value, if there is one, as a thread that runs on this processor.
    #[inline]
    pub fn enter_of(&self, processor: usize) -> Option<Entered<'_, T>> {
        // Either `clear` waits for this user, or this sees that there is no value.
        let user = self.users()?.0[processor % COUNTS].enter();
        // Acquire pairs with the Release in `fill`.
        let value = self.value.load(Acquire);
        // SAFETY: a pointer that is not null came from `fill`, and the value is not freed before its users have left.
        unsafe { value.as_ref() }.map(|value| Entered { _user: user, value })
    }

    /// Returns the users, if there ever was a value.
    #[inline]
    fn users(&self) -> Option<&Users> {
        // Acquire pairs with the Release in `fill`.
        // SAFETY: `fill` made the pointer from a box, which stays until the drop, or `count_in` from a static.
        unsafe { self.users.load(Acquire).as_ref() }
    }

    /// Puts a value here. If there is one already, the new one comes back. Takes `users` if this is the first value.
    pub fn fill(&self, value: Box<T>, users: &mut Option<Box<Users>>) -> std::result::Result<(), Box<T>> {
        // Relaxed: it is a hint, which saves a locked instruction for each place that is taken.
        if !self.value.load(Relaxed).is_null() {
            return Err(value);
        }
        if self.users().is_none()
            && let Some(new) = users.take().map(Box::into_raw)
        {
            // Release pairs with the Acquire in `users`.
            let put = self.users.compare_exchange(ptr::null_mut(), new, Release, Relaxed);
            // SAFETY: the users were not put here, and are still this thread's.
            *users = put.err().map(|_| unsafe { Box::from_raw(new) });
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
        self.users().into_iter().flat_map(|users| &users.0).for_each(|count| count.wait_for_all());
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
        let users = self.users.load(Relaxed);
        // SAFETY: `fill` made the pointer from a box, and nobody looks here any more. It is not that of `count_in`:
        // such a place is never dropped.
        drop((!users.is_null()).then(|| unsafe { Box::from_raw(users) }));
    }
}
