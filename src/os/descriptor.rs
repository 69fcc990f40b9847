//! Taking over descriptors that the system has just made.

use super::errno::{OsResult, last_errno};
use std::os::fd::{FromRawFd, OwnedFd};

/// Takes over the descriptor that a call has returned. A negative number is the call's failure, with errno set.
///
/// # Safety
/// A number that is not negative is a new descriptor, which nobody else owns.
pub unsafe fn made(returned: impl Into<i64>) -> OsResult<OwnedFd> {
    match libc::c_int::try_from(returned.into()) {
        // SAFETY: the caller vouches that it is new and not owned.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}
