//! Files of the caller's, which pages are written to.

use super::{Call, Os, Result, Uncancelled, last_errno};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which file a descriptor is of, and of what kind that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
    kind: u32,
}

impl FileId {
    /// Whether it is a file that keeps what is written at each place: a regular file or a block device.
    pub fn has_places(&self) -> bool {
        matches!(self.kind, libc::S_IFREG | libc::S_IFBLK)
    }
}

impl Os {
    /// A descriptor of its own for a file of the caller's, closed on exec.
    pub fn duplicate(&self, fd: BorrowedFd<'_>) -> Result<OwnedFd> {
        self.may(Call::MemoryFile)?;
        // SAFETY: a call on a descriptor that stays open for as long as it lasts.
        let own = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        if own < 0 {
            return Err(last_errno());
        }
        // SAFETY: a descriptor that was just made, and is owned by nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(own) })
    }

    /// Whether a file is open for reading and writing, and not for appending, which would put all that is written at
    /// its end, whatever the offset.
    pub fn keeps_what_is_written(&self, fd: BorrowedFd<'_>) -> Result<bool> {
        // SAFETY: a call on numbers.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
        if flags < 0 {
            return Err(last_errno());
        }
        Ok(flags & (libc::O_ACCMODE | libc::O_APPEND) == libc::O_RDWR)
    }

    /// Which file a descriptor is of. EBADF: of none, it was closed.
    pub fn file_id(&self, fd: BorrowedFd<'_>) -> Result<FileId> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the place lives through the call, which fills it if it succeeds.
        super::checked(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
        // SAFETY: as above.
        let stat = unsafe { stat.assume_init() };
        Ok(FileId { device: stat.st_dev as _, inode: stat.st_ino as _, kind: stat.st_mode & libc::S_IFMT })
    }

    /// How long a memory file is: one of memfd_create(2), of tmpfs, or KVM's guest memory, whose reads and writes wait
    /// for no device and no other process. None: the descriptor is of something else, or of a part of the system.
    #[cfg(feature = "uffd")]
    pub fn memory_file_bytes(&self, fd: BorrowedFd<'_>) -> Result<Option<u64>> {
        /// The kernel's GUEST_MEMFD_MAGIC.
        const GUEST_MEMORY: u32 = 0x474d_454d;
        const TMPFS: u32 = libc::TMPFS_MAGIC as u32;
        let mut system = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: the place lives through the call, which fills it if it succeeds.
        super::checked(unsafe { libc::fstatfs(fd.as_raw_fd(), system.as_mut_ptr()) })?;
        // SAFETY: as above.
        let system = unsafe { system.assume_init() }.f_type as u32;
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: as above.
        super::checked(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
        // SAFETY: as above.
        let stat = unsafe { stat.assume_init() };
        let is_memory = matches!(system, GUEST_MEMORY | TMPFS) && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        Ok(is_memory.then_some(stat.st_size as u64))
    }

    /// Reads from a file at `offset`, once; fewer bytes than asked are possible.
    pub fn read_at(&self, fd: &OwnedFd, bytes: &mut [u8], offset: u64) -> Result<usize> {
        self.may(Call::Read)?;
        let _whole = Uncancelled::new();
        // SAFETY: `bytes` can be written for as long as the call lasts.
        let done =
            unsafe { libc::pread(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), offset as libc::off_t) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// Writes to a file at `offset`, once; fewer bytes than asked are possible.
    pub fn write_at(&self, fd: &OwnedFd, bytes: &[u8], offset: u64) -> Result<usize> {
        self.may(Call::Write)?;
        let _whole = Uncancelled::new();
        // SAFETY: `bytes` can be read for as long as the call lasts.
        let done = unsafe { libc::pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset as libc::off_t) };
        usize::try_from(done).map_err(|_| last_errno())
    }
}
