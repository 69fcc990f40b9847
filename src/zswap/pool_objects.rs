//! The objects of the pool that page words name: to pin, to read and to free them.

use super::page::Objects;
use super::word::PageWord;
use crate::error::Error;
use crate::os;
use crate::pool::{MapMode, Pool};
use crate::sync::Wait;

/// A pin: the object stays where it is until this is dropped.
pub struct Pin<'a> {
    pool: &'a Pool,
    handle: u64,
}

impl Drop for Pin<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the object was pinned when this was made, and this pin has no other owner.
        let unpinned = unsafe { self.pool.unmap_raw(self.handle) };
        debug_assert!(unpinned.is_ok());
    }
}

/// A stored object, pinned to be read.
pub struct PinnedObject<'a> {
    pin: Pin<'a>,
    at: *const u8,
    bytes: usize,
}

impl PinnedObject<'_> {
    /// Returns the bytes of the object's slot.
    #[inline]
    pub fn slot(&self) -> &[u8] {
        // SAFETY: the pin keeps the object in place, and its slot has this many bytes. Its writer had finished when it
        // published the page word that named it, and nobody writes an object after that.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }

    /// Returns the handle that the object is pinned under.
    pub fn handle(&self) -> u64 {
        self.pin.handle
    }

    /// Asks the processor to fetch the object.
    #[inline]
    pub fn prefetch(&self) {
        os::prefetch_bytes(self.at, self.bytes);
    }

    /// Leaves the object pinned. [`resume_pin`] makes the pin again.
    pub fn leave_pinned(self) {
        std::mem::forget(self.pin);
    }
}

/// Makes the pin of an object that [`PinnedObject::leave_pinned`] left pinned. Call it once for each.
pub fn resume_pin(pool: &Pool, short_handle: u64) -> Pin<'_> {
    Pin { pool, handle: pool.long_handle(short_handle) }
}

impl Objects for Pool {
    type Pinned<'a> = PinnedObject<'a>;

    #[inline]
    fn pin(&self, short_handle: u64) -> Option<PinnedObject<'_>> {
        let handle = self.long_handle(short_handle);
        let mut wait = Wait::default();
        loop {
            match self.map_sized_raw(handle, MapMode::Read) {
                Ok((at, bytes)) => return Some(PinnedObject { pin: Pin { pool: self, handle }, at, bytes }),
                // Too many threads are loading this page for one more pin to be counted.
                Err(Error::Busy(_)) => wait.a_moment(),
                Err(_) => return None,
            }
        }
    }
}

/// Frees an object that no page word names any more. Returns the bytes of its slot.
#[inline]
pub fn free(pool: &Pool, short_handle: u64) -> u64 {
    let mut wait = Wait::default();
    loop {
        // SAFETY: the only word that named the object does so no more.
        match unsafe { pool.free_sized_raw(pool.long_handle(short_handle)) } {
            Ok(bytes) => return bytes as u64,
            Err(Error::Busy(_)) => wait.a_moment(),
            Err(error) => {
                debug_assert!(false, "{error}");
                return 0;
            }
        }
    }
}

/// An object that no page word names yet. Dropping it frees the object.
pub struct NewEntry<'a> {
    pool: &'a Pool,
    short_handle: u64,
    raw: bool,
    slot_bytes: u64,
}

impl<'a> NewEntry<'a> {
    /// Copies an entry, the first `bytes` bytes of `padded`, to an object that was just allocated, mapped at `at`.
    /// `raw` says whether its page is stored as it came.
    ///
    /// # Safety
    /// The object is this thread's, and its mapping too, which this ends. `padded` has `bytes` rounded up to a multiple
    /// of 16, and so has the object's slot.
    pub unsafe fn write(
        pool: &'a Pool,
        (handle, at): (u64, *mut u8),
        (padded, bytes): (&[u8], usize),
        slot_bytes: u64,
        raw: bool,
    ) -> Self {
        debug_assert!(padded.len() >= bytes.next_multiple_of(16));
        // SAFETY: the caller vouches for both sides, and nobody else knows of the object.
        unsafe { os::copy_past_caches(padded.as_ptr(), at, bytes) };
        drop(Pin { pool, handle });
        Self { pool, short_handle: Pool::short_handle(handle), raw, slot_bytes }
    }

    /// Returns the bytes of the object's slot.
    pub fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    /// Returns the page word that names the object.
    #[inline]
    pub fn word(&self) -> PageWord {
        PageWord::stored(self.short_handle, self.raw)
    }

    /// Keeps the object: a page word names it, or is going to.
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for NewEntry<'_> {
    fn drop(&mut self) {
        free(self.pool, self.short_handle);
    }
}
