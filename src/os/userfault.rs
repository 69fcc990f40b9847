//! A userfaultfd: registering ranges, and putting pages in place.
//!
//! The kernel's `Documentation/admin-guide/mm/userfaultfd.rst` and the manual pages userfaultfd(2) and
//! ioctl_userfaultfd(2) say what each call does.

pub use super::messages::{Event, Message, Unknown, Why};

use super::calls::Call;
use super::descriptor::made;
use super::errno::{Errno, OsResult};
use super::ioctl;
use super::messages::{Reader, has_messages, set_nonblocking};
use super::seam::Os;
use linux_raw_sys::general as raw;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Features that a userfaultfd can be made with. Older systems lack some of them.
pub mod feature {
    use linux_raw_sys::general as raw;
    /// Events for pages that their owner gives back.
    pub const EVENT_REMOVE: u64 = raw::UFFD_FEATURE_EVENT_REMOVE as u64;
    /// Events for ranges that move.
    pub const EVENT_REMAP: u64 = raw::UFFD_FEATURE_EVENT_REMAP as u64;
    /// Events for ranges that are unmapped.
    pub const EVENT_UNMAP: u64 = raw::UFFD_FEATURE_EVENT_UNMAP as u64;
    /// Touches raise SIGBUS in the thread that touches.
    pub const SIGBUS: u64 = raw::UFFD_FEATURE_SIGBUS as u64;
    /// Faults of pages that are in a memory file, but not mapped.
    pub const MINOR_SHMEM: u64 = raw::UFFD_FEATURE_MINOR_SHMEM as u64;
    /// Faults of missing pages of memory files.
    pub const MISSING_SHMEM: u64 = raw::UFFD_FEATURE_MISSING_SHMEM as u64;
    /// Write protection of private memory.
    pub const WP: u64 = raw::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64;
    /// Write protection of memory files.
    pub const WP_SHMEM: u64 = raw::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64;
    /// Pages that fail when they are touched. Since Linux 6.6.
    pub const POISON: u64 = raw::UFFD_FEATURE_POISON as u64;
    /// Moving pages of private memory. Since Linux 6.8.
    pub const MOVE: u64 = raw::UFFD_FEATURE_MOVE as u64;
}

/// Which faults of a range a userfaultfd tells of, beside those of missing pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faulting {
    /// Writes to pages that were protected.
    pub protected: bool,
    /// Touches of pages that a memory file has and the range does not map.
    pub unmapped: bool,
}

/// How far a call on several pages got. The pages before a failure are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes that were done, counted from the front.
    pub bytes: usize,
    /// Why it stopped early.
    pub stopped: Option<Errno>,
}

/// The one mode bit of UFFDIO_CONTINUE that protects the pages it maps. Since Linux 6.4.
const CONTINUE_PROTECTED: u64 = 2;
/// The one mode bit of UFFDIO_WRITEPROTECT that protects.
const PROTECT_ON: u64 = 1;

/// A userfaultfd, closed when dropped. Every method may be called from any thread and from a signal handler.
pub struct Userfault {
    fd: OwnedFd,
    features: u64,
    reader: Reader,
    os: Os,
}

impl Userfault {
    /// Makes a userfaultfd with these features. With `user_only` it needs no privileges, and system calls that touch a
    /// missing page fail with EFAULT.
    ///
    /// # Errors
    /// EPERM if the process has no right to, EINVAL if the system lacks a feature, ENOSYS if it lacks userfaultfds.
    pub fn new(os: &Os, features: u64, user_only: bool) -> OsResult<Self> {
        os.may(Call::Userfault)?;
        let fd = Self::open(user_only)?;
        let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 };
        ioctl::API.call(&fd, &mut api)?;
        Ok(Self { fd, features, reader: Reader::own(os), os: os.clone() })
    }

    /// Takes over a userfaultfd that another process has made and enabled. From now on reads of it don't wait, in that
    /// process neither. If that process changes the flag, reads still don't wait here.
    pub fn received(os: &Os, fd: OwnedFd) -> OsResult<Self> {
        let received = Self { fd, features: 0, reader: Reader::shared(os), os: os.clone() };
        set_nonblocking(received.as_fd())?;
        Ok(received)
    }

    /// Returns the features that the system has.
    pub fn features_of_the_system(os: &Os, user_only: bool) -> OsResult<u64> {
        os.may(Call::Userfault)?;
        let fd = Self::open(user_only)?;
        let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features: 0, ioctls: 0 };
        ioctl::API.call(&fd, &mut api)?;
        Ok(api.features)
    }

    fn open(user_only: bool) -> OsResult<OwnedFd> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let only = if user_only { raw::UFFD_USER_MODE_ONLY as libc::c_int } else { 0 };
        // SAFETY: the call takes numbers only, and returns a new descriptor.
        let opened = unsafe { made(libc::syscall(libc::SYS_userfaultfd, flags | only)) };
        opened.or_else(|refused| {
            // Kernels before 5.11 lack the flag, and let anybody make one unless they are configured otherwise.
            let old = refused.0 == libc::EINVAL && user_only;
            if old { Self::open(false) } else { Self::open_device(flags) }.map_err(|_| refused)
        })
    }

    fn open_device(flags: libc::c_int) -> OsResult<OwnedFd> {
        // Reading is enough, and the device's permissions may allow no more.
        let device = File::open("/dev/userfaultfd")?;
        // SAFETY: this ioctl takes a number, and returns a new descriptor.
        unsafe { made(libc::ioctl(device.as_raw_fd(), ioctl::NEW as _, flags)) }
    }

    /// Whether the userfaultfd was made with a feature.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    /// Reads events without waiting. Returns how many messages were written, or 0 if there was no event. Closes the
    /// descriptors that come with the events of forks.
    pub fn read(&self, messages: &mut [Message]) -> OsResult<usize> {
        self.reader.read(self.as_fd(), messages)
    }

    /// Whether there may be an event to read. Does not wait.
    pub fn has_events(&self) -> bool {
        has_messages(self.as_fd())
    }

    /// Returns how many of `bytes` bytes a call may do, and the error if a test makes it stop there.
    #[inline]
    fn may_do(&self, call: Call, bytes: usize) -> (usize, Option<Errno>) {
        match self.os.may(call) {
            Ok(()) => (bytes, None),
            #[cfg(any(test, fuzzing))]
            Err(errno) => (self.os.faults.as_ref().map_or(0, |faults| faults.part(call)).min(bytes), Some(errno)),
            #[cfg(not(any(test, fuzzing)))]
            Err(errno) => (0, Some(errno)),
        }
    }

    /// Registers a range, for its missing pages and for the faults in `faults`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the system took the range, but lacks a call that serving its faults needs.
    pub fn register(&self, at: usize, bytes: usize, faults: Faulting) -> OsResult<()> {
        self.os.may(Call::Register)?;
        let (mut mode, mut needed) = (raw::UFFDIO_REGISTER_MODE_MISSING, 1 << raw::_UFFDIO_COPY);
        if faults.protected {
            mode |= raw::UFFDIO_REGISTER_MODE_WP;
            needed |= 1 << raw::_UFFDIO_WRITEPROTECT;
        }
        if faults.unmapped {
            mode |= raw::UFFDIO_REGISTER_MODE_MINOR;
            needed |= 1 << raw::_UFFDIO_CONTINUE;
        }
        let mut argument = raw::uffdio_register { range: range(at, bytes), mode: mode.into(), ioctls: 0 };
        ioctl::REGISTER.call(&self.fd, &mut argument)?;
        // The system's answer has the calls that it allows for this range.
        if argument.ioctls & needed == needed {
            return Ok(());
        }
        ioctl::UNREGISTER.call(&self.fd, &mut range(at, bytes))?;
        Err(Errno(libc::EOPNOTSUPP))
    }

    /// Unregisters a range. Missing pages there read as zero from now on.
    pub fn unregister(&self, at: usize, bytes: usize) -> OsResult<()> {
        self.os.may(Call::Unregister)?;
        ioctl::UNREGISTER.call(&self.fd, &mut range(at, bytes))
    }

    /// Copies whole pages from `from` to where they are missing, write-protected if `protect`, and wakes the threads
    /// that wait for them.
    ///
    /// # Safety
    /// `bytes` bytes can be read at `from`, and the caller may fill the missing pages.
    #[inline]
    pub unsafe fn copy(&self, to: usize, from: *const u8, bytes: usize, protect: bool) -> Progress {
        let (bytes, refused) = self.may_do(Call::CopyIn, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mode = if protect { raw::UFFDIO_COPY_MODE_WP } else { 0 };
        let mut argument =
            raw::uffdio_copy { dst: to as u64, src: from as u64, len: bytes as u64, mode: mode.into(), copy: 0 };
        // SAFETY: the caller vouches for the memory.
        let result = unsafe { ioctl::COPY.call(&self.fd, &mut argument) };
        progress(result, argument.copy, bytes, refused)
    }

    /// Puts zeros where pages are missing, and wakes the threads that wait for them.
    #[inline]
    pub fn zero(&self, at: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::ZeroIn, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_zeropage { range: range(at, bytes), mode: 0, zeropage: 0 };
        let result = ioctl::ZERO.call(&self.fd, &mut argument);
        progress(result, argument.zeropage, bytes, refused)
    }

    /// Moves whole pages of private memory from `from` to `to`, which is registered here and where pages are missing.
    /// They are missing at `from` from then on.
    ///
    /// # Safety
    /// The caller may move the pages at `from`.
    #[inline]
    pub unsafe fn move_pages(&self, to: usize, from: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::Move, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_move { dst: to as u64, src: from as u64, len: bytes as u64, mode: 0, move_: 0 };
        // SAFETY: the caller vouches for the memory.
        let result = unsafe { ioctl::MOVE.call(&self.fd, &mut argument) };
        progress(result, argument.move_, bytes, refused)
    }

    /// Maps pages that are in a memory file but not mapped in this range, write-protected if `protect`, and wakes the
    /// threads that wait for them. Stops with `EFAULT` at a page that the file does not have, and with `EEXIST` at one
    /// that is mapped.
    #[inline]
    pub fn continue_pages(&self, at: usize, bytes: usize, protect: bool) -> Progress {
        let (bytes, refused) = self.may_do(Call::Continue, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mode = if protect { CONTINUE_PROTECTED } else { 0 };
        let mut argument = raw::uffdio_continue { range: range(at, bytes), mode, mapped: 0 };
        let result = ioctl::CONTINUE.call(&self.fd, &mut argument);
        progress(result, argument.mapped, bytes, refused)
    }

    /// Write-protects a range, or lifts the protection and wakes the threads that wait.
    pub fn protect(&self, at: usize, bytes: usize, on: bool) -> OsResult<()> {
        self.os.may(Call::Protect)?;
        let mode = if on { PROTECT_ON } else { 0 };
        let mut argument = raw::uffdio_writeprotect { range: range(at, bytes), mode };
        ioctl::PROTECT.call(&self.fd, &mut argument)
    }

    /// Makes missing pages raise SIGBUS when they are touched, and wakes the threads that wait for them.
    pub fn poison(&self, at: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::Poison, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_poison { range: range(at, bytes), mode: 0, updated: 0 };
        let result = ioctl::POISON.call(&self.fd, &mut argument);
        progress(result, argument.updated, bytes, refused)
    }

    /// Wakes the threads that wait for a range, so that they touch it again.
    pub fn wake(&self, at: usize, bytes: usize) -> OsResult<()> {
        self.os.may(Call::Wake)?;
        ioctl::WAKE.call(&self.fd, &mut range(at, bytes))
    }

    /// Returns the number of the descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Borrows the descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn range(at: usize, bytes: usize) -> raw::uffdio_range {
    raw::uffdio_range { start: at as u64, len: bytes as u64 }
}

/// Returns how far an ioctl got that counts bytes. On failure the count is what was done before, or a negative errno.
fn progress(result: OsResult<()>, count: i64, bytes: usize, refused: Option<Errno>) -> Progress {
    match result {
        Ok(()) => Progress { bytes, stopped: refused },
        Err(errno) => {
            let done = usize::try_from(count).unwrap_or(0).min(bytes);
            // If it got part of the way, the system says EAGAIN, whatever stopped it.
            Progress { bytes: done, stopped: Some(errno) }
        }
    }
}
