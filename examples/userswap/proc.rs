//! What the system says is resident: nothing here asks the library.

use super::{PAGE, Problem, Result};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Entries that are read at once.
const AT_ONCE: usize = 16384;
/// The bit of an entry that says that the page is in memory.
const PRESENT: u64 = 1 << 63;

/// The system's table of this process's pages, /proc/self/pagemap: eight bytes for each.
pub struct Pagemap {
    file: File,
    entries: Vec<u8>,
}

impl Pagemap {
    /// Open.
    pub fn open() -> Result<Self> {
        let file = File::open("/proc/self/pagemap");
        let file = file.map_err(|error| Problem::Refused(format!("can't open /proc/self/pagemap: {error}")))?;
        Ok(Self { file, entries: vec![0; AT_ONCE * 8] })
    }

    /// Bytes of a range that are in memory.
    pub fn resident(&mut self, at: usize, bytes: usize) -> u64 {
        let (mut page, end) = (at / PAGE, (at + bytes) / PAGE);
        let mut present = 0;
        while page < end {
            let wanted = (end - page).min(AT_ONCE) * 8;
            let read = self.file.read_at(&mut self.entries[..wanted], page as u64 * 8).unwrap_or(0) / 8;
            let entries = self.entries[..read * 8].as_chunks::<8>().0;
            present += entries.iter().filter(|entry| u64::from_ne_bytes(**entry) & PRESENT != 0).count();
            page += read.max(1);
        }
        (present * PAGE) as u64
    }
}

/// Bytes of memory that this process has to itself: all that is resident, but for pages of files, which the system can
/// have back at any time.
pub fn process() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&text, "RssAnon:") + field(&text, "RssShmem:")
}

/// Bytes of memory that the system could give now.
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
        let before = process();
        let touched = std::hint::black_box(vec![1u8; 32 << 20]);
        let at = (touched.as_ptr() as usize).next_multiple_of(PAGE);
        assert_eq!(Pagemap::open().unwrap().resident(at, 31 << 20), 31 << 20);
        assert!(process() > before + (16 << 20));
        assert_eq!(field("VmRSS:  3 kB\nRssAnon:\t    12 kB\n", "RssAnon:"), 12 * 1024);
    }
}
