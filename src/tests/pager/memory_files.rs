//! Memory files in huge pages, which the system can't split while a pin on them lives: no page ever changes its bytes,
//! and pages that can't leave stay charged.

use super::look::{consistent, with_faults};
use super::{Memory, Running, limited};
use crate::os::{Call, Os};
use crate::pager::for_c::PagerForC;
use crate::pager::{Duty, FaultMode};
use crate::tests::skip::skip;
use crate::units::PAGE;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Pages of a huge page.
const HUGE: usize = 512;
const PAGES: usize = 4 * HUGE;

fn value_of(page: usize) -> u64 {
    page as u64 + 1
}

/// A pipe that refers to pages until it is dropped.
struct Pins {
    _read: OwnedFd,
    write: OwnedFd,
}

impl Pins {
    /// Pins one page in each huge page, through a mapping of them.
    fn of(memory: &Memory) -> Self {
        let mut ends = [0; 2];
        // SAFETY: two numbers can be written.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: descriptors that were just made.
        let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let pins = Self { _read: read, write };
        (5..memory.pages()).step_by(HUGE).for_each(|page| pins.pin(memory, page));
        pins
    }

    fn pin(&self, memory: &Memory, page: usize) {
        let span = libc::iovec { iov_base: memory.at(page).cast(), iov_len: PAGE };
        // SAFETY: the page can be read, and the pipe has room for it.
        let pinned = unsafe { libc::vmsplice(self.write.as_raw_fd(), &raw const span, 1, libc::SPLICE_F_NONBLOCK) };
        assert_eq!(pinned, PAGE as isize, "{}", std::io::Error::last_os_error());
    }
}

/// Puts the pages of a memory file together to huge pages. Returns false if this system does not do that.
fn collapse(memory: &Memory) -> bool {
    let done = memory.advise(0, memory.pages(), libc::MADV_COLLAPSE) == 0;
    if !done {
        let why = std::io::Error::last_os_error();
        skip("huge_pages_of_a_memory_file", format_args!("the system makes none: {why}"));
    }
    done
}

/// A memory file with filled pages, in huge pages if the system does that.
fn filled(huge: bool) -> Option<Memory> {
    let memory = Memory::huge_file(PAGES);
    (0..PAGES).for_each(|page| memory.fill(page, value_of(page)));
    (!huge || collapse(&memory)).then_some(memory)
}

fn evict_all(running: &Running) {
    while matches!(running.pager.evict(PAGES as u64), Ok(1..)) {}
}

/// Checks that all pages are right, that the pages in the file are charged, and that the region can be removed without
/// a loss.
fn all_is_right(running: Running, region: crate::pager::for_c::RegionId, memory: &Memory) {
    consistent(&running);
    let charged = running.pager.stats().resident_bytes as usize / PAGE;
    assert!(memory.in_cache() <= charged, "{} pages are in the file, and {charged} charged", memory.in_cache());
    (0..PAGES).for_each(|page| memory.check(page, value_of(page)));
    consistent(&running);
    evict_all(&running);
    running.remove(region);
    (0..PAGES).for_each(|page| memory.check(page, value_of(page)));
}

const MODES: [FaultMode; 2] = [FaultMode::Sigbus, FaultMode::Threads];

fn running(mode: FaultMode) -> Running {
    Running::new(&limited(4 * PAGES, mode), &[Duty::Serve])
}

/// Evicts huge pages with or without pins on them. Returns how many pages the system refused to let go, or none if it
/// makes no huge pages.
fn refused_pages(mode: FaultMode, pinned: bool) -> Option<u64> {
    let memory = filled(true)?;
    let pins = pinned.then(|| Pins::of(&memory));
    let running = running(mode);
    let region = running.add(&memory);
    evict_all(&running);
    let stats = running.pager.stats();
    assert_eq!(stats.resident_bytes > 0, pinned, "{stats:?}");
    all_is_right(running, region, &memory);
    drop(pins);
    Some(stats.counts.pinned)
}

#[test]
fn pages_of_pinned_huge_pages_stay_and_stay_right() {
    for mode in MODES {
        let Some(refused) = refused_pages(mode, true) else { return };
        assert!(refused > 0, "pinned pages left");
        // On a busy machine the system itself may have a reference to a page for a moment, but not each time.
        assert!((0..5).any(|_| refused_pages(mode, false) == Some(0)), "pages without a pin do not leave at once");
    }
}

#[test]
fn pages_that_become_huge_under_the_pager_stay_right() {
    for mode in MODES {
        let memory = filled(false).unwrap();
        let running = running(mode);
        let region = running.add(&memory);
        let other = memory.mapped_again();
        if !collapse(&other) {
            return;
        }
        let pins = Pins::of(&other);
        evict_all(&running);
        assert!(running.pager.stats().counts.pinned > 0);
        all_is_right(running, region, &memory);
        drop(pins);
    }
}

#[test]
fn pages_that_could_not_leave_do_so_once_nothing_pins_them() {
    let Some(memory) = filled(true) else { return };
    let pins = Pins::of(&memory);
    let running = running(FaultMode::Sigbus);
    let region = running.add(&memory);
    evict_all(&running);
    drop(pins);
    running.pager.set_resident_limit(Some((HUGE * PAGE) as u64)).unwrap();
    assert!(memory.in_cache() <= HUGE);
    all_is_right(running, region, &memory);
}

/// A read or a fault in one thread keeps a huge page from being split for another.
#[test]
fn two_threads_evict_huge_pages_while_others_read() {
    for mode in MODES {
        let Some(memory) = filled(true) else { return };
        let running = running(mode);
        let region = running.add(&memory);
        let (reading, looks) = (AtomicBool::new(true), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for first in [0, 1] {
                let (memory, looks, reading) = (&memory, &looks, &reading);
                scope.spawn(move || {
                    for page in (0..8 * PAGES).map(|step| (step * 2 + first) * 397 % PAGES) {
                        memory.check(page, value_of(page));
                        looks.fetch_add(1, Relaxed);
                    }
                    reading.store(false, Relaxed);
                });
                let pager = &running.pager;
                scope.spawn(move || {
                    while reading.load(Relaxed) {
                        let _ = pager.evict(64);
                    }
                });
            }
        });
        assert!(running.pager.stats().counts.stored > 0, "{} looks", looks.load(Relaxed));
        all_is_right(running, region, &memory);
    }
}

#[test]
fn pages_that_another_mapping_makes_of_holes_do_not_replace_evicted_ones() {
    for mode in MODES {
        let memory = filled(false).unwrap();
        let running = running(mode);
        let region = running.add(&memory);
        evict_all(&running);
        let other = memory.mapped_again();
        // A read makes a page of zeros.
        (0..PAGES).for_each(|page| other.check(page, 0));
        (0..PAGES).for_each(|page| memory.check(page, value_of(page)));
        all_is_right(running, region, &memory);
    }
}

#[test]
fn pinned_pages_that_are_given_back_are_zeros_and_charged() {
    for mode in MODES {
        let Some(memory) = filled(true) else { return };
        let pins = Pins::of(&memory);
        let running = running(mode);
        let region = running.add(&memory);
        // SAFETY: the test needs none of the bytes.
        unsafe { running.pager.discard(memory.at(0), PAGES / 2 * PAGE) }.unwrap();
        // A part of a huge page. The system would take a whole one out of the file although it is pinned.
        assert_eq!(memory.advise(PAGES / 2, HUGE / 2, libc::MADV_REMOVE), 0);
        let given_back = PAGES / 2 + HUGE / 2;
        consistent(&running);
        let charged = running.pager.stats().resident_bytes as usize / PAGE;
        assert!(memory.in_cache() <= charged, "{} pages are in the file, and {charged} charged", memory.in_cache());
        (0..given_back).for_each(|page| memory.check(page, 0));
        (given_back..PAGES).for_each(|page| memory.check(page, value_of(page)));
        (0..given_back).for_each(|page| memory.fill(page, value_of(page)));
        drop(pins);
        evict_all(&running);
        all_is_right(running, region, &memory);
    }
}

#[test]
fn held_pages_stay_usable_by_system_calls_when_neighbours_leave() {
    let Some(memory) = filled(true) else { return };
    let running = running(FaultMode::Sigbus);
    let region = running.add(&memory);
    let held = [3, HUGE + 7, 3 * HUGE - 1, PAGES - 1];
    held.iter().for_each(|&page| running.pager.begin_hold(memory.at(page), PAGE).unwrap());
    let file = Os::default().memory_file("sink", PAGE, false).unwrap();
    for _ in 0..3 {
        evict_all(&running);
        for page in held {
            // SAFETY: the page is this test's; the call reads it.
            let written = unsafe { libc::pwrite(file.as_raw_fd(), memory.at(page).cast(), PAGE, 0) };
            assert_eq!(written, PAGE as isize, "page {page}: {}", std::io::Error::last_os_error());
        }
        (0..PAGES).for_each(|page| memory.check(page, value_of(page)));
    }
    held.iter().for_each(|&page| running.pager.end_hold(memory.at(page), PAGE).unwrap());
    all_is_right(running, region, &memory);
}

/// A page whose bytes can't be written back to the file is not shown as zeros: its touch fails until they can.
#[test]
fn a_page_that_can_not_be_written_back_keeps_its_copy() {
    let Some(memory) = filled(true) else { return };
    let pins = Pins::of(&memory);
    let (faults, running) = with_faults(&limited(4 * PAGES, FaultMode::Sigbus), &[Duty::Serve]);
    let region = running.add(&memory);
    faults.fail(Call::Write, 1, 0);
    evict_all(&running);
    faults.heal(Call::Write);
    (0..PAGES).for_each(|page| memory.check(page, value_of(page)));
    all_is_right(running, region, &memory);
    drop(pins);
}
