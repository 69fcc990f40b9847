//! The mappings of this process, as the system lists them in /proc/self/maps.
//!
//! A process may have tens of thousands of mappings. Since Linux 6.11 the system answers for a single one, by
//! PROCMAP_QUERY. On older systems the whole text is read.

use super::errno::{Errno, OsResult, checked};
use crate::units::PAGE;
use linux_raw_sys::general as raw;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

/// How many bytes at the front of a line are read: enough for the fields and the name [`HEAP`].
const LINE: usize = 96;
/// The system's name for a mapping that has a part of the program's heap.
const HEAP: &[u8] = b"[heap]";

/// A mapping, as /proc/self/maps describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapsEntry {
    /// The address at which the mapping begins.
    pub start: usize,
    /// The address at which the mapping ends.
    pub end: usize,
    /// Whether the memory may be read and written.
    pub read_write: bool,
    /// Whether the memory may be executed.
    pub executable: bool,
    /// Whether the mapping is shared.
    pub shared: bool,
    /// Whether the mapping has a part of the heap, whose end brk() moves.
    pub heap: bool,
    /// The offset of the mapping in its file.
    pub offset: u64,
    /// The file: the two numbers of its device, and that of its inode, which is 0 for private anonymous memory.
    pub file: (u32, u32, u64),
}

/// Reads a line: "start-end rwxp offset major:minor inode name".
fn parse(line: &[u8]) -> Option<MapsEntry> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = [major, minor].map(|number| u32::from_str_radix(number, 16));
    let inode = fields.next()?.parse().ok()?;
    Some(MapsEntry {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        read_write: rights.starts_with("rw"),
        executable: rights.contains('x'),
        shared: rights.contains('s'),
        heap: fields.next().is_some_and(|name| name.as_bytes() == HEAP),
        offset,
        file: (device[0].clone().ok()?, device[1].clone().ok()?, inode),
    })
}

// The number of the ioctl has the size of its argument.
static_assertions::const_assert_eq!(size_of::<raw::procmap_query>(), 104);
/// The number of PROCMAP_QUERY: `_IOWR('f', 17, struct procmap_query)` in the kernel's include/uapi/linux/fs.h.
const QUERY: u32 = 3 << 30 | (size_of::<raw::procmap_query>() as u32) << 16 | (b'f' as u32) << 8 | 17;

/// Asks for the mapping that has an address, or for the next one.
fn query(maps: &File, at: usize) -> OsResult<Option<MapsEntry>> {
    use raw::procmap_query_flags as flag;
    // SAFETY: the type consists of numbers, and all of them may be zero.
    let mut asked: raw::procmap_query = unsafe { std::mem::zeroed() };
    asked.size = size_of::<raw::procmap_query>() as u64;
    asked.query_flags = flag::PROCMAP_QUERY_COVERING_OR_NEXT_VMA as u64;
    asked.query_addr = at as u64;
    // A longer name is a file's, and is not needed.
    let mut name = [0; HEAP.len() + 1];
    asked.vma_name_addr = name.as_mut_ptr() as u64;
    asked.vma_name_size = name.len() as u32;
    let answer = loop {
        // SAFETY: the argument has this ioctl's type, and room for a name of the size that it states.
        let answer = unsafe { libc::ioctl(maps.as_raw_fd(), QUERY as _, &raw mut asked) };
        match checked(answer) {
            Err(Errno(libc::ENAMETOOLONG)) if asked.vma_name_size > 0 => asked.vma_name_size = 0,
            answer => break answer,
        }
    };
    match answer {
        Ok(()) => {}
        Err(Errno(libc::ENOENT)) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let named = &name[..(asked.vma_name_size as usize).saturating_sub(1).min(name.len())];
    let has = |flags: u64| asked.vma_flags & flags == flags;
    Ok(Some(MapsEntry {
        start: asked.vma_start as usize,
        end: asked.vma_end as usize,
        read_write: has(flag::PROCMAP_QUERY_VMA_READABLE as u64 | flag::PROCMAP_QUERY_VMA_WRITABLE as u64),
        executable: has(flag::PROCMAP_QUERY_VMA_EXECUTABLE as u64),
        shared: has(flag::PROCMAP_QUERY_VMA_SHARED as u64),
        heap: named == HEAP,
        offset: asked.vma_offset,
        file: (asked.dev_major, asked.dev_minor, asked.inode),
    }))
}

/// Calls `each` for every mapping that has a part of a range, in the order of addresses. Allocates nothing. Returns
/// false if the system does not tell.
pub fn mappings_within(start: usize, end: usize, mut each: impl FnMut(MapsEntry)) -> bool {
    let Ok(file) = File::open("/proc/self/maps") else { return false };
    let mut at = start;
    while at < end {
        match query(&file, at) {
            Ok(Some(mapped)) if mapped.start < end => {
                at = mapped.end;
                each(mapped);
            }
            Ok(_) => return true,
            // The system lacks this ioctl, or a jail forbids it.
            Err(_) if at == start => return read_mappings(file, start, end, &mut each),
            Err(_) => return false,
        }
    }
    true
}

/// Calls `each` for every mapping that has a part of a range, as [`mappings_within`] does, from the text of all
/// mappings.
pub(crate) fn read_mappings(mut maps: impl Read, start: usize, end: usize, each: &mut dyn FnMut(MapsEntry)) -> bool {
    let mut bytes = [0; 4096];
    let (mut line, mut length) = ([0; LINE], 0);
    loop {
        let Ok(count) = maps.read(&mut bytes) else { return false };
        if count == 0 {
            return true;
        }
        for &byte in &bytes[..count] {
            if byte != b'\n' {
                if length < LINE {
                    // Only a file's name has bytes beyond ASCII, and it may be cut in the middle of a letter.
                    line[length] = if byte.is_ascii() { byte } else { b'?' };
                    length += 1;
                }
                continue;
            }
            let Some(mapped) = parse(&line[..length]) else { return false };
            if mapped.start >= end {
                return true;
            }
            if mapped.end > start {
                each(mapped);
            }
            length = 0;
        }
    }
}

/// Returns where the heap begins, or 0 if the system does not tell. On older systems a mapping that ends there has the
/// heap's name as well.
pub fn heap_start() -> usize {
    let mut text = [0; 1024];
    let read = File::open("/proc/self/stat").and_then(|mut file| file.read(&mut text));
    read.ok().and_then(|length| start_of(&text[..length])).unwrap_or(0)
}

/// Finds the start of the heap in the text of /proc/self/stat. It is the 47th field. The second field is the program's
/// name in parentheses, which may contain anything.
pub(crate) fn start_of(stat: &[u8]) -> Option<usize> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(44)?.parse().ok()
}

impl MapsEntry {
    /// Whether a mapping that may be read and written grows when the page before it is touched, as the main thread's
    /// stack does (MAP_GROWSDOWN). The system shows that flag only in /proc/self/smaps, for which it walks all pages of
    /// the process. But it refuses mprotect with PROT_GROWSDOWN unless the mapping has the flag, so that is tried, with
    /// the rights that the mapping has.
    pub fn grows(&self) -> bool {
        let execute = if self.executable { libc::PROT_EXEC } else { 0 };
        let rights = libc::PROT_READ | libc::PROT_WRITE | execute;
        // SAFETY: the call changes neither the memory nor its rights.
        self.read_write && unsafe { libc::mprotect(self.start as *mut _, PAGE, rights | libc::PROT_GROWSDOWN) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_a_mapping_is() {
        let line = b"7f0000001000-7f0000003000 rw-s 00002000 00:01 1037 /memfd:region (deleted)";
        let file = (0, 1, 1037);
        let (start, end) = (0x7f00_0000_1000, 0x7f00_0000_3000);
        let (executable, heap) = (false, false);
        let mapped = MapsEntry { start, end, read_write: true, executable, shared: true, heap, offset: 0x2000, file };
        assert_eq!(parse(line), Some(mapped));
        let anonymous = parse(b"7f0000001000-7f0000003000 r--p 00000000 00:00 0").unwrap();
        assert_eq!((anonymous.read_write, anonymous.shared, anonymous.file), (false, false, (0, 0, 0)));
        let heap = parse(b"7f0000001000-7f0000003000 rwxp 00000000 00:00 0                                  [heap]");
        let heap = heap.unwrap();
        assert_eq!((heap.read_write, heap.executable, heap.shared, heap.heap), (true, true, false, true));
        assert!([&b""[..], b"7f00-", b"1-2 rw-p", b"x-2 rw-p 0 00:00 0", b"1-2 rw-p 0 00:00"].map(parse) == [None; 5]);
    }

    #[test]
    fn what_is_mapped_is_found() {
        let here = std::ptr::from_ref(&LINE) as usize;
        let mut found = Vec::new();
        assert!(mappings_within(here, here + 1, |mapped| found.push(mapped)));
        assert!(found.len() == 1 && (found[0].start..found[0].end).contains(&here) && !found[0].shared);
    }

    #[test]
    fn a_query_tells_what_the_text_says() {
        let maps = || File::open("/proc/self/maps").unwrap();
        if query(&maps(), 0) == Err(Errno(libc::ENOTTY)) {
            return crate::tests::skip::skip("a_query_tells_what_the_text_says", "the system has no PROCMAP_QUERY");
        }
        let file = crate::os::Os::default().memory_file("maps", 8 * 4096, false).unwrap();
        let shared = crate::os::Os::default().map_file(file.as_raw_fd(), 8 * 4096, 4096).unwrap();
        let private = crate::os::Os::default().reserve(1 << 20, 4096).unwrap();
        // Other threads map and unmap at other addresses.
        for base in [shared.base().as_ptr() as usize, private.base().as_ptr() as usize] {
            let (mut read, mut queried) = (Vec::new(), Vec::new());
            assert!(read_mappings(maps(), base, base + 8 * 4096, &mut |mapped| read.push(mapped)));
            assert!(mappings_within(base, base + 8 * 4096, |mapped| queried.push(mapped)));
            assert!(read == queried && !read.is_empty(), "{read:?} {queried:?}");
        }
        // All mappings: the heap, stacks, and files of all kinds.
        let (mut read, mut queried) = (None, None);
        let all = (0, usize::MAX & !(PAGE - 1));
        assert!(read_mappings(maps(), all.0, all.1, &mut |mapped| read = read.or(mapped.heap.then_some(mapped.start))));
        assert!(mappings_within(all.0, all.1, |mapped| queried = queried.or(mapped.heap.then_some(mapped.start))));
        assert_eq!(read, queried);
        assert_eq!(query(&maps(), usize::MAX - 4095), Ok(None));
    }

    #[test]
    fn the_start_of_the_heap_is_found_behind_any_name() {
        let fields = |name: &str| {
            let numbers: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
            format!("1 ({name}) {}\n", numbers.join(" "))
        };
        assert_eq!(start_of(fields("a) 1 2 (b").as_bytes()), Some(47));
        assert_eq!([&b""[..], b"1 (a) R 1", b"1 a R", b"1 (\xff) \xff"].map(start_of), [None; 4]);
        let here = std::fs::read("/proc/self/stat").unwrap();
        assert_eq!(start_of(&here), Some(heap_start()));
    }

    #[test]
    fn mappings_that_grow_are_told_apart_and_stay_as_they_are() {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        for (grows, execute) in [(false, 0), (true, 0), (false, libc::PROT_EXEC), (true, libc::PROT_EXEC)] {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if grows { libc::MAP_GROWSDOWN } else { 0 };
            // SAFETY: a new mapping at an address that the system chooses.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), 4 * PAGE, rights | execute, flags, -1, 0) };
            let find = || {
                let mut found = None;
                assert!(mappings_within(at as usize + PAGE, at as usize + 2 * PAGE, |mapped| found = Some(mapped)));
                found.unwrap()
            };
            // Twice: the look changes nothing.
            for mapped in [find(), find()] {
                assert_eq!((mapped.grows(), mapped.read_write, mapped.executable), (grows, true, execute != 0));
            }
            // SAFETY: the mapping that was just made.
            unsafe { libc::munmap(at, 4 * PAGE) };
        }
    }
}
