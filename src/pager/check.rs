//! Whether memory is of a kind whose pages can be taken away and put back. The system lets more than that be put under
//! a userfaultfd: memory that can only be read, or a file's where none was named. Its pages would never be evicted, and
//! nobody would know why.

use super::region::Memory;
use crate::error::{Error, Result};
use crate::os::maps::{Mapped, kind_of, mappings_within};

/// Refuses memory of other kinds. Where the system does not tell what is mapped, nothing is refused here.
pub fn check_memory(at: usize, bytes: usize, memory: &Memory) -> Result<()> {
    let (file, offset) = match memory {
        Memory::Private => (None, 0),
        Memory::Shared(fd, offset) => (Some(check_file(fd, *offset, bytes)?), *offset),
    };
    let (mut reached, mut found) = (at, Ok(()));
    let told = mappings_within(at, at + bytes, |mapped| {
        let gap = mapped.start > reached;
        reached = mapped.end;
        if found.is_ok() {
            found = if gap { Err(NOT_MAPPED) } else { check_mapping(&mapped, at, file, offset) };
        }
    });
    match found {
        _ if !told => Ok(()),
        Ok(()) if reached < at + bytes => Err(NOT_MAPPED),
        found => found,
    }
}

/// The range has a hole.
pub const NOT_MAPPED: Error = Error::Invalid(&"the range is not all mapped");

/// What file it is, if it is one for a region.
fn check_file(fd: &std::os::fd::OwnedFd, offset: u64, bytes: usize) -> Result<(u32, u32, u64)> {
    const NO_MEMORY_FILE: Error = Error::Invalid(&"the region's file is no memory file, or one of huge pages");
    const READ_ONLY: Error = Error::Invalid(&"the region's memory file has to be open for reading and writing");
    const SEALED: Error = Error::Invalid(&"the region's memory file is sealed: no page can be taken from it");
    const SHORT: Error = Error::Invalid(&"the region's memory file ends before the range does");
    let kind = kind_of(fd).map_err(|errno| Error::system(errno, &"fstat of the region's memory file"))?;
    match kind {
        _ if !kind.memory => Err(NO_MEMORY_FILE),
        _ if !kind.read_write => Err(READ_ONLY),
        _ if kind.sealed => Err(SEALED),
        _ if offset.checked_add(bytes as u64).is_none_or(|end| end > kind.bytes) => Err(SHORT),
        _ => Ok(kind.file),
    }
}

fn check_mapping(mapped: &Mapped, at: usize, file: Option<(u32, u32, u64)>, offset: u64) -> Result<()> {
    const RIGHTS: Error = Error::Invalid(&"the range has to be mapped readable and writable");
    const NOT_PRIVATE: Error = Error::Invalid(&"the range is not private anonymous memory: name the memory file");
    const OTHER: Error = Error::Invalid(&"the range is not a shared mapping of the region's memory file");
    const ELSEWHERE: Error = Error::Invalid(&"the range is mapped from another offset of the region's memory file");
    if !mapped.read_write {
        return Err(RIGHTS);
    }
    let Some(file) = file else {
        return if mapped.shared || mapped.file.2 != 0 { Err(NOT_PRIVATE) } else { Ok(()) };
    };
    if !mapped.shared || mapped.file != file {
        return Err(OTHER);
    }
    // What offset the range's first byte would have by this mapping; and by what the caller says.
    let from = mapped.start as i128 - mapped.offset as i128;
    if from == at as i128 - offset as i128 { Ok(()) } else { Err(ELSEWHERE) }
}
