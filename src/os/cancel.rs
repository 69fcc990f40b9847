//! Holding off cancellation of threads by `pthread_cancel`.

/// While this lives, the thread is not cancelled. Cancellation would unwind it in the middle of a system call here, and
/// nobody would release what it holds. It takes effect at the program's next cancellation point.
#[derive(Debug)]
pub struct Uncancelled {
    #[cfg(all(target_os = "linux", not(miri)))]
    before: libc::c_int,
}

#[cfg(all(target_os = "linux", not(miri)))]
unsafe extern "C" {
    // The crate libc does not have it for Linux.
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

#[cfg(all(target_os = "linux", not(miri)))]
const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;

#[allow(clippy::new_without_default, reason = "it is made for what it does, not for its value")]
impl Uncancelled {
    /// Holds off cancellation of this thread.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub fn new() -> Self {
        let mut before = 0;
        // SAFETY: the place lives through the call, which can't fail with this state.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self { before }
    }

    /// Does nothing on this system, which does not cancel threads.
    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub fn new() -> Self {
        Self {}
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for Uncancelled {
    fn drop(&mut self) {
        let mut ours = 0;
        // SAFETY: the state is what the call gave before.
        unsafe { pthread_setcancelstate(self.before, &raw mut ours) };
    }
}
