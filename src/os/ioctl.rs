//! The ioctls of a userfaultfd, each with the type of its argument.

use super::errno::{OsResult, checked};
use linux_raw_sys::general as raw;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};

/// An ioctl that takes a `T`, and touches no memory but the `T` and pages that are registered and missing or protected.
pub struct Ioctl<T>(u32, PhantomData<fn(T)>);

/// An ioctl that takes a `T` which names further memory, to be read or moved.
pub struct MemoryIoctl<T>(Ioctl<T>);

// The number of an ioctl has the size of its argument: the system refuses a number whose argument has another size.
static_assertions::const_assert_eq!(size_of::<raw::uffdio_copy>(), 40);
static_assertions::const_assert_eq!(size_of::<raw::uffdio_move>(), 40);
static_assertions::const_assert_eq!(size_of::<raw::uffdio_register>(), 32);
static_assertions::const_assert_eq!(size_of::<raw::uffdio_writeprotect>(), 24);

pub const API: Ioctl<raw::uffdio_api> = Ioctl::both_ways(raw::_UFFDIO_API);
pub const REGISTER: Ioctl<raw::uffdio_register> = Ioctl::both_ways(raw::_UFFDIO_REGISTER);
pub const UNREGISTER: Ioctl<raw::uffdio_range> = Ioctl::one_way(raw::_UFFDIO_UNREGISTER);
pub const WAKE: Ioctl<raw::uffdio_range> = Ioctl::one_way(raw::_UFFDIO_WAKE);
pub const COPY: MemoryIoctl<raw::uffdio_copy> = MemoryIoctl(Ioctl::both_ways(raw::_UFFDIO_COPY));
pub const ZERO: Ioctl<raw::uffdio_zeropage> = Ioctl::both_ways(raw::_UFFDIO_ZEROPAGE);
pub const MOVE: MemoryIoctl<raw::uffdio_move> = MemoryIoctl(Ioctl::both_ways(raw::_UFFDIO_MOVE));
pub const PROTECT: Ioctl<raw::uffdio_writeprotect> = Ioctl::both_ways(raw::_UFFDIO_WRITEPROTECT);
pub const POISON: Ioctl<raw::uffdio_poison> = Ioctl::both_ways(raw::_UFFDIO_POISON);
pub const CONTINUE: Ioctl<raw::uffdio_continue> = Ioctl::both_ways(raw::_UFFDIO_CONTINUE);
/// The number of the ioctl that makes a userfaultfd through /dev/userfaultfd, whose permissions decide who may.
pub const NEW: u32 = raw::UFFDIO << 8;

impl<T> Ioctl<T> {
    /// Makes an ioctl that reads and writes its argument.
    const fn both_ways(number: u32) -> Self {
        Self(3 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number, PhantomData)
    }

    /// Makes an ioctl that reads its argument. The kernel defines these with the direction "read".
    const fn one_way(number: u32) -> Self {
        Self(2 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number, PhantomData)
    }

    /// Returns the number of the ioctl.
    pub const fn number(&self) -> u32 {
        self.0
    }

    /// Makes the ioctl.
    #[inline]
    pub fn call(&self, fd: &OwnedFd, argument: &mut T) -> OsResult<()> {
        // SAFETY: the argument has the type of the ioctl, which touches no memory that Rust code relies on.
        checked(unsafe { libc::ioctl(fd.as_raw_fd(), self.0 as _, std::ptr::from_mut(argument)) })
    }
}

impl<T> MemoryIoctl<T> {
    /// Makes the ioctl.
    ///
    /// # Safety
    /// The call may read or move the memory that the argument names.
    #[inline]
    pub unsafe fn call(&self, fd: &OwnedFd, argument: &mut T) -> OsResult<()> {
        self.0.call(fd, argument)
    }
}
