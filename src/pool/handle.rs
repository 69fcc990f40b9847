//! Handles and mappings as Rust types, so that two `&mut` to one object do not compile.

use super::{FOREIGN, MapMode, Pool};
use crate::error::{Error, Result};
use crate::units::Place;
use crate::word::RawHandle;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};

/// The only handle of an object. It is not `Copy`, is mapped to read by `&` and to write by `&mut`, and is consumed by
/// [`Pool::free`]. Dropping it does not free the object: keep it, or its [`Handle::into_raw`] number.
#[derive(PartialEq, Eq, Hash, Debug)]
#[must_use = "an object whose handle is lost stays until its pool is dropped"]
pub struct Handle {
    raw: NonZeroU64,
    /// The id of its pool, because the numbers of a dropped pool come again. 0 if it was made of a number.
    pool: u64,
}

impl Handle {
    /// Returns the handle as a number, for tables of handles, and for C.
    pub fn into_raw(self) -> u64 {
        self.raw.get()
    }

    /// Returns the number, which the evict callback is called with.
    pub fn raw(&self) -> u64 {
        self.raw.get()
    }

    /// Returns the handle of a number, or none for 0, which is never a handle.
    ///
    /// # Safety
    /// The number came from [`Handle::into_raw`] or a raw allocation, and no other `Handle` is made of it. The handle
    /// is used only with the pool that the number is of: a pool that is created after that one was dropped may give out
    /// the same numbers.
    pub unsafe fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(|raw| Self { raw, pool: 0 })
    }
}

/// An object that is mapped to read. Dropping this unmaps it.
pub struct Mapped<'a> {
    pool: &'a Pool,
    handle: u64,
    place: Place,
}

/// An object that is mapped to write. Dropping this unmaps it.
pub struct MappedMut<'a>(Mapped<'a>);

/// An object that was just allocated and is being written. Dropping this frees it, unless [`NewObject::finish`] was
/// called.
pub struct NewObject<'a>(Option<MappedMut<'a>>);

impl Pool {
    /// Allocates an object of `size` bytes and returns its only handle. The bytes are undefined until they are written.
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`].
    pub fn malloc(&self, size: usize) -> Result<Handle> {
        self.malloc_raw(size).map(|raw| self.handle_of(raw))
    }

    /// Allocates an object to write at once. Nobody moves or evicts it before that is done.
    ///
    /// # Errors
    /// As [`Pool::malloc_raw`].
    pub fn malloc_mapped(&self, size: usize) -> Result<NewObject<'_>> {
        let (handle, place) = self.allocate(size, 1)?;
        Ok(NewObject(Some(MappedMut(Mapped { pool: self, handle, place }))))
    }

    /// Maps an object to read. Never waits.
    ///
    /// # Errors
    /// As [`Pool::map_raw`].
    pub fn map<'a>(&'a self, handle: &'a Handle) -> Result<Mapped<'a>> {
        self.check_own(handle)?;
        let place = self.pin(handle.raw(), MapMode::Read)?;
        Ok(Mapped { pool: self, handle: handle.raw(), place })
    }

    /// Maps an object to write.
    ///
    /// # Errors
    /// As [`Pool::map_raw`].
    pub fn map_mut<'a>(&'a self, handle: &'a mut Handle) -> Result<MappedMut<'a>> {
        self.check_own(handle)?;
        let place = self.pin(handle.raw(), MapMode::ReadWrite)?;
        Ok(MappedMut(Mapped { pool: self, handle: handle.raw(), place }))
    }

    /// Copies the first bytes of an object into `buffer`.
    ///
    /// # Errors
    /// As [`Pool::read_raw`].
    pub fn read(&self, handle: &Handle, buffer: &mut [u8]) -> Result<()> {
        self.check_own(handle)?;
        // SAFETY: the handle is unique and borrowed to read, so nobody has borrowed it to write.
        unsafe { self.read_raw(handle.raw(), buffer) }
    }

    /// Copies `bytes` into the front of an object.
    ///
    /// # Errors
    /// As [`Pool::write_raw`].
    pub fn write(&self, handle: &mut Handle, bytes: &[u8]) -> Result<()> {
        self.check_own(handle)?;
        // SAFETY: the handle is unique and borrowed to write, so no mapping of it lives.
        unsafe { self.write_raw(handle.raw(), bytes) }
    }

    /// Frees an object.
    ///
    /// # Errors
    /// [`Error::Stale`] with a handle of another pool. The handle is lost then.
    pub fn free(&self, handle: Handle) -> Result<()> {
        self.check_own(&handle)?;
        // SAFETY: the handle was unique, and is gone.
        unsafe { self.free_raw(handle.into_raw()) }
    }

    fn handle_of(&self, raw: u64) -> Handle {
        debug_assert!(RawHandle::unpack(raw).tag != 0);
        Handle { raw: NonZeroU64::new(raw).expect("a pool's tag is never 0"), pool: self.tag.id() }
    }

    /// Refuses the handle of another pool, also of a dropped pool that had this one's tag.
    #[inline]
    fn check_own(&self, handle: &Handle) -> Result<()> {
        if handle.pool == self.tag.id() || handle.pool == 0 { Ok(()) } else { Err(FOREIGN) }
    }
}

impl Deref for Mapped<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let bytes = self.pool.slot_bytes(self.place);
        // SAFETY: the pin keeps the object in place, and its slot has `bytes` bytes. Mapping it to write takes the
        // handle that this borrows.
        unsafe { std::slice::from_raw_parts(self.pool.memory.object(self.place), bytes) }
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this guard's. The call is not refused, because the pin is there.
        let unmapped = unsafe { self.pool.unmap_raw(self.handle) };
        debug_assert!(matches!(unmapped, Ok(()) | Err(Error::Forked)), "{unmapped:?}");
    }
}

impl Deref for MappedMut<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for MappedMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.0.pool.slot_bytes(self.0.place);
        // SAFETY: as for reading. The handle is borrowed to write, so this is the only mapping.
        unsafe { std::slice::from_raw_parts_mut(self.0.pool.memory.object(self.0.place), bytes) }
    }
}

impl NewObject<'_> {
    /// Unmaps the object, which is written now, and returns its handle.
    pub fn finish(mut self) -> Handle {
        let mapped = self.0.take().expect("there until finished or dropped");
        mapped.0.pool.handle_of(mapped.0.handle)
    }
}

impl Deref for NewObject<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_ref().expect("there until finished or dropped")
    }
}

impl DerefMut for NewObject<'_> {
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
