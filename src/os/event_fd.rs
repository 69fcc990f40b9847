//! Waking threads that poll a userfaultfd, and threads that wait on a word.

use super::calls::Call;
use super::descriptor::made;
use super::errno::OsResult;
use super::seam::Os;
use super::userfault::Userfault;
use std::os::fd::{AsRawFd, OwnedFd};

/// An eventfd that wakes threads which poll a userfaultfd.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Makes one that is not signalled.
    pub fn new(os: &Os) -> OsResult<Self> {
        os.may(Call::Userfault)?;
        // SAFETY: the call takes numbers only, and returns a new descriptor.
        Ok(Self(unsafe { made(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?))
    }

    /// Wakes the threads that poll it, and those that are about to.
    pub fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight bytes can be read. The write fails only after some 2^64 signals without a clear.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Takes the signals away. Returns whether there were any.
    pub fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight bytes can be written.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) > 0 }
    }
}

/// Waits until a userfaultfd has something to read, the eventfd is signalled, or the time is over. Returns whether it
/// was signalled.
pub fn wait(uffd: &Userfault, event_fd: &EventFd, limit: std::time::Duration) -> bool {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [entry(uffd.fd()), entry(event_fd.0.as_raw_fd())];
    let milliseconds = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: as many entries as the array has can be read and written.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
    ready > 0 && fds[1].revents != 0
}

/// Lets other threads have the processor. Returns at once if none waits for it.
pub fn yield_processor() {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::sched_yield() };
}

/// Wakes all threads that [`nap`](super::thread::nap) on a word.
pub fn wake_nappers(word: &std::sync::atomic::AtomicU32) {
    super::thread::wake(word, u32::MAX >> 1);
}
