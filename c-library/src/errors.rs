//! `zs_strerror`: a sentence for each error number.

use super::export::export;
use crate::system::errno;
use std::ffi::{CStr, c_char, c_int};

export! {
    /// Returns an English sentence for a result of any function, by its number alone: for tables and logs
    /// of numbers. zs_last_error() says what was wrong with the call that failed. `result` may be the
    /// result as it was returned or its positive number; 0 is success. Never NULL. The string is
    /// constant: do not free it.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_strerror(result: c_int) -> *const c_char {
        sentence(result.unsigned_abs()).as_ptr()
    }
}

/// Returns the sentence for a positive errno.
fn sentence(number: u32) -> &'static CStr {
    match c_int::try_from(number).unwrap_or(c_int::MAX) {
        0 => c"success",
        errno::EINVAL => c"an argument is wrong, or a handle or claim is stale, has ended, or belongs to another pool",
        errno::ENOMEM => c"a limit is reached, or the system has no memory: free, compact or shrink, then try again",
        errno::ENOSPC => c"too large: the object or the text is too long, or the page does not compress",
        errno::EBADMSG => c"a stored page is damaged: its bytes are lost",
        errno::EBUSY => {
            c"in use: mapped, being written back, under another userfaultfd, or calls, threads or areas are left"
        }
        errno::EAGAIN => c"nothing could be done now: try again later",
        errno::ENOENT => c"not found: no page is stored at that offset, or nothing is stored at all",
        errno::EEXIST => c"the page is already in memory at the place it would be written back to",
        errno::EPERM => c"this forked child has no copy of the pool, or the system does not permit the operation",
        errno::EIO => c"a file can't be read, or a bug in zsalloc was caught: see stderr",
        errno::EMFILE => c"the process has too many open files: close some, or raise RLIMIT_NOFILE",
        errno::ENFILE => c"the system has too many open files",
        errno::ENOSYS => c"a system call that zsalloc needs is missing, or this process may not use it",
        _ => c"an error of the operating system: see errno(3)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_negative_have_the_same_sentence() {
        let text = |result: c_int| {
            // SAFETY: a constant string.
            unsafe { CStr::from_ptr(zs_strerror(result)) }.to_str().unwrap()
        };
        assert_eq!(text(0), "success");
        for number in [errno::EINVAL, errno::ENOMEM, errno::EBADMSG, errno::EIO, errno::EPERM, 9999, c_int::MAX] {
            assert_eq!(text(number), text(-number));
            assert!(text(number).len() > 20);
        }
        assert_eq!(text(c_int::MIN), text(9999));
    }
}
