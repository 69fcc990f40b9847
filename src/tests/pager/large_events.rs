//! Owners give back, unmap and move many pages at once. Other memory is served meanwhile, and no old bytes come back.

use super::look::{consistent, consistent_but, kind_at};
use super::{Memory, Running, WAYS, evicting, limited};
use crate::pager::backlog::{LARGE, PART};
use crate::pager::core::Core;
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::page::StateWord;
use crate::pager::state::PageKind;
use crate::pager::{Duty, Eviction, FaultMode, PagerOptions, PagerTuning};
use crate::units::PAGE;
use std::thread;
use std::time::Duration;

const LIMIT: usize = 128;
const PAGES: usize = 4 * LARGE as usize + 100;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

fn filled((mode, evict_in_place, shared): (FaultMode, bool, bool), duties: &[Duty]) -> (Memory, Running, RegionId) {
    let running = Running::new(&evicting(evict_in_place, limited(LIMIT, mode)), duties);
    let memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
    let region = running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    // The memory is dropped last: no other thread would read the event of its unmapping.
    (memory, running, region)
}

/// Does what the pager does when it reads that the owner of a range gives it back.
fn read_discard(core: &Core, memory: &Memory, pages: std::ops::Range<usize>) {
    let mut inbox = core.events.lock();
    let closed = core.gate.close();
    core.begin_discard(&mut inbox, &closed, memory.at(pages.start) as usize, memory.at(pages.end) as usize);
}

fn discarded(running: &Running) -> u64 {
    running.pager.stats().counts.discarded
}

fn is_stored(running: &Running, memory: &Memory, page: usize) -> bool {
    kind_at(running, memory.at(page)) == PageKind::Stored
}

const SIGBUS: (FaultMode, bool, bool) = (FaultMode::Sigbus, false, false);

/// No page is discarded with the lock held, and a touch of another page waits for one part at most.
#[test]
fn large_discard_is_done_in_parts() {
    let (memory, running, _) = filled(SIGBUS, &[]);
    let core = &running.pager.0;
    let begin = LARGE as usize;
    let before = discarded(&running);
    read_discard(core, &memory, begin..PAGES);
    assert_eq!((discarded(&running) - before, core.backlog.left()), (0, 1), "nothing was done with the lock held");
    let mut parts = 0;
    while core.backlog.left() > 0 {
        let before = discarded(&running);
        assert!(core.do_some_work());
        assert!(discarded(&running) - before <= PART, "{} pages at once", discarded(&running) - before);
        parts += 1;
        // A touch of another page that needs room may discard one part, and no more.
        memory.check(parts, value(parts));
    }
    assert!(parts > 1 && parts <= (PAGES - begin).div_ceil(PART as usize), "{parts} parts");
    (0..begin).for_each(|page| memory.check(page, value(page)));
    (begin..PAGES).for_each(|page| assert_eq!(kind_at(&running, memory.at(page)), PageKind::Empty));
}

/// A touch of the range itself never sees old bytes: it helps until the range is done.
#[test]
fn touch_of_a_range_that_waits_to_be_discarded_reads_zeros() {
    let (memory, running, _) = filled(SIGBUS, &[]);
    let stored: Vec<_> = (0..PAGES).filter(|&page| is_stored(&running, &memory, page)).collect();
    let last = *stored.last().unwrap();
    read_discard(&running.pager.0, &memory, 0..PAGES);
    memory.check(last, 0);
    assert_eq!(running.pager.0.backlog.left(), 0);
    stored.iter().for_each(|&page| memory.check(page, 0));
}

/// Pages of the range are held, given back and evicted as if the discard had taken effect at once.
#[test]
fn calls_on_a_range_that_waits_to_be_discarded_wait_for_it() {
    let (memory, running, _) = filled(SIGBUS, &[]);
    let stored: Vec<_> = (0..PAGES).filter(|&page| is_stored(&running, &memory, page)).collect();
    let begin = || read_discard(&running.pager.0, &memory, 0..PAGES);
    begin();
    running.pager.begin_hold(memory.at(stored[7]), PAGE).unwrap();
    memory.check(stored[7], 0);
    running.pager.end_hold(memory.at(stored[7]), PAGE).unwrap();
    memory.fill(stored[7], 99);
    // SAFETY: the bytes are not needed.
    unsafe { running.pager.discard(memory.at(stored[7]), PAGE) }.unwrap();
    memory.check(stored[7], 0);
    begin();
    // SAFETY: the bytes are not needed.
    unsafe { running.pager.discard(memory.at(0), memory.bytes()) }.unwrap();
    memory.check(stored[9], 0);
    begin();
    let _ = running.pager.evict(64);
    running.pager.0.do_all_work();
    stored.iter().for_each(|&page| memory.check(page, 0));
}

/// Two threads give ranges back while another one touches other pages. (Of private memory that is evicted in place, the
/// system tells no discard.)
#[test]
fn large_ranges_read_as_zero_once_they_were_given_back() {
    for way in WAYS.into_iter().filter(|&(_, evict_in_place, shared)| shared || !evict_in_place) {
        let (memory, running, _) = filled(way, &[Duty::All, Duty::Evict]);
        let advice = if way.2 { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        let (other, half) = (LARGE as usize, PAGES / 2);
        thread::scope(|scope| {
            let owners = [other..half + other / 2, half + other / 2..PAGES].map(|pages| {
                let memory = &memory;
                scope.spawn(move || {
                    for round in 0..2 {
                        assert_eq!(memory.advise(pages.start, pages.len(), advice), 0);
                        pages.clone().rev().step_by(7).for_each(|page| memory.check(page, 0));
                        pages.clone().for_each(|page| memory.check(page, 0));
                        pages.clone().for_each(|page| memory.fill(page, value(page) + round));
                        pages.clone().for_each(|page| memory.check(page, value(page) + round));
                    }
                })
            });
            let mut page = 0;
            while owners.iter().any(|owner| !owner.is_finished()) {
                page = (page + 37) % other;
                memory.check(page, value(page));
            }
        });
        (0..other).for_each(|page| memory.check(page, value(page)));
        (other..PAGES).for_each(|page| memory.check(page, value(page) + 1));
        consistent(&running);
    }
}

/// A large range is unmapped, and other memory is mapped there and becomes a region at once.
#[test]
fn large_ranges_that_are_unmapped_are_forgotten() {
    for way in WAYS {
        let (mut memory, running, _) = filled(way, &[Duty::All, Duty::Evict]);
        let (base, kept) = (memory.at(0), LARGE as usize);
        for round in 0..3 {
            // SAFETY: the pages are this test's, and are not used before something else is mapped there.
            unsafe {
                assert_eq!(libc::munmap(memory.at(kept).cast(), (PAGES - kept) * PAGE), 0);
                let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                let at = memory.at(kept).cast();
                let mapped = libc::mmap(at, (PAGES - kept) * PAGE, access, flags | libc::MAP_FIXED, -1, 0);
                assert_eq!(mapped, at);
                running.pager.add_region_by_id(mapped.cast(), (PAGES - kept) * PAGE, &Default::default()).unwrap();
            }
            (kept..PAGES).step_by(3).for_each(|page| memory.check(page, 0));
            (kept..PAGES).for_each(|page| memory.fill(page, value(page) + round));
            (kept..PAGES).for_each(|page| memory.check(page, value(page) + round));
            (0..kept).for_each(|page| memory.check(page, value(page)));
            consistent(&running);
        }
        memory.is_now(base, PAGES);
    }
}

/// Does one thing that an owner may do with a range that waits to be discarded. Returns where the range is then.
fn change(what: &str, at: usize, bytes: usize) -> usize {
    let half = bytes / 2;
    // SAFETY: the range is a test's own, and is not used while it is moved or after it is gone.
    unsafe {
        match what {
            "moved" => {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
                let room = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                libc::mremap(at as *mut _, bytes, bytes, flags, room) as usize
            }
            "unmapped" => libc::munmap(at as *mut _, bytes) as usize + at,
            "unmapped in part" => libc::munmap((at + half) as *mut _, half) as usize + at,
            _ => at,
        }
    }
}

/// A range that waits to be discarded is moved, unmapped, or leaves the pager.
#[test]
fn range_that_waits_to_be_discarded_is_moved_or_goes() {
    for what in ["moved", "unmapped", "unmapped in part", "removed"] {
        let (mut memory, running, region) = filled(SIGBUS, &[]);
        let stored: Vec<_> = (0..PAGES).filter(|&page| is_stored(&running, &memory, page)).collect();
        read_discard(&running.pager.0, &memory, 0..PAGES);
        running.pager.0.do_some_work();
        let (at, bytes) = (memory.at(0) as usize, memory.bytes());
        thread::scope(|scope| {
            let owner = scope.spawn(move || change(what, at, bytes));
            while !owner.is_finished() {
                running.pager.0.read_events();
                thread::yield_now();
            }
            let now = owner.join().unwrap();
            if what == "removed" {
                running.remove(region);
            }
            memory.is_now(now as *mut u8, PAGES);
        });
        running.pager.0.do_all_work();
        let left = match what {
            "unmapped" => 0,
            "unmapped in part" => PAGES / 2,
            _ => PAGES,
        };
        stored.iter().filter(|&&page| page < left).for_each(|&page| memory.check(page, 0));
        if left == PAGES {
            consistent_but(&running, PAGES as u64);
            continue;
        }
        assert_eq!(running.pager.0.extents.within(0, usize::MAX).count(), left.min(1));
        let rest = Memory::new(PAGES);
        running.add(&rest);
        (0..PAGES).for_each(|page| rest.fill(page, value(page)));
        (0..PAGES).for_each(|page| rest.check(page, value(page)));
        // This comes before the memory is unmapped: munmap of a region waits until a thread reads its event.
        drop(running);
    }
}

/// Gives a test the page of an address, for what no call of a pager does.
fn with_page(core: &Core, at: *mut u8, act: impl FnOnce(&StateWord)) {
    let extent = core.extents.find(at as usize).unwrap();
    act(core.places[extent.region].enter().unwrap().page(extent.page_at(at as usize)));
}

/// A held page reads as zero as well, even if another thread has it claimed when the discard is read.
#[test]
fn page_that_is_held_and_claimed_is_discarded_with_its_range() {
    let (memory, running, _) = filled(SIGBUS, &[]);
    let core = &running.pager.0;
    let at = memory.at(LARGE as usize);
    running.pager.begin_hold(at, PAGE).unwrap();
    thread::scope(|scope| {
        with_page(core, at, |page| {
            let claim = page.claim();
            let reader = scope.spawn(|| read_discard(core, &memory, 0..PAGES));
            while core.backlog.left() == 0 && !reader.is_finished() {
                thread::yield_now();
            }
            // The reading thread has to reach the page, which is in the middle, before the claim ends.
            thread::sleep(Duration::from_millis(20));
            drop(claim);
        });
    });
    memory.check(LARGE as usize, 0);
    running.pager.end_hold(at, PAGE).unwrap();
    core.do_all_work();
    memory.check(LARGE as usize, 0);
}

/// Bytes that the system writes to a held page after a discard stay, even if the hold ends before the discard has.
#[test]
fn page_that_is_written_while_it_is_held_is_not_discarded_when_it_is_released() {
    let (memory, running, _) = filled((FaultMode::Sigbus, false, true), &[]);
    running.pager.begin_hold(memory.at(7), PAGE).unwrap();
    read_discard(&running.pager.0, &memory, 0..PAGES);
    memory.fill(7, 77);
    running.pager.end_hold(memory.at(7), PAGE).unwrap();
    running.pager.0.do_all_work();
    memory.check(7, 77);
    memory.check(8, 0);
}

/// Held pages that were unmapped do not count any more when the next page is held.
#[test]
fn pages_that_were_held_when_they_were_unmapped_leave_room_for_others() {
    let tuning = PagerTuning { max_held_bytes: Some(4 * PAGE as u64), ..PagerTuning::default() };
    let options = PagerOptions { eviction: Eviction::Moving, tuning, ..limited(LIMIT, FaultMode::Sigbus) };
    // The memory is dropped last: no other thread would read the event of its unmapping.
    let (memory, other) = (Memory::new(PAGES), Memory::new(1));
    let running = Running::new(&options, &[]);
    running.add(&memory);
    running.add(&other);
    running.pager.begin_hold(memory.at(9), 4 * PAGE).unwrap();
    assert!(running.pager.begin_hold(other.at(0), PAGE).is_err());
    let core = &running.pager.0;
    let (start, end) = (memory.at(0) as usize, memory.at(PAGES) as usize);
    let mut inbox = core.events.lock();
    let closed = core.gate.close();
    core.extents.within(start, end).for_each(|part| core.begin_drop(&mut inbox, &part));
    core.extents.cut(start, end);
    drop((closed, inbox));
    running.pager.begin_hold(other.at(0), PAGE).unwrap();
}

/// A thread that serves touches does not stay with a touch of the range while others wait.
#[test]
fn touch_of_a_range_that_waits_to_be_discarded_lets_others_be_served_first() {
    let (memory, running, _) = filled((FaultMode::Threads, false, false), &[Duty::All]);
    let core = &running.pager.0;
    let stored: Vec<_> = (0..PAGES).filter(|&page| is_stored(&running, &memory, page)).collect();
    let (first, last) = (stored[0], *stored.last().unwrap());
    // From here on this thread serves.
    running.pager.stop();
    while core.lending.threads() > 0 {
        thread::yield_now();
    }
    read_discard(core, &memory, LARGE as usize..PAGES);
    thread::scope(|scope| {
        let (memory, core) = (&memory, &**core);
        let shut = scope.spawn(move || memory.check(last, 0));
        while !core.serve_waiting() {
            thread::yield_now();
        }
        assert_eq!(core.backlog.left(), 1, "the touch was served, and all others had to wait");
        let open = scope.spawn(move || memory.check(first, value(first)));
        while !open.is_finished() {
            core.serve_waiting();
        }
        while !shut.is_finished() {
            core.serve_waiting();
        }
    });
    assert_eq!(core.backlog.left(), 0);
}
