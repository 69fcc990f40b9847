//! Buffers that C passes as a pointer and a length.

use super::wrong::Wrong;
use std::ptr::NonNull;
use zsalloc::Result;

/// A pointer that C passed: to bytes whose length is in another argument, or one that the library only hands on.
pub struct Bytes<P> {
    pointer: P,
    wrong: &'static Wrong,
}

impl<P> Bytes<P> {
    /// Wraps a pointer, without a check.
    pub fn new(pointer: P, wrong: &'static Wrong) -> Self {
        Self { pointer, wrong }
    }

    /// Returns the pointer as it was passed, for a pointer that is only handed on.
    pub fn into_pointer(self) -> P {
        self.pointer
    }
}

impl Bytes<*mut u8> {
    /// Returns where `size` bytes can be written. NULL is an error unless `size` is 0.
    #[inline]
    pub fn room_for(self, size: usize) -> Result<*mut u8> {
        match (self.pointer.is_null(), size) {
            (true, 0) => Ok(NonNull::dangling().as_ptr()),
            (true, _) => Err(self.wrong.null),
            (false, _) => Ok(self.pointer),
        }
    }
}

impl Bytes<*const u8> {
    /// Returns where `size` bytes can be read. NULL is an error unless `size` is 0.
    #[inline]
    pub fn of_size(self, size: usize) -> Result<*const u8> {
        Bytes::new(self.pointer.cast_mut(), self.wrong).room_for(size).map(<*mut u8>::cast_const)
    }
}
