//! Files in memory: making them, allocating their pages, and making holes in them.

use super::calls::Call;
use super::cancel::Uncancelled;
use super::descriptor::made;
use super::errno::{Errno, OsResult, checked};
use super::seam::Os;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

impl Os {
    /// Creates a memory file of `bytes`, closed on exec, and of huge pages if `huge`.
    pub fn memory_file(&self, name: &str, bytes: usize, huge: bool) -> OsResult<OwnedFd> {
        self.may(Call::MemoryFile)?;
        // The system takes at most 249 bytes.
        let mut text = [0; 256];
        text.get_mut(..name.len()).ok_or(Errno(libc::EINVAL))?.copy_from_slice(name.as_bytes());
        let name = CStr::from_bytes_until_nul(&text).map_err(|_| Errno(libc::EINVAL))?;
        let flags =
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | if huge { libc::MFD_HUGETLB | libc::MFD_HUGE_2MB } else { 0 };
        // SAFETY: `name` is a C string; the call touches no other memory, and returns a new descriptor.
        let fd = unsafe { made(libc::memfd_create(name.as_ptr(), flags)) }?;
        let length = libc::off_t::try_from(bytes).map_err(|_| Errno(libc::ENOMEM))?;
        // SAFETY: a call on a descriptor of our own.
        checked(unsafe { libc::ftruncate(fd.as_raw_fd(), length) })?;
        Ok(fd)
    }

    /// Makes the size of a memory file final, so that nobody with its descriptor can take memory away that is in use.
    pub fn seal_size(&self, fd: &OwnedFd) -> OsResult<()> {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a call on a descriptor of our own.
        checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })
    }

    /// Allocates the pages of a part of a memory file (fallocate), so that touching them can't fail later. The pool
    /// does so for files of huge pages, whose number the system limits.
    pub fn allocate(&self, fd: RawFd, offset: usize, bytes: usize) -> OsResult<()> {
        self.may(Call::Allocate)?;
        let _whole = Uncancelled::new();
        // SAFETY: a call on a descriptor of our own; the offsets fit, because the file has that length.
        checked(unsafe { libc::fallocate(fd, 0, offset as libc::off_t, bytes as libc::off_t) })
    }

    /// Makes a hole in a memory file, wherever the file is mapped.
    #[cfg(feature = "uffd")]
    pub fn punch(&self, fd: &OwnedFd, offset: u64, bytes: usize) -> OsResult<()> {
        self.may(Call::Punch)?;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the call takes numbers only.
        checked(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset as libc::off_t, bytes as libc::off_t) })
    }
}
