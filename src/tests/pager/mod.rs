//! Tests of the pager, and the memory and pagers that they share.

mod adding;
mod basics;
mod bounds;
mod counted;
mod damage;
mod discards;
mod events;
mod failures;
mod full;
mod given_back;
mod holds;
mod huge;
mod immovable;
mod large_events;
mod lending;
mod lent_threads;
mod locked;
mod look;
mod memory_files;
mod names;
mod options;
mod orders;
mod putback;
mod refusals;
mod removal;
mod settled;
mod sparse;
mod swapped;
mod tiers;
mod wraps;
mod writers;

use crate::os::Os;
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::{Duty, Eviction, FaultMode, Pager, PagerOptions, RegionOptions};
use crate::units::PAGE;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Memory of a test: private and anonymous, or of a memory file.
pub struct Memory {
    base: NonNull<u8>,
    pages: usize,
    pub file: Option<OwnedFd>,
    /// The offset in the file where the memory begins.
    pub offset: usize,
}

// SAFETY: it is a range of addresses. Tests decide which thread writes there.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Private memory of `pages` pages of zeros.
    pub fn new(pages: usize) -> Self {
        Self::map(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None, 0)
    }

    /// Private memory far below the addresses that the system chooses for mappings. It chooses the highest that are
    /// free, so no mapping of another thread comes into a hole that a test makes. One test at a time may use it.
    pub fn apart(pages: usize) -> Self {
        const AT: usize = 1 << 45;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        Self::map_at(AT as *mut libc::c_void, pages, kind, None, 0)
    }

    /// Memory of `pages` pages of a memory file, from its second page on.
    pub fn shared(pages: usize) -> Self {
        let file = Os::default().memory_file("region", (pages + 1) * PAGE, false).unwrap();
        Self::map(pages, libc::MAP_SHARED, Some(file), PAGE)
    }

    /// Memory of `pages` pages of a memory file, at addresses that huge pages can be mapped to.
    pub fn huge_file(pages: usize) -> Self {
        const HUGE: usize = 2 << 20;
        let file = Os::default().memory_file("region", pages * PAGE, false).unwrap();
        Self::file_at_multiple_of(HUGE, pages, file)
    }

    /// Another mapping of the same memory file, and the same part of it.
    pub fn mapped_again(&self) -> Self {
        let file = self.file.as_ref().unwrap().try_clone().unwrap();
        assert_eq!(self.offset, 0);
        Self::file_at_multiple_of(2 << 20, self.pages, file)
    }

    fn file_at_multiple_of(align: usize, pages: usize, file: OwnedFd) -> Self {
        // Addresses that are not needed stay reserved.
        let room = std::mem::ManuallyDrop::new(Os::default().reserve(pages * PAGE, align).unwrap());
        let (at, access) = (room.base().as_ptr().cast(), libc::PROT_READ | libc::PROT_WRITE);
        let (kind, fd) = (libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd());
        // SAFETY: the addresses were just reserved, and nothing is there.
        let base = unsafe { libc::mmap(at, pages * PAGE, access, kind, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: NonNull::new(base.cast()).unwrap(), pages, file: Some(file), offset: 0 }
    }

    /// The number of pages that its file has in memory.
    pub fn in_cache(&self) -> usize {
        let mut seen = vec![0; self.pages];
        // SAFETY: a byte for each page can be written.
        assert_eq!(unsafe { libc::mincore(self.base.as_ptr().cast(), self.bytes(), seen.as_mut_ptr()) }, 0);
        seen.iter().filter(|&seen| seen & 1 == 1).count()
    }

    fn map(pages: usize, kind: i32, file: Option<OwnedFd>, offset: usize) -> Self {
        Self::map_at(std::ptr::null_mut(), pages, kind, file, offset)
    }

    fn map_at(at: *mut libc::c_void, pages: usize, kind: i32, file: Option<OwnedFd>, offset: usize) -> Self {
        assert_eq!(kind & libc::MAP_FIXED, 0);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: a new mapping, which replaces none.
        let base = unsafe { libc::mmap(at, pages * PAGE, access, kind, fd, offset as libc::off_t) };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: NonNull::new(base.cast()).unwrap(), pages, file, offset }
    }

    /// The options for adding the memory to a pager.
    pub fn options(&self) -> RegionOptions<'_> {
        let shared = self.file.as_ref().map(|file| (file.as_fd(), self.offset as u64));
        RegionOptions { shared, ..RegionOptions::default() }
    }

    /// The number of its pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Notes that the test moved the memory, or cut it.
    pub fn is_now(&mut self, base: *mut u8, pages: usize) {
        (self.base, self.pages) = (NonNull::new(base).unwrap(), pages);
    }

    /// Gives madvise's advice on pages.
    pub fn advise(&self, page: usize, pages: usize, advice: i32) -> i32 {
        // SAFETY: the range is this test's.
        unsafe { libc::madvise(self.at(page).cast(), pages * PAGE, advice) }
    }

    /// The address of a page.
    pub fn at(&self, page: usize) -> *mut u8 {
        assert!(page <= self.pages);
        // SAFETY: inside the mapping, or at its end.
        unsafe { self.base.as_ptr().add(page * PAGE) }
    }

    /// The number of its bytes.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE
    }

    /// Writes bytes to a page that only `value` makes.
    pub fn fill(&self, page: usize, value: u64) {
        let words = self.at(page).cast::<u64>();
        // SAFETY: a page of the test's own, aligned.
        (0..PAGE / 8).for_each(|word| unsafe { words.add(word).write_volatile(expected(value, word)) });
    }

    /// Reads a page back, and checks its bytes.
    pub fn check(&self, page: usize, value: u64) {
        let words = self.at(page).cast::<u64>();
        for word in 0..PAGE / 8 {
            // SAFETY: as above.
            let seen = unsafe { words.add(word).read_volatile() };
            assert_eq!(seen, expected(value, word), "page {page}, word {word}");
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The memory may still be a region. Then the system would wait for a thread that reads of the unmapping.
            return;
        }
        // SAFETY: the mapping is this test's.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes()) };
    }
}

/// The word of a page that `value` makes. Such pages compress to about a half; 0 makes zeros.
fn expected(value: u64, word: usize) -> u64 {
    match value {
        0 => 0,
        _ if word.is_multiple_of(2) => value,
        _ => value.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word as u64 * value).rotate_left(word as u32),
    }
}

/// Which threads serve touches, and whether the memory is evicted in place, or shared.
pub const WAYS: [(FaultMode, bool, bool); 6] = [
    (FaultMode::Sigbus, false, false),
    (FaultMode::Sigbus, true, false),
    (FaultMode::Sigbus, false, true),
    (FaultMode::Threads, false, false),
    (FaultMode::Threads, true, false),
    (FaultMode::Threads, false, true),
];

/// A pager with threads lent to it, which are given back when it is dropped.
pub struct Running {
    pub pager: Arc<Pager>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Creates a pager, and lends a thread for each duty.
    pub fn new(options: &PagerOptions, duties: &[Duty]) -> Self {
        Self::of(Pager::new("test", options).unwrap(), duties)
    }

    /// Lends threads to a pager.
    pub fn of(pager: Pager, duties: &[Duty]) -> Self {
        let pager = Arc::new(pager);
        let lend = |&duty: &Duty| {
            let pager = pager.clone();
            std::thread::spawn(move || pager.run(duty).unwrap())
        };
        let threads = duties.iter().map(lend).collect();
        Self { pager, threads }
    }

    /// Adds memory as a region.
    pub fn add(&self, memory: &Memory) -> RegionId {
        // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
        unsafe { self.pager.add_region_by_id(memory.at(0), memory.bytes(), &memory.options()) }.unwrap()
    }

    /// Removes a region.
    pub fn remove(&self, region: RegionId) {
        self.pager.remove_by_id(region).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pager.stop();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Options with a limit of `pages` pages. Private pages are moved: see [`evicting`].
pub fn limited(pages: usize, fault_mode: FaultMode) -> PagerOptions {
    evicting(false, PagerOptions { resident_bytes: Some((pages * PAGE) as u64), fault_mode, ..PagerOptions::default() })
}

/// The options with private pages evicted in place, or moved.
pub fn evicting(in_place: bool, options: PagerOptions) -> PagerOptions {
    let eviction = if in_place { Eviction::InPlace } else { Eviction::Moving };
    PagerOptions { eviction, ..options }
}

/// Waits until something holds. Returns false if it did not for long.
pub fn soon(holds: impl Fn() -> bool) -> bool {
    (0..4000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        holds()
    })
}
