//! What the system reports about this process's memory. Nothing here allocates, so measuring does not change the
//! result.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Resident bytes, without memory files.
    pub resident: u64,
    /// Resident bytes in huge pages.
    pub huge: u64,
}

/// Measures the process's memory, page by page, because the running totals of some kernels lag behind.
pub fn memory() -> Memory {
    let mut text = [0; 4096];
    let text = read(c"/proc/self/smaps_rollup", &mut text);
    // Memory files are counted by their blocks, in `file_bytes`.
    let resident = field(text, "Rss:") - field(text, "Pss_Shmem:");
    Memory { resident: resident * 1024, huge: field(text, "AnonHugePages:") * 1024 }
}

/// Returns the bytes of memory that a memory file has.
pub fn file_bytes(fd: BorrowedFd<'_>) -> u64 {
    // SAFETY: all zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` may be written.
    let result = unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) };
    assert_eq!(result, 0, "fstat of a descriptor that the pool told");
    stat.st_blocks as u64 * 512
}

/// Returns the bytes of the system's reserved huge pages that are in use, and the number of such pages.
pub fn huge_pool() -> (u64, u64) {
    let mut text = [0; 8192];
    let text = read(c"/proc/meminfo", &mut text);
    let total = field(text, "HugePages_Total:");
    ((total - field(text, "HugePages_Free:")) * field(text, "Hugepagesize:") * 1024, total)
}

/// Loads the program's own code and data into memory, so that their first use does not count as growth.
pub fn bring_in_program() {
    let mut text = [0; 1 << 16];
    for line in read(c"/proc/self/maps", &mut text).lines().filter(|line| line.contains(" r") && line.contains('/')) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |(start, end)| Some((hex(start)?, hex(end)?));
        let Some((start, end)) = range.and_then(parse) else { continue };
        // SAFETY: this reads pages of the program's files, and changes nothing. A refusal does not matter.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_POPULATE_READ) };
    }
}

fn hex(digits: &str) -> Option<usize> {
    usize::from_str_radix(digits, 16).ok()
}

fn read<'a>(path: &std::ffi::CStr, buffer: &'a mut [u8]) -> &'a str {
    let path = path.to_str().expect("ASCII");
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut length = 0;
    while let Ok(more @ 1..) = file.read(&mut buffer[length..]) {
        length += more;
    }
    std::str::from_utf8(&buffer[..length]).expect("ASCII")
}

/// Returns the number after `name`; 0 on a kernel that does not report it.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
