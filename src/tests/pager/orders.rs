//! What owners do one after the other, and to pages of every kind at once.

use super::look::{consistent, consistent_but, kind_at};
use super::{Memory, Running, limited};
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use std::sync::Mutex;
use std::thread;

const LIMIT: usize = 64;
const PAGES: usize = 4 * LIMIT;
const MODES: [FaultMode; 2] = [FaultMode::Sigbus, FaultMode::Threads];

/// Moves a whole memory to an address, over what is there.
fn move_to(memory: &mut Memory, to: *mut u8) {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let bytes = memory.bytes();
    // SAFETY: ranges of this test's, which is used at its new place from then on.
    let moved = unsafe { libc::mremap(memory.at(0).cast(), bytes, bytes, flags, to) };
    assert_eq!(moved, to.cast());
    memory.is_now(to, memory.pages());
}

/// Free addresses: the highest, which others just left.
fn room(pages: usize) -> *mut u8 {
    let (rights, kind) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the system chooses.
    let room = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, rights, kind, -1, 0) };
    assert_ne!(room, libc::MAP_FAILED);
    room.cast()
}

fn fill(memory: &Memory, value: u64) {
    (0..memory.pages()).for_each(|page| memory.fill(page, value + page as u64));
}

fn check(memory: &Memory, value: u64) {
    (0..memory.pages()).for_each(|page| memory.check(page, value + page as u64));
}

/// Maps memory at an address where nothing is any more, unless another thread of the process was faster.
fn take(at: *mut u8) -> Option<Memory> {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new mapping where there is none, refused otherwise.
    let taken = unsafe { libc::mmap(at.cast(), LIMIT * PAGE, libc::PROT_NONE, kind, -1, 0) };
    if taken != at.cast() {
        return None;
    }
    let mut memory = Memory::new(1);
    // SAFETY: its own page, which the new mapping takes the place of.
    unsafe { libc::munmap(memory.at(0).cast(), PAGE) };
    memory.is_now(at, LIMIT);
    Some(memory)
}

/// Each memory takes the addresses that the one before it left.
#[test]
fn regions_that_move_in_a_ring() {
    for mode in MODES {
        let running = Running::new(&limited(LIMIT, mode), &[Duty::All]);
        let mut free = Memory::new(LIMIT);
        let mut memories: Vec<_> = (0..4).map(|_| Memory::new(LIMIT)).collect();
        let regions: Vec<_> = memories.iter().map(|memory| running.add(memory)).collect();
        let value = |ring: usize| 1000 * (ring as u64 + 1);
        memories.iter().enumerate().for_each(|(ring, memory)| fill(memory, value(ring)));
        for round in 0..12 {
            let ring = round % memories.len();
            let (from, to) = (memories[ring].at(0), free.at(0));
            std::mem::forget(free);
            move_to(&mut memories[ring], to);
            free = take(from).unwrap_or_else(|| Memory::new(LIMIT));
            memories.iter().enumerate().for_each(|(ring, memory)| check(memory, value(ring)));
            consistent(&running);
        }
        regions.into_iter().for_each(|region| running.remove(region));
        memories.iter().enumerate().for_each(|(ring, memory)| check(memory, value(ring)));
    }
}

/// The region that was there is gone, and the region that moved there is whole.
#[test]
fn a_region_that_moves_over_another() {
    for mode in MODES {
        let running = Running::new(&limited(LIMIT, mode), &[Duty::All]);
        let (mut first, second) = (Memory::new(LIMIT), Memory::new(LIMIT));
        let regions = [&first, &second].map(|memory| running.add(memory));
        fill(&first, 1);
        fill(&second, 7000);
        move_to(&mut first, second.at(0));
        std::mem::forget(second);
        check(&first, 1);
        consistent(&running);
        fill(&first, 500);
        check(&first, 500);
        regions.into_iter().for_each(|region| running.remove(region));
        check(&first, 500);
        super::look::nothing_resident(&running);
    }
}

/// A hole in a region is filled by a new mapping, which is added to the same pager as a region of its own.
#[test]
fn a_region_in_a_hole_of_another() {
    for mode in MODES {
        let running = Running::new(&limited(LIMIT, mode), &[Duty::All]);
        let (memory, mut inside) = (Memory::new(PAGES), Memory::new(LIMIT));
        let outer = running.add(&memory);
        fill(&memory, 1);
        for round in 0..4 {
            // Nobody can map there in between: the same call unmaps what is there.
            move_to(&mut inside, memory.at(LIMIT));
            let inner = running.add(&inside);
            let value = 10_000 * (round + 1);
            fill(&inside, value);
            let outside = || (0..LIMIT).chain(2 * LIMIT..PAGES);
            outside().for_each(|page| memory.check(page, 1 + page as u64));
            check(&inside, value);
            consistent(&running);
            if round % 2 == 0 {
                running.remove(inner);
                check(&inside, value);
            } else {
                // SAFETY: the test has no need of the pages.
                unsafe { running.pager.remove_discarding_by_id(inner) }.unwrap();
            }
            outside().for_each(|page| memory.check(page, 1 + page as u64));
            consistent(&running);
            // It is unmapped together with what lies around it.
            std::mem::forget(std::mem::replace(&mut inside, Memory::new(LIMIT)));
        }
        running.remove(outer);
        (0..LIMIT).chain(2 * LIMIT..PAGES).for_each(|page| memory.check(page, 1 + page as u64));
        super::look::nothing_resident(&running);
    }
}

/// One call gives back pages that are resident, staged, stored, damaged, held and empty, while a child is forked and
/// ends.
#[test]
fn pages_of_every_kind_are_given_back_at_once() {
    for mode in MODES {
        let running = Running::new(&limited(LIMIT, mode), &[Duty::All]);
        let memory = Memory::new(PAGES);
        let region = running.add(&memory);
        // The last of them were never touched.
        let filled = PAGES - 16;
        (0..filled).for_each(|page| memory.fill(page, 1 + page as u64));
        let core = &running.pager.0;
        let is = |page: usize, kind: PageKind| kind_at(&running, memory.at(page)) == kind;
        let damaged = (0..filled).find(|&page| is(page, PageKind::Stored)).unwrap();
        {
            let entered = core.places[region.place()].enter().unwrap();
            let (at, bytes) = entered.area.object_of(damaged as u64).unwrap();
            // SAFETY: nobody frees, moves or reads the object right now: its page is stored, and nobody touches it.
            unsafe { *at.add(bytes / 2) ^= 8 };
        }
        assert!(running.pager.begin_hold(memory.at(damaged), PAGE).is_err());
        let held = (damaged + 1..filled).find(|&page| is(page, PageKind::Stored)).unwrap();
        running.pager.begin_hold(memory.at(held), PAGE).unwrap();
        let children = thread::scope(|scope| {
            let forks = scope.spawn(|| (0..8).map(|_| fork_and_wait()).collect::<Vec<_>>());
            assert_eq!(memory.advise(0, PAGES, libc::MADV_DONTNEED), 0);
            forks.join().unwrap()
        });
        assert!(children.iter().all(|&status| status == 0), "{children:?}");
        core.read_events();
        // The mark of a damaged page goes when the page is given back.
        assert!(is(damaged, PageKind::Empty) && is(held, PageKind::Resident(1)));
        (0..PAGES).for_each(|page| memory.check(page, 0));
        running.pager.end_hold(memory.at(held), PAGE).unwrap();
        fill(&memory, 900);
        check(&memory, 900);
        consistent_but(&running, 1);
        running.remove(region);
        check(&memory, 900);
    }
}

/// Forks a child that ends at once. Returns how it ended.
fn fork_and_wait() -> i32 {
    // SAFETY: the child ends at once, with nothing run that another thread might have a lock of.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}

/// Several owners move their regions, each to where another one just was. They do so one at a time, as the contract
/// demands: a thread may lose its processor between its move and the event, and a region that comes to the same
/// addresses would be taken for the one that left.
#[test]
fn regions_of_several_owners_that_move() {
    const REGIONS: usize = 6;
    for mode in MODES {
        let mut memories: Vec<Memory> = (0..REGIONS).map(|_| Memory::new(16)).collect();
        let running = Running::new(&limited(48, mode), &[Duty::All, Duty::Serve]);
        for (region, memory) in memories.iter().enumerate() {
            running.add(memory);
            (0..16).for_each(|page| memory.fill(page, (region * 16 + page + 1) as u64));
        }
        let addresses = Mutex::new(());
        thread::scope(|scope| {
            for (region, memory) in memories.iter_mut().enumerate() {
                let addresses = &addresses;
                scope.spawn(move || {
                    for _ in 0..400 {
                        let one = addresses.lock();
                        move_to(memory, room(16));
                        drop(one);
                        (0..16).for_each(|page| memory.check(page, (region * 16 + page + 1) as u64));
                    }
                });
            }
        });
        consistent(&running);
    }
}
