//! Buffers that C passes as a pointer and a length.

use std::ptr::NonNull;
use zsalloc::plumbing::sentence;
use zsalloc::{Error, Result};

/// A pointer that C passed: to bytes whose length is in another argument, or one that the library only hands on.
pub struct Bytes<P>(P);

impl<P> Bytes<P> {
    /// Wraps a pointer, without a check.
    pub fn new(pointer: P) -> Self {
        Self(pointer)
    }

    /// Returns the pointer as it was passed, for a pointer that is only handed on.
    pub fn into_pointer(self) -> P {
        self.0
    }
}

const NO_BUFFER: Error = Error::Invalid(sentence(&"the buffer is NULL"));

impl Bytes<*mut u8> {
    /// Returns where `size` bytes can be written. NULL is an error unless `size` is 0.
    #[inline]
    pub fn room_for(self, size: usize) -> Result<*mut u8> {
        match (self.0.is_null(), size) {
            (true, 0) => Ok(NonNull::dangling().as_ptr()),
            (true, _) => Err(NO_BUFFER),
            (false, _) => Ok(self.0),
        }
    }
}

impl Bytes<*const u8> {
    /// Returns where `size` bytes can be read. NULL is an error unless `size` is 0.
    #[inline]
    pub fn of_size(self, size: usize) -> Result<*const u8> {
        Bytes(self.0.cast_mut()).room_for(size).map(<*mut u8>::cast_const)
    }
}
