//! Ranges of memory, as the system takes several in one call.

/// A range of memory, one of several.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Span(libc::iovec);

// Slices of spans are passed to the system as arrays of iovec.
static_assertions::assert_eq_size!(Span, libc::iovec);
static_assertions::assert_eq_align!(Span, libc::iovec);

impl Span {
    /// The most spans that one call takes.
    pub const MOST: usize = 1024;

    /// Returns the span of `bytes` bytes at `base`.
    pub fn new(base: *mut u8, bytes: usize) -> Self {
        Self(libc::iovec { iov_base: base.cast(), iov_len: bytes })
    }

    /// Returns the address and the length in bytes.
    pub fn parts(&self) -> (*mut u8, usize) {
        (self.0.iov_base.cast(), self.0.iov_len)
    }
}
