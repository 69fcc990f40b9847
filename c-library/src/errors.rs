//! What the results of all functions mean, in words.

use super::export::export;
use crate::system::errno;
use std::ffi::{CStr, c_char, c_int};

export! {
    /// What a result means, as an English sentence. Takes a result as it came or its positive number; 0
    /// is success. Never NULL; the string is constant, and nobody frees it.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_strerror(result: c_int) -> *const c_char {
        sentence(result.unsigned_abs()).as_ptr()
    }
}

/// The sentence for a positive errno.
fn sentence(number: u32) -> &'static CStr {
    match c_int::try_from(number).unwrap_or(c_int::MAX) {
        0 => c"success",
        errno::EINVAL => {
            c"an argument is wrong, or a handle or claim is stale, was ended already, or is of another pool"
        }
        errno::ENOMEM => c"a limit is met, or the system gives no memory: free, compact or shrink, then try again",
        errno::ENOSPC => {
            c"it does not fit: a text or object is too long, a page does not compress, or a most is reached"
        }
        errno::EBUSY => {
            c"it is in use: mapped, written back, under another userfaultfd, with calls, threads or areas left"
        }
        errno::EAGAIN => c"nothing could be done now; a later call may",
        errno::ENOENT => c"there is nothing to do it to: no page is stored there, or nothing at all",
        errno::EEXIST => c"the page is in memory already where it would be written back to",
        errno::EPERM => c"the pool is not for this forked child, or the system does not permit it",
        errno::EIO => {
            c"a stored page is damaged, its file can't be read, or zsalloc failed inside and wrote why to stderr"
        }
        errno::EMFILE => c"the process has too many open files: close some, or raise RLIMIT_NOFILE",
        errno::ENFILE => c"the system has too many open files",
        errno::ENOSYS => c"the system does not have, or this process may not use, a system call that is needed",
        _ => c"an error number of the system: see errno(3)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_sentence_whatever_its_sign() {
        let text = |result: c_int| {
            // SAFETY: a constant string.
            unsafe { CStr::from_ptr(zs_strerror(result)) }.to_str().unwrap()
        };
        assert_eq!(text(0), "success");
        for number in [errno::EINVAL, errno::ENOMEM, errno::EIO, errno::EPERM, 9999, c_int::MAX] {
            assert_eq!(text(number), text(-number));
            assert!(text(number).len() > 20);
        }
        assert_eq!(text(c_int::MIN), text(9999));
    }
}
