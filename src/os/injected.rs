//! Makes the n-th call of a kind fail, for tests.

use super::calls::{CALL_KINDS, Call};
use super::errno::{Errno, OsResult};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the calls of each kind, and makes those fail that a test has chosen.
#[derive(Debug, Default)]
pub struct Faults {
    seen: [AtomicU64; CALL_KINDS],
    /// The first call to fail, counted from 1; 0: none fails.
    from: [AtomicU64; CALL_KINDS],
    /// How many calls fail from that one on; 0: all.
    times: [AtomicU64; CALL_KINDS],
    /// The errno of failing calls; 0: ENOMEM.
    errno: [AtomicU64; CALL_KINDS],
    /// How many pages a failing call does first, if the call does pages.
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    pages: [AtomicU64; CALL_KINDS],
}

thread_local! {
    /// The faults of everything that this thread creates with `Os::default`.
    static OF_DEFAULT: RefCell<Option<Arc<Faults>>> = const { RefCell::new(None) };
}

/// Returns the faults that [`given`] has set for this thread.
pub(super) fn of_this_thread() -> Option<Arc<Faults>> {
    OF_DEFAULT.with_borrow(Clone::clone)
}

/// Runs `create`, and gives these faults to all that it creates with `Os::default`, as the C functions do.
#[cfg_attr(not(fuzzing), allow(dead_code, reason = "the fuzz targets of the C library use it"))]
pub fn given<T>(faults: &Arc<Faults>, create: impl FnOnce() -> T) -> T {
    let before = OF_DEFAULT.replace(Some(faults.clone()));
    let created = create();
    OF_DEFAULT.set(before);
    created
}

impl Faults {
    /// Returns how many calls of this kind were made.
    pub fn seen(&self, call: Call) -> u64 {
        self.seen[call as usize].load(Relaxed)
    }

    /// Makes the `n`-th call of this kind from now on fail, and the `times` - 1 after it. 0 `times`: all after it.
    pub fn fail(&self, call: Call, n: u64, times: u64) {
        self.from[call as usize].store(self.seen(call) + n, Relaxed);
        self.times[call as usize].store(times, Relaxed);
    }

    /// Sets the errno of failing calls of this kind, and how many pages they do first.
    pub fn say(&self, call: Call, errno: i32, pages: u64) {
        self.errno[call as usize].store(errno as u64, Relaxed);
        self.pages[call as usize].store(pages, Relaxed);
    }

    /// Lets all calls of this kind succeed again.
    pub fn heal(&self, call: Call) {
        self.from[call as usize].store(0, Relaxed);
    }

    /// Counts a call; fails if a test has chosen it.
    pub(super) fn count(&self, call: Call) -> OsResult<()> {
        let this = self.seen[call as usize].fetch_add(1, Relaxed) + 1;
        let from = self.from[call as usize].load(Relaxed);
        let times = self.times[call as usize].load(Relaxed);
        let fails = from != 0 && this >= from && (times == 0 || this < from + times);
        match self.errno[call as usize].load(Relaxed) as i32 {
            _ if !fails => Ok(()),
            0 => Err(Errno(libc::ENOMEM)),
            errno => Err(Errno(errno)),
        }
    }

    /// Returns how many bytes a failing call of this kind does first.
    #[cfg(feature = "uffd")]
    pub(super) fn part(&self, call: Call) -> usize {
        self.pages[call as usize].load(Relaxed) as usize * crate::units::PAGE
    }
}
