//! The processors that this process may use, and how busy they are.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::mem;

/// Processors, in the order in which threads get them.
pub struct Machine {
    processors: Vec<usize>,
    cores: usize,
}

/// Returns the lowest number of the processors that share this one's core, or its own number where the system does not
/// report that.
fn core_of(processor: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
    let siblings = fs::read_to_string(path).unwrap_or_default();
    let first = siblings.split(|c: char| !c.is_ascii_digit()).next();
    first.and_then(|digits| digits.parse().ok()).unwrap_or(processor)
}

impl Machine {
    /// Finds the processors that this process may use.
    pub fn new() -> Self {
        // SAFETY: all zero is a valid `cpu_set_t`.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is writable, and has the size that is passed.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
        assert_eq!(result, 0, "sched_getaffinity failed");
        // SAFETY: the number is below the size of the set.
        let allowed = (0..libc::CPU_SETSIZE as usize).filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) });
        let mut cores = Vec::new();
        let mut ranked = Vec::new();
        for processor in allowed {
            let core = core_of(processor);
            ranked.push((cores.iter().filter(|&&other| other == core).count(), processor));
            cores.push(core);
        }
        ranked.sort_unstable();
        cores.sort_unstable();
        cores.dedup();
        Self { processors: ranked.into_iter().map(|(_, processor)| processor).collect(), cores: cores.len() }
    }

    /// Returns the number of processors.
    pub fn processors(&self) -> usize {
        self.processors.len()
    }

    /// Returns whether each of `threads` threads can have a processor of its own.
    pub fn has_one_for_each(&self, threads: usize) -> bool {
        threads <= self.processors.len()
    }

    /// Pins the calling thread to one of the processors, counted from 0.
    pub fn pin(&self, at: usize) {
        // SAFETY: all zero is a valid `cpu_set_t`.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the processor came out of a set of this size.
        unsafe { libc::CPU_SET(self.processors[at], &mut set) };
        // SAFETY: `set` has the size that is passed. A refusal leaves the thread where it is.
        unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    }
}

impl Display for Machine {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{} processors on {} cores", self.processors.len(), self.cores)
    }
}

/// Returns the load averages of the last 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}
