//! How much of the tiers' files is in the system's page cache. Nothing of the files is read for that.

use super::{PAGE, Problem, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Number of the system call `cachestat`, of Linux 6.5. It is the same on all processors that this program runs on.
const CACHESTAT: libc::c_long = 451;

/// What `cachestat` takes: all of the file.
#[repr(C)]
#[derive(Default)]
struct Part {
    offset: u64,
    bytes: u64,
}

/// What `cachestat` returns, in pages.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    written_now: u64,
    evicted: u64,
    evicted_lately: u64,
}

/// The files to watch.
pub struct PageCache {
    files: Vec<File>,
    by_cachestat: bool,
}

impl PageCache {
    /// Watches files through descriptors of their own.
    pub fn new<'a>(files: impl Iterator<Item = BorrowedFd<'a>>) -> Result<Self> {
        let own = files.map(|file| file.try_clone_to_owned().map(File::from)).collect::<std::io::Result<Vec<_>>>();
        let files = own.map_err(|error| Problem::Refused(format!("no descriptor for the file of a tier: {error}")))?;
        let by_cachestat = files.iter().all(|file| by_cachestat(file).is_some());
        Ok(Self { files, by_cachestat })
    }

    /// Whether a look takes microseconds, and not milliseconds.
    pub fn is_quick(&self) -> bool {
        self.by_cachestat
    }

    /// Returns how the pages are counted.
    pub fn means(&self) -> &'static str {
        if self.by_cachestat { "cachestat" } else { "mincore" }
    }

    /// Returns the bytes of all files in the page cache. `None`: there are no files, or the system does not tell.
    pub fn bytes(&mut self) -> Option<u64> {
        let count = |file: &mut File| if self.by_cachestat { by_cachestat(file) } else { by_mincore(file) };
        let pages: Option<u64> = self.files.iter_mut().map(count).sum();
        pages.filter(|_| !self.files.is_empty()).map(|pages| pages * PAGE as u64)
    }
}

fn by_cachestat(file: &File) -> Option<u64> {
    let (part, mut counts) = (Part::default(), Counts::default());
    // SAFETY: the call reads the first struct and fills the second, and both have the system's layout.
    let done = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const part, &raw mut counts, 0) };
    (done == 0).then_some(counts.cached)
}

/// Maps the file and asks which of its pages are in memory. The mapping is not touched.
fn by_mincore(file: &mut File) -> Option<u64> {
    let bytes = file.seek(SeekFrom::End(0)).ok()? as usize;
    let mut pages = vec![0u8; bytes.div_ceil(PAGE)];
    if pages.is_empty() {
        return Some(0);
    }
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: a new mapping at an address that the system chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: a byte for each page can be written; the mapping is looked at, not touched.
    let told = unsafe { libc::mincore(at, bytes, pages.as_mut_ptr()) } == 0;
    // SAFETY: the mapping was made above, and nothing else knows it.
    unsafe { libc::munmap(at, bytes) };
    told.then(|| pages.iter().map(|page| u64::from(page & 1)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn written_pages_are_in_the_page_cache() {
        let path = std::env::temp_dir().join(format!("userswap-cache-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(by_mincore(&mut file), Some(0));
        file.write_all(&[1; 5 * PAGE]).unwrap();
        assert_eq!(by_mincore(&mut file), Some(5));
        let mut cache = PageCache::new([file.as_fd(), file.as_fd()].into_iter()).unwrap();
        assert_eq!(cache.bytes(), Some(10 * PAGE as u64), "by {}", cache.means());
        cache.by_cachestat = false;
        assert_eq!(cache.bytes(), Some(10 * PAGE as u64));
        assert_eq!(PageCache::new(std::iter::empty()).unwrap().bytes(), None);
    }
}
