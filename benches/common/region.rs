//! The memory that both sides page, and the pages that it is filled with.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zsalloc::PAGE_SIZE;

/// Words of a page.
const WORDS: usize = PAGE_SIZE / 8;

/// A mapping that a benchmark owns.
pub struct Region {
    base: *mut u8,
    pages: usize,
}

// SAFETY: words are read and written atomically.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

fn map(bytes: usize, access: i32, kind: i32, fd: i32) -> Result<*mut u8, String> {
    // SAFETY: a new mapping at an address that the system chooses.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(format!("mmap of {bytes} bytes: {}", std::io::Error::last_os_error()));
    }
    Ok(base.cast())
}

impl Region {
    /// Maps `pages` private pages of zeros, never huge ones.
    pub fn new(pages: usize) -> Result<Self, String> {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let base = map(pages * PAGE_SIZE, libc::PROT_READ | libc::PROT_WRITE, kind, -1)?;
        // This also keeps the mapping apart from its neighbours. A kernel without huge pages refuses.
        // SAFETY: the mapping is new.
        unsafe { libc::madvise(base.cast(), pages * PAGE_SIZE, libc::MADV_NOHUGEPAGE) };
        Ok(Self { base, pages })
    }

    /// Maps a memory file that another process filled. All of it is in memory, and counts to that process's cgroup.
    pub fn of_file(fd: i32, pages: usize) -> Result<Self, String> {
        let base = map(pages * PAGE_SIZE, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_POPULATE, fd)?;
        Ok(Self { base, pages })
    }

    /// Returns the address of the mapping.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the size in bytes.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// Returns the word with this number.
    #[inline]
    pub fn word(&self, number: usize) -> &AtomicU64 {
        assert!(number < self.pages * WORDS);
        // SAFETY: inside the mapping, and aligned.
        unsafe { &*self.base.cast::<AtomicU64>().add(number) }
    }

    /// Returns the first word of a page.
    #[inline]
    pub fn first(&self, page: usize) -> &AtomicU64 {
        self.word(page * WORDS)
    }

    /// Copies all pages of another region.
    pub fn fill(&self, from: &Region) {
        assert!(from.pages >= self.pages);
        for page in 0..self.pages {
            // SAFETY: both mappings have that many pages, and nothing else uses this one yet.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    from.base.add(page * PAGE_SIZE),
                    self.base.add(page * PAGE_SIZE),
                    PAGE_SIZE,
                );
            }
        }
    }

    /// Checks that each page holds what it was filled with, except that the first words together grew by `added`.
    pub fn check(&self, from: &Region, added: u64) -> Result<(), String> {
        let mut grown = 0_u64;
        for page in 0..self.pages {
            let first = page * WORDS;
            grown = grown.wrapping_add(self.word(first).load(Relaxed).wrapping_sub(from.word(first).load(Relaxed)));
            for word in first + 1..first + WORDS {
                if self.word(word).load(Relaxed) != from.word(word).load(Relaxed) {
                    return Err(format!("page {page} does not hold what it was filled with"));
                }
            }
        }
        if grown != added {
            Err(format!("{added} writes were made, but the first words grew by {grown}"))
        } else {
            Ok(())
        }
    }

    /// Returns for each page whether it is in memory.
    pub fn in_place(&self) -> Vec<bool> {
        let mut is = vec![0_u8; self.pages];
        // SAFETY: the range is mapped, and there is a byte for each page.
        let result = unsafe { libc::mincore(self.base.cast(), self.bytes(), is.as_mut_ptr()) };
        assert_eq!(result, 0, "mincore of a mapping");
        is.iter().map(|byte| byte & 1 != 0).collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's.
        unsafe { libc::munmap(self.base.cast(), self.bytes()) };
    }
}

/// Returns the resident and the swapped bytes of a range of addresses, as the system reports them.
pub fn resident_and_swapped(start: usize, bytes: usize) -> (f64, f64) {
    let (mut inside, mut resident, mut swapped) = (false, 0.0, 0.0);
    let file = File::open("/proc/self/smaps").expect("/proc is mounted");
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some((from, to)) = first.split_once('-') {
            let hex = |digits| usize::from_str_radix(digits, 16).unwrap_or(0);
            inside = hex(from) < start + bytes && hex(to) > start;
        } else if inside {
            let kibibytes = || line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0.0);
            match first {
                "Rss:" => resident += kibibytes() * 1024.0,
                "Swap:" => swapped += kibibytes() * 1024.0,
                _ => {}
            }
        }
    }
    (resident, swapped)
}

/// A memory file that a child process inherits.
pub struct Handed(i32);

impl Handed {
    /// Creates a file of these bytes, padded with zeros to whole pages.
    pub fn new<'a>(bytes: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        use std::io::Write;
        use std::os::fd::{FromRawFd, IntoRawFd};
        // SAFETY: the name ends with a zero byte.
        let fd = unsafe { libc::memfd_create(c"zsalloc-bench".as_ptr(), 0) };
        if fd < 0 {
            return Err(format!("memfd_create: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new.
        let mut file = std::io::BufWriter::with_capacity(1 << 20, unsafe { File::from_raw_fd(fd) });
        let mut length = 0;
        for piece in bytes {
            file.write_all(piece).map_err(|error| error.to_string())?;
            length += piece.len();
        }
        let file = file.into_inner().map_err(|error| error.to_string())?;
        file.set_len(length.next_multiple_of(PAGE_SIZE) as u64).map_err(|error| error.to_string())?;
        Ok(Self(file.into_raw_fd()))
    }

    /// Returns the descriptor, which is the same in a child.
    pub fn fd(&self) -> i32 {
        self.0
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's.
        unsafe { libc::close(self.0) };
    }
}
