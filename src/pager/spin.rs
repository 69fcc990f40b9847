//! How long a thread that has served a touch spins, which is to look for the next one, before it sleeps.
//!
//! To wake a thread takes the system 5 to 100 us, the most if its processor sleeps as well, and the program waits for
//! that at each touch. So the thread looks for about as long as being woken takes, and gives way to other threads
//! meanwhile. If that was in vain, or if others want the processor, it looks for a shorter time, and in the end only at
//! times, to find out whether it pays again.

use crate::os::event_fd::yield_processor;
use std::time::{Duration, Instant};

/// The longest that a thread looks for touches.
const MOST: Duration = Duration::from_micros(200);
/// A thread that would look for less than this sleeps at once.
const LEAST: Duration = Duration::from_micros(10);
/// How often a thread sleeps at once before it tries again.
const PAUSE: u32 = 64;
/// Another thread ran for at least this long if this one gave way and came back only then.
const BUSY: Duration = Duration::from_micros(20);

/// How long a serving thread spins, by what its last spins found.
pub struct Spin {
    /// The thread has served a touch since it looked last.
    pub has_served: bool,
    /// How long it looks the next time.
    limit: Duration,
    /// How often it slept at once.
    paused: u32,
}

impl Default for Spin {
    fn default() -> Self {
        Self { has_served: false, limit: MOST / 2, paused: 0 }
    }
}

impl Spin {
    /// Whether the thread should spin now.
    pub fn begins(&mut self) -> bool {
        if !std::mem::take(&mut self.has_served) {
            return false;
        }
        if self.limit < LEAST {
            self.paused += 1;
            if self.paused < PAUSE {
                return false;
            }
            (self.paused, self.limit) = (0, MOST / 4);
        }
        true
    }

    /// Calls `look` until it returns true, or the time is over. Returns what it returned last.
    pub fn watch(&mut self, look: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        let mut last = began;
        loop {
            if look() {
                self.limit = (self.limit * 2).min(MOST);
                return true;
            }
            let now = Instant::now();
            let others = now - last > BUSY;
            if others || now - began > self.limit {
                self.limit /= if others { 4 } else { 2 };
                return false;
            }
            last = now;
            yield_processor();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_thread_that_looks_in_vain_looks_shorter_and_then_seldom() {
        let mut spin = Spin::default();
        let looked = Cell::new(0);
        let mut looks = 0;
        for _ in 0..PAUSE * 2 {
            spin.has_served = true;
            if spin.begins() {
                looks += 1;
                assert!(!spin.watch(|| {
                    looked.set(looked.get() + 1);
                    false
                }));
            }
        }
        // 100, 50, 25 and 12 us at most, then once in so many times.
        assert!(looks <= 4 + 2 * 4, "looked {looks} times");
        assert!(looked.get() > 0 && !spin.begins(), "it has not served since");
    }

    #[test]
    fn a_thread_that_finds_touches_looks_longer() {
        let mut spin = Spin { limit: LEAST, ..Spin::default() };
        for _ in 0..5 {
            spin.has_served = true;
            assert!(spin.begins() && spin.watch(|| true));
        }
        assert_eq!(spin.limit, MOST);
    }
}
