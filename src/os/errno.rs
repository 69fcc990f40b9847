//! Error numbers, and how a C call returns them.

#[cfg(any(test, feature = "uffd"))]
pub use libc::EEXIST;
pub use libc::{
    EAGAIN, EBADMSG, EBUSY, EDQUOT, EFBIG, EINTR, EINVAL, EIO, EMFILE, ENOENT, ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP,
    EPERM,
};
#[cfg(feature = "uffd")]
pub use libc::{ECONNRESET, EFAULT, ENFILE, EPIPE, ESRCH};

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// The result of a call to the system.
pub type OsResult<T> = Result<T, Errno>;

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Returns the errno of the C call that has just failed in this thread.
pub fn last_errno() -> Errno {
    Errno::from(std::io::Error::last_os_error())
}

/// Returns the error of a C call that returns 0 or sets errno.
pub fn checked(result: libc::c_int) -> OsResult<()> {
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
