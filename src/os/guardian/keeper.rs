//! Starting a guardian, asking it, and waiting for it.

use super::child;
use super::gaps::{gaps, images};
use super::wire::{Ask, Client, Gap, Home, MOST, PassedFds, Words, message};
use crate::os::blocked::Blocked;
use crate::os::descriptor::made;
use crate::os::errno::{Errno, OsResult, checked, last_errno};
use crate::os::fork_guard::ForkGuard;
use crate::os::seam::Os;
use crate::os::thread::this_process;
use crate::units::PAGE;
use memmap2::MmapOptions;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Bytes of the guardian's stack.
const STACK: usize = 64 << 10;

/// The process that holds descriptors, as the process that started it sees it.
pub struct Keeper {
    line: OwnedFd,
    /// The number of the guardian's process.
    child: libc::pid_t,
    /// Tells the process that started it from that one's children. The number of a process would not: once the process
    /// has ended, the number may be given to one of its children.
    guard: ForkGuard,
}

impl Keeper {
    /// Starts a guardian. When this process ends, the guardian kills the clients if `kills`, and otherwise only holds
    /// their descriptors.
    pub fn start(kills: bool) -> OsResult<Self> {
        let (line, theirs) = pair()?;
        let guard = Os::default().fork_guard()?;
        let owner = process(this_process())?;
        // Mapping the room and growing the list add mappings, so there is space for more gaps than there are now.
        let most = images()?.0.len() + 8;
        let bytes = (size_of::<Home>() + most * size_of::<Gap>()).next_multiple_of(PAGE) + STACK;
        // This process sets it up. The other one lives in its own copy.
        let mut room = MmapOptions::new().len(bytes).stack().map_anon()?;
        let gaps = gaps(room.as_ptr() as usize..room.as_ptr() as usize + bytes)?;
        if gaps.len() > most {
            return Err(Errno(libc::EAGAIN));
        }
        let home = room.as_mut_ptr().cast::<Home>();
        // SAFETY: the room is new, large enough for the home and what follows it, and aligned to pages.
        unsafe {
            let list = home.add(1).cast::<Gap>();
            ptr::copy_nonoverlapping(gaps.as_ptr(), list, gaps.len());
            home.write(Home {
                line: theirs.as_raw_fd(),
                owner: owner.as_raw_fd(),
                kills,
                orphaned: false,
                gaps: (list, gaps.len()),
                clients: [Client::NONE; MOST],
                polled: [libc::pollfd { fd: -1, events: 0, revents: 0 }; MOST + 2],
            });
        }
        let child = {
            // No signal handler of this process runs in the new one.
            let _signals = Blocked::new();
            // SAFETY: the new process has its own copy of the room, whose end is its stack. It sends no signal when it
            // ends, so that a program which waits for its children does not find it among them.
            unsafe { libc::clone(child::live, room.as_mut_ptr().add(bytes).cast(), 0, home.cast()) }
        };
        if child < 0 {
            return Err(last_errno());
        }
        drop(theirs);
        let keeper = Self { line, child, guard };
        // It answers when it is ready. If it is not, it is ended and waited for, so that the program finds no child.
        keeper.answer().inspect_err(|_| keeper.end())?;
        Ok(keeper)
    }

    /// Whether this is the process that started it, and not a forked child.
    pub fn is_own(&self) -> bool {
        !self.guard.in_child()
    }

    /// Returns the number of the guardian's process.
    pub fn pid(&self) -> i32 {
        self.child
    }

    /// Asks the guardian, and waits for the answer. One thread at a time may call it.
    pub fn ask(&self, ask: Ask, number: u64, fds: &[BorrowedFd<'_>]) -> OsResult<()> {
        let mut words = Words(ask as u64, number);
        let mut span = libc::iovec { iov_base: (&raw mut words).cast(), iov_len: size_of::<Words>() };
        let mut passed = PassedFds::of(fds.len());
        passed.fds.iter_mut().zip(fds).for_each(|(to, from)| *to = from.as_raw_fd());
        // The system wants the length rounded up to words, and that is the length of two descriptors.
        let mut message = message(&mut span, &mut passed, if fds.is_empty() { 0 } else { size_of::<PassedFds>() });
        if fds.is_empty() {
            message.msg_control = ptr::null_mut();
        }
        // SAFETY: the message and what it names live through the call.
        let sent = unsafe { libc::sendmsg(self.line.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(last_errno()) } else { self.answer() }
    }

    /// Waits for an answer.
    fn answer(&self) -> OsResult<()> {
        let mut words = Words::default();
        loop {
            // SAFETY: as many bytes as the words have can be written.
            let got = unsafe { libc::recv(self.line.as_raw_fd(), (&raw mut words).cast(), size_of::<Words>(), 0) };
            return match usize::try_from(got) {
                Ok(bytes) if bytes == size_of::<Words>() => match words.0 {
                    0 => Ok(()),
                    errno => Err(Errno(errno as i32)),
                },
                // The guardian has ended.
                Ok(_) => Err(Errno(libc::ESRCH)),
                Err(_) if last_errno().0 == libc::EINTR => continue,
                Err(_) => Err(last_errno()),
            };
        }
    }

    /// Kills the process, and waits until it has ended.
    fn end(&self) {
        // SAFETY: the call takes numbers only. Nobody has waited for this child, so the number is still its own.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        self.wait();
    }

    /// Waits until the process has ended.
    pub fn wait(&self) {
        loop {
            let mut status = 0;
            // SAFETY: a child of this process's own; the place lives through the call.
            let waited = unsafe { libc::waitpid(self.child, &raw mut status, libc::__WALL) };
            if waited >= 0 || last_errno().0 != libc::EINTR {
                return;
            }
        }
    }
}

/// Makes a pair of connected sockets.
fn pair() -> OsResult<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: two numbers can be written.
    checked(unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
    })?;
    // SAFETY: the descriptors are new, and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Returns a descriptor of a process. It names that process even after the number was given to another one.
pub fn process(pid: i32) -> OsResult<OwnedFd> {
    // SAFETY: the call takes numbers only, and returns a new descriptor, which is closed on exec.
    unsafe { made(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

/// Fails if this process may not send signals to that one.
pub fn may_signal(process: &OwnedFd) -> OsResult<()> {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: the call takes numbers only; signal 0 is none.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), 0, none, 0) };
    checked(sent as libc::c_int)
}
