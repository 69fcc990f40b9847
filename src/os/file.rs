//! Files of the caller's: which file a descriptor is of, its kind, and reading and writing it.

use super::calls::Call;
use super::cancel::Uncancelled;
use super::descriptor::made;
use super::errno::{OsResult, checked, last_errno};
use super::seam::Os;
use crate::units::{AlignedPage, PAGE};
use std::mem::MaybeUninit;
#[cfg(feature = "uffd")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

#[cfg(feature = "uffd")]
const TMPFS: u64 = libc::TMPFS_MAGIC as u64;

/// Which file a descriptor is of, and the kind of that file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
    kind: u32,
}

impl FileId {
    /// Whether the file keeps what is written at each place: whether it is a regular file or a block device.
    pub fn has_places(&self) -> bool {
        matches!(self.kind, libc::S_IFREG | libc::S_IFBLK)
    }
}

/// What a memory file has to be before it is mapped as a region.
#[cfg(feature = "uffd")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileKind {
    /// The two numbers of the file's device, and that of its inode.
    pub file: (u32, u32, u64),
    /// The length of the file.
    pub bytes: u64,
    /// Whether the descriptor may be read and written.
    pub read_write: bool,
    /// Whether the file is memory, of ordinary pages.
    pub memory: bool,
    /// Whether the file is sealed from writes, and so from holes.
    pub sealed: bool,
}

fn stat(fd: BorrowedFd<'_>) -> OsResult<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: the place lives through the call.
    checked(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, and has filled the place.
    Ok(unsafe { stat.assume_init() })
}

/// Returns the magic number of the file system that a file is in.
#[cfg(feature = "uffd")]
fn file_system(fd: BorrowedFd<'_>) -> OsResult<u64> {
    let mut system = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the place lives through the call.
    checked(unsafe { libc::fstatfs(fd.as_raw_fd(), system.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, and has filled the place.
    Ok(unsafe { system.assume_init() }.f_type as u64)
}

/// Returns the flags that a file was opened with.
fn flags(fd: BorrowedFd<'_>) -> OsResult<libc::c_int> {
    // SAFETY: the call takes numbers only.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 { Err(last_errno()) } else { Ok(flags) }
}

/// Returns the kind of a file.
#[cfg(feature = "uffd")]
pub fn kind_of(file: &OwnedFd) -> OsResult<FileKind> {
    let fd = file.as_fd();
    let (stat, system, flags) = (stat(fd)?, file_system(fd)?, flags(fd)?);
    // SAFETY: the call takes numbers only. It refuses a file that can't be sealed.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    let bytes = u64::try_from(stat.st_size).map_err(|_| super::errno::Errno(libc::EINVAL))?;
    Ok(FileKind {
        file: (libc::major(stat.st_dev), libc::minor(stat.st_dev), stat.st_ino),
        bytes,
        read_write: flags & libc::O_ACCMODE == libc::O_RDWR,
        memory: system == TMPFS,
        sealed: seals > 0 && seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0,
    })
}

/// What reading and writing a file does to the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum PageCache {
    /// The file is open with `O_DIRECT`: the page cache is passed by.
    Direct,
    /// The system is asked to drop what it has read and written.
    DropBehind,
    /// The page cache keeps it.
    Used,
}

impl PageCache {
    /// Returns the one with this number, or `Used`.
    pub fn from_number(number: u32) -> Self {
        [Self::Direct, Self::DropBehind].into_iter().find(|cache| *cache as u32 == number).unwrap_or(Self::Used)
    }
}

impl Os {
    /// Opens a file of the caller's once more, with `O_DIRECT`, by its name in `/proc`. None if that is not possible,
    /// or blocks of 4096 bytes can't be read so.
    pub fn open_past_cache(&self, fd: BorrowedFd<'_>, id: FileId) -> Option<OwnedFd> {
        use std::io::Write;
        self.may(Call::MemoryFile).ok()?;
        let mut path = [0; 32];
        write!(&mut path[..31], "/proc/self/fd/{}", fd.as_raw_fd()).ok()?;
        let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_DIRECT;
        // SAFETY: the path is a C string: its last byte was not written. The call returns a new descriptor.
        let direct = unsafe { made(libc::open(path.as_ptr().cast(), flags)) }.ok()?;
        let is_same = self.file_id(std::os::fd::AsFd::as_fd(&direct)).is_ok_and(|other| other == id);
        let mut block = AlignedPage([0; PAGE]);
        // SAFETY: the block can be written for as long as the call lasts.
        let read = unsafe { libc::pread(direct.as_raw_fd(), block.0.as_mut_ptr().cast(), PAGE, 0) };
        (is_same && read >= 0).then_some(direct)
    }

    /// Reads from a file at `offset`, once, as [`Os::read_at`] does.
    ///
    /// # Errors
    /// Those of preadv2(2) for [`PageCache::DropBehind`]: `EOPNOTSUPP` if the file or the system does not drop it.
    pub fn read_past_cache(&self, fd: &OwnedFd, bytes: &mut [u8], offset: u64, cache: PageCache) -> OsResult<usize> {
        if cache != PageCache::DropBehind {
            return self.read_at(fd, bytes, offset);
        }
        self.may(Call::Read)?;
        let _whole = Uncancelled::new();
        let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: `bytes` can be written for as long as the call lasts.
        let done =
            unsafe { libc::preadv2(fd.as_raw_fd(), &raw const part, 1, offset as libc::off_t, libc::RWF_DONTCACHE) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// Writes to a file at `offset`, once, as [`Os::write_at`] does.
    ///
    /// # Errors
    /// Those of pwritev2(2) for [`PageCache::DropBehind`]: `EOPNOTSUPP` if the file or the system does not drop it.
    pub fn write_past_cache(&self, fd: &OwnedFd, bytes: &[u8], offset: u64, cache: PageCache) -> OsResult<usize> {
        if cache != PageCache::DropBehind {
            return self.write_at(fd, bytes, offset);
        }
        self.may(Call::Write)?;
        let _whole = Uncancelled::new();
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: `bytes` can be read for as long as the call lasts.
        let done =
            unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, offset as libc::off_t, libc::RWF_DONTCACHE) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// Makes a hole in a file of the caller's, or discards a part of a block device. The length stays.
    pub fn punch_hole(&self, fd: &OwnedFd, offset: u64, bytes: u64) -> OsResult<()> {
        self.may(Call::Punch)?;
        let _whole = Uncancelled::new();
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the call takes numbers only.
        checked(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset as libc::off_t, bytes as libc::off_t) })
    }

    /// Returns a number drawn at random by the system, or, where that has none yet, one of this moment.
    pub fn number_at_random(&self) -> u64 {
        let mut number = [0; 8];
        // SAFETY: the place lives through the call.
        let drawn = unsafe { libc::getrandom(number.as_mut_ptr().cast(), 8, libc::GRND_NONBLOCK) };
        match drawn {
            8 => u64::from_ne_bytes(number),
            _ => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |now| now.as_nanos() as u64),
        }
    }

    /// Returns a descriptor of our own for a file of the caller's, closed on exec.
    pub fn duplicate(&self, fd: BorrowedFd<'_>) -> OsResult<OwnedFd> {
        self.may(Call::MemoryFile)?;
        // SAFETY: the descriptor stays open for as long as the call lasts, and the call returns a new one.
        unsafe { made(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0)) }
    }

    /// Whether a file is open for reading and writing, and not for appending, which would put all that is written at
    /// its end, whatever the offset.
    pub fn keeps_what_is_written(&self, fd: BorrowedFd<'_>) -> OsResult<bool> {
        Ok(flags(fd)? & (libc::O_ACCMODE | libc::O_APPEND) == libc::O_RDWR)
    }

    /// Returns which file a descriptor is of. Fails with `EBADF` if the descriptor was closed.
    pub fn file_id(&self, fd: BorrowedFd<'_>) -> OsResult<FileId> {
        let stat = stat(fd)?;
        Ok(FileId { device: stat.st_dev as _, inode: stat.st_ino as _, kind: stat.st_mode & libc::S_IFMT })
    }

    /// Returns the length of a memory file: one of memfd_create(2), of tmpfs, or KVM's guest memory. Reading and
    /// writing such a file waits for no device and no other process. None: the descriptor is of something else.
    #[cfg(feature = "uffd")]
    pub fn memory_file_bytes(&self, fd: BorrowedFd<'_>) -> OsResult<Option<u64>> {
        /// The kernel's GUEST_MEMFD_MAGIC.
        const GUEST_MEMORY: u64 = 0x474d_454d;
        let (system, stat) = (file_system(fd)?, stat(fd)?);
        let is_memory = matches!(system, GUEST_MEMORY | TMPFS) && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        Ok(is_memory.then_some(stat.st_size as u64))
    }

    /// Reads from a file at `offset`, once. It may read fewer bytes than asked.
    pub fn read_at(&self, fd: &OwnedFd, bytes: &mut [u8], offset: u64) -> OsResult<usize> {
        self.may(Call::Read)?;
        let _whole = Uncancelled::new();
        // SAFETY: `bytes` can be written for as long as the call lasts.
        let done =
            unsafe { libc::pread(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), offset as libc::off_t) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// Writes to a file at `offset`, once. It may write fewer bytes than asked.
    pub fn write_at(&self, fd: &OwnedFd, bytes: &[u8], offset: u64) -> OsResult<usize> {
        self.may(Call::Write)?;
        let _whole = Uncancelled::new();
        // SAFETY: `bytes` can be read for as long as the call lasts.
        let done = unsafe { libc::pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset as libc::off_t) };
        usize::try_from(done).map_err(|_| last_errno())
    }
}
