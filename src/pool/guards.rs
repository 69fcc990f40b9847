//! Mappings as Rust types: what they borrow keeps the compiler from making two `&mut` to one object.

use super::{Handle, MapMode, PAST_END, Pool};
use crate::error::{Error, Result};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// An object that is mapped to read. It derefs to the bytes of the object, as many as were asked for when it was
/// allocated. Dropping it unmaps the object.
///
/// It borrows the pool and the handle. So the pool can't be dropped, and the object neither freed nor written, while
/// it lives. This does not compile:
///
/// ```compile_fail,E0505
/// let pool = zsalloc::Pool::new("example", &zsalloc::PoolOptions::default()).unwrap();
/// let handle = pool.malloc(5).unwrap();
/// let mapped = pool.map(&handle).unwrap();
/// drop(pool);
/// assert_eq!(mapped.len(), 5);
/// ```
pub struct Mapped<'a> {
    pool: &'a Pool,
    handle: u64,
    at: *mut u8,
    bytes: usize,
}

// SAFETY: it stands for a pin of the object, which any thread may use and take off, and shares its bytes as `&[u8]`.
unsafe impl Send for Mapped<'_> {}
// SAFETY: a shared `Mapped` gives out only `&[u8]`.
unsafe impl Sync for Mapped<'_> {}

/// An object that is mapped to read and write. It derefs to the bytes of the object, as many as were asked for when it
/// was allocated. Dropping it unmaps the object. It borrows the handle mutably, so it is the only mapping.
pub struct MappedMut<'a>(Mapped<'a>);

/// An object that was just allocated and is being written. It derefs to the bytes of the object, as many as were asked
/// for; they are undefined until they are written. [`NewObject::finish`] unmaps the object and returns its handle.
/// Dropping it without that frees the object, so an early return leaks nothing.
#[must_use = "an object that is dropped before it is finished is freed"]
pub struct NewObject<'a>(Option<MappedMut<'a>>);

#[cfg(not(loom))]
static_assertions::assert_impl_all!(NewObject<'_>: Send, Sync);

impl Pool {
    /// Allocates an object of `size` bytes, 1 to [`crate::MAX_ALLOC_SIZE`], and returns its only handle. The bytes are
    /// undefined until they are written: they may be what a freed object of this pool held, unless the pool is
    /// hardened.
    ///
    /// In a pool with an evict callback the object can be offered before it is written. [`Pool::malloc_mapped`]
    /// prevents that.
    ///
    /// An object of 500 bytes or more takes at most 6 % more memory than it has bytes, once there are many, with its
    /// share of all tables. A smaller one takes more, because sizes are rounded up to a multiple of 16, to 64 at least,
    /// and each object needs some 13 to 20 bytes of tables: 1 to 64 bytes take 77, 100 take 131, 200 take 222, and 256
    /// take 269 (`cargo test --lib small_objects -- --nocapture` prints it). To keep small values, pack several into
    /// one object.
    ///
    /// May be called from any thread and from an evict callback, not from a signal handler. It waits for short critical
    /// sections of other threads.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 bytes. [`Error::TooLarge`] for more bytes than an object can have. [`Error::Limit`] if
    /// the pool is at its limit: free, compact or shrink, then try again. [`Error::NoMemory`] if the system gives no
    /// memory. [`Error::Forked`] in a child without the pool. On failure nothing has changed.
    pub fn malloc(&self, size: usize) -> Result<Handle> {
        let raw = self.malloc_raw(size)?;
        Ok(Handle::new(raw, size, self.tag.id()))
    }

    /// Allocates an object of `size` bytes to write at once. It is mapped, so it is neither moved nor offered to the
    /// evict callback before [`NewObject::finish`]. Otherwise as [`Pool::malloc`].
    ///
    /// # Errors
    /// As [`Pool::malloc`].
    pub fn malloc_mapped(&self, size: usize) -> Result<NewObject<'_>> {
        let (handle, at) = self.malloc_mapped_raw(size)?;
        Ok(NewObject(Some(MappedMut(Mapped { pool: self, handle, at, bytes: size }))))
    }

    /// Allocates an object of `size` bytes, 1 to [`crate::MAX_TAGGED_SIZE`], with a tag: 8 bytes of the program's that
    /// [`crate::Victim::tag`] returns when the object is offered to the evict callback, such as the hash of a cache's
    /// key. The tag never changes, and moves with the object. The pool has to be created with
    /// [`crate::PoolTuning::tags`]. Otherwise as [`Pool::malloc_mapped`].
    ///
    /// # Errors
    /// As [`Pool::malloc`], and [`Error::Invalid`] if the pool was created without tags.
    pub fn malloc_tagged(&self, size: usize, tag: u64) -> Result<NewObject<'_>> {
        let (handle, at) = self.malloc_tagged_raw(size, tag)?;
        Ok(NewObject(Some(MappedMut(Mapped { pool: self, handle, at, bytes: size }))))
    }

    /// Maps an object to read. The object stays in its place until the mapping is dropped: compaction passes it by, and
    /// no shrink offers it. So mappings are best kept for a short time. An object may be mapped up to 4,095 times at
    /// once.
    ///
    /// May be called from any thread, from an evict callback and from a signal handler. Never waits.
    ///
    /// # Errors
    /// [`Error::Stale`] with a handle of another pool. [`Error::Busy`] if the object is mapped 4,095 times.
    /// [`Error::Forked`] in a child without the pool.
    #[inline]
    pub fn map<'a>(&'a self, handle: &'a Handle) -> Result<Mapped<'a>> {
        self.map_as(handle, MapMode::Read)
    }

    /// Maps an object to read and write, otherwise as [`Pool::map`]. Waits while compaction copies this very object,
    /// so it must not be called from a signal handler.
    ///
    /// # Errors
    /// As [`Pool::map`].
    #[inline]
    pub fn map_mut<'a>(&'a self, handle: &'a mut Handle) -> Result<MappedMut<'a>> {
        self.map_as(handle, MapMode::ReadWrite).map(MappedMut)
    }

    #[inline]
    fn map_as<'a>(&'a self, handle: &'a Handle, mode: MapMode) -> Result<Mapped<'a>> {
        self.check_own(handle)?;
        let place = self.pin(handle.raw(), mode)?;
        let mapped = Mapped { pool: self, handle: handle.raw(), at: self.memory.object(place), bytes: handle.len() };
        if handle.is_of_number() && handle.len() > self.usable_bytes(place) {
            return Err(PAST_END);
        }
        Ok(mapped)
    }

    /// Copies the first bytes of an object into `buffer`, as many as `buffer` has. Maps the object meanwhile: see
    /// [`Pool::map`].
    ///
    /// # Errors
    /// As [`Pool::map`], and [`Error::OutOfRange`] if `buffer` is longer than the object. Then nothing was copied.
    pub fn read(&self, handle: &Handle, buffer: &mut [u8]) -> Result<()> {
        let mapped = self.map(handle)?;
        buffer.copy_from_slice(mapped.get(..buffer.len()).ok_or(PAST_END)?);
        Ok(())
    }

    /// Copies `bytes` into the front of an object. The bytes after them keep their values. Maps the object meanwhile:
    /// see [`Pool::map_mut`].
    ///
    /// # Errors
    /// As [`Pool::map`], and [`Error::OutOfRange`] if there are more `bytes` than the object has. Then nothing was
    /// copied.
    pub fn write(&self, handle: &mut Handle, bytes: &[u8]) -> Result<()> {
        let mut mapped = self.map_mut(handle)?;
        mapped.get_mut(..bytes.len()).ok_or(PAST_END)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Deref for Mapped<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the pin keeps the object in place, and its slot has `bytes` bytes. Mapping it to write takes the
        // handle that this borrows.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }
}

impl Drop for Mapped<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mapping is this guard's. The call is not refused, because the pin is there.
        let unmapped = unsafe { self.pool.unmap_raw(self.handle) };
        debug_assert!(matches!(unmapped, Ok(()) | Err(Error::Forked)), "{unmapped:?}");
    }
}

impl Deref for MappedMut<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for MappedMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pin keeps the object in place, and its slot has `bytes` bytes. The handle is borrowed to write,
        // so this is the only mapping.
        unsafe { std::slice::from_raw_parts_mut(self.0.at, self.0.bytes) }
    }
}

impl NewObject<'_> {
    /// Unmaps the object, which is written now, and returns its handle. From here on compaction may move the object,
    /// and a shrink may offer it to the evict callback.
    pub fn finish(mut self) -> Handle {
        let mapped = self.0.take().expect("there until finished or dropped");
        Handle::new(mapped.0.handle, mapped.0.bytes, mapped.0.pool.tag.id())
    }
}

impl Deref for NewObject<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_ref().expect("there until finished or dropped")
    }
}

impl DerefMut for NewObject<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().expect("there until finished or dropped")
    }
}

impl Drop for NewObject<'_> {
    fn drop(&mut self) {
        if let Some(mapped) = self.0.take() {
            // SAFETY: no handle was made of the object. Its last unmap, which comes now, releases it.
            let freed = unsafe { mapped.0.pool.free_raw(mapped.0.handle) };
            debug_assert!(matches!(freed, Ok(()) | Err(Error::Forked)), "{freed:?}");
        }
    }
}

impl Mapped<'_> {
    fn fmt_as(&self, name: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct(name).field("handle", &format_args!("{:#x}", self.handle)).field("len", &self.bytes).finish()
    }
}

/// Shows the number of the handle and the length, not the bytes.
impl fmt::Debug for Mapped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Mapped", out)
    }
}

/// Shows the number of the handle and the length, not the bytes.
impl fmt::Debug for MappedMut<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("MappedMut", out)
    }
}

/// Shows the number of the handle and the length, not the bytes.
impl fmt::Debug for NewObject<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |mapped| mapped.0.fmt_as("NewObject", out))
    }
}
