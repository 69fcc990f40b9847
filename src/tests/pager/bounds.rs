//! Ranges that can't be a region: each is refused with a sentence that says why, and leaves nothing behind.

use super::look::consistent;
use super::{Memory, Running, evicting, limited};
use crate::os::Os;
use crate::os::maps::{heap_start, mappings_within};
use crate::os::userfault::{Faulting, Userfault};
use crate::pager::for_c::PagerForC;
use crate::pager::{FaultMode, RegionOptions};
use crate::tests::skip::skip;
use crate::units::PAGE;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const LIMIT: usize = 64;
const PAGES: usize = 2 * LIMIT;

/// Adding the range is refused with this number, and with these words in the sentence.
#[track_caller]
fn refused(running: &Running, at: *mut u8, bytes: usize, options: &RegionOptions<'_>, errno: i32, words: &str) {
    let before = running.pager.stats();
    // SAFETY: nobody else uses the range while this test does.
    let error = unsafe { running.pager.add_region_by_id(at, bytes, options) }.expect_err(words);
    assert_eq!(error.errno(), errno, "{error}");
    assert!(error.text().contains(words), "{error}");
    let after = running.pager.stats();
    assert_eq!((before.regions, before.region_bytes), (after.regions, after.region_bytes));
    assert_eq!(before.resident_bytes, after.resident_bytes);
    let areas = running.pager.snapshot().unwrap().zswap.areas.len();
    assert_eq!(areas as u64, after.regions);
    consistent(running);
}

#[track_caller]
fn invalid(running: &Running, memory: &Memory, options: &RegionOptions<'_>, words: &str) {
    refused(running, memory.at(0), memory.bytes(), options, libc::EINVAL, words);
}

fn private() -> RegionOptions<'static> {
    RegionOptions::default()
}

fn shared(file: &OwnedFd, offset: usize) -> RegionOptions<'_> {
    RegionOptions { shared: Some((file.as_fd(), offset as u64)), ..RegionOptions::default() }
}

fn file_of(memory: &Memory) -> &OwnedFd {
    memory.file.as_ref().unwrap()
}

fn protect(memory: &Memory, page: usize, pages: usize, rights: i32) {
    // SAFETY: a range of the test's own.
    assert_eq!(unsafe { libc::mprotect(memory.at(page).cast(), pages * PAGE, rights) }, 0);
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Checks that the memory can be a region, whose pages are evicted and come back.
#[track_caller]
fn works(running: &Running, memory: &Memory) {
    let region = running.add(memory);
    (0..memory.pages()).for_each(|page| memory.fill(page, page as u64 + 1));
    let before = running.pager.stats().counts;
    _ = running.pager.evict(memory.pages() as u64);
    let counts = running.pager.stats().counts;
    assert!(counts.stored + counts.staged > before.stored + before.staged, "{counts:?}");
    (0..memory.pages()).for_each(|page| memory.check(page, page as u64 + 1));
    consistent(running);
    running.remove(region);
}

fn pager() -> Running {
    Running::new(&limited(LIMIT, FaultMode::Sigbus), &[])
}

#[test]
fn ranges_of_no_whole_pages() {
    let (running, memory) = (pager(), Memory::new(PAGES));
    let inside = memory.at(0).wrapping_add(8);
    refused(&running, inside, PAGE, &private(), libc::EINVAL, "whole pages");
    refused(&running, memory.at(0), PAGE + 1, &private(), libc::EINVAL, "whole pages");
    refused(&running, memory.at(0), 0, &private(), libc::EINVAL, "at least one");
    let last = usize::MAX & !(PAGE - 1);
    refused(&running, last as *mut u8, 2 * PAGE, &private(), libc::EINVAL, "whole pages");
    refused(&running, memory.at(0), last, &private(), libc::EINVAL, "whole pages");
    refused(&running, (last - PAGE) as *mut u8, PAGE, &private(), libc::EINVAL, "mapped");
    refused(&running, PAGE as *mut u8, PAGE << 20, &private(), libc::EINVAL, "mapped");
    refused(&running, std::ptr::null_mut(), PAGE, &private(), libc::EINVAL, "mapped");
    works(&running, &memory);
}

#[test]
fn ranges_that_are_not_mapped() {
    let (running, mut memory) = (pager(), Memory::apart(PAGES));
    let base = memory.at(0);
    for hole in [0, PAGES / 2, PAGES - 1] {
        // SAFETY: a page of the test's own. Nobody else maps memory there.
        assert_eq!(unsafe { libc::munmap(memory.at(hole).cast(), PAGE) }, 0);
        let elsewhere = Memory::new(1);
        assert!(!(base..base.wrapping_add(PAGES * PAGE)).contains(&elsewhere.at(0)), "another mapping is in the hole");
        invalid(&running, &memory, &private(), "mapped");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a page of the test's own.
        let again = unsafe { libc::mmap(memory.at(hole).cast(), PAGE, READ_WRITE, flags, -1, 0) };
        assert_eq!(again, memory.at(hole).cast());
    }
    works(&running, &memory);
    memory.is_now(base, PAGES);
}

#[test]
fn ranges_that_can_not_be_read_and_written() {
    for mut memory in [Memory::new(PAGES), Memory::shared(PAGES)] {
        let running = pager();
        for rights in [libc::PROT_NONE, libc::PROT_READ] {
            for (page, pages) in [(0, PAGES), (0, 1), (PAGES / 2, 1), (PAGES - 1, 1)] {
                protect(&memory, page, pages, rights);
                invalid(&running, &memory, &memory.options(), "readable and writable");
                protect(&memory, page, pages, READ_WRITE);
            }
        }
        works(&running, &memory);
        let base = memory.at(0);
        memory.is_now(base, PAGES);
    }
}

/// Memory of a file, and options that name no file.
#[test]
fn files_that_were_not_named() {
    let running = pager();
    let memory = Memory::shared(PAGES);
    invalid(&running, &memory, &private(), "is shared memory");
    works(&running, &memory);
    let file = file_of(&memory).try_clone().unwrap();
    let copy = Memory::map(PAGES, libc::MAP_PRIVATE, Some(file), 0);
    invalid(&running, &copy, &private(), "private mapping of a file");
    invalid(&running, &copy, &shared(file_of(&copy), 0), "shared mapping");
    let program = OwnedFd::from(File::open("/proc/self/exe").unwrap());
    let mapped = Memory::map(8, libc::MAP_PRIVATE, Some(program), 0);
    invalid(&running, &mapped, &private(), "private mapping of a file");
    let nobodys = Memory::map(8, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None, 0);
    invalid(&running, &nobodys, &private(), "is shared memory");
}

#[test]
fn files_that_are_not_what_is_mapped() {
    let (running, memory, other) = (pager(), Memory::shared(PAGES), Memory::shared(PAGES));
    invalid(&running, &memory, &shared(file_of(&memory), 0), "another offset");
    invalid(&running, &memory, &shared(file_of(&memory), 8), "whole pages");
    invalid(&running, &memory, &shared(file_of(&memory), 2 * PAGE), "ends before");
    invalid(&running, &memory, &shared(file_of(&memory), usize::MAX & !(PAGE - 1)), "ends before");
    invalid(&running, &memory, &shared(file_of(&other), PAGE), "shared mapping");
    let anonymous = Memory::new(PAGES);
    invalid(&running, &anonymous, &shared(file_of(&memory), PAGE), "shared mapping");
    let device = OwnedFd::from(File::open("/proc/self/exe").unwrap());
    invalid(&running, &memory, &shared(&device, PAGE), "not a memory file");
    works(&running, &memory);
    works(&running, &other);
    works(&running, &anonymous);
}

#[test]
fn files_whose_pages_can_not_be_taken() {
    let (running, memory) = (pager(), Memory::shared(PAGES));
    let path = format!("/proc/self/fd/{}", file_of(&memory).as_raw_fd());
    let read_only = OwnedFd::from(File::open(path).unwrap());
    invalid(&running, &memory, &shared(&read_only, PAGE), "reading and writing");
    let file = file_of(&memory).as_raw_fd();
    // SAFETY: calls on numbers.
    unsafe {
        assert_eq!(libc::ftruncate(file, (PAGES * PAGE) as i64), 0);
        invalid(&running, &memory, &memory.options(), "ends before");
        assert_eq!(libc::ftruncate(file, ((PAGES + 1) * PAGE) as i64), 0);
    }
    works(&running, &memory);
    // SAFETY: the name is a C string.
    let sealed = unsafe { libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING) };
    // SAFETY: a descriptor that was just made.
    let sealed = unsafe { OwnedFd::from_raw_fd(sealed) };
    // SAFETY: calls on numbers.
    assert_eq!(unsafe { libc::ftruncate(sealed.as_raw_fd(), (PAGES * PAGE) as i64) }, 0);
    let memory = Memory::map(PAGES, libc::MAP_SHARED, Some(sealed), 0);
    let file = file_of(&memory);
    works_at(&running, &memory, 0);
    // SAFETY: calls on numbers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE) }, 0);
    invalid(&running, &memory, &shared(file, 0), "sealed");
}

/// Checks the same as `works`, for a mapping of another offset.
fn works_at(running: &Running, memory: &Memory, offset: usize) {
    // SAFETY: the memory is used through these addresses alone.
    let added =
        unsafe { running.pager.add_region_by_id(memory.at(0), memory.bytes(), &shared(file_of(memory), offset)) };
    (0..memory.pages()).for_each(|page| memory.fill(page, page as u64 + 1));
    (0..memory.pages()).for_each(|page| memory.check(page, page as u64 + 1));
    running.remove(added.unwrap());
}

/// No huge page is taken from the system's pool, which may be empty: the mapping is enough.
#[test]
fn huge_pages_of_the_systems_pool() {
    const HUGE: usize = 512;
    let running = pager();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the system chooses.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), HUGE * PAGE, READ_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        skip("huge_pages_of_the_systems_pool", "this system has none");
        return;
    }
    refused(&running, base.cast(), HUGE * PAGE, &private(), libc::EINVAL, "of huge pages");
    // SAFETY: the mapping that was just made.
    unsafe { libc::munmap(base, HUGE * PAGE) };
    let file = Os::default().memory_file("huge", HUGE * PAGE, true).unwrap();
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: the mapping that was just made.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), HUGE * PAGE, READ_WRITE, flags, file.as_raw_fd(), 0) };
    assert_ne!(base, libc::MAP_FAILED);
    refused(&running, base.cast(), HUGE * PAGE, &shared(&file, 0), libc::EINVAL, "hugetlbfs");
    // SAFETY: the mapping that was just made.
    unsafe { libc::munmap(base, HUGE * PAGE) };
}

#[test]
fn ranges_that_are_somebodys_already() {
    let (running, memory) = (pager(), Memory::new(PAGES));
    // SAFETY: the memory is used through these addresses alone.
    let region = unsafe { running.pager.add_region_by_id(memory.at(8), 8 * PAGE, &private()) }.unwrap();
    for (page, pages) in [(8, 8), (0, PAGES), (0, 9), (15, 1), (15, 4), (10, 2)] {
        refused(&running, memory.at(page), pages * PAGE, &private(), libc::EINVAL, "another region");
    }
    let second = pager();
    refused(&second, memory.at(0), memory.bytes(), &private(), libc::EBUSY, "another userfaultfd");
    running.remove(region);
    let others = Userfault::new(&Os::default(), 0, true).unwrap();
    others.register(memory.at(PAGES - 1) as usize, PAGE, Faulting::default()).unwrap();
    refused(&running, memory.at(0), memory.bytes(), &private(), libc::EBUSY, "another userfaultfd");
    drop(others);
    for pager in [&running, &second] {
        let at = pager.pager.staging_range().start;
        refused(&running, at as *mut u8, PAGE, &private(), libc::EBUSY, "another userfaultfd");
    }
    works(&running, &memory);
    works(&second, &memory);
}

/// A thread that brings a page back needs this memory, and would wait for itself.
#[test]
fn memory_that_brings_pages_back() {
    let (running, memory) = (pager(), Memory::new(PAGES));
    let region = running.add(&memory);
    let core = &**running.pager.0.core();
    let own = [std::ptr::from_ref(core) as usize, core.scratch.range().0, core.zswap.pool().memory.range().0];
    for at in own.map(|at| (at & !(PAGE - 1)) as *mut u8) {
        // Memory that malloc returned is in the heap, or in a mapping.
        let before = running.pager.stats();
        // SAFETY: the call is refused.
        let error = unsafe { running.pager.add_region_by_id(at, PAGE, &private()) }.expect_err("of the pager's own");
        assert!(error.text().contains("map a region's memory by mmap"), "{error}");
        assert_eq!(before.regions, running.pager.stats().regions);
    }
    running.remove(region);
    // The stack that the call itself takes lies below.
    let below = (std::ptr::from_ref(&own) as usize & !(PAGE - 1)) - 15 * PAGE;
    refused(&running, below as *mut u8, 16 * PAGE, &private(), libc::EINVAL, "the stack of the calling thread");
    works(&running, &memory);
}

#[test]
fn mappings_that_grow() {
    let (running, memory) = (pager(), Memory::new(PAGES));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN | libc::MAP_FIXED;
    // SAFETY: addresses of the test's own.
    let top = unsafe { libc::mmap(memory.at(PAGES / 2).cast(), PAGES / 2 * PAGE, READ_WRITE, flags, -1, 0) };
    assert_eq!(top, memory.at(PAGES / 2).cast());
    invalid(&running, &memory, &private(), "MAP_GROWSDOWN");
    refused(&running, memory.at(PAGES - 1), PAGE, &private(), libc::EINVAL, "MAP_GROWSDOWN");
}

#[test]
fn the_heap() {
    let running = pager();
    let mut heap = Vec::new();
    assert!(mappings_within(0, usize::MAX & !(PAGE - 1), |mapped| heap.extend(mapped.heap.then_some(mapped))));
    let [heap] = heap[..] else { return skip("the_heap", "malloc has mappings alone, or one heap in several") };
    assert!((heap.start..heap.end).contains(&heap_start()) && !heap.grows());
    refused(&running, (heap.end - PAGE) as *mut u8, PAGE, &private(), libc::EINVAL, "in the heap");
}

/// A range may consist of several mappings. One system call takes one of them at a time.
#[test]
fn ranges_of_several_mappings() {
    let in_place = evicting(true, limited(LIMIT, FaultMode::Sigbus));
    let running = pager();
    for (running, memory) in [
        (&running, Memory::shared(PAGES)),
        (&running, Memory::new(PAGES)),
        (&Running::new(&in_place, &[]), Memory::new(PAGES)),
    ] {
        for page in (0..PAGES).step_by(8) {
            assert_eq!(memory.advise(page, 5, libc::MADV_SEQUENTIAL), 0);
        }
        works(running, &memory);
        let counts = running.pager.stats().counts;
        assert_eq!(counts.pinned, 0, "{counts:?}");
        assert!(counts.loads_ahead > 0, "{counts:?}");
    }
}
