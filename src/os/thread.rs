//! Numbers of processes and threads, and waiting on a word.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::time::Duration;

/// Returns the number of this process.
pub fn this_process() -> i32 {
    // SAFETY: the call takes nothing and can't fail.
    unsafe { libc::getpid() }
}

/// Returns the number of this thread. No other thread of the process has it, or ever will. The first call in a thread
/// may allocate, in a library that was loaded by dlopen. Not inlined: the compiler would look up the variable before it
/// knows whether the caller asks.
#[inline(never)]
pub fn this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    match NUMBER.get() {
        0 => {
            // Relaxed: the numbers differ, and say nothing else.
            let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            NUMBER.set(number);
            number
        }
        number => number,
    }
}

/// Sleeps on `word` while it is `expected`, for at most `limit`. It may return early for no reason. Returns whether
/// [`wake`] woke this thread, and counted it.
///
/// This is a futex with a time limit that nobody needs to wake: the sleeper looks again by itself. So the thread that
/// it waits for pays nothing, and does not even look for sleepers.
#[cfg(not(loom))]
pub fn nap(word: &std::sync::atomic::AtomicU32, expected: u32, limit: Duration) -> bool {
    let limit = libc::timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time live through the call, which reads them and writes nothing.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, &raw const limit) == 0 }
}

/// Sleeps on `word` while it is `expected`, until another thread calls [`wake`]. It may return early for no reason.
///
/// The sleep ends by itself after a while, for the case that the system refused to wake this thread.
#[cfg(all(not(loom), feature = "uffd"))]
pub fn sleep(word: &std::sync::atomic::AtomicU32, expected: u32) {
    /// So long that a thread which sleeps in vain costs nothing.
    const LONGEST: Duration = Duration::from_millis(100);
    nap(word, expected, LONGEST);
}

/// Wakes at most `threads` threads that [`nap`] or [`sleep`] on a word. Returns how many it woke.
#[cfg(any(not(loom), feature = "uffd"))]
pub fn wake(word: &std::sync::atomic::AtomicU32, threads: u32) -> u32 {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word lives through the call, which does not touch it.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, threads) };
    u32::try_from(woken).unwrap_or(0)
}
