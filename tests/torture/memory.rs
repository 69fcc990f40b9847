//! Memory under the pager, and the expected contents of each page.

use crate::World;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, RwLock};
use zsalloc::{PAGE_SIZE, Region, RegionOptions};

/// A place for a region. A thread that works on its pages has the lock to read; a thread that adds, moves or removes it
/// has the lock to write.
#[derive(Default)]
pub struct Slot(pub RwLock<Option<Memory>>);

/// A region, and the version of each of its pages. Version 0 is zeros.
pub struct Memory {
    pub base: usize,
    pub versions: Vec<Mutex<u64>>,
    pub region: Option<Region>,
    pub file: Option<OwnedFd>,
    /// Another mapping of the same file, through which huge pages are made; 0: none.
    other: usize,
    /// Locked to read by threads with held pages, because pages are unmapped when their neighbours become a huge page.
    pub mapped: RwLock<()>,
    number: u64,
}

/// Creates a file without a name.
pub fn temporary_file(bytes: u64) -> File {
    let file = File::from(memory_file());
    file.set_len(bytes).unwrap();
    file
}

fn memory_file() -> OwnedFd {
    // SAFETY: the name is a C string, and nothing else owns the descriptor.
    unsafe {
        let fd = libc::memfd_create(c"torture".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// Held while addresses are mapped or moved: nothing may be mapped where a region was until the pager knows that it has
/// gone.
static ADDRESSES: Mutex<()> = Mutex::new(());

const HUGE: usize = 2 << 20;

fn map(bytes: usize, file: Option<&OwnedFd>) -> usize {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let Some(file) = file else {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the system chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        return at as usize;
    };
    // Aligned for huge pages. The addresses reserved around it stay reserved: a region may be moved there at any time.
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: as above; and then over a part of what was just reserved.
    let at = unsafe {
        let room = libc::mmap(std::ptr::null_mut(), bytes + HUGE, libc::PROT_NONE, kind, -1, 0);
        assert_ne!(room, libc::MAP_FAILED);
        let at = (room as usize).next_multiple_of(HUGE) as *mut libc::c_void;
        let end = room as usize + bytes + HUGE;
        if at != room {
            libc::munmap(room, at as usize - room as usize);
        }
        libc::munmap((at as usize + bytes) as *mut _, end - at as usize - bytes);
        libc::mmap(at, bytes, access, libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd(), 0)
    };
    assert_ne!(at, libc::MAP_FAILED);
    at as usize
}

/// Asks the system to make huge pages of a range; it may refuse.
fn collapse(at: usize, bytes: usize) {
    // SAFETY: it changes none of the bytes.
    unsafe { libc::madvise(at as *mut _, bytes, libc::MADV_COLLAPSE) };
}

/// Returns the expected value of a word. Half of the words are noise, so that a page compresses to about 60 %.
fn expected(number: u64, page: usize, version: u64, word: usize) -> u64 {
    // Pages of the first version are equal, so that the system can merge them.
    let page = if version == 1 { 0 } else { page };
    let key = (number << 40 ^ (page as u64) << 20 ^ version).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match version {
        0 => 0,
        _ if word.is_multiple_of(2) => key,
        _ => key.rotate_left(word as u32).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ word as u64,
    }
}

impl Memory {
    /// Adds new memory to the pager: zeros, or memory filled before.
    pub fn new(world: &World, pages: usize, shared: bool, filled: bool, number: u64) -> Option<Self> {
        let file = shared.then(memory_file);
        if let Some(file) = &file {
            // SAFETY: a call on a descriptor of our own.
            assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), (pages * PAGE_SIZE) as i64) }, 0);
        }
        let one = ADDRESSES.lock();
        let base = map(pages * PAGE_SIZE, file.as_ref());
        let other = if shared && world.with.huge { map(pages * PAGE_SIZE, file.as_ref()) } else { 0 };
        drop(one);
        let versions = (0..pages).map(|_| Mutex::new(0)).collect();
        let mut memory = Self { base, versions, region: None, file, other, mapped: RwLock::new(()), number };
        if !shared && world.with.ksm && number.is_multiple_of(2) {
            // SAFETY: it changes none of the bytes.
            unsafe { libc::madvise(base as *mut _, memory.bytes(), libc::MADV_MERGEABLE) };
        }
        if other != 0 && number.is_multiple_of(3) {
            // SAFETY: as above.
            unsafe { libc::madvise(base as *mut _, memory.bytes(), libc::MADV_HUGEPAGE) };
        }
        if filled {
            (0..pages).for_each(|page| memory.write(page, &mut memory.lock(page), 1));
            if other != 0 && number.is_multiple_of(2) {
                collapse(base, memory.bytes());
            }
        }
        memory.region = memory.add(world);
        if memory.region.is_none() {
            memory.unmap();
            return None;
        }
        Some(memory)
    }

    fn add(&self, world: &World) -> Option<Region> {
        let shared = self.file.as_ref().map(|file| (file.as_fd(), 0));
        let options = RegionOptions { shared, ..RegionOptions::default() };
        // SAFETY: the memory is used through this range alone, and unmapped after the region was removed.
        world.unsettle(|| unsafe { world.pager.add_region(self.base as *mut u8, self.bytes(), &options) }.ok())
    }

    pub fn pages(&self) -> usize {
        self.versions.len()
    }

    pub fn bytes(&self) -> usize {
        self.pages() * PAGE_SIZE
    }

    pub fn at(&self, page: usize) -> *mut u64 {
        (self.base + page * PAGE_SIZE) as *mut u64
    }

    pub fn lock(&self, page: usize) -> MutexGuard<'_, u64> {
        self.versions[page].lock().unwrap()
    }

    /// Checks some or all words of a page, which is locked.
    pub fn check(&self, page: usize, version: u64, all: bool) {
        for word in (0..PAGE_SIZE / 8).step_by(if all { 1 } else { 73 }) {
            // SAFETY: inside the mapping; the lock keeps others from writing.
            let seen = unsafe { self.at(page).add(word).read_volatile() };
            let right = expected(self.number, page, version, word);
            assert_eq!(
                seen,
                right,
                "memory {} at {:#x} page {page} version {version} word {word}, shared: {}",
                self.number,
                self.base,
                self.file.is_some()
            );
        }
    }

    /// Writes a new version of a page, which is locked.
    pub fn write(&self, page: usize, locked: &mut u64, version: u64) {
        *locked = version;
        for word in 0..PAGE_SIZE / 8 {
            // SAFETY: as above.
            unsafe { self.at(page).add(word).write_volatile(expected(self.number, page, version, word)) };
        }
    }

    /// Makes huge pages of the file, through another mapping.
    pub fn collapse(&self) {
        if self.other != 0
            && let Ok(_mapped) = self.mapped.try_write()
        {
            collapse(self.other, self.bytes());
        }
    }

    /// Moves the mapping to another address, as a program may at any time.
    pub fn relocate(&mut self) {
        let _one = ADDRESSES.lock();
        let to = map(self.bytes(), None);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges belong to this test, and no thread uses them while it has the slot's lock.
        let at =
            unsafe { libc::mremap(self.base as *mut _, self.bytes(), self.bytes(), flags, to as *mut libc::c_void) };
        if at == libc::MAP_FAILED {
            // Parts that were read-only for a while may now be separate mappings, which one call can't move.
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
            // SAFETY: no other thread knows the range.
            assert_eq!(unsafe { libc::munmap(to as *mut _, self.bytes()) }, 0);
            return;
        }
        assert_eq!(at as usize, to);
        self.base = to;
    }

    /// Removes the region, checks all of it, and adds it again or unmaps it.
    pub fn restore(&mut self, world: &World, again: bool) -> bool {
        self.region.take().unwrap().remove().unwrap();
        self.check_all();
        self.region = again.then(|| self.add(world)).flatten();
        if self.region.is_none() {
            self.unmap();
        }
        self.region.is_some()
    }

    /// Removes the region, and loses pages that are not in memory.
    pub fn discard(&mut self) {
        // SAFETY: the memory is unmapped next.
        unsafe { self.region.take().unwrap().remove_discarding() }.unwrap();
        self.unmap();
    }

    pub fn check_all(&self) {
        (0..self.pages()).for_each(|page| self.check(page, *self.lock(page), true));
    }

    fn unmap(&self) {
        // SAFETY: the mapping is this test's, and is not used any more.
        assert_eq!(unsafe { libc::munmap(self.base as *mut _, self.bytes()) }, 0);
        if self.other != 0 {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::munmap(self.other as *mut _, self.bytes()) }, 0);
        }
    }
}

impl Slot {
    /// Checks every page in place.
    pub fn check_all(&self, _: &World) {
        if let Some(memory) = &*self.0.read().unwrap() {
            memory.check_all();
        }
    }

    /// Removes the region, and checks every page again.
    pub fn end(&self, world: &World) {
        if let Some(mut memory) = self.0.write().unwrap().take() {
            assert!(!memory.restore(world, false));
        }
    }
}
