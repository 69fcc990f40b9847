//! Which pages the system has: in memory, swapped out, or set aside for a file and not filled yet.
//!
//! mincore tells of pages in memory alone. A page that the system has swapped out or set aside is not missing for a
//! userfaultfd: the system brings it back and tells nobody.

use super::calls::Call;
use super::errno::{OsResult, checked, last_errno};
use super::seam::Os;
use crate::units::PAGE;
use linux_raw_sys::general as raw;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// The most pages that one call of [`Swapped::each`] looks at.
pub const AT_ONCE: usize = 512;

// Bits of an entry of /proc/self/pagemap, as the kernel's Documentation/admin-guide/mm/pagemap.rst has them.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// A page that fails when it is touched. It shows as swapped as well.
const GUARD: u64 = 1 << 58;

/// Where to look for pages that are swapped out or set aside. If the system does not tell, none is found.
pub enum Swapped {
    /// Private memory of this process, by /proc/self/pagemap.
    Private(Option<File>),
    /// A memory file, and where in it the range begins.
    Shared(FilePages, u64),
}

/// How to ask which pages a memory file has.
pub enum FilePages {
    /// cachestat, since Linux 6.5, of a descriptor that stays open. It counts pages that are set aside as well.
    Counted(RawFd),
    /// SEEK_DATA. It moves the position of the file, so the file was opened anew.
    Sought(Option<File>),
}

/// Opens a memory file anew. Allocates nothing: the path lies on the stack.
fn reopen(fd: RawFd) -> Option<File> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/self/fd/{fd}").ok()?;
    let left = rest.len();
    File::open(std::str::from_utf8(&path[..path.len() - left]).ok()?).ok()
}

impl Swapped {
    /// Looks in private memory of this process.
    pub fn private() -> Self {
        Self::Private(File::open("/proc/self/pagemap").ok())
    }

    /// Looks in a memory file, from an offset on. The descriptor has to stay open as long as this is used.
    pub fn of_file(file: &OwnedFd, offset: u64) -> Self {
        let fd = file.as_raw_fd();
        match count(fd, offset, 1) {
            Ok(_) => Self::Shared(FilePages::Counted(fd), offset),
            Err(_) => Self::Shared(FilePages::Sought(reopen(fd)), offset),
        }
    }

    /// Calls `each` for every page of a part of the range that is swapped out or set aside. `at` is the address of the
    /// part, `first` its first page, and `seen` has mincore's answer for each of its pages, at most [`AT_ONCE`].
    pub fn each(&self, at: usize, first: usize, seen: &[u8], each: impl FnMut(usize)) {
        let absent = (0..seen.len()).filter(|&page| seen[page] & 1 == 0);
        match self {
            Self::Private(None) => {}
            Self::Private(Some(pagemap)) => {
                let mut entries = [0; AT_ONCE * 8];
                let entries = &mut entries[..seen.len() * 8];
                if pagemap.read_exact_at(entries, (at / PAGE * 8) as u64).is_ok() {
                    absent.filter(|page| is_somewhere(&entries[page * 8..])).for_each(each);
                }
            }
            Self::Shared(kept, offset) => {
                let offset = offset + (first * PAGE) as u64;
                let known = seen.iter().filter(|&seen| seen & 1 == 1).count() as u64;
                if kept.pages(offset, seen.len()) > known {
                    absent.filter(|page| kept.pages(offset + (page * PAGE) as u64, 1) > 0).for_each(each);
                }
            }
        }
    }
}

/// Whether an entry of the pagemap belongs to a page that is swapped out, or has come back since mincore was asked.
fn is_somewhere(entry: &[u8]) -> bool {
    let entry = u64::from_ne_bytes(*entry.first_chunk().expect("there are eight bytes for each page"));
    entry & (PRESENT | SWAPPED) != 0 && entry & GUARD == 0
}

impl FilePages {
    /// Returns how many pages of a range the file has, in memory or swapped out. SEEK_DATA can't count: if the file has
    /// any page of the range, this returns all of them.
    fn pages(&self, offset: u64, pages: usize) -> u64 {
        match self {
            Self::Counted(fd) => count(*fd, offset, pages).unwrap_or(0),
            Self::Sought(None) => 0,
            Self::Sought(Some(file)) => {
                // SAFETY: the call takes numbers only.
                let data = unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, libc::SEEK_DATA) };
                let has = u64::try_from(data).is_ok_and(|data| data < offset + (pages * PAGE) as u64);
                if has { pages as u64 } else { 0 }
            }
        }
    }
}

impl Os {
    /// Asks which pages of a range are in memory: fills in a byte for each page, whose lowest bit says so.
    pub fn in_memory(&self, at: usize, pages: &mut [u8]) -> OsResult<()> {
        self.may(Call::Advise)?;
        // SAFETY: a byte for each page can be written.
        checked(unsafe { libc::mincore(at as *mut _, pages.len() * PAGE, pages.as_mut_ptr()) })
    }

    /// Whether a memory file has a page, in memory or swapped out. Asks cachestat, or, if the system lacks that call or
    /// a jail forbids it, mincore of the address that the page is mapped at.
    pub fn has_page(&self, file: &OwnedFd, offset: u64, at: usize) -> OsResult<bool> {
        self.may(Call::Advise)?;
        if let Ok(pages) = count(file.as_raw_fd(), offset, 1) {
            return Ok(pages > 0);
        }
        let mut seen = [0];
        self.in_memory(at, &mut seen)?;
        Ok(seen[0] & 1 == 1)
    }
}

/// Returns how many pages of a range a memory file has, in memory or swapped out.
fn count(fd: RawFd, offset: u64, pages: usize) -> OsResult<u64> {
    let range = raw::cachestat_range { off: offset, len: (pages * PAGE) as u64 };
    let mut found = raw::cachestat { nr_cache: 0, nr_dirty: 0, nr_writeback: 0, nr_evicted: 0, nr_recently_evicted: 0 };
    let number = libc::c_long::from(raw::__NR_cachestat);
    // SAFETY: the range can be read, and the result can be written.
    match unsafe { libc::syscall(number, fd, &raw const range, &raw mut found, 0 as libc::c_uint) } {
        0 => Ok(found.nr_cache + found.nr_evicted),
        _ => Err(last_errno()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Os;

    fn found(swapped: &Swapped, at: usize, pages: usize) -> Vec<usize> {
        let mut found = Vec::new();
        // As if mincore had seen none: what is in memory is there as well.
        swapped.each(at, 0, &vec![0; pages], |page| found.push(page));
        found
    }

    #[test]
    fn private_pages_that_are_somewhere_are_found() {
        let mapping = Os::default().reserve(AT_ONCE * PAGE, PAGE).unwrap();
        let base = mapping.base().as_ptr();
        Os::default().commit(base, AT_ONCE * PAGE).unwrap();
        Os::default().advise(base, AT_ONCE * PAGE, crate::os::Advice::NotHuge).unwrap();
        let touched = [0, 7, 8, AT_ONCE - 1];
        // SAFETY: pages of the test's own.
        touched.iter().for_each(|page| unsafe { base.add(page * PAGE).write(1) });
        assert_eq!(found(&Swapped::private(), base as usize, AT_ONCE), touched);
        assert_eq!(found(&Swapped::private(), base as usize + 7 * PAGE, 4), [0, 1]);
        let bits = [0, PRESENT, SWAPPED, SWAPPED | GUARD, 1 << 55].map(|bits: u64| is_somewhere(&bits.to_ne_bytes()));
        assert_eq!(bits, [false, true, true, false, false]);
    }

    #[test]
    fn pages_that_a_file_has_are_found_and_its_position_stays() {
        let file = Os::default().memory_file("kept", 16 * PAGE, false).unwrap();
        for page in [1, 4, 5] {
            assert_eq!(Os::default().write_at(&file, &[1], page * PAGE as u64), Ok(1));
        }
        let sought = FilePages::Sought(reopen(file.as_raw_fd()));
        for swapped in [Swapped::of_file(&file, PAGE as u64), Swapped::Shared(sought, PAGE as u64)] {
            assert_eq!(found(&swapped, 0, 15), [0, 3, 4]);
        }
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) }, 0);
        // A page that is set aside for the file and not filled is found as well, if the system tells.
        Os::default().allocate(file.as_raw_fd(), 10 * PAGE, PAGE).unwrap();
        let swapped = Swapped::of_file(&file, 0);
        match swapped {
            Swapped::Shared(FilePages::Counted(_), _) => assert_eq!(found(&swapped, 0, 16), [1, 4, 5, 10]),
            _ => crate::tests::skip::skip("pages_that_are_set_aside_for_a_file_count", "this system does not tell"),
        }
    }
}
