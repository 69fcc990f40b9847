//! System calls that the standard library does not offer.

use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Descriptors that one message may bring before the system drops the rest. Up to three are valid; a fourth shows that
/// there are too many.
const MOST_DESCRIPTORS: usize = 4;

/// What was received.
pub enum Received {
    /// Some bytes.
    Bytes,
    /// Nothing at the moment.
    Nothing,
    /// The end of the stream.
    End,
}

/// Room for a control message with descriptors, aligned as the system requires.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives bytes and the descriptors that come with them.
pub fn receive(stream: &UnixStream, bytes: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<Received> {
    let mut part = [0_u8; 4096];
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
    // SAFETY: zeros are a message header without anything.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic on a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE((MOST_DESCRIPTORS * size_of::<RawFd>()) as u32) } as _;
    // SAFETY: the header names memory that lives through the call.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    // SAFETY: the system filled the header in, if it received anything.
    unsafe { take_descriptors(&message, count >= 0, descriptors) };
    match usize::try_from(count) {
        Ok(0) => Ok(Received::End),
        Ok(count) => {
            bytes.extend_from_slice(&part[..count]);
            Ok(Received::Bytes)
        }
        Err(_) => match Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(Received::Nothing),
            error if error.raw_os_error() == Some(libc::EINTR) => Ok(Received::Nothing),
            error => Err(error),
        },
    }
}

/// Takes the descriptors of a message.
///
/// # Safety
/// The header is as `recvmsg` left it, and nothing owns its descriptors yet.
unsafe fn take_descriptors(message: &libc::msghdr, received: bool, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: the caller promises that the header is as `recvmsg` left it.
    let mut header = if received { unsafe { libc::CMSG_FIRSTHDR(message) } } else { std::ptr::null_mut() };
    while !header.is_null() {
        // SAFETY: the macros stay inside the control message, which the system wrote.
        unsafe {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Returns a descriptor that SIGINT and SIGTERM make readable. Call it before there is a second thread.
pub fn stop_signals() -> Result<OwnedFd> {
    // SAFETY: zeros are a set of signals, and each call takes such a set.
    let fd = unsafe {
        let mut set: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor was just created, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the process that made the connection; none if it can't be seen from here.
pub fn peer(stream: &UnixStream) -> Option<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    let at = (&raw mut peer).cast();
    // SAFETY: the buffer has this many bytes.
    let done = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, at, &raw mut bytes) };
    (done == 0 && peer.pid > 0).then_some(peer.pid)
}

/// Raises this process's limit of descriptors as far as it may. It has two for each microVM.
pub fn allow_descriptors() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls read and write the limit.
    let done = unsafe {
        match libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) {
            0 => {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            }
            failed => failed,
        }
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Waits until one of the descriptors has something to read or has ended, or the time is over. Returns which of them
/// have.
pub fn wait(descriptors: &[Option<BorrowedFd<'_>>], limit: Duration) -> Vec<bool> {
    // poll() ignores -1.
    let number = |fd: &Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
    let entry = |fd: &Option<BorrowedFd<'_>>| libc::pollfd { fd: number(fd), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = descriptors.iter().map(entry).collect();
    let milliseconds = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the array has this many entries.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    entries.iter().map(|entry| entry.revents != 0).collect()
}

/// Returns a descriptor that waits for others.
pub fn new_epoll() -> Result<OwnedFd> {
    // SAFETY: the call takes a number, and returns a new descriptor.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    // SAFETY: the descriptor was just created, and nothing else owns it.
    if fd < 0 { Err(Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

/// Waits for a descriptor as well: once for each time that there is more to read.
pub fn epoll_add(epoll: &OwnedFd, fd: BorrowedFd<'_>) -> Result<()> {
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: fd.as_raw_fd() as u64 };
    // SAFETY: the event lives through the call.
    let done = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Waits for a descriptor no more.
pub fn epoll_remove(epoll: &OwnedFd, fd: BorrowedFd<'_>) {
    let nothing = std::ptr::null_mut();
    // SAFETY: the call takes numbers. It fails only if the descriptor was not waited for.
    unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), nothing) };
}

/// Waits until a descriptor has something to read, or the time is over. Returns it. The one that was returned longest
/// ago comes first.
pub fn epoll_wait(epoll: &OwnedFd, limit: Duration) -> Option<RawFd> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: one event can be written.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, limit.as_millis() as libc::c_int) };
    (count == 1).then_some(event.u64 as RawFd)
}
