//! What the C library calls on a pool beside the public methods.
//!
//! C has no [`Handle`]s that a compiler keeps unique, and holds no values across a fork. So it calls by numbers.

use super::{ForeignEvict, MapMode, Pool};
#[cfg(doc)]
use super::{Handle, Mapped, MappedMut, NewObject};
use crate::error::Result;

/// Objects by the numbers of their handles, and what C has no type for. The comment of each method says how it differs
/// from the method of [`Pool`] that it refers to.
pub trait PoolCalls {
    /// As [`Pool::malloc`]. Returns the number of the handle.
    ///
    /// # Errors
    /// As [`Pool::malloc`].
    fn malloc_raw(&self, size: usize) -> Result<u64>;

    /// As [`Pool::malloc_mapped`]. Returns the number and the address. `unmap_raw` ends the mapping.
    ///
    /// # Errors
    /// As [`Pool::malloc`].
    fn malloc_mapped_raw(&self, size: usize) -> Result<(u64, *mut u8)>;

    /// As [`Pool::malloc_tagged`]. Returns the number and the address. `unmap_raw` ends the mapping.
    ///
    /// # Errors
    /// As [`Pool::malloc_tagged`].
    fn malloc_tagged_raw(&self, size: usize, tag: u64) -> Result<(u64, *mut u8)>;

    /// Returns the tag that an object was allocated with, as [`crate::Victim::tag`] does.
    ///
    /// # Errors
    /// As [`Pool::map`], and if the handle is stale or freed, or the pool has no tags.
    fn tag_raw(&self, handle: u64) -> Result<u64>;

    /// As [`Pool::free`]. If the object is mapped, its last `unmap_raw` releases it.
    ///
    /// # Errors
    /// As [`Pool::free`], and if the handle is stale or freed already.
    ///
    /// # Safety
    /// No [`Handle`] of this object is used any more, nor a number passed to [`Handle::from_raw`].
    unsafe fn free_raw(&self, handle: u64) -> Result<()>;

    /// As [`Pool::map`] and [`Pool::map_mut`]. The object stays in its place until it is unmapped as often as it was
    /// mapped.
    ///
    /// # Errors
    /// As [`Pool::map`], and if the handle is stale or freed.
    fn map_raw(&self, handle: u64, mode: MapMode) -> Result<*mut u8>;

    /// Unmaps an object once. If it was freed meanwhile, the last unmap releases it.
    ///
    /// # Errors
    /// As [`Pool::free`], and if the object is not mapped.
    ///
    /// # Safety
    /// The mapping is the caller's to end: no [`Mapped`], [`MappedMut`] or [`NewObject`] stands for it.
    unsafe fn unmap_raw(&self, handle: u64) -> Result<()>;

    /// Copies the first `size` bytes of an object to `buffer`, which others may be writing.
    ///
    /// # Errors
    /// As [`Pool::read`], and if the handle is stale or freed. The object has all bytes of its
    /// slot here, but for its tag.
    ///
    /// # Safety
    /// `size` bytes can be written at `buffer`. Nobody writes the object meanwhile.
    unsafe fn read_to(&self, handle: u64, buffer: *mut u8, size: usize) -> Result<()>;

    /// Copies `size` bytes from `buffer`, which others may be writing, to the front of an object.
    ///
    /// # Errors
    /// As [`Pool::write`], and if the handle is stale or freed. The object has all bytes of its
    /// slot here, but for its tag.
    ///
    /// # Safety
    /// `size` bytes can be read at `buffer`. No [`Mapped`] or [`MappedMut`] of this object exists.
    unsafe fn write_from(&self, handle: u64, buffer: *const u8, size: usize) -> Result<()>;

    /// As [`Pool::set_evict`], for a callback of a C program. Allocates nothing.
    ///
    /// # Errors
    /// As [`Pool::set_evict`].
    fn set_foreign_evict(&self, evict: Option<ForeignEvict>) -> Result<()>;

    /// Checks that no object is mapped. In a forked child without the pool none is. Rust needs no such check, because a
    /// mapping borrows its pool.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] if an object is mapped.
    fn check_unmapped(&self) -> Result<()>;

    /// Prepares a fork as [`Pool::prepare_fork`] does, until [`PoolCalls::fork_done`]. For handlers of
    /// `pthread_atfork`, which can't pass a value from one to the next.
    ///
    /// # Errors
    /// As [`Pool::prepare_fork`].
    fn fork_prepare(&self) -> Result<()>;

    /// Ends a fork that [`PoolCalls::fork_prepare`] prepared: lets the locks go, in the parent and in the child.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if this thread has prepared no fork.
    fn fork_done(&self) -> Result<()>;
}

// Each calls the method of `Pool` itself that has the same name: Rust prefers it to the trait's.
impl PoolCalls for Pool {
    #[inline]
    fn malloc_raw(&self, size: usize) -> Result<u64> {
        self.malloc_raw(size)
    }

    #[inline]
    fn malloc_mapped_raw(&self, size: usize) -> Result<(u64, *mut u8)> {
        self.malloc_mapped_raw(size)
    }

    fn malloc_tagged_raw(&self, size: usize, tag: u64) -> Result<(u64, *mut u8)> {
        self.malloc_tagged_raw(size, tag)
    }

    fn tag_raw(&self, handle: u64) -> Result<u64> {
        self.tag_raw(handle)
    }

    #[inline]
    unsafe fn free_raw(&self, handle: u64) -> Result<()> {
        // SAFETY: the contract is the same.
        unsafe { self.free_raw(handle) }
    }

    #[inline]
    fn map_raw(&self, handle: u64, mode: MapMode) -> Result<*mut u8> {
        self.map_raw(handle, mode)
    }

    #[inline(always)]
    unsafe fn unmap_raw(&self, handle: u64) -> Result<()> {
        // SAFETY: the contract is the same.
        unsafe { self.unmap_raw(handle) }
    }

    unsafe fn read_to(&self, handle: u64, buffer: *mut u8, size: usize) -> Result<()> {
        // SAFETY: the contract is the same.
        unsafe { self.read_to(handle, buffer, size) }
    }

    unsafe fn write_from(&self, handle: u64, buffer: *const u8, size: usize) -> Result<()> {
        // SAFETY: the contract is the same.
        unsafe { self.write_from(handle, buffer, size) }
    }

    fn set_foreign_evict(&self, evict: Option<ForeignEvict>) -> Result<()> {
        self.set_foreign_evict(evict)
    }

    fn check_unmapped(&self) -> Result<()> {
        self.check_unmapped()
    }

    fn fork_prepare(&self) -> Result<()> {
        self.fork_prepare()
    }

    fn fork_done(&self) -> Result<()> {
        self.fork_done()
    }
}
