//! Fetching memory into the processor's caches ahead of its use, and copying past them.

/// Bytes that a processor fetches at a time.
const LINE: usize = 64;

/// Asks the processor to fetch the cache line at `at`. Does nothing on processors other than x86-64.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches no memory as far as the program can tell, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks the processor to fetch `bytes` bytes that will be read.
#[inline]
pub fn prefetch_bytes(at: *const u8, bytes: usize) {
    (0..bytes).step_by(LINE).for_each(|offset| prefetch(at.wrapping_add(offset)));
}

/// Asks the processor to fetch `bytes` bytes that will be written, so that the stores need not wait for their lines.
#[inline]
pub fn prefetch_bytes_to_write(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..bytes).step_by(LINE) {
        // SAFETY: as for `prefetch`.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(offset).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes);
}

/// Copies to memory that is not read soon, without fetching it first or keeping it in the caches. This takes some 2 %
/// of a store less than an ordinary copy.
///
/// # Safety
/// `bytes`, rounded up to a multiple of 16, can be read at `from` and written at `to`, which is a multiple of 16, and
/// no other thread accesses them.
#[inline]
pub unsafe fn copy_past_caches(from: *const u8, to: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: inside the ranges that the caller vouches for; the fence orders the stores before all that follow.
    unsafe {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        debug_assert!((to as usize).is_multiple_of(16));
        for at in (0..bytes).step_by(16) {
            _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
        }
        _mm_sfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, bytes)
    };
}
