//! The evict callback: what it is called with, and what it may answer.

use super::{Handle, Pool};
use crate::error::Result;
use crate::heap::{self, Counted};
use crate::sync::Ordering::Relaxed;
use crate::units::Place;
use std::fmt;
use std::ptr::NonNull;

/// An object that [`Pool::shrink`] offers to the evict callback.
///
/// The object is kept in its place while the callback runs, and its number is not given to another object. It is not
/// mapped. Another thread may map it, write it or free it meanwhile, if it has the handle.
pub struct Victim<'a> {
    pool: &'a Pool,
    handle: u64,
    place: Place,
}

impl<'a> Victim<'a> {
    #[inline]
    pub(super) fn new(pool: &'a Pool, handle: u64, place: Place) -> Self {
        Self { pool, handle, place }
    }

    /// Returns the pool that the object is in. A callback can't own its pool, because the pool owns the callback.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// Returns whether this is the object of `handle`, which is of the same pool.
    pub fn is(&self, handle: &Handle) -> bool {
        self.handle == handle.raw()
    }

    /// Returns the tag that [`Pool::malloc_tagged`] allocated the object with. 0 if another call allocated it, or if
    /// the pool was created without tags ([`crate::PoolTuning::tags`]).
    pub fn tag(&self) -> u64 {
        if self.pool.tag_bytes == 0 { 0 } else { self.pool.tag_at(self.place).load(Relaxed) }
    }

    /// Returns the number that [`Handle::raw`] returns for the object's handle.
    pub fn raw(&self) -> u64 {
        self.handle
    }
}

impl fmt::Debug for Victim<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Victim").field("raw", &format_args!("{:#x}", self.handle)).finish_non_exhaustive()
    }
}

/// What an evict callback answers about the [`Victim`] that it was offered.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the pool frees the object, or goes on to the next one, by this answer"]
pub enum Verdict {
    /// The object may go: the pool frees it by this handle, which the callback took out of the program's index. The
    /// handle of another pool frees nothing, is lost, and counts as [`Verdict::Keep`].
    Free(Handle),
    /// The object is not in the program's index, because another thread took it out and is freeing it. Or the callback
    /// has freed it itself. The shrink goes on with the next object.
    Gone,
    /// The object stays. The memory that it lies in can't become free then, so the shrink leaves the objects beside it
    /// alone and goes on elsewhere. A shrink ends after it was refused like that eight times.
    Keep,
}

/// An evict callback, as the pool keeps it.
type Evict = dyn Fn(Victim<'_>) -> Verdict + Send + Sync;

/// An evict callback, as a shrink calls it.
pub type EvictCall<'a> = dyn Fn(Victim<'_>) -> Verdict + 'a;

/// An evict callback of a C program, which takes no memory.
#[derive(Clone, Copy, Debug)]
pub struct ForeignEvict {
    /// Calls the function with the handle of an object. `Ok` is [`Verdict::Gone`], and `Err` is [`Verdict::Keep`].
    pub caller: fn(&Self, u64) -> Result<()>,
    /// The function. `caller` knows its type.
    pub function: *const (),
    /// The context that the function is called with.
    pub context: *mut (),
    /// The pool, as C knows it.
    pub pool: NonNull<()>,
}

// SAFETY: the header says that the callback runs in any thread that shrinks. C guards the context.
unsafe impl Send for ForeignEvict {}
// SAFETY: several threads may shrink at once, and the header says so. C guards the context.
unsafe impl Sync for ForeignEvict {}

/// The callback that is set.
#[derive(Clone)]
pub enum Callback {
    Rust(Counted<Box<Evict>>),
    Foreign(ForeignEvict),
}

impl Callback {
    pub(super) fn call(&self, victim: Victim<'_>) -> Verdict {
        match self {
            Self::Rust(evict) => evict(victim),
            Self::Foreign(set) => (set.caller)(set, victim.handle).map_or(Verdict::Keep, |()| Verdict::Gone),
        }
    }
}

impl Pool {
    /// Sets the callback that [`Pool::shrink`] offers objects to, in place of an earlier one. The pool never calls it
    /// on its own: when an allocation fails with [`crate::Error::Limit`], call [`Pool::shrink`] and try again.
    /// Try again too if the shrink fails with [`crate::Error::Again`] or [`crate::Error::NotFound`]: no object could go
    /// at that moment, as while other threads shrink, and what they free may be enough. Bound the number of attempts.
    ///
    /// The callback gets a [`Victim`] and answers with a [`Verdict`]. It runs in the thread that shrinks, with no lock
    /// of the pool held, and in several threads at once if several shrink. It may call anything on the pool, also
    /// [`Pool::shrink`]. A panic in it counts as [`Verdict::Keep`]. It must not own the pool, because the pool owns it:
    /// share the program's index with it in an `Arc`, and use [`Victim::pool`].
    ///
    /// A shrink that is running goes on with the callback that it began with. From the first callback on, the pool
    /// notes when parts of it are used, which costs allocations and mappings an occasional store.
    ///
    /// # Four rules
    /// A cache keeps the handles of its objects in an index behind a lock. Then these rules keep evictions free of
    /// races and deadlocks. `examples/compressed_cache.rs` is a whole cache to copy. The index of the program below has
    /// the numbers of handles as keys. An index with keys of its own gets them back from the tags of the objects:
    /// [`Pool::malloc_tagged`] and [`Victim::tag`].
    ///
    /// 1. **Finish and enter an object under the lock.** A [`crate::NewObject`] is never offered, because it is mapped.
    ///    From [`crate::NewObject::finish`] on it may be: then the callback waits for the lock until the object is in
    ///    the index.
    /// 2. **The thread that takes a handle out of the index, under the lock, frees the object.** There is only one
    ///    `Handle`, so the compiler holds you to it.
    /// 3. **The callback looks under the lock whether the index has this very object** ([`Victim::is`]). If it does,
    ///    the callback takes the handle out and answers [`Verdict::Free`]. If not, another thread took it out just now
    ///    and frees it, or has put a newer object in its place: the answer is [`Verdict::Gone`].
    /// 4. **No thread holds the lock while it shrinks,** because the callback takes it.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Mutex};
    /// use zsalloc::{Error, Handle, Pool, PoolOptions, Verdict};
    ///
    /// # fn main() -> zsalloc::Result<()> {
    /// let pool = Pool::new("cache", &PoolOptions { max_bytes: Some(4 << 20), ..PoolOptions::default() })?;
    /// let index = Arc::new(Mutex::new(HashMap::<u64, Handle>::new()));
    ///
    /// let shared = Arc::clone(&index);
    /// pool.set_evict(move |victim| match shared.lock().unwrap().remove(&victim.raw()) {
    ///     Some(handle) => Verdict::Free(handle),
    ///     None => Verdict::Gone,
    /// })?;
    ///
    /// // Called with no lock held: it shrinks.
    /// let allocate = |bytes: usize| {
    ///     for _ in 0..100 {
    ///         match pool.malloc_mapped(bytes) {
    ///             Err(Error::Limit(_)) => match pool.shrink(16) {
    ///                 Err(Error::Again(_) | Error::NotFound(_)) => std::thread::yield_now(),
    ///                 shrunk => drop(shrunk?),
    ///             },
    ///             allocated => return allocated,
    ///         }
    ///     }
    ///     pool.malloc_mapped(bytes)
    /// };
    /// let mut object = allocate(5)?;
    /// object.copy_from_slice(b"hello");
    /// // Finished and entered under the lock.
    /// let mut entries = index.lock().unwrap();
    /// let handle = object.finish();
    /// entries.insert(handle.raw(), handle);
    /// drop(entries);
    ///
    /// assert!(pool.shrink(1)? > 0);
    /// assert!(index.lock().unwrap().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::NoMemory`] if malloc has no memory for the closure. [`crate::Error::Forked`] in a child without
    /// the pool. On failure the earlier callback stays.
    pub fn set_evict(&self, evict: impl Fn(Victim<'_>) -> Verdict + Send + Sync + 'static) -> Result<()> {
        self.check_alive()?;
        let evict: Box<Evict> = heap::boxed(evict)?;
        self.set_callback(Some(Callback::Rust(Counted::new(evict)?)))
    }

    /// Removes the evict callback. From then on [`Pool::shrink`] fails. A shrink that is running goes on with the
    /// callback that it began with. May be called from any thread, and from the callback.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    pub fn clear_evict(&self) -> Result<()> {
        self.set_callback(None)
    }

    /// Sets a callback of a C program, as [`Pool::set_evict`] sets one of Rust. Allocates nothing.
    #[cfg(not(loom))]
    pub(crate) fn set_foreign_evict(&self, evict: Option<ForeignEvict>) -> Result<()> {
        self.set_callback(evict.map(Callback::Foreign))
    }

    fn set_callback(&self, evict: Option<Callback>) -> Result<()> {
        self.check_alive()?;
        if evict.is_some() {
            self.reclaim.stamps.store(1, Relaxed);
        }
        let old = {
            let mut callback = self.reclaim.callback.lock();
            std::mem::replace(&mut *callback, evict)
        };
        // The old callback is the user's, so it is dropped with no lock held.
        drop(old);
        Ok(())
    }
}
