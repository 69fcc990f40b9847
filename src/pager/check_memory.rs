//! Which memory can be a region: memory of a kind whose pages can be taken away and put back. The system lets more than
//! that be put under a userfaultfd: memory that can only be read; a file's memory where the caller named none, whose
//! pages would never be evicted; and the heap, or a stack, which a thread that brings a page back would itself wait
//! for.

use super::core::Core;
use super::region::{Memory, RegionState};
use crate::error::{Error, Result, sentence};
use crate::os::file::kind_of;
use crate::os::maps::{MapsEntry, heap_start, mappings_within};

/// The address of a value, and its bytes.
fn range_of<T: ?Sized>(value: &T) -> (usize, usize) {
    (std::ptr::from_ref(value).cast::<u8>() as usize, size_of_val(value))
}

fn overlap((at, bytes): (usize, usize), (other, length): (usize, usize)) -> bool {
    at < other.saturating_add(length) && other < at.saturating_add(bytes)
}

impl Core {
    /// Refuses a range with memory that the pager needs to bring a page back: the thread that does so must not wait for
    /// one. Other memory that malloc returned is not known.
    pub(super) fn check_own(&self, at: usize, bytes: usize, new: &RegionState) -> Result<()> {
        const OWN: Error = Error::Invalid(sentence(
            &"the range has memory of the pager itself, or of malloc: map a region's memory by mmap",
        ));
        let own = [
            range_of(self),
            range_of(&*self.places),
            range_of(new),
            self.scratch.range(),
            self.zswap.pool().memory.range(),
        ];
        if own.into_iter().any(|own| overlap((at, bytes), own)) { Err(OWN) } else { Ok(()) }
    }
}

/// Refuses memory of kinds that can't be a region. If the system does not tell what is mapped, only the caller's stack
/// is refused here.
pub fn check_memory(at: usize, bytes: usize, memory: &Memory) -> Result<()> {
    const STACK: Error =
        Error::Invalid(sentence(&"the range has the stack of the calling thread: map a region's memory by mmap"));
    let on_the_stack = 0u8;
    if overlap((at, bytes), range_of(&on_the_stack)) {
        return Err(STACK);
    }
    let (file, offset) = match memory {
        Memory::Private => (None, 0),
        Memory::Shared(fd, offset) => (Some(check_file(fd, *offset, bytes)?), *offset),
    };
    let (mut reached, mut found) = (at, Ok(()));
    let told = mappings_within(at, at + bytes, |mapped| {
        let gap = mapped.start > reached;
        reached = mapped.end;
        if found.is_ok() {
            found = match file {
                _ if gap => Err(NOT_MAPPED),
                Some(file) => check_shared(&mapped, at, file, offset),
                None => check_private(&mapped, at, bytes),
            };
        }
    });
    match found {
        _ if !told => Ok(()),
        Ok(()) if reached < at + bytes => Err(NOT_MAPPED),
        found => found,
    }
}

/// The error for a range with a hole.
pub const NOT_MAPPED: Error = Error::Invalid(sentence(&"a part of the range is not mapped"));

/// Identifies the memory file, if it is fit for a region.
fn check_file(fd: &std::os::fd::OwnedFd, offset: u64, bytes: usize) -> Result<(u32, u32, u64)> {
    const NO_MEMORY_FILE: Error = Error::Invalid(sentence(
        &"the region's file is not a memory file of tmpfs or memfd_create, or is one of hugetlbfs",
    ));
    const READ_ONLY: Error =
        Error::Invalid(sentence(&"the region's memory file has to be open for reading and writing"));
    const SEALED: Error = Error::Invalid(sentence(&"the region's memory file is sealed: no page can be taken from it"));
    const SHORT: Error = Error::Invalid(sentence(&"the region's memory file ends before the range does"));
    let kind = kind_of(fd).map_err(|errno| Error::system(errno, sentence(&"fstat of the region's memory file")))?;
    match kind {
        _ if !kind.memory => Err(NO_MEMORY_FILE),
        _ if !kind.read_write => Err(READ_ONLY),
        _ if kind.sealed => Err(SEALED),
        _ if offset.checked_add(bytes as u64).is_none_or(|end| end > kind.bytes) => Err(SHORT),
        _ => Ok(kind.file),
    }
}

const RIGHTS: Error = Error::Invalid(sentence(&"the range has to be mapped readable and writable"));

fn check_private(mapped: &MapsEntry, at: usize, bytes: usize) -> Result<()> {
    const SHARED: Error =
        Error::Invalid(sentence(&"the range is shared memory: name its memory file in the region's options"));
    const OF_A_FILE: Error = Error::Invalid(sentence(
        &"the range is a private mapping of a file (as variables with initial values, .data, are) or of huge pages \
          (MAP_HUGETLB): map it without them",
    ));
    const GROWS: Error = Error::Invalid(sentence(
        &"the range is in a mapping that grows (MAP_GROWSDOWN), as the main stack does: map it without that flag",
    ));
    const HEAP: Error = Error::Invalid(sentence(
        &"the range is in the heap (brk), which malloc and the pager itself use: map a region's memory by mmap",
    ));
    // Older kernels also mark the mapping before the heap, the program's variables, as heap if the two touch.
    let reaches = |heap: usize| (at + bytes).min(mapped.end) > heap;
    match mapped {
        _ if !mapped.read_write => Err(RIGHTS),
        _ if mapped.shared => Err(SHARED),
        _ if mapped.file.2 != 0 => Err(OF_A_FILE),
        _ if mapped.heap && reaches(heap_start()) => Err(HEAP),
        _ if mapped.grows() => Err(GROWS),
        _ => Ok(()),
    }
}

fn check_shared(mapped: &MapsEntry, at: usize, file: (u32, u32, u64), offset: u64) -> Result<()> {
    const OTHER: Error = Error::Invalid(sentence(&"the range is not a shared mapping of the region's memory file"));
    const ELSEWHERE: Error =
        Error::Invalid(sentence(&"the range is mapped from another offset of the region's memory file"));
    if !mapped.read_write {
        return Err(RIGHTS);
    }
    if !mapped.shared || mapped.file != file {
        return Err(OTHER);
    }
    // Compares the offset of the range's first byte by this mapping with the offset that the caller named.
    let from = mapped.start as i128 - mapped.offset as i128;
    if from == at as i128 - offset as i128 { Ok(()) } else { Err(ELSEWHERE) }
}
