//! Failing the n-th call of a kind, for tests.

use super::{CALL_KINDS, Call, Errno, Os, Result};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the calls of each kind, and fails those that it was told to fail.
#[derive(Default)]
pub struct Faults {
    seen: [AtomicU64; CALL_KINDS],
    /// Fail from this call on (1 is the next one); 0 is never.
    from: [AtomicU64; CALL_KINDS],
    /// How many calls fail once they do; 0 is all.
    times: [AtomicU64; CALL_KINDS],
    /// What they say; 0 is ENOMEM.
    errno: [AtomicU64; CALL_KINDS],
    /// How many pages they do before, if they do pages.
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    pages: [AtomicU64; CALL_KINDS],
}

thread_local! {
    /// The faults of whatever this thread creates by [`Os::default`].
    static OF_DEFAULT: RefCell<Option<Arc<Faults>>> = const { RefCell::new(None) };
}

impl Default for Os {
    fn default() -> Self {
        Self { faults: OF_DEFAULT.with_borrow(Clone::clone) }
    }
}

/// Runs `create`, and gives these faults to what it creates by [`Os::default`]: so the C functions do.
#[cfg_attr(not(fuzzing), allow(dead_code, reason = "the fuzz targets of the C library use it"))]
pub fn given<T>(faults: &Arc<Faults>, create: impl FnOnce() -> T) -> T {
    let before = OF_DEFAULT.replace(Some(faults.clone()));
    let created = create();
    OF_DEFAULT.set(before);
    created
}

impl Faults {
    /// How many calls of this kind were made.
    pub fn seen(&self, call: Call) -> u64 {
        self.seen[call as usize].load(Relaxed)
    }

    /// Fails the `n`-th call of this kind from now on, and `times` - 1 after it; `times` 0: all after it.
    pub fn fail(&self, call: Call, n: u64, times: u64) {
        self.from[call as usize].store(self.seen(call) + n, Relaxed);
        self.times[call as usize].store(times, Relaxed);
    }

    /// What failing calls of this kind say from now on, and how many pages they do before.
    pub fn say(&self, call: Call, errno: i32, pages: u64) {
        self.errno[call as usize].store(errno as u64, Relaxed);
        self.pages[call as usize].store(pages, Relaxed);
    }

    /// Lets every call of this kind through again.
    pub fn heal(&self, call: Call) {
        self.from[call as usize].store(0, Relaxed);
    }

    pub(super) fn count(&self, call: Call) -> Result<()> {
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

    /// Bytes that a failing call of this kind does before it fails.
    #[cfg(feature = "uffd")]
    pub(super) fn part(&self, call: Call) -> usize {
        self.pages[call as usize].load(Relaxed) as usize * crate::units::PAGE
    }
}
