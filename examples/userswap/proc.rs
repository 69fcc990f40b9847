//! Resident memory as the system counts it. Nothing here asks the library.

use super::{PAGE, Problem, Result};
use std::fs;
use std::ops::Range;

/// Returns the bytes of a range that are in memory. Takes three milliseconds per gigabyte. Pages that move meanwhile
/// may be counted twice, or not at all.
pub fn resident(range: &Range<usize>, pages: &mut Vec<u8>) -> u64 {
    pages.resize(range.len() / PAGE, 0);
    // SAFETY: a byte for each page can be written; the range is looked at, not touched.
    if unsafe { libc::mincore(range.start as *mut _, range.len(), pages.as_mut_ptr()) } != 0 {
        return 0;
    }
    pages.iter().map(|page| u64::from(page & 1)).sum::<u64>() * PAGE as u64
}

/// Private bytes of this process's mappings.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Mappings {
    /// Bytes of mappings in the given ranges.
    pub inside: u64,
    /// Bytes of all other mappings: tables, the heap, and stacks.
    pub others: u64,
}

/// Returns the private bytes of the mappings in these ranges and of all others, as the system reports them. Takes about
/// twenty milliseconds with a gigabyte in memory. Pages that move meanwhile may be counted twice, or not at all.
pub fn mappings(ranges: &[&Range<usize>]) -> Mappings {
    mappings_in(&fs::read_to_string("/proc/self/smaps").unwrap_or_default(), ranges)
}

fn mappings_in(text: &str, ranges: &[&Range<usize>]) -> Mappings {
    let (mut found, mut start) = (Mappings::default(), 0);
    for line in text.lines() {
        let first = line.split('-').next().and_then(|word| usize::from_str_radix(word, 16).ok());
        if let Some(at) = first.filter(|_| !line.contains("kB")) {
            start = at;
        } else if line.starts_with("Anonymous:") {
            let inside = ranges.iter().any(|range| range.contains(&start));
            let bytes = if inside { &mut found.inside } else { &mut found.others };
            *bytes += field(line, "Anonymous:");
        }
    }
    found
}

/// Bytes of memory that this process has to itself: all resident memory except pages of files, which the system can
/// take back at any time. Each number is of one moment.
#[derive(Clone, Copy, Default)]
pub struct Process {
    /// Private memory: region, staging range, heap and stacks.
    pub anonymous: u64,
    /// Memory files: the pool.
    pub shared: u64,
}

impl Process {
    /// Reads the current numbers.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/status");
        let text = text.map_err(|error| Problem::Refused(format!("can't read /proc/self/status: {error}")))?;
        Ok(Self { anonymous: field(&text, "RssAnon:"), shared: field(&text, "RssShmem:") })
    }
}

/// Raises this thread's priority, if this user may, so that it samples on time.
pub fn go_first() {
    // SAFETY: the call takes numbers; 0 is this thread. If it is refused, the gaps between samples are longer, which
    // the table shows.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// Returns the bytes of memory that the system could provide now.
pub fn available() -> u64 {
    field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:")
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_is_resident() {
        let before = Process::now().unwrap().anonymous;
        let touched = std::hint::black_box(vec![1u8; 32 << 20]);
        let at = (touched.as_ptr() as usize).next_multiple_of(PAGE);
        assert_eq!(resident(&(at..at + (31 << 20)), &mut Vec::new()), 31 << 20);
        assert!(mappings(&[]).others > 32 << 20);
        assert!(Process::now().unwrap().anonymous > before + (16 << 20));
        let text =
            "1000-3000 rw-p 0 00:00 0\nRss: 8 kB\nAnonymous: 4 kB\nff000-100000 rw-p 0 00:00 0 \nAnonymous: 8 kB\n";
        let found = mappings_in(text, &[&(0x1000..0x3000), &(0x3000..0x4000)]);
        assert_eq!(found, Mappings { inside: 4096, others: 8192 });
        assert_eq!(field("VmRSS:  3 kB\nRssAnon:\t    12 kB\n", "RssAnon:"), 12 * 1024);
    }
}
