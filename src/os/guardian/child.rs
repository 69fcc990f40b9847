//! What the guardian's process does: it makes system calls and works on its home, and nothing else. It allocates
//! nothing, takes no lock, and does not panic.

use super::wire::{Ask, Client, Home, PassedFds, Words, message};
use crate::os::ioctl::PROTECT;
use linux_raw_sys::general as raw;
use std::{mem, ptr};

/// How often the guardian looks whether the memory of a nameless client is still there.
const LOOK: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };

/// The result of reading the line.
enum Came {
    /// There is no message.
    Nothing,
    /// A question, with the descriptors that came with it.
    Request(Words, [libc::c_int; 2]),
    /// The other end is closed.
    End,
}

/// Runs the guardian, in a process of its own.
pub extern "C" fn live(home: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the process that started this one wrote the home, and this process has its own copy.
    let home = unsafe { &mut *home.cast::<Home>() };
    // SAFETY: the calls take numbers and strings that live, and this process has one thread.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"zs-guardian".as_ptr());
        // So that it does not keep a file system from being unmounted.
        libc::chdir(c"/".as_ptr());
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    let closed = home.close_others();
    home.unmap();
    home.reply(Words(closed, 0));
    if closed == 0 {
        home.guard();
    }
    // SAFETY: ends the process, with nothing run on the way out.
    unsafe { libc::_exit(0) }
}

impl Home {
    /// Closes every descriptor but those that it needs: a userfaultfd that was not handed over must not live on here.
    /// Returns an errno or 0.
    fn close_others(&self) -> u64 {
        let (low, high) = (self.line.min(self.owner) as u32, self.line.max(self.owner) as u32);
        let mut failed = 0;
        for (first, last) in [(0, low.wrapping_sub(1)), (low + 1, high.wrapping_sub(1)), (high + 1, u32::MAX)] {
            // There is no descriptor below 0.
            if first <= last && !(first == 0 && last == u32::MAX) {
                // SAFETY: the call takes numbers only; this process uses no descriptor that it closes.
                if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
                    failed = libc::ENOSYS as u64;
                }
            }
        }
        failed
    }

    /// Unmaps the memory that this process got a copy of and does not need.
    fn unmap(&self) {
        for place in 0..self.gaps.1 {
            // SAFETY: as many gaps were written, and this process uses nothing in them from now on.
            unsafe {
                let gap = *self.gaps.0.add(place);
                libc::syscall(libc::SYS_munmap, gap.at, gap.bytes);
            }
        }
    }

    /// Sends an answer.
    fn reply(&self, words: Words) {
        let (from, bytes) = (&raw const words, size_of::<Words>());
        // SAFETY: as many bytes as the words have can be read; the rest are numbers.
        unsafe {
            libc::syscall(libc::SYS_sendto, self.line, from, bytes, libc::MSG_NOSIGNAL, ptr::null::<u8>(), 0);
        }
    }

    /// Answers questions and watches processes until no client is left, or the guardian is dismissed.
    fn guard(&mut self) {
        loop {
            self.wait();
            let owner_ended = self.polled[1].revents != 0;
            // Questions that were asked before the owner ended still count.
            loop {
                match self.receive() {
                    Came::Nothing => break,
                    Came::Request(words, _) if words.0 == Ask::Dismiss as u64 => {
                        self.reply(Words::default());
                        return;
                    }
                    Came::Request(words, fds) => self.answer(words, fds),
                    Came::End => {
                        self.orphan();
                        break;
                    }
                }
            }
            if owner_ended {
                self.orphan();
            }
            if !self.forget_ended() && self.orphaned {
                return;
            }
        }
    }

    /// Waits for a question, or until a process ends.
    fn wait(&mut self) {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let (line, owner) = if self.orphaned { (-1, -1) } else { (self.line, self.owner) };
        self.polled[0] = entry(line);
        self.polled[1] = entry(owner);
        let (mut used, mut looks) = (0, false);
        for (place, client) in self.clients.iter().enumerate() {
            if client.uffd >= 0 {
                used = place + 1;
                looks |= self.orphaned && client.process < 0;
            }
            if let Some(polled) = self.polled.get_mut(place + 2) {
                *polled = entry(client.process);
            }
        }
        // The system writes the rest of the time here.
        let mut left = LOOK;
        let limit = if looks { &raw mut left } else { ptr::null_mut() };
        // SAFETY: `used + 2` entries can be read and written, and the time as well.
        unsafe {
            libc::syscall(libc::SYS_ppoll, self.polled.as_mut_ptr(), used + 2, limit, ptr::null::<u8>(), 0);
        }
    }

    /// Reads a question, without waiting.
    fn receive(&mut self) -> Came {
        let mut words = Words::default();
        let mut span = libc::iovec { iov_base: (&raw mut words).cast(), iov_len: size_of::<Words>() };
        let mut passed = PassedFds::of(2);
        passed.header.cmsg_len = 0;
        let mut message = message(&mut span, &mut passed, size_of::<PassedFds>());
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message and what it names live through the call, and can be written.
        let got = unsafe { libc::syscall(libc::SYS_recvmsg, self.line, &raw mut message, flags) };
        match got {
            1.. if message.msg_flags & libc::MSG_CTRUNC != 0 => {
                // This process may have no more descriptors: those that got no number are lost.
                close(&Client { uffd: passed.fds[0], process: passed.fds[1], number: 0 });
                Came::Request(words, [-1; 2])
            }
            1.. => Came::Request(words, passed.fds),
            0 => Came::End,
            // SAFETY: errno is this process's.
            _ => match unsafe { *libc::__errno_location() } {
                libc::EAGAIN | libc::EINTR => Came::Nothing,
                _ => Came::End,
            },
        }
    }

    /// Does what a question asks, and answers.
    fn answer(&mut self, words: Words, [uffd, process]: [libc::c_int; 2]) {
        let Words(ask, number) = words;
        let mut errno = 0;
        if ask == Ask::Watch as u64 {
            let client = Client { uffd, process, number };
            let places = self.clients.iter_mut().zip(self.polled.iter_mut().skip(2));
            match places.into_iter().find(|(place, _)| place.uffd < 0) {
                _ if uffd < 0 => errno = libc::EMFILE,
                Some((place, polled)) => {
                    *place = client;
                    // The result of polling is that of the client before.
                    polled.revents = 0;
                }
                None => {
                    errno = libc::ENOSPC;
                    close(&client);
                }
            }
        } else {
            errno = libc::ENOENT;
            for client in self.clients.iter_mut().filter(|client| client.uffd >= 0 && client.number == number) {
                close(client);
                *client = Client::NONE;
                errno = 0;
            }
        }
        self.reply(Words(errno as u64, number));
    }

    /// Notes that the owner has ended, and kills the clients if it should.
    fn orphan(&mut self) {
        if self.orphaned {
            return;
        }
        self.orphaned = true;
        if !self.kills {
            return;
        }
        for client in self.clients.iter().filter(|client| client.uffd >= 0 && client.process >= 0) {
            let none = ptr::null::<libc::siginfo_t>();
            // SAFETY: the call takes numbers only.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, client.process, libc::SIGKILL, none, 0) };
        }
    }

    /// Lets go of clients that have ended, but not of those that are dying, which are still there for a moment. Returns
    /// whether any client is left.
    fn forget_ended(&mut self) -> bool {
        let mut left = false;
        for (place, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.uffd >= 0) {
            let ended = match client.process {
                // A nameless client is checked only once the owner, which would say so, has ended.
                -1 => self.orphaned && memory_is_gone(client.uffd),
                _ => self.polled.get(place + 2).is_some_and(|seen| seen.revents != 0),
            };
            if ended {
                close(client);
                *client = Client::NONE;
            }
            left |= !ended;
        }
        left
    }
}

/// Closes the descriptors of a client.
fn close(client: &Client) {
    for fd in [client.uffd, client.process].into_iter().filter(|fd| *fd >= 0) {
        // SAFETY: the descriptor is this process's own, and forgotten by the caller.
        unsafe { libc::syscall(libc::SYS_close, fd) };
    }
}

/// Whether the process of a userfaultfd has ended. Tries to lift the protection of an address where no memory is
/// registered: the call is refused, and the errno tells.
fn memory_is_gone(uffd: libc::c_int) -> bool {
    /// An address where programs have no memory as a rule: far above their heap, and far below the system's mappings.
    const NOWHERE: u64 = (1 << 38) - 4096;
    let mut argument = raw::uffdio_writeprotect { range: raw::uffdio_range { start: NOWHERE, len: 4096 }, mode: 0 };
    // SAFETY: the argument has this ioctl's type. Even if there is memory, it can be read and written as before.
    let refused = unsafe { libc::syscall(libc::SYS_ioctl, uffd, PROTECT.number(), &raw mut argument) != 0 };
    // SAFETY: errno is this process's.
    refused && unsafe { *libc::__errno_location() } == libc::ESRCH
}
