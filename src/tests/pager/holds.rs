//! Holds, and pages that the system itself keeps in their place.

use super::look::{consistent, kind_at};
use super::{Memory, Running, evicting, limited};
use crate::error::{Error, Limit};
use crate::pager::for_c::PagerForC;
use crate::pager::hold::MOST_HOLDS;
use crate::pager::region::Serials;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode, PagerOptions, PagerTuning};
use crate::tests::skip::skip;
use crate::units::PAGE;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const LIMIT: usize = 64;
const PAGES: usize = 3 * LIMIT;
const MOST: usize = 24;
/// Pages that come ahead of a touch do not wait for room.
const AHEAD: usize = 16;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// A pager for each way to evict, with a limit on held pages. A thread is lent so that the memory can be unmapped.
fn pagers() -> [Running; 2] {
    [false, true].map(|evict_in_place| {
        let max_held_bytes = (MOST * PAGE) as u64;
        let tuning = PagerTuning { max_held_bytes: Some(max_held_bytes), ..PagerTuning::default() };
        let options = PagerOptions { tuning, ..limited(LIMIT, FaultMode::Sigbus) };
        Running::new(&evicting(evict_in_place, options), &[Duty::Serve])
    })
}

/// Memory under a pager, filled.
fn filled(running: &Running) -> Memory {
    let memory = Memory::new(PAGES);
    running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    memory
}

fn held(running: &Running) -> usize {
    running.pager.stats().held_bytes as usize / PAGE
}

fn hold(running: &Running, memory: &Memory, page: usize, pages: usize) -> Result<(), Error> {
    running.pager.begin_hold(memory.at(page), pages * PAGE)
}

fn release(running: &Running, memory: &Memory, page: usize, pages: usize) {
    running.pager.end_hold(memory.at(page), pages * PAGE).unwrap();
}

/// Evicts everything that can be evicted.
fn evict_all(running: &Running) {
    (0..4).for_each(|_| _ = running.pager.evict(PAGES as u64));
}

fn check_all(running: &Running, memory: &Memory) {
    (0..PAGES).for_each(|page| memory.check(page, value(page)));
    consistent(running);
}

#[test]
fn no_more_is_held_than_may_be() {
    for running in pagers() {
        let memory = filled(&running);
        hold(&running, &memory, 2, 4).unwrap();
        // Four of these are held already. Then come as many more as may be held, and one too many.
        assert!(matches!(hold(&running, &memory, 0, MOST + 1), Err(Error::Limit(Limit::Held))));
        assert_eq!(held(&running), 4);
        evict_all(&running);
        for page in 0..9 {
            let is_held = matches!(kind_at(&running, memory.at(page)), PageKind::Resident(1));
            assert_eq!(is_held, (2..6).contains(&page), "page {page}");
        }
        hold(&running, &memory, 0, MOST).unwrap();
        assert_eq!(held(&running), MOST);
        assert!(matches!(hold(&running, &memory, 40, 1), Err(Error::Limit(Limit::Held))));
        // A held page may be held again.
        hold(&running, &memory, 0, MOST).unwrap();
        release(&running, &memory, 0, MOST);
        release(&running, &memory, 0, MOST);
        assert_eq!(held(&running), 4);
        release(&running, &memory, 2, 4);
        assert_eq!(held(&running), 0);
        check_all(&running, &memory);
    }
}

#[test]
fn holds_are_counted_and_releasing_an_unheld_page_does_nothing() {
    for running in pagers() {
        let memory = filled(&running);
        release(&running, &memory, 0, PAGES);
        assert_eq!(held(&running), 0);
        for holds in 1..4 {
            hold(&running, &memory, 5, 2).unwrap();
            assert_eq!(kind_at(&running, memory.at(6)), PageKind::Resident(holds));
        }
        for holds in (0..3).rev() {
            evict_all(&running);
            assert_eq!(kind_at(&running, memory.at(6)), PageKind::Resident(holds + 1));
            release(&running, &memory, 5, 2);
        }
        release(&running, &memory, 5, 2);
        assert_eq!(held(&running), 0);
        evict_all(&running);
        assert!(!matches!(kind_at(&running, memory.at(6)), PageKind::Resident(_)));
        check_all(&running, &memory);
    }
}

#[test]
fn a_part_of_a_page_holds_all_of_it() {
    for running in pagers() {
        let memory = filled(&running);
        let middle = memory.at(10).wrapping_add(PAGE / 2);
        running.pager.begin_hold(middle, PAGE).unwrap();
        assert_eq!(held(&running), 2);
        running.pager.end_hold(middle, PAGE).unwrap();
        running.pager.begin_hold(middle, 1).unwrap();
        assert_eq!(held(&running), 1);
        running.pager.end_hold(memory.at(10), PAGE).unwrap();
        for at in [memory.at(10), middle, std::ptr::null_mut()] {
            running.pager.begin_hold(at, 0).unwrap();
            assert_eq!(held(&running), 0);
        }
        running.pager.begin_hold(middle, 1).unwrap();
        running.pager.end_hold(middle, 0).unwrap();
        assert_eq!(held(&running), 1);
        running.pager.end_hold(middle, 1).unwrap();
        // SAFETY: nothing is given back.
        unsafe { running.pager.discard(memory.at(10), 0) }.unwrap();
        assert_eq!(held(&running), 0);
        check_all(&running, &memory);
    }
}

#[test]
fn a_hold_may_go_over_regions_but_not_beyond_them() {
    for running in pagers() {
        let memory = Memory::new(PAGES);
        // Neighbours, and a page at the end that is in no region.
        let cut = LIMIT + 3;
        let parts = [(0, cut), (cut, PAGES - 1 - cut)];
        let regions = parts.map(|(page, pages)| {
            // SAFETY: the memory is used through these addresses alone.
            unsafe { running.pager.add_region_by_id(memory.at(page), pages * PAGE, &memory.options()) }.unwrap()
        });
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        hold(&running, &memory, cut - 2, 4).unwrap();
        evict_all(&running);
        assert_eq!(held(&running), 4);
        assert!((cut - 2..cut + 2).all(|page| kind_at(&running, memory.at(page)) == PageKind::Resident(1)));
        for (page, pages) in [(PAGES - 1, 1), (PAGES - 2, 2), (0, PAGES)] {
            assert!(matches!(hold(&running, &memory, page, pages), Err(Error::Invalid(_))));
            let released = running.pager.end_hold(memory.at(page), pages * PAGE);
            assert!(matches!(released, Err(Error::Invalid(_))));
        }
        let last = (usize::MAX & !(PAGE - 1)) as *const u8;
        for (at, bytes) in [(last, PAGE), (last, 2 * PAGE), (std::ptr::null(), PAGE), (memory.at(0), usize::MAX)] {
            assert!(matches!(running.pager.begin_hold(at, bytes), Err(Error::Invalid(_))));
        }
        // The parts of the range that are in regions are released all the same.
        assert_eq!(held(&running), 0);
        hold(&running, &memory, cut - 2, 4).unwrap();
        // Removing a region ends its holds.
        running.pager.remove_by_id(regions[0]).unwrap();
        assert_eq!(held(&running), 2);
        release(&running, &memory, cut, 2);
        assert_eq!(held(&running), 0);
        check_all(&running, &memory);
    }
}

#[test]
fn what_is_left_of_a_range_that_was_held_is_released() {
    for running in pagers() {
        let memory = filled(&running);
        hold(&running, &memory, 2, 6).unwrap();
        // SAFETY: a page of the test's own, which nobody needs any more.
        assert_eq!(unsafe { libc::munmap(memory.at(4).cast(), PAGE) }, 0);
        running.pager.0.read_events();
        assert_eq!(held(&running), 5);
        let released = running.pager.end_hold(memory.at(2), 6 * PAGE);
        assert!(matches!(released, Err(Error::Invalid(_))));
        assert_eq!(held(&running), 0);
        evict_all(&running);
        let left = [2, 3, 5, 6, 7];
        assert!(!left.iter().any(|&page| matches!(kind_at(&running, memory.at(page)), PageKind::Resident(_))));
        left.iter().for_each(|&page| memory.check(page, value(page)));
        consistent(&running);
    }
}

#[test]
fn a_limit_below_what_is_held_is_kept_as_soon_as_it_can_be() {
    for running in pagers() {
        let memory = filled(&running);
        hold(&running, &memory, 0, MOST).unwrap();
        let few = ((MOST - 4) * PAGE) as u64;
        assert!(matches!(running.pager.set_resident_limit(Some(few)), Err(Error::Again(_))));
        assert_eq!((held(&running), running.pager.stats().resident_bytes as usize / PAGE), (MOST, MOST));
        (0..MOST).for_each(|page| memory.check(page, value(page)));
        release(&running, &memory, 0, MOST);
        running.pager.set_resident_limit(Some(few)).unwrap();
        assert!(running.pager.stats().resident_bytes <= few);
        check_all(&running, &memory);
    }
}

/// A memory file that system calls write to and read from.
fn pipe_file() -> OwnedFd {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"calls".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: a descriptor that was just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn system_calls_read_and_write_pages_that_are_held() {
    for running in pagers() {
        let (memory, file) = (filled(&running), pipe_file());
        for page in (0..PAGES).step_by(5) {
            hold(&running, &memory, page, 1).unwrap();
            evict_all(&running);
            // SAFETY: pages of the test's own; the calls check them.
            unsafe {
                assert_eq!(libc::pwrite(file.as_raw_fd(), memory.at(page).cast(), PAGE, 0), PAGE as isize);
                memory.fill(page, 77);
                assert_eq!(libc::pread(file.as_raw_fd(), memory.at(page).cast(), PAGE, 0), PAGE as isize);
            }
            release(&running, &memory, page, 1);
        }
        check_all(&running, &memory);
    }
}

/// Pins pages as direct I/O does, for as long as the descriptor lives. None: this system does not allow it.
fn pin(memory: &Memory, page: usize, pages: usize) -> Option<OwnedFd> {
    const PARAMETERS: usize = 120;
    const REGISTER_BUFFERS: libc::c_uint = 0;
    let mut parameters = [0_u64; PARAMETERS / 8];
    // SAFETY: the parameters are as long as the system wants them, and can be written.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a descriptor that was just made.
    let ring = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let buffer = libc::iovec { iov_base: memory.at(page).cast(), iov_len: pages * PAGE };
    // SAFETY: one buffer can be read there.
    let pinned = unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_BUFFERS, &buffer, 1) };
    (pinned == 0).then_some(ring)
}

#[test]
fn pages_that_the_system_has_pinned_stay_and_others_go() {
    let [running, _] = pagers();
    let memory = filled(&running);
    hold(&running, &memory, 4, 3).unwrap();
    let Some(ring) = pin(&memory, 4, 3) else {
        skip("pages_that_the_system_has_pinned_stay_and_others_go", "io_uring is not to be had");
        return;
    };
    release(&running, &memory, 4, 3);
    evict_all(&running);
    assert!(running.pager.stats().counts.pinned > 0);
    assert!((4..7).all(|page| matches!(kind_at(&running, memory.at(page)), PageKind::Resident(0))));
    for round in 0..3 {
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
        assert!(running.pager.stats().resident_bytes <= ((LIMIT + AHEAD) * PAGE) as u64, "round {round}");
    }
    // A discarded page reads as zero, though the page itself stays.
    // SAFETY: the bytes are not needed.
    unsafe { running.pager.discard(memory.at(5), PAGE) }.unwrap();
    memory.check(5, 0);
    memory.fill(5, value(5));
    check_all(&running, &memory);
    drop(ring);
    // The system lets go of the pages a little later.
    for _ in 0..1000 {
        evict_all(&running);
        if !(4..7).any(|page| matches!(kind_at(&running, memory.at(page)), PageKind::Resident(_))) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!((4..7).all(|page| !matches!(kind_at(&running, memory.at(page)), PageKind::Resident(_))));
    check_all(&running, &memory);
}

/// The system neither moves nor takes back pages that are locked in memory. Those stay, and the others keep to the
/// limit.
#[test]
fn pages_that_are_locked_in_memory_stay_and_others_go() {
    for running in pagers() {
        let memory = filled(&running);
        hold(&running, &memory, 4, 3).unwrap();
        // SAFETY: a range of the test's own.
        if unsafe { libc::mlock(memory.at(4).cast(), 3 * PAGE) } != 0 {
            skip("pages_that_are_locked_in_memory_stay_and_others_go", "nothing may be locked");
            return;
        }
        release(&running, &memory, 4, 3);
        evict_all(&running);
        assert!(running.pager.stats().counts.pinned > 0);
        assert!((4..7).all(|page| matches!(kind_at(&running, memory.at(page)), PageKind::Resident(0))));
        for _ in 0..3 {
            (0..PAGES).for_each(|page| memory.check(page, value(page)));
            assert!(running.pager.stats().resident_bytes <= ((LIMIT + AHEAD) * PAGE) as u64);
        }
        consistent(&running);
        // SAFETY: a range of the test's own.
        assert_eq!(unsafe { libc::munlock(memory.at(4).cast(), 3 * PAGE) }, 0);
        evict_all(&running);
        assert!((4..7).all(|page| !matches!(kind_at(&running, memory.at(page)), PageKind::Resident(_))));
        check_all(&running, &memory);
    }
}

/// A page that is held as often as its word can count can't be held again: an uncounted hold would end too early.
#[test]
fn page_is_held_no_more_often_than_can_be_counted() {
    let [running, _] = pagers();
    let memory = filled(&running);
    hold(&running, &memory, 3, 1).unwrap();
    let core = &running.pager.0;
    let set_holds = |holds: u32| {
        let extent = core.extents.find(memory.at(3) as usize).unwrap();
        let region = core.places[extent.region].enter().unwrap();
        let mut claim = region.page(3).claim();
        claim.set(claim.was().with_holds(holds));
    };
    set_holds(MOST_HOLDS - 2);
    hold(&running, &memory, 3, 1).unwrap();
    hold(&running, &memory, 2, 2).unwrap();
    for _ in 0..3 {
        let refused = hold(&running, &memory, 2, 3);
        assert!(
            matches!(refused, Err(error @ Error::Limit(Limit::Held)) if error.text().contains("release")),
            "{refused:?}"
        );
        assert_eq!(kind_at(&running, memory.at(3)), PageKind::Resident(MOST_HOLDS));
        assert_eq!(kind_at(&running, memory.at(2)), PageKind::Resident(1));
        assert_eq!(held(&running), 2);
    }
    release(&running, &memory, 3, 1);
    hold(&running, &memory, 3, 1).unwrap();
    set_holds(2);
    release(&running, &memory, 2, 2);
    assert_eq!(held(&running), 1);
    release(&running, &memory, 3, 1);
    assert_eq!(held(&running), 0);
    check_all(&running, &memory);
}

/// A guard of a hold that outlives its region does not end a hold of the region that has the same addresses now.
#[test]
fn a_stale_guard_leaves_the_next_region_held() {
    for running in pagers() {
        let memory = Memory::new(PAGES);
        let region = running.add(&memory);
        let stale = running.pager.hold(memory.at(0), 2 * PAGE).unwrap();
        running.remove(region);
        let next = running.add(&memory);
        let held_now = running.pager.hold(memory.at(0), 2 * PAGE).unwrap();
        drop(stale);
        assert_eq!(held(&running), 2);
        drop(held_now);
        assert_eq!(held(&running), 0);
        running.remove(next);
    }
}

/// The end of a hold does not end a hold of another region that has the same place now.
#[test]
fn release_of_a_region_that_is_gone_leaves_the_next_one_held() {
    let [running, _] = pagers();
    let (first, second) = (Memory::new(PAGES), Memory::new(PAGES));
    let region = running.add(&first);
    let core = &running.pager.0;
    let (version, part) = (core.extents.version(), core.extents.find(first.at(0) as usize).unwrap());
    running.remove(region);
    let next = running.add(&second);
    assert_eq!(next.place(), region.place());
    hold(&running, &second, 0, 2).unwrap();
    assert!(!core.release_part(&part, version, Serials::LAST), "it was found in a table that is another by now");
    assert_eq!(held(&running), 2);
    release(&running, &second, 0, 2);
    assert_eq!(held(&running), 0);
    running.remove(next);
}
