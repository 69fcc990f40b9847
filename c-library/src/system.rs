//! What the C functions themselves ask of the system. Nothing else in this package names `libc`.

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use zsalloc::plumbing::sentence;
use zsalloc::{Error, Result};

/// The error numbers that the C functions use.
pub mod errno {
    #[cfg(any(test, fuzzing))]
    pub use libc::EINTR;
    pub use libc::{
        EAGAIN, EBADF, EBADMSG, EBUSY, EEXIST, EINVAL, EIO, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOSYS, EPERM,
    };
}

/// Duplicates a descriptor of the caller's. The copy belongs to the library and is closed on exec. Fails with EBADF if
/// `fd` is not an open descriptor.
pub fn duplicate(fd: c_int) -> Result<OwnedFd> {
    // SAFETY: the call takes a number and touches no memory; the system refuses a number that is not a descriptor.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if own < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Error::System { errno, step: sentence(&"duplicating the descriptor that was passed") });
    }
    // SAFETY: the descriptor was just created, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

/// Creates a memory file of `bytes` bytes, for tests.
#[cfg(any(test, fuzzing))]
pub fn memory_file(name: &std::ffi::CStr, bytes: usize) -> std::fs::File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor was just created, and nothing else owns it.
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(bytes as u64).unwrap();
    file
}
