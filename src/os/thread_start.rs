//! Starting a thread for a program that asks for one, and waiting for its end. `std::thread` ends the process when
//! malloc has no memory; here that is an error.

use super::calls::Call;
use super::errno::{Errno, OsResult};
use super::seam::Os;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

/// A thread that was started here. Its numbers stay taken until [`ThreadStarted::join`].
pub struct ThreadStarted(libc::pthread_t);

// SAFETY: it is the name of a thread, which any thread may join.
unsafe impl Send for ThreadStarted {}
// SAFETY: it is joined by value alone, and so once.
unsafe impl Sync for ThreadStarted {}

/// What the new thread does first: the work that its argument points to.
extern "C" fn begin<W: FnOnce()>(work: *mut c_void) -> *mut c_void {
    // SAFETY: `start_thread` made the pointer from a box of this type, for this thread alone.
    let work = unsafe { Box::from_raw(work.cast::<W>()) };
    work();
    ptr::null_mut()
}

impl Os {
    /// Starts a thread that does some work. The thread blocks the signals that the calling thread blocks. If the system
    /// refuses, the work is dropped.
    pub fn start_thread<W: FnOnce() + Send + 'static>(&self, work: Box<W>) -> OsResult<ThreadStarted> {
        self.may(Call::Thread)?;
        let mut thread = MaybeUninit::uninit();
        let work = Box::into_raw(work);
        // SAFETY: the place for the thread lives through the call, and `begin` takes what the last argument points to.
        let refused = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), begin::<W>, work.cast()) };
        if refused != 0 {
            // SAFETY: no thread was started, so the box is still this thread's.
            drop(unsafe { Box::from_raw(work) });
            return Err(Errno(refused));
        }
        // SAFETY: pthread_create succeeded, and has written it.
        Ok(ThreadStarted(unsafe { thread.assume_init() }))
    }
}

impl ThreadStarted {
    /// Waits until the thread has ended.
    pub fn join(self) {
        // SAFETY: the thread was started here, is not detached, and is joined once. It can't fail but in the thread
        // itself.
        unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
    }
}
