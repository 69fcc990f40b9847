//! A userfaultfd: the ranges under it, what became of them, and how pages are put in place.
//!
//! The kernel's `Documentation/admin-guide/mm/userfaultfd.rst` and the manual pages userfaultfd(2) and
//! ioctl_userfaultfd(2) say what each call does.

pub use super::messages::{Event, Message, Unknown, Why};

use super::messages::{AT_ONCE, FLAG};
use super::{Call, Errno, Os, Result, Span, last_errno};
use linux_raw_sys::general as raw;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU8;

/// What a userfaultfd can be asked to do, and what systems may lack.
pub mod feature {
    use linux_raw_sys::general as raw;
    /// Events for pages that their owner gives back.
    pub const EVENT_REMOVE: u64 = raw::UFFD_FEATURE_EVENT_REMOVE as u64;
    /// Events for ranges that move.
    pub const EVENT_REMAP: u64 = raw::UFFD_FEATURE_EVENT_REMAP as u64;
    /// Events for ranges that are unmapped.
    pub const EVENT_UNMAP: u64 = raw::UFFD_FEATURE_EVENT_UNMAP as u64;
    /// Faults become signals of the thread that touches.
    pub const SIGBUS: u64 = raw::UFFD_FEATURE_SIGBUS as u64;
    /// Faults for pages of a memory file that are in the file and not mapped.
    pub const MINOR_SHMEM: u64 = raw::UFFD_FEATURE_MINOR_SHMEM as u64;
    /// Ranges of memory files.
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

/// Which faults of a range a userfaultfd is told of, beside those of missing pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faulting {
    /// Writes to pages that were protected.
    pub protected: bool,
    /// Touches of pages that a memory file has and the range does not map.
    pub unmapped: bool,
}

/// How far a call came that does several pages: what it did is done even if it failed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes done, from the front on.
    pub bytes: usize,
    /// Why it went no further.
    pub stopped: Option<Errno>,
}

/// The number of an ioctl that reads and writes its argument.
const fn both_ways<T>(number: u32) -> u32 {
    3 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number
}

/// The number of an ioctl that tells the system its argument: the "read" direction, as these are defined.
const fn one_way<T>(number: u32) -> u32 {
    2 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number
}

const API: u32 = both_ways::<raw::uffdio_api>(raw::_UFFDIO_API);
const REGISTER: u32 = both_ways::<raw::uffdio_register>(raw::_UFFDIO_REGISTER);
const UNREGISTER: u32 = one_way::<raw::uffdio_range>(raw::_UFFDIO_UNREGISTER);
const WAKE: u32 = one_way::<raw::uffdio_range>(raw::_UFFDIO_WAKE);
const COPY: u32 = both_ways::<raw::uffdio_copy>(raw::_UFFDIO_COPY);
const ZERO: u32 = both_ways::<raw::uffdio_zeropage>(raw::_UFFDIO_ZEROPAGE);
const MOVE: u32 = both_ways::<raw::uffdio_move>(raw::_UFFDIO_MOVE);
pub(super) const PROTECT: u32 = both_ways::<raw::uffdio_writeprotect>(raw::_UFFDIO_WRITEPROTECT);
const POISON: u32 = both_ways::<raw::uffdio_poison>(raw::_UFFDIO_POISON);
const CONTINUE: u32 = both_ways::<raw::uffdio_continue>(raw::_UFFDIO_CONTINUE);
/// Makes a userfaultfd by way of /dev/userfaultfd, whose permissions decide who may.
const NEW: u32 = raw::UFFDIO << 8;
/// The one mode bit of UFFDIO_CONTINUE that protects the pages it maps. Since Linux 6.4.
const CONTINUE_PROTECTED: u64 = 2;
/// The one mode bit of UFFDIO_WRITEPROTECT that protects.
const PROTECT_ON: u64 = 1;

/// A userfaultfd, closed when dropped. Every method may be called from any thread and from a signal handler.
pub struct Userfault {
    fd: OwnedFd,
    features: u64,
    /// How it is read.
    pub(super) reads: AtomicU8,
    pub(super) os: Os,
}

impl Userfault {
    /// Makes one with these features. `user_only`: faults of system calls are refused with EFAULT, which needs no
    /// privileges.
    ///
    /// # Errors
    /// EPERM without the right to, EINVAL if the system lacks a feature, ENOSYS if it has no userfaultfd at all.
    pub fn new(os: &Os, features: u64, user_only: bool) -> Result<Self> {
        os.may(Call::Userfault)?;
        let fd = Self::open(user_only)?;
        let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 };
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&fd, API, &mut api) }?;
        Ok(Self { fd, features, reads: AtomicU8::new(FLAG), os: os.clone() })
    }

    /// One that another process made, and made its agreements with the system for. Reads of it don't wait from now on,
    /// in that process neither; if that process changes this, they still don't wait here.
    pub fn received(os: &Os, fd: OwnedFd) -> Result<Self> {
        let received = Self { fd, features: 0, reads: AtomicU8::new(AT_ONCE), os: os.clone() };
        received.set_flag()?;
        Ok(received)
    }

    /// What the system has.
    pub fn features_of_the_system(os: &Os, user_only: bool) -> Result<u64> {
        os.may(Call::Userfault)?;
        let fd = Self::open(user_only)?;
        let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features: 0, ioctls: 0 };
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&fd, API, &mut api) }?;
        Ok(api.features)
    }

    fn open(user_only: bool) -> Result<OwnedFd> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let only = if user_only { raw::UFFD_USER_MODE_ONLY as libc::c_int } else { 0 };
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags | only) } as libc::c_int;
        if fd >= 0 {
            // SAFETY: a descriptor that was just made, and is owned by nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let refused = last_errno();
        // Kernels before 5.11 have no such flag, and let anybody make one unless they are told otherwise.
        match if refused.0 == libc::EINVAL && user_only { Self::open(false) } else { Self::open_device(flags) } {
            Ok(fd) => Ok(fd),
            Err(_) => Err(refused),
        }
    }

    fn open_device(flags: libc::c_int) -> Result<OwnedFd> {
        // To read is enough, and may be all that is allowed.
        // SAFETY: the path is a C string.
        let device = unsafe { libc::open(c"/dev/userfaultfd".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if device < 0 {
            return Err(last_errno());
        }
        // SAFETY: a descriptor that was just made, and is owned by nobody else.
        let device = unsafe { OwnedFd::from_raw_fd(device) };
        // SAFETY: this ioctl takes a number.
        let fd = unsafe { libc::ioctl(device.as_raw_fd(), NEW as _, flags) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: as above.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Whether it was made with a feature.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    /// How many of so many bytes a call may do, and why no more.
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

    /// Puts a range under it: its missing pages, and what else `faults` says.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the system took the range, but would refuse what it takes to serve its faults.
    pub fn register(&self, at: usize, bytes: usize, faults: Faulting) -> Result<()> {
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
        // SAFETY: the argument is what this ioctl takes; no memory changes.
        unsafe { control(&self.fd, REGISTER, &mut argument) }?;
        // The system tells which calls it takes for this range.
        if argument.ioctls & needed == needed {
            return Ok(());
        }
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&self.fd, UNREGISTER, &mut range(at, bytes)) }?;
        Err(Errno(libc::EOPNOTSUPP))
    }

    /// Takes a range from it. Missing pages there read as zero from now on.
    pub fn unregister(&self, at: usize, bytes: usize) -> Result<()> {
        self.os.may(Call::Unregister)?;
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&self.fd, UNREGISTER, &mut range(at, bytes)) }
    }

    /// Copies whole pages from `from` to where they are missing, protected from writes if asked, and wakes who waits.
    ///
    /// # Safety
    /// `bytes` bytes can be read at `from`. The missing pages are the caller's to fill.
    #[inline]
    pub unsafe fn copy(&self, to: usize, from: *const u8, bytes: usize, protect: bool) -> Progress {
        let (bytes, refused) = self.may_do(Call::CopyIn, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mode = if protect { raw::UFFDIO_COPY_MODE_WP } else { 0 };
        let mut argument =
            raw::uffdio_copy { dst: to as u64, src: from as u64, len: bytes as u64, mode: mode.into(), copy: 0 };
        // SAFETY: the argument is what this ioctl takes; the caller vouches for the memory.
        let result = unsafe { control(&self.fd, COPY, &mut argument) };
        progress(result, argument.copy, bytes, refused)
    }

    /// Puts zeros where pages are missing, and wakes who waits.
    #[inline]
    pub fn zero(&self, at: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::ZeroIn, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_zeropage { range: range(at, bytes), mode: 0, zeropage: 0 };
        // SAFETY: the argument is what this ioctl takes.
        let result = unsafe { control(&self.fd, ZERO, &mut argument) };
        progress(result, argument.zeropage, bytes, refused)
    }

    /// Moves whole pages of private memory from `from` to `to`, where they are missing and which is under this
    /// userfaultfd; they are missing at `from` from then on.
    ///
    /// # Safety
    /// The pages at `from` are the caller's to move.
    #[inline]
    pub unsafe fn move_pages(&self, to: usize, from: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::Move, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_move { dst: to as u64, src: from as u64, len: bytes as u64, mode: 0, move_: 0 };
        // SAFETY: the argument is what this ioctl takes; the caller vouches for the memory.
        let result = unsafe { control(&self.fd, MOVE, &mut argument) };
        progress(result, argument.move_, bytes, refused)
    }

    /// Maps pages that a memory file has and this range does not map, protected from writes if asked, and wakes who
    /// waits. It stops with `EFAULT` at a page that the file does not have, and with `EEXIST` at one that is mapped.
    #[inline]
    pub fn continue_pages(&self, at: usize, bytes: usize, protect: bool) -> Progress {
        let (bytes, refused) = self.may_do(Call::Continue, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mode = if protect { CONTINUE_PROTECTED } else { 0 };
        let mut argument = raw::uffdio_continue { range: range(at, bytes), mode, mapped: 0 };
        // SAFETY: the argument is what this ioctl takes.
        let result = unsafe { control(&self.fd, CONTINUE, &mut argument) };
        progress(result, argument.mapped, bytes, refused)
    }

    /// Protects a range from writes, or no more, which wakes who waits.
    pub fn protect(&self, at: usize, bytes: usize, on: bool) -> Result<()> {
        self.os.may(Call::Protect)?;
        let mode = if on { PROTECT_ON } else { 0 };
        let mut argument = raw::uffdio_writeprotect { range: range(at, bytes), mode };
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&self.fd, PROTECT, &mut argument) }
    }

    /// Makes a missing page fail with SIGBUS for whoever touches it, and wakes who waits.
    pub fn poison(&self, at: usize, bytes: usize) -> Progress {
        let (bytes, refused) = self.may_do(Call::Poison, bytes);
        if refused.is_some() && bytes == 0 {
            return Progress { bytes, stopped: refused };
        }
        let mut argument = raw::uffdio_poison { range: range(at, bytes), mode: 0, updated: 0 };
        // SAFETY: the argument is what this ioctl takes.
        let result = unsafe { control(&self.fd, POISON, &mut argument) };
        progress(result, argument.updated, bytes, refused)
    }

    /// Lets the threads that wait for a range look again.
    pub fn wake(&self, at: usize, bytes: usize) -> Result<()> {
        self.os.may(Call::Wake)?;
        // SAFETY: the argument is what this ioctl takes.
        unsafe { control(&self.fd, WAKE, &mut range(at, bytes)) }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The descriptor, for as long as this lives.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn range(at: usize, bytes: usize) -> raw::uffdio_range {
    raw::uffdio_range { start: at as u64, len: bytes as u64 }
}

/// What an ioctl that counts did: on failure its count may be what was done before, or a negative errno.
fn progress(result: Result<()>, count: i64, bytes: usize, refused: Option<Errno>) -> Progress {
    match result {
        Ok(()) => Progress { bytes, stopped: refused },
        Err(errno) => {
            let done = usize::try_from(count).unwrap_or(0).min(bytes);
            // Part of it went: the system says EAGAIN, whatever stopped it.
            Progress { bytes: done, stopped: Some(errno) }
        }
    }
}

/// # Safety
/// `argument` is what the ioctl of this number takes, and the caller vouches for what it does.
#[inline]
unsafe fn control<T>(fd: &OwnedFd, number: u32, argument: &mut T) -> Result<()> {
    // SAFETY: the caller vouches.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Something to wake pollers by.
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that was not rung.
    pub fn new(os: &Os) -> Result<Self> {
        os.may(Call::Userfault)?;
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: a descriptor that was just made, and is owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes who waits, or will.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes can be read. It can only fail because it has rung very often, and nobody listened.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Silences it; whether it had rung.
    pub fn silence(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight bytes can be written.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) > 0 }
    }
}

/// Waits until there is something to read from a userfaultfd, or the bell rings, or the time is over.
pub fn wait(uffd: &Userfault, bell: &Bell, limit: std::time::Duration) {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [entry(uffd.fd()), entry(bell.0.as_raw_fd())];
    let milliseconds = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: so many entries can be read and written.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
}

/// Wakes all threads that [`super::nap`] on a word.
pub fn wake_nappers(word: &std::sync::atomic::AtomicU32) {
    super::wake(word, u32::MAX >> 1);
}

impl Os {
    /// Which pages of a range are in memory: a byte for each, whose lowest bit says so.
    pub fn in_memory(&self, at: usize, pages: &mut [u8]) -> Result<()> {
        self.may(Call::Advise)?;
        // SAFETY: a byte for each page can be written.
        let asked = unsafe { libc::mincore(at as *mut _, pages.len() * crate::units::PAGE, pages.as_mut_ptr()) };
        super::checked(asked)
    }

    /// Reads memory of this process that its owner may unmap meanwhile: it stops there, then, and no signal comes.
    /// Returns how many bytes it read.
    ///
    /// # Safety
    /// As many bytes as the spans have can be written at `to`.
    pub unsafe fn read_memory(&self, spans: &[Span], to: *mut u8) -> Result<usize> {
        if spans.is_empty() {
            return Ok(0);
        }
        self.may(Call::Read)?;
        let bytes = spans.iter().map(|span| span.parts().1).sum();
        let local = libc::iovec { iov_base: to.cast(), iov_len: bytes };
        let count = spans.len() as libc::c_ulong;
        // SAFETY: a span is an iovec, and so many can be read; the caller vouches for `to`; the rest the system checks.
        let done =
            unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, spans.as_ptr().cast(), count, 0) };
        usize::try_from(done).map_err(|_| last_errno())
    }

    /// Makes a hole in a memory file, wherever it is mapped.
    pub fn punch(&self, fd: &OwnedFd, offset: u64, bytes: usize) -> Result<()> {
        self.may(Call::Punch)?;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a call on numbers.
        super::checked(unsafe { libc::fallocate(fd.as_raw_fd(), mode, offset as libc::off_t, bytes as libc::off_t) })
    }
}
