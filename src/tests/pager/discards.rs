//! Pages that are given back by a call on the pager.

use super::look::{consistent, kind_at, with_faults};
use super::{Memory, Running, evicting, limited};
use crate::os::Call;
use crate::os::errno::{EBUSY, ENOMEM};
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode, PagerOptions};
use crate::units::PAGE;

const LIMIT: usize = 64;
const PAGES: usize = 4 * LIMIT;

fn filled(memory: &Memory, options: &PagerOptions) -> Running {
    let running = Running::new(options, &[Duty::Serve, Duty::Evict]);
    running.add(memory);
    (0..memory.pages()).for_each(|page| memory.fill(page, page as u64 + 1));
    running
}

fn discard(running: &Running, memory: &Memory, page: usize, pages: usize) {
    // SAFETY: the test has no need of the pages.
    unsafe { running.pager.discard(memory.at(page), pages * PAGE) }.unwrap();
}

/// Every kind of memory, and every way to evict it.
fn kinds() -> [(Memory, PagerOptions); 3] {
    let options = limited(LIMIT, FaultMode::Sigbus);
    let in_place = evicting(true, options.clone());
    [(Memory::new(PAGES), options.clone()), (Memory::new(PAGES), in_place), (Memory::shared(PAGES), options)]
}

/// A write after the attempt is not taken for the bytes that the page had before.
#[test]
fn clean_pages_that_can_not_be_given_back_are_clean_no_more() {
    for evict_in_place in [false, true] {
        let memory = Memory::new(LIMIT);
        let options = evicting(evict_in_place, limited(2 * LIMIT, FaultMode::Sigbus));
        let running = filled(&memory, &options);
        running.pager.set_kept_copies(100).unwrap();
        while running.pager.stats().resident_bytes > 0 {
            _ = running.pager.evict(LIMIT as u64);
        }
        (0..LIMIT).for_each(|page| memory.check(page, page as u64 + 1));
        let protect = |rights| {
            // SAFETY: the range is this test's.
            assert_eq!(unsafe { libc::mprotect(memory.at(0).cast(), memory.bytes(), rights) }, 0);
        };
        protect(libc::PROT_READ);
        for page in 0..LIMIT {
            // The discard may work or not.
            // SAFETY: the test does not need the page.
            _ = unsafe { running.pager.discard(memory.at(page), PAGE) };
        }
        protect(libc::PROT_READ | libc::PROT_WRITE);
        (0..LIMIT).for_each(|page| memory.fill(page, page as u64 + 7));
        while running.pager.stats().resident_bytes > 0 {
            _ = running.pager.evict(LIMIT as u64);
        }
        (0..LIMIT).for_each(|page| memory.check(page, page as u64 + 7));
        consistent(&running);
    }
}

#[test]
fn pages_that_are_held_stay_so_and_are_zeros() {
    for (memory, options) in kinds() {
        let running = filled(&memory, &options);
        running.pager.begin_hold(memory.at(3), 2 * PAGE).unwrap();
        discard(&running, &memory, 0, 8);
        for page in 3..5 {
            assert_eq!(kind_at(&running, memory.at(page)), PageKind::Resident(1));
        }
        assert_eq!(running.pager.stats().held_bytes, 2 * PAGE as u64);
        (0..8).for_each(|page| memory.check(page, 0));
        memory.fill(3, 77);
        (8..PAGES).for_each(|page| memory.check(page, page as u64 + 1));
        memory.check(3, 77);
        running.pager.end_hold(memory.at(3), 2 * PAGE).unwrap();
        assert_eq!(running.pager.stats().held_bytes, 0);
        (0..PAGES)
            .for_each(|page| memory.check(page, if page < 8 { 77 * u64::from(page == 3) } else { page as u64 + 1 }));
        consistent(&running);
    }
}

#[test]
fn pages_that_the_system_does_not_let_go_are_zeros() {
    let refusals = [(Call::Move, EBUSY), (Call::Move, ENOMEM), (Call::Release, ENOMEM), (Call::Punch, ENOMEM)];
    for (memory, options) in kinds() {
        let (faults, running) = with_faults(&options, &[Duty::Serve]);
        running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
        for (round, (call, errno)) in refusals.into_iter().enumerate() {
            // Pages are everywhere, and others each time.
            let given = || (round..PAGES).step_by(9);
            faults.say(call, errno, 0);
            faults.fail(call, 1, 0);
            given().for_each(|page| discard(&running, &memory, page, 1));
            faults.heal(call);
            given().for_each(|page| memory.check(page, 0));
            given().for_each(|page| memory.fill(page, page as u64 + 1));
        }
        (0..PAGES).for_each(|page| memory.check(page, page as u64 + 1));
        consistent(&running);
    }
}
