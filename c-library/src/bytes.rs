//! Buffers that C passes as a pointer and a length.

use std::ptr::NonNull;
use zsalloc::{Error, Result};

/// Bytes that C passed with a pointer and, in another argument, a length; or a pointer that
/// means nothing to us.
pub struct Bytes<P>(P);

impl<P> Bytes<P> {
    /// Not looked at yet.
    pub fn new(pointer: P) -> Self {
        Self(pointer)
    }

    /// The pointer, whatever it is: for those we only hand on.
    pub fn into_pointer(self) -> P {
        self.0
    }
}

const NO_BUFFER: Error = Error::Invalid(&"the buffer is NULL");

impl Bytes<*mut u8> {
    /// To write `size` bytes to.
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
    /// To read `size` bytes from.
    #[inline]
    pub fn of_size(self, size: usize) -> Result<*const u8> {
        Bytes(self.0.cast_mut()).room_for(size).map(<*mut u8>::cast_const)
    }
}
