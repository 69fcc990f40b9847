//! What the C functions ask the system themselves: nothing else in this package names `libc`.

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use zsalloc::{Error, Result};

/// The error numbers that the C functions speak of.
pub mod errno {
    #[cfg(any(test, fuzzing))]
    pub use libc::EINTR;
    pub use libc::{EAGAIN, EBADF, EBUSY, EEXIST, EINVAL, EIO, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOSYS, EPERM};
}

/// A descriptor of the library's own, closed on exec, for the one that C has the number of. Fails with EBADF if
/// the number is none.
pub fn duplicate(fd: c_int) -> Result<OwnedFd> {
    // SAFETY: a call on a number; what is no descriptor is refused.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if own < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Error::System { errno, step: &"duplicating the descriptor that was passed" });
    }
    // SAFETY: a descriptor that was just made, and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

/// A memory file of so many bytes, for tests.
#[cfg(any(test, fuzzing))]
pub fn memory_file(name: &std::ffi::CStr, bytes: usize) -> std::fs::File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that was just made, and is owned by nobody else.
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(bytes as u64).unwrap();
    file
}
