//! What memory of this process is, as the system tells: /proc/self/maps, and the files that are mapped.
//!
//! A process may have tens of thousands of mappings. Since Linux 6.11 the system is asked for single ones of them, by
//! PROCMAP_QUERY; the whole text is read only where it does not know that.

use super::{Errno, Result, last_errno};
use linux_raw_sys::general as raw;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bytes at the front of a line that say what is asked here; the file's name comes behind them.
const LINE: usize = 96;

/// A mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether it may be read and written.
    pub read_write: bool,
    /// Whether it is shared.
    pub shared: bool,
    /// The offset in its file.
    pub offset: u64,
    /// Its file: the numbers of the device, and of the inode; the latter is 0 for private anonymous memory.
    pub file: (u32, u32, u64),
}

/// Of "start-end rwxp offset major:minor inode".
fn parse(line: &[u8]) -> Option<Mapped> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = [major, minor].map(|number| u32::from_str_radix(number, 16));
    Some(Mapped {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        read_write: rights.starts_with("rw"),
        shared: rights.contains('s'),
        offset,
        file: (device[0].clone().ok()?, device[1].clone().ok()?, fields.next()?.parse().ok()?),
    })
}

/// The number of PROCMAP_QUERY: `_IOWR('f', 17, struct procmap_query)` in the kernel's include/uapi/linux/fs.h.
const QUERY: u32 = 3 << 30 | (size_of::<raw::procmap_query>() as u32) << 16 | (b'f' as u32) << 8 | 17;

/// Asks for the mapping that an address is in, or the next one.
fn query(maps: &File, at: usize) -> Result<Option<Mapped>> {
    use raw::procmap_query_flags as flag;
    // SAFETY: numbers alone, all of which may be zero.
    let mut asked: raw::procmap_query = unsafe { std::mem::zeroed() };
    asked.size = size_of::<raw::procmap_query>() as u64;
    asked.query_flags = flag::PROCMAP_QUERY_COVERING_OR_NEXT_VMA as u64;
    asked.query_addr = at as u64;
    // SAFETY: the argument is what this ioctl takes, and asks for no name.
    let answer = unsafe { libc::ioctl(maps.as_raw_fd(), QUERY as _, &raw mut asked) };
    match if answer == 0 { Ok(()) } else { Err(last_errno()) } {
        Ok(()) => {}
        Err(Errno(libc::ENOENT)) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let has = |flags: u64| asked.vma_flags & flags == flags;
    Ok(Some(Mapped {
        start: asked.vma_start as usize,
        end: asked.vma_end as usize,
        read_write: has(flag::PROCMAP_QUERY_VMA_READABLE as u64 | flag::PROCMAP_QUERY_VMA_WRITABLE as u64),
        shared: has(flag::PROCMAP_QUERY_VMA_SHARED as u64),
        offset: asked.vma_offset,
        file: (asked.dev_major, asked.dev_minor, asked.inode),
    }))
}

/// Tells of each mapping that has a part of a range, by rising addresses. Allocates nothing. False: the system does not
/// say.
pub fn mappings_within(start: usize, end: usize, mut each: impl FnMut(Mapped)) -> bool {
    let Ok(file) = File::open("/proc/self/maps") else { return false };
    let mut at = start;
    while at < end {
        match query(&file, at) {
            Ok(Some(mapped)) if mapped.start < end => {
                at = mapped.end;
                each(mapped);
            }
            Ok(_) => return true,
            // The system does not know the question, or a jail forbids it.
            Err(_) if at == start => return read_mappings(file, start, end, &mut each),
            Err(_) => return false,
        }
    }
    true
}

/// The same from `maps`, which reads as the text of all mappings does.
pub(crate) fn read_mappings(mut maps: impl Read, start: usize, end: usize, each: &mut dyn FnMut(Mapped)) -> bool {
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
                    // What is beyond ASCII is a file's name, and may be cut in the middle of a letter.
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

/// What a file is that is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileKind {
    /// Its device's numbers, and its inode's.
    pub file: (u32, u32, u64),
    /// Its length.
    pub bytes: u64,
    /// Whether the descriptor may be read and written.
    pub read_write: bool,
    /// Whether it is memory, of ordinary pages.
    pub memory: bool,
    /// Whether it is sealed from writes, and from holes.
    pub sealed: bool,
}

/// What a file is.
pub fn kind_of(file: &OwnedFd) -> Result<FileKind> {
    /// From the kernel's include/uapi/linux/magic.h.
    const TMPFS: u64 = 0x0102_1994;
    let fd: RawFd = file.as_raw_fd();
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let mut system = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: both can be written.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) != 0 || libc::fstatfs(fd, system.as_mut_ptr()) != 0 } {
        return Err(last_errno());
    }
    // SAFETY: both calls succeeded, and wrote them.
    let (stat, system) = unsafe { (stat.assume_init(), system.assume_init()) };
    // SAFETY: these calls take numbers only. A file that can't be sealed refuses the second.
    let (flags, seals) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::fcntl(fd, libc::F_GET_SEALS)) };
    if flags < 0 {
        return Err(last_errno());
    }
    let number = |value: i64| u64::try_from(value).map_err(|_| Errno(libc::EINVAL));
    Ok(FileKind {
        file: (libc::major(stat.st_dev), libc::minor(stat.st_dev), stat.st_ino),
        bytes: number(stat.st_size)?,
        read_write: flags & libc::O_ACCMODE == libc::O_RDWR,
        memory: u64::try_from(system.f_type) == Ok(TMPFS),
        sealed: seals > 0 && seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_a_mapping_is() {
        let line = b"7f0000001000-7f0000003000 rw-s 00002000 00:01 1037 /memfd:region (deleted)";
        let file = (0, 1, 1037);
        let (start, end) = (0x7f00_0000_1000, 0x7f00_0000_3000);
        let mapped = Mapped { start, end, read_write: true, shared: true, offset: 0x2000, file };
        assert_eq!(parse(line), Some(mapped));
        let anonymous = parse(b"7f0000001000-7f0000003000 r--p 00000000 00:00 0").unwrap();
        assert_eq!((anonymous.read_write, anonymous.shared, anonymous.file), (false, false, (0, 0, 0)));
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
        assert_eq!(query(&maps(), usize::MAX - 4095), Ok(None));
    }
}
