//! What a process and its guardian send each other, and the memory that the guardian lives in.

use std::{mem, ptr};

/// The most descriptors that a guardian holds.
pub const MOST: usize = 4096;
// The sentence of `Limit::Watched` says so.
const _: () = assert!(MOST == 4096);

/// What a guardian is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Ask {
    /// Hold the descriptors that come with the question.
    Watch = 1,
    /// Let go of the client that has this number.
    Forget = 2,
    /// Let go of everything, and end.
    Dismiss = 3,
}

/// A question, or the answer to it. The first word of an answer is an errno or 0.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Words(pub u64, pub u64);

/// The control message that passes descriptors.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PassedFds {
    pub header: libc::cmsghdr,
    /// The descriptors: a userfaultfd, and the process of the client, which may be missing.
    pub fds: [libc::c_int; 2],
}

static_assertions::const_assert_eq!(size_of::<Words>(), 16);
// The descriptors follow the header at once, where the system looks for them, and there is nothing after them.
static_assertions::const_assert_eq!(mem::offset_of!(PassedFds, fds), size_of::<libc::cmsghdr>());
static_assertions::const_assert_eq!(size_of::<PassedFds>(), size_of::<libc::cmsghdr>() + 8);

impl PassedFds {
    /// Makes a control message with room for `count` descriptors.
    pub fn of(count: usize) -> Self {
        // SAFETY: a cmsghdr of zeros is valid, and some targets have padding in it.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + count * size_of::<libc::c_int>()) as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        Self { header, fds: [-1; 2] }
    }
}

/// Makes the message of the words in `span` and of the first `bytes` bytes of `passed`.
pub fn message(span: &mut libc::iovec, passed: &mut PassedFds, bytes: usize) -> libc::msghdr {
    // SAFETY: a msghdr of zeros is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = span;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(passed).cast();
    message.msg_controllen = bytes as _;
    message
}

/// A range of addresses that the guardian unmaps.
#[derive(Clone, Copy)]
pub struct Gap {
    pub at: usize,
    pub bytes: usize,
}

/// What the guardian holds for a client.
#[derive(Clone, Copy)]
pub struct Client {
    /// The userfaultfd, or -1: there is no client here.
    pub uffd: libc::c_int,
    /// The process, or -1: the guardian was not told of it.
    pub process: libc::c_int,
    /// The number that the question gave it.
    pub number: u64,
}

impl Client {
    /// A place without a client.
    pub const NONE: Self = Self { uffd: -1, process: -1, number: 0 };
}

/// All data of a guardian.
pub struct Home {
    /// The socket to the process that it guards.
    pub line: libc::c_int,
    /// The process that it guards.
    pub owner: libc::c_int,
    /// Whether it kills the clients when the owner ends.
    pub kills: bool,
    /// Whether the owner has ended.
    pub orphaned: bool,
    /// The addresses to unmap.
    pub gaps: (*const Gap, usize),
    /// The clients, at places of which some are free.
    pub clients: [Client; MOST],
    /// What to poll: the line, the owner, and the clients' processes. That of `clients[n]` is at `n + 2`.
    pub polled: [libc::pollfd; MOST + 2],
}
