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

    /// Makes one span of each run of neighbours, as far as `joined` has room. Returns how many spans it made, and how
    /// many bytes they have.
    #[cfg(feature = "uffd")]
    pub fn join(spans: &[Self], joined: &mut [Self]) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for span in spans {
            let (base, more) = span.parts();
            let is_next = |last: &Self| last.0.iov_base.wrapping_byte_add(last.0.iov_len) == base.cast();
            if count > 0 && is_next(&joined[count - 1]) {
                joined[count - 1].0.iov_len += more;
            } else if count < joined.len() {
                joined[count] = *span;
                count += 1;
            } else {
                break;
            }
            bytes += more;
        }
        (count, bytes)
    }

    /// Returns the address and the length in bytes.
    pub fn parts(&self) -> (*mut u8, usize) {
        (self.0.iov_base.cast(), self.0.iov_len)
    }
}

#[cfg(all(test, feature = "uffd"))]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_span_as_far_as_there_is_room() {
        let span = |at: usize, bytes| Span::new(at as *mut u8, bytes);
        let spans = [span(0x1000, 0x1000), span(0x2000, 0x2000), span(0x5000, 0x1000), span(0x4000, 0x1000)];
        let mut joined = [span(0, 0); 3];
        assert_eq!(Span::join(&spans, &mut joined), (3, 0x5000));
        assert_eq!(joined.map(|span| span.parts().1), [0x3000, 0x1000, 0x1000]);
        assert_eq!(Span::join(&spans, &mut joined[..2]), (2, 0x4000));
        assert_eq!(Span::join(&[], &mut joined), (0, 0));
    }
}
