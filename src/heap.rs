//! Memory of the global allocator, whose lack is an error and does not end the process.
//!
//! `Box::new`, `Vec::push` and `Arc::new` abort the program when malloc fails. So the library allocates here. `os`,
//! which is below this module, reserves room by `try_reserve` before it adds to a vector.
//!
//! # Calls that look like allocations
//!
//! A search of src for `push(`, `with_capacity`, `Box::new`, `Arc::new`, `format!`, `to_string`, `to_vec`, `collect`,
//! `vec!`, `extend`, `sort_by` and `io::Error::new` finds these beside tests, models and what fuzzing alone has:
//!
//! - `push` and `collect` of types of this crate, which have a fixed size or link what is there.
//! - Vectors that have the room: it was reserved here, at creation or just before.
//! - `Box::new` of a value without bytes, here. It allocates nothing.
//! - `Arc` in `pool::LentMemory::new`. It aborts without memory, for some 24 bytes. It is of Rust programs alone: it
//!   can't fail by its type, and a program calls it before it creates a pool. Cloning it allocates nothing.
//! - `io::Error::new` in the conversion of an `Error` to an `io::Error`. It aborts without memory. Rust programs alone
//!   convert, and the conversion can't fail by its type.
//! - `std::fs::File::open`: the paths are short, so that the standard library has them on the stack. `std::fs::read`
//!   is not used: it aborts without memory.
//! - `std::sync::Mutex`, `RwLock` and `OnceLock`: on Linux they are words, and allocate nothing.
//!
//! Tests hold this: `c-tests/no_memory.c` fails each call of malloc of each C function, `tests/failing_heap.rs` each
//! allocation of what only Rust programs reach.

use crate::error::{Error, Result, sentence};
use crate::sync::{AtomicU64, Ordering};
#[cfg(feature = "uffd")]
use std::alloc::alloc_zeroed;
use std::alloc::{Layout, alloc};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

/// The error of a call for which malloc has no memory.
pub const NO_MEMORY: Error = Error::NoMemory(sentence(
    &"malloc has no memory for the library's tables: free some, or raise RLIMIT_AS or RLIMIT_DATA",
));

/// Makes a box, as `Box::new` does, which aborts without memory.
pub fn boxed<T>(value: T) -> Result<Box<T>> {
    if size_of::<T>() == 0 {
        // A value without bytes, such as a closure that captures nothing, takes no memory.
        return Ok(Box::new(value));
    }
    // SAFETY: the layout is not of size zero.
    let at = unsafe { alloc(Layout::new::<T>()) }.cast::<T>();
    let at = NonNull::new(at).ok_or(NO_MEMORY)?;
    // SAFETY: the memory is new, has the layout of a T, and came from the allocator that the Box gives it back to.
    unsafe {
        at.write(value);
        Ok(Box::from_raw(at.as_ptr()))
    }
}

/// Makes a slice of `count` elements, each from its index. Ends at the first that can't be made.
pub fn slice<T>(count: usize, make: impl FnMut(usize) -> Result<T>) -> Result<Box<[T]>> {
    let mut elements = with_capacity(count)?;
    for element in (0..count).map(make) {
        elements.push(element?);
    }
    Ok(elements.into_boxed_slice())
}

/// Makes an empty vector with room for `count` elements, as `Vec::with_capacity` does, which aborts without memory.
pub fn with_capacity<T>(count: usize) -> Result<Vec<T>> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| NO_MEMORY)?;
    Ok(elements)
}

/// Makes a copy of a slice. Without memory it fails, where `to_vec` aborts.
#[cfg(feature = "uffd")]
pub fn copied<T: Copy>(elements: &[T]) -> Result<Vec<T>> {
    let mut copy = with_capacity(elements.len())?;
    copy.extend_from_slice(elements);
    Ok(copy)
}

/// Makes a copy of a text. Without memory it fails, where `to_owned` aborts.
pub fn text(text: &str) -> Result<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| NO_MEMORY)?;
    copy.push_str(text);
    Ok(copy)
}

/// Makes a slice of `count` zeros, which take memory as they are written.
#[cfg(feature = "uffd")]
pub fn zeros(count: usize) -> Result<Box<[u64]>> {
    if count == 0 {
        return Ok(Box::default());
    }
    let layout = Layout::array::<u64>(count).map_err(|_| NO_MEMORY)?;
    // SAFETY: the layout is not of size zero.
    let at = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(NO_MEMORY)?.cast::<u64>();
    // SAFETY: the memory is new, has the layout of `count` numbers, all zero, and came from the allocator that the Box
    // gives it back to.
    Ok(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), count)) })
}

/// Makes room for one more element in a vector.
#[cfg(feature = "uffd")]
pub fn reserve_one<T>(elements: &mut Vec<T>) -> Result<()> {
    elements.try_reserve(1).map_err(|_| NO_MEMORY)
}

/// Adds an element to a vector, as `Vec::push` does, which aborts without memory.
pub fn push<T>(elements: &mut Vec<T>, element: T) -> Result<()> {
    elements.try_reserve(1).map_err(|_| NO_MEMORY)?;
    elements.push(element);
    Ok(())
}

/// A counted reference, as `std::sync::Arc` is, with a constructor that can fail. The last one drops the value.
pub struct Counted<T>(NonNull<Inner<T>>);

/// A weak reference, as `std::sync::Weak` is: it keeps the memory of the value, and not the value.
pub struct Weak<T>(NonNull<Inner<T>>);

struct Inner<T> {
    /// The number of `Counted`s.
    strong: AtomicU64,
    /// The number of `Weak`s, and 1 for all `Counted`s together.
    weak: AtomicU64,
    /// Tells the models who uses the memory, and who frees it.
    #[cfg(loom)]
    memory: crate::sync::Cell<()>,
    value: ManuallyDrop<T>,
}

// SAFETY: as for `Arc`: the value is shared between threads, and dropped in any of them.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as for `Arc`: a shared `Counted` gives out shared references to the value, and clones.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}
// SAFETY: a `Weak` can become a `Counted`, which may be sent if the value is `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for Weak<T> {}
// SAFETY: a shared `Weak` can become a `Counted` in any thread, as a `Weak` that was sent can.
unsafe impl<T: Send + Sync> Sync for Weak<T> {}

impl<T> Counted<T> {
    /// Makes the first reference to a value.
    ///
    /// # Errors
    /// [`NO_MEMORY`] if malloc has none.
    pub fn new(value: T) -> Result<Self> {
        let inner = boxed(Inner {
            strong: AtomicU64::new(1),
            weak: AtomicU64::new(1),
            #[cfg(loom)]
            memory: crate::sync::Cell::new(()),
            value: ManuallyDrop::new(value),
        })?;
        // SAFETY: a Box is not null.
        Ok(Self(unsafe { NonNull::new_unchecked(Box::into_raw(inner)) }))
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: the memory stays while there is a `Counted`, and is only shared meanwhile.
        unsafe { self.0.as_ref() }
    }

    /// Returns a `Weak` for the value.
    pub fn downgrade(&self) -> Weak<T> {
        // Relaxed: this `Counted` keeps the memory.
        self.inner().weak.fetch_add(1, Ordering::Relaxed);
        Weak(self.0)
    }

    /// Returns the value, if this is the last `Counted`.
    pub fn into_inner(self) -> Option<T> {
        let this = ManuallyDrop::new(self);
        // Release pairs with the Acquire below: the thread that takes the value sees what was done with it.
        if this.inner().strong.fetch_sub(1, Ordering::Release) > 1 {
            return None;
        }
        // Acquire pairs with the Release of every other `into_inner`. A load, because ThreadSanitizer knows no fences.
        this.inner().strong.load(Ordering::Acquire);
        // SAFETY: this was the last `Counted`, so that nobody else refers to the value, nor ever takes it again. The
        // `Weak` that is made here is the one of all `Counted`s.
        let (value, _memory) = unsafe { (ManuallyDrop::take(&mut (*this.0.as_ptr()).value), Weak(this.0)) };
        Some(value)
    }

    /// Returns how many `Counted`s there were just now.
    pub fn strong_count(&self) -> u64 {
        // Acquire pairs with the Release in `into_inner`: a thread that sees 1 sees what the other ones did.
        self.inner().strong.load(Ordering::Acquire)
    }

    /// Returns a pointer for C. It goes to [`Counted::from_raw`] once.
    pub fn into_raw(self) -> NonNull<()> {
        ManuallyDrop::new(self).0.cast()
    }

    /// Returns the pointer that [`Counted::into_raw`] would return.
    pub fn as_raw(&self) -> NonNull<()> {
        self.0.cast()
    }

    /// Returns the `Counted` of a pointer.
    ///
    /// # Safety
    /// The pointer came from [`Counted::into_raw`] of this type, and one result for it is dropped.
    pub unsafe fn from_raw(pointer: NonNull<()>) -> Self {
        Self(pointer.cast())
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        // Relaxed: this `Counted` keeps the value. There can't be 2^64 of them.
        self.inner().strong.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        drop(Self(self.0).into_inner());
    }
}

impl<T> Weak<T> {
    /// Returns a `Counted`, if one is left.
    pub fn upgrade(&self) -> Option<Counted<T>> {
        // SAFETY: the memory stays while there is a `Weak`. This refers to the count alone, because another thread may
        // be taking the value.
        let strong = unsafe { &(*self.0.as_ptr()).strong };
        let more = |count: u64| (count > 0).then(|| count + 1);
        // Relaxed: the thread that handed over the `Weak` handed over the value with it.
        let counted = strong.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Counted(self.0))
    }
}

impl<T> Drop for Weak<T> {
    fn drop(&mut self) {
        // SAFETY: as in `upgrade`.
        let weak = unsafe { &(*self.0.as_ptr()).weak };
        // SAFETY: the memory stays until the last `Weak` is dropped, which this one is not yet.
        #[cfg(loom)]
        unsafe { &(*self.0.as_ptr()).memory }.with(|_| {});
        // Release pairs with the Acquire below: the thread that frees the memory comes after all that used it.
        if weak.fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        // Acquire pairs with the Release of every other `Weak` that went.
        weak.load(Ordering::Acquire);
        // SAFETY: this was the last `Weak`, and it frees the memory below.
        #[cfg(loom)]
        unsafe { &(*self.0.as_ptr()).memory }.with_mut(|_| {});
        // SAFETY: the memory came from a Box in `Counted::new`, and this was the last reference to it. The value, in a
        // `ManuallyDrop`, was taken with the last `Counted`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn value_goes_with_the_last_counted_and_memory_with_the_last_weak() {
        let value = Rc::new(());
        let first = Counted::new(value.clone()).unwrap();
        let weak = first.downgrade();
        let second = first.clone();
        assert_eq!((first.strong_count(), Rc::strong_count(&value)), (2, 2));
        drop(first);
        let third = weak.upgrade().unwrap();
        assert!(second.into_inner().is_none());
        assert_eq!(Rc::strong_count(&value), 2);
        // SAFETY: the pointer is of the same type, and is used once.
        let third = unsafe { Counted::<Rc<()>>::from_raw(third.into_raw()) };
        assert!(Rc::ptr_eq(&third, &value));
        assert!(third.into_inner().is_some_and(|last| Rc::ptr_eq(&last, &value)));
        assert_eq!(Rc::strong_count(&value), 1);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn slice_is_made_in_order_and_ends_at_the_first_error() {
        assert_eq!(*slice(3, |at| Ok(at * 2)).unwrap(), [0, 2, 4]);
        let made = slice(9, |at| if at < 3 { Ok(at) } else { Err(NO_MEMORY) });
        assert_eq!(made, Err(NO_MEMORY));
        assert_eq!(with_capacity::<u64>(usize::MAX / 8), Err(NO_MEMORY));
    }

    #[cfg(feature = "uffd")]
    #[test]
    fn zeros_and_copies_have_their_elements_or_are_an_error() {
        assert_eq!((*zeros(3).unwrap()).to_vec(), [0; 3]);
        assert!(zeros(0).unwrap().is_empty());
        assert!(zeros(usize::MAX / 8).is_err() && zeros(usize::MAX / 64).is_err());
        assert_eq!(copied(&[1, 2, 3]).unwrap(), [1, 2, 3]);
    }
}
