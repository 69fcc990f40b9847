//! Which addresses a guardian unmaps: all but those of its own memory and of the programs' files that it runs in.

use super::wire::Gap;
use crate::os::errno::{Errno, OsResult};
use crate::units::PAGE;
use std::fs::File;
use std::io::Read;
use std::ops::Range;

/// How many bytes one read takes.
const AT_ONCE: usize = 4096;
/// What is kept on both sides of the memory that the C library has for a thread.
const AROUND: usize = 32 << 10;

/// Returns all addresses but those that the guardian needs: its home, the programs' files, and the memory that the C
/// library has for the thread that it was forked from, where errno is.
pub fn gaps(home: Range<usize>) -> OsResult<Vec<Gap>> {
    let (mut kept, end) = images()?;
    // SAFETY: the calls return addresses of this thread's own.
    let threads = unsafe { [libc::__errno_location() as usize, libc::pthread_self() as usize] };
    let around = |at: usize| (at - AROUND) & !(PAGE - 1)..(at + AROUND).next_multiple_of(PAGE);
    threads.into_iter().try_for_each(|at| push(&mut kept, around(at)))?;
    push(&mut kept, home)?;
    kept.sort_unstable_by_key(|range| range.start);
    let (mut gaps, mut at) = (Vec::new(), 0);
    for range in kept {
        if range.start > at {
            push(&mut gaps, Gap { at, bytes: range.start - at })?;
        }
        at = at.max(range.end);
    }
    if end > at {
        push(&mut gaps, Gap { at, bytes: end - at })?;
    }
    Ok(gaps)
}

/// Adds an element to a vector. Unlike `Vec::push`, a lack of memory is an error.
fn push<T>(elements: &mut Vec<T>, element: T) -> OsResult<()> {
    elements.try_reserve(1).map_err(|_| Errno(libc::ENOMEM))?;
    elements.push(element);
    Ok(())
}

/// Returns the mappings of program files, in which the guardian runs, in order, and where the last mapping ends.
pub fn images() -> OsResult<(Vec<Range<usize>>, usize)> {
    let mut file = File::open("/proc/self/maps")?;
    // std::fs::read aborts without memory.
    let (mut maps, mut length) = (Vec::<u8>::new(), 0);
    loop {
        maps.try_reserve(AT_ONCE).map_err(|_| Errno(libc::ENOMEM))?;
        maps.resize(length + AT_ONCE, 0);
        match file.read(&mut maps[length..]) {
            Ok(0) => return images_of(&maps[..length]),
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        maps.truncate(length);
    }
}

/// Finds the mappings of program files, and the end of the last mapping, in the text of /proc/self/maps. The names of
/// files in the text may be any bytes.
pub(crate) fn images_of(maps: &[u8]) -> OsResult<(Vec<Range<usize>>, usize)> {
    let (mut kept, mut end) = (Vec::new(), 0);
    let mut programs = Vec::new();
    for line in maps.split(|&byte| byte == b'\n').filter_map(MapsLine::of) {
        end = end.max(line.range.end);
        if line.runs && !programs.contains(&line.file) {
            push(&mut programs, line.file)?;
        }
    }
    for line in maps.split(|&byte| byte == b'\n').filter_map(MapsLine::of) {
        if (line.runs || line.is_of_a_file) && programs.contains(&line.file) {
            push(&mut kept, line.range)?;
        }
    }
    Ok((kept, end))
}

/// A line of /proc/self/maps.
struct MapsLine<'a> {
    range: Range<usize>,
    /// Whether the memory may be executed.
    runs: bool,
    /// Whether a file with a path is mapped.
    is_of_a_file: bool,
    /// The device and the inode of the mapped file.
    file: (Option<&'a [u8]>, Option<&'a [u8]>),
}

impl<'a> MapsLine<'a> {
    /// Reads a line. None: it is no line, or that of the one page that all processes have in common.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (from, to) = std::str::from_utf8(fields.next()?).ok()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = number(from)?..number(to)?;
        let (rights, device, inode) = (fields.next(), fields.nth(1), fields.next());
        let path = fields.next().unwrap_or_default();
        let runs = rights.is_some_and(|rights| rights.contains(&b'x'));
        let is_of_a_file = path.first() == Some(&b'/');
        (path != b"[vsyscall]").then_some(Self { range, runs, is_of_a_file, file: (device, inode) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;

    /// Names of files are bytes. The system replaces nothing in them but line feeds.
    #[test]
    fn name_of_a_mapped_file_may_be_any_bytes() {
        let name = std::ffi::OsStr::from_bytes(b"zsalloc-guardian-\xff\xfe name\xf0");
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, [7; PAGE]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        // SAFETY: a new mapping at an address that the system chooses, and unmapped below.
        let at = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        std::fs::remove_file(&path).unwrap();
        assert_ne!(at, libc::MAP_FAILED);
        let images = images();
        // SAFETY: the mapping that was just made.
        unsafe { libc::munmap(at, PAGE) };
        let (kept, end) = images.unwrap();
        assert!(!kept.is_empty() && kept.iter().all(|range| range.end <= end));
        assert!(!kept.iter().any(|range| range.contains(&(at as usize))), "the file has no program");
    }
}
