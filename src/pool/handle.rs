//! Handles as Rust types, so that two `&mut` to one object do not compile.

#[cfg(doc)]
use super::Error;
use super::{FOREIGN, Pool};
use crate::error::Result;
use crate::field::Field;
use crate::geometry::MAX_ALLOC_SIZE;
use crate::word::RawHandle;
use std::fmt;
use std::num::NonZeroU64;

/// The only handle of an object in a [`Pool`].
///
/// It is not `Copy`: [`Pool::map`] borrows it to read, [`Pool::map_mut`] borrows it mutably to write, and
/// [`Pool::free`] consumes it. So the compiler refuses what would be a race in C. It knows how long its object is.
///
/// Dropping a handle does not free the object, because a handle does not borrow its pool. The object then stays until
/// the pool is dropped. Keep handles in tables of your own, as they are or as the numbers of [`Handle::into_raw`]. A
/// handle takes 16 bytes, and so does an `Option<Handle>`.
///
/// Two mappings to write one object do not compile:
///
/// ```compile_fail,E0499
/// # let pool = zsalloc::Pool::new("example", &zsalloc::PoolOptions::default()).unwrap();
/// let mut handle = pool.malloc(5).unwrap();
/// let first = pool.map_mut(&mut handle).unwrap();
/// let second = pool.map_mut(&mut handle).unwrap();
/// drop((first, second));
/// ```
///
/// Neither does a mapping to read one that is being written:
///
/// ```compile_fail,E0502
/// # let pool = zsalloc::Pool::new("example", &zsalloc::PoolOptions::default()).unwrap();
/// let mut handle = pool.malloc(5).unwrap();
/// let written = pool.map_mut(&mut handle).unwrap();
/// let read = pool.map(&handle).unwrap();
/// drop((written, read));
/// ```
///
/// Nor does a use after the object was freed:
///
/// ```compile_fail,E0382
/// # let pool = zsalloc::Pool::new("example", &zsalloc::PoolOptions::default()).unwrap();
/// let handle = pool.malloc(5).unwrap();
/// pool.free(handle).unwrap();
/// let freed = pool.map(&handle);
/// ```
///
/// Nor a free while the object is mapped:
///
/// ```compile_fail,E0505
/// # let pool = zsalloc::Pool::new("example", &zsalloc::PoolOptions::default()).unwrap();
/// let handle = pool.malloc(5).unwrap();
/// let mapped = pool.map(&handle).unwrap();
/// pool.free(handle).unwrap();
/// assert_eq!(mapped.len(), 5);
/// ```
#[derive(PartialEq, Eq, Hash)]
#[must_use = "an object whose handle is lost stays until its pool is dropped"]
pub struct Handle {
    raw: NonZeroU64,
    /// The length of the object, and the id of its pool, because the numbers of a dropped pool come again. The id is 0
    /// if the handle was made of a number.
    more: u64,
}

const LENGTH: Field = Field::first(13);
/// The id of a pool. A process that creates a million pools a second has another one for seventy years.
const POOL: Field = LENGTH.then(51);

const _: () = assert!(Field::fill(&[LENGTH, POOL], 64) && MAX_ALLOC_SIZE as u64 <= LENGTH.max());
// The documentation of `Handle` says so.
const _: () = assert!(size_of::<Handle>() == 16 && size_of::<Option<Handle>>() == 16);

impl Handle {
    /// Returns how many bytes the object has: as many as were asked for when it was allocated.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no object has 0 bytes")]
    pub fn len(&self) -> usize {
        LENGTH.get(self.more) as usize
    }

    /// Returns the handle as a number, which is not 0. [`Handle::from_raw`] makes it a handle again: it takes the
    /// number and the length, so keep [`Handle::len`] too. For tables that have to be dense.
    pub fn into_raw(self) -> u64 {
        self.raw.get()
    }

    /// Returns the number of the handle, which is not 0. No other object of its pool has it while this one is
    /// allocated. [`crate::Victim::raw`] returns it in an evict callback.
    #[inline]
    pub fn raw(&self) -> u64 {
        self.raw.get()
    }

    /// Returns the handle that [`Handle::into_raw`] made a number of. Returns none if `raw` is 0, or if `len` is 0 or
    /// more than [`MAX_ALLOC_SIZE`]: no handle is like that.
    ///
    /// `len` is the length that [`Handle::len`] returned. If it is more than the memory that the object has, the calls
    /// that map the object, read or write it fail with [`Error::OutOfRange`].
    ///
    /// # Safety
    /// `raw` came from [`Handle::into_raw`], and no other `Handle` was made of it since. The handle is used only with
    /// the pool that `raw` is of: a pool that is created after that one was dropped may give out the same numbers.
    pub unsafe fn from_raw(raw: u64, len: usize) -> Option<Self> {
        let raw = NonZeroU64::new(raw)?;
        (1..=MAX_ALLOC_SIZE).contains(&len).then(|| Self { raw, more: LENGTH.set(0, len as u64) })
    }

    /// The handle that a pool with this id gives out for an object of `len` bytes.
    #[inline]
    pub(super) fn new(raw: u64, len: usize, pool: u64) -> Self {
        debug_assert!(RawHandle::unpack(raw).tag != 0);
        let raw = NonZeroU64::new(raw).expect("a pool's tag is never 0");
        Self { raw, more: POOL.set(LENGTH.set(0, len as u64), pool) }
    }

    /// Whether the handle was made of a number, so that its length may be wrong.
    #[inline]
    pub(super) fn is_of_number(&self) -> bool {
        POOL.get(self.more) == 0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Handle").field("raw", &format_args!("{:#x}", self.raw)).field("len", &self.len()).finish()
    }
}

impl Pool {
    /// Frees an object. Its memory can be used again at once. The pool gives memory back to the system when a group of
    /// objects that lie together is empty, or when [`Pool::compact`] has emptied one.
    ///
    /// May be called from any thread, from an evict callback and from a signal handler. Never waits.
    ///
    /// # Errors
    /// [`Error::Stale`] with a handle of another pool, and [`Error::Forked`] in a child without the pool. The handle
    /// is lost then.
    pub fn free(&self, handle: Handle) -> Result<()> {
        self.check_own(&handle)?;
        // SAFETY: the handle was unique, and is gone.
        unsafe { self.free_raw(handle.into_raw()) }
    }

    /// Refuses the handle of another pool, also of a dropped pool that had this one's tag.
    #[inline]
    pub(super) fn check_own(&self, handle: &Handle) -> Result<()> {
        if POOL.get(handle.more) == self.tag.id() || handle.is_of_number() { Ok(()) } else { Err(FOREIGN) }
    }
}
