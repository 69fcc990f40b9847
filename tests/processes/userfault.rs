//! A userfaultfd by system calls alone, and a small pager of another process's memory file.

use super::{Memory, PAGE};
use linux_raw_sys::general as raw;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use zsalloc::{Area, AreaOptions, LoadFlags, Patience, Zswap, ZswapOptions};

const fn ioctl<T>(direction: u64, number: u32) -> u64 {
    direction << 30 | (size_of::<T>() as u64) << 16 | (raw::UFFDIO as u64) << 8 | number as u64
}

/// Calls an ioctl. Returns its errno if it fails.
fn control<T>(fd: &OwnedFd, number: u64, mut argument: T) -> Result<T, i32> {
    // SAFETY: the argument is what this ioctl takes, and what it names is the test's.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, &raw mut argument) };
    if done == 0 { Ok(argument) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

/// Opens a userfaultfd that serves faults of system calls too; returns the errno if this process may not.
pub fn open() -> Result<OwnedFd, i32> {
    // SAFETY: the call takes only numbers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) } as libc::c_int;
    if fd < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    // SAFETY: the descriptor was just created, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let api = raw::uffdio_api { api: raw::UFFD_API.into(), features: 0, ioctls: 0 };
    control(&fd, ioctl::<raw::uffdio_api>(3, raw::_UFFDIO_API), api)?;
    Ok(fd)
}

/// Registers memory: a thread that touches a missing page waits.
pub fn register(fd: &OwnedFd, memory: &Memory) {
    register_as(fd, memory, raw::UFFDIO_REGISTER_MODE_MISSING);
}

/// Registers memory: a thread that touches a missing page, or writes a protected one, waits.
#[allow(dead_code, reason = "each test file uses a part of it")]
pub fn register_for_writes(fd: &OwnedFd, memory: &Memory) {
    register_as(fd, memory, raw::UFFDIO_REGISTER_MODE_MISSING | raw::UFFDIO_REGISTER_MODE_WP);
}

fn register_as(fd: &OwnedFd, memory: &Memory, mode: u32) {
    let range = raw::uffdio_range { start: memory.at(0) as u64, len: memory.bytes() as u64 };
    let argument = raw::uffdio_register { range, mode: mode.into(), ioctls: 0 };
    control(fd, ioctl::<raw::uffdio_register>(3, raw::_UFFDIO_REGISTER), argument).unwrap();
}

/// A pager for the memory of one other process, which only reads it.
pub struct SmallPager {
    zswap: Area,
    _zswap: Zswap,
    file: File,
    mapped: Memory,
    uffd: OwnedFd,
    client_at: u64,
    /// Which pages are in zswap.
    has: Vec<bool>,
    /// The next page to evict.
    hand: usize,
}

impl SmallPager {
    /// Creates a pager of a memory file of `pages` pages, which the client has mapped at `client_at` under this
    /// userfaultfd.
    pub fn new(file: OwnedFd, pages: usize, uffd: OwnedFd, client_at: u64) -> Self {
        let zswap = Zswap::new("small", &ZswapOptions::default()).unwrap();
        let area = zswap.add_area(pages as u64, &AreaOptions::default()).unwrap();
        let mapped = Memory::new(pages, Some(&file));
        Self {
            zswap: area,
            _zswap: zswap,
            file: file.into(),
            mapped,
            uffd,
            client_at,
            has: vec![false; pages],
            hand: 0,
        }
    }

    /// Returns the userfaultfd.
    pub fn uffd(&self) -> &OwnedFd {
        &self.uffd
    }

    /// Evicts `pages` pages, going round.
    pub fn evict(&mut self, pages: usize) {
        for _ in 0..pages {
            let page = self.hand % self.mapped.pages;
            self.hand += 1;
            if self.has[page] {
                continue;
            }
            // No process writes the pages, so the copy is still right when the hole is punched.
            self.zswap.store(page as u64, &self.mapped.copy(page)).unwrap();
            self.has[page] = true;
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: the call takes only numbers.
            let gone = unsafe {
                libc::fallocate(self.file.as_raw_fd(), mode, (page * PAGE) as libc::off_t, PAGE as libc::off_t)
            };
            assert_eq!(gone, 0);
        }
    }

    /// Waits up to `milliseconds` for a touch, and serves it. Returns whether there was one.
    pub fn serve(&mut self, milliseconds: i32) -> bool {
        let mut polled = libc::pollfd { fd: self.uffd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry can be read and written.
        if unsafe { libc::poll(&raw mut polled, 1, milliseconds) } <= 0 {
            return false;
        }
        // SAFETY: a message of zeros is valid.
        let mut message: raw::uffd_msg = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer has this many bytes.
        let got = unsafe { libc::read(self.uffd.as_raw_fd(), (&raw mut message).cast(), size_of::<raw::uffd_msg>()) };
        assert_eq!((got as usize, u32::from(message.event)), (size_of::<raw::uffd_msg>(), raw::UFFD_EVENT_PAGEFAULT));
        // SAFETY: the event says that this field holds.
        let at = unsafe { message.arg.pagefault.address } & !(PAGE as u64 - 1);
        self.bring(((at - self.client_at) / PAGE as u64) as usize);
        true
    }

    fn bring(&mut self, page: usize) {
        let mut bytes = [0; PAGE];
        self.zswap.load(page as u64, &mut bytes, LoadFlags::KEEP).unwrap();
        let dst = self.client_at + (page * PAGE) as u64;
        let argument = raw::uffdio_copy { dst, src: bytes.as_ptr() as u64, len: PAGE as u64, mode: 0, copy: 0 };
        control(&self.uffd, ioctl::<raw::uffdio_copy>(3, raw::_UFFDIO_COPY), argument).unwrap();
        self.zswap.invalidate(page as u64, 1, Patience::Wait).unwrap();
        self.has[page] = false;
    }

    /// Brings all pages back, and unregisters the client's memory.
    pub fn let_go(&mut self) {
        for page in 0..self.mapped.pages {
            if self.has[page] {
                self.bring(page);
            }
        }
        let range = raw::uffdio_range { start: self.client_at, len: self.mapped.bytes() as u64 };
        control(&self.uffd, ioctl::<raw::uffdio_range>(2, raw::_UFFDIO_UNREGISTER), range).unwrap();
    }
}
