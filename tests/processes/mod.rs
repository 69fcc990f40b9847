//! Processes that tests start, and memory under a userfaultfd of their own, by system calls alone.

#![allow(dead_code, reason = "each test uses its own part of it")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub mod userfault;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Starts a process that runs `act`, and exits with 0, or with 101 if it panics. The caller must have only one thread.
pub fn spawn(act: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread, so the child has all that it needs.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        let failed = catch_unwind(AssertUnwindSafe(act)).is_err();
        // SAFETY: ends the child, with nothing run on the way out.
        unsafe { libc::_exit(if failed { 101 } else { 0 }) };
    }
    child
}

/// Waits until a child of this process has ended.
pub fn wait_for(child: i32) -> End {
    let mut status = 0;
    // SAFETY: waits for the child, and writes how it ended.
    let waited = unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) };
    assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
    if libc::WIFSIGNALED(status) { End::Signal(libc::WTERMSIG(status)) } else { End::Code(libc::WEXITSTATUS(status)) }
}

/// Runs `act` in a process of its own, and returns how that ended.
pub fn end_of(act: impl FnOnce()) -> End {
    wait_for(spawn(act))
}

/// Runs `act` in a process of its own, and panics if it failed there.
pub fn in_child(act: impl FnOnce()) {
    assert_eq!(end_of(act), End::Code(0), "the child failed");
}

/// Kills a process, as `kill -9` does.
pub fn kill(process: i32) {
    // SAFETY: the call takes only numbers.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

/// Returns whether a process exists, even as a zombie.
pub fn is_there(process: i32) -> bool {
    // SAFETY: the call takes only numbers; signal 0 sends nothing.
    unsafe { libc::kill(process, 0) == 0 }
}

/// Waits a moment, in a loop that polls.
pub fn a_moment() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Returns the two ends of a connection that preserves message boundaries.
pub fn pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: two numbers can be written.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, fds.as_mut_ptr()) };
    assert_eq!(made, 0);
    // SAFETY: the descriptors were just created, and nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) }
}

/// Sends a word over a connection.
pub fn send(line: &OwnedFd, word: u64) {
    // SAFETY: eight bytes can be read.
    let sent = unsafe { libc::send(line.as_raw_fd(), (&raw const word).cast(), 8, libc::MSG_NOSIGNAL) };
    assert_eq!(sent, 8, "{}", std::io::Error::last_os_error());
}

/// Receives a word; none: the other end was closed, or with `wait` false, no word has arrived.
pub fn receive(line: &OwnedFd, wait: bool) -> Option<u64> {
    let mut word = 0u64;
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: eight bytes can be written.
    let got = unsafe { libc::recv(line.as_raw_fd(), (&raw mut word).cast(), 8, flags) };
    (got == 8).then_some(word)
}

#[repr(C)]
struct Passed {
    header: libc::cmsghdr,
    fd: libc::c_int,
}

/// Calls `act` with a message that has a word and a descriptor.
fn with_message<T>(word: &mut u64, passed: &mut Passed, act: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut span = libc::iovec { iov_base: std::ptr::from_mut(word).cast(), iov_len: 8 };
    // SAFETY: a msghdr of zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut span;
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(passed).cast();
    message.msg_controllen = size_of::<Passed>() as _;
    act(&mut message)
}

fn passed(fd: RawFd) -> Passed {
    // SAFETY: a cmsghdr of zeros is valid.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + 4) as _;
    (header.cmsg_level, header.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    Passed { header, fd }
}

/// Sends a word with a descriptor.
pub fn send_fd(line: &OwnedFd, mut word: u64, fd: RawFd) {
    let sent = with_message(&mut word, &mut passed(fd), |message| {
        // SAFETY: the message and what it names live through the call.
        unsafe { libc::sendmsg(line.as_raw_fd(), message, libc::MSG_NOSIGNAL) }
    });
    assert_eq!(sent, 8, "{}", std::io::Error::last_os_error());
}

/// Receives a word with a descriptor.
pub fn receive_fd(line: &OwnedFd) -> (u64, OwnedFd) {
    let (mut word, mut passed) = (0, passed(-1));
    let got = with_message(&mut word, &mut passed, |message| {
        // SAFETY: the message and what it names live through the call.
        unsafe { libc::recvmsg(line.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) }
    });
    assert!(got == 8 && passed.fd >= 0);
    // SAFETY: the descriptor was just received, and nothing else owns it.
    (word, unsafe { OwnedFd::from_raw_fd(passed.fd) })
}

/// Memory that a test maps.
pub struct Memory {
    base: *mut u8,
    /// The number of pages.
    pub pages: usize,
}

// SAFETY: a range of addresses; tests decide who writes what.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `pages` pages: private memory, or a shared mapping of a file.
    pub fn new(pages: usize, file: Option<&OwnedFd>) -> Self {
        let (kind, fd) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the system chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, access, kind, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: base.cast(), pages }
    }

    /// Returns the address of a page.
    pub fn at(&self, page: usize) -> *mut u8 {
        assert!(page <= self.pages);
        // SAFETY: inside the mapping, or at its end.
        unsafe { self.base.add(page * PAGE) }
    }

    /// Returns the size in bytes.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// Writes every page, each with different bytes.
    pub fn fill(&self) {
        for page in 0..self.pages {
            let words = self.at(page).cast::<u64>();
            // SAFETY: a page of the test's own, aligned.
            (0..PAGE / 8).for_each(|word| unsafe { words.add(word).write_volatile(expected(page, word)) });
        }
    }

    /// Returns the first wrong word of a page; none: the page is right.
    pub fn wrong(&self, page: usize) -> Option<u64> {
        let words = self.at(page).cast::<u64>();
        // SAFETY: as above.
        let seen = (0..PAGE / 8).map(|word| (unsafe { words.add(word).read_volatile() }, expected(page, word)));
        seen.into_iter().find(|(seen, expected)| seen != expected).map(|(seen, _)| seen)
    }

    /// Reads every page back, and checks it.
    pub fn check(&self) {
        (0..self.pages).for_each(|page| assert_eq!(self.wrong(page), None, "page {page}"));
    }

    /// Returns the bytes of a page.
    pub fn copy(&self, page: usize) -> [u8; PAGE] {
        // SAFETY: a page of the test's own.
        unsafe { self.at(page).cast::<[u8; PAGE]>().read_volatile() }
    }
}

/// Returns the expected value of a word of a page. It is never 0, and half of them compress.
pub fn expected(page: usize, word: usize) -> u64 {
    let page = page as u64 + 1;
    if word.is_multiple_of(2) { page } else { (page * 512 + word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
}
