//! Blocking signals while locks are held.

use super::cancel::Uncancelled;
use std::mem::MaybeUninit;

/// Signals that a fault of the thread itself raises. If they were blocked, such a fault would end the process.
const OF_THE_THREAD_ITSELF: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

/// Returns all signals but those of faults.
pub(super) fn all_but_faults() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set, and sigdelset is given signals that exist.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        let mut set = set.assume_init();
        OF_THE_THREAD_ITSELF.iter().for_each(|&signal| _ = libc::sigdelset(&raw mut set, signal));
        set
    }
}

/// While this lives, no signal handler of the program runs in this thread, and the thread is not cancelled. A handler
/// could touch memory whose fault needs a lock that the thread holds.
pub struct Blocked {
    before: libc::sigset_t,
    _whole: Uncancelled,
}

impl Blocked {
    /// Blocks the signals.
    pub fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live through the call, which writes the second; it can't fail with these arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &all_but_faults(), before.as_mut_ptr());
            Self { before: before.assume_init(), _whole: Uncancelled::new() }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is what pthread_sigmask gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
