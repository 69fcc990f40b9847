//! Single calls that the system refuses, or does in part: which caller is told, and what the accounts say then.

use super::look::{consistent, kind_at, with_faults, word_at};
use super::{Memory, Running, evicting, limited};
use crate::error::Error;
use crate::os::{Call, injected::Faults};
use crate::pager::account::PATIENCE;
use crate::pager::for_c::PagerForC;
use crate::pager::state::{KeptCopy, PageKind};
use crate::pager::{Duty, FaultMode, RegionOptions};
use crate::units::PAGE;
use std::sync::Arc;

const LIMIT: usize = 128;
const PAGES: usize = 4 * LIMIT;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// A pager of FaultMode::Sigbus in which `memory` was filled.
fn filled(memory: &Memory, in_place: bool) -> (Arc<Faults>, Running) {
    let options = evicting(in_place, limited(LIMIT, FaultMode::Sigbus));
    let (faults, running) = with_faults(&options, &[]);
    running.add(memory);
    (0..memory.pages()).for_each(|page| memory.fill(page, value(page)));
    (faults, running)
}

/// The first page of this kind.
fn first(running: &Running, memory: &Memory, is: impl Fn(PageKind) -> bool) -> usize {
    (0..memory.pages()).find(|&page| is(kind_at(running, memory.at(page)))).unwrap()
}

fn check_all(memory: &Memory, running: &Running) {
    (0..memory.pages()).for_each(|page| memory.check(page, value(page)));
    consistent(running);
}

fn is_staged(kind: PageKind) -> bool {
    matches!(kind, PageKind::Staged(_))
}

/// A caller that asks for a page which can't be put in place is told, after a while. The page stays where it is.
#[test]
fn caller_is_told_what_is_refused_all_the_time() {
    let memory = Memory::new(PAGES);
    let untouched = Memory::new(8);
    let (faults, running) = filled(&memory, false);
    running.add(&untouched);
    for call in [Call::CopyIn, Call::Move, Call::ZeroIn] {
        let at = match call {
            Call::CopyIn => memory.at(first(&running, &memory, |kind| kind == PageKind::Stored)),
            Call::Move => memory.at(first(&running, &memory, is_staged)),
            _ => untouched.at(0),
        };
        let kind = kind_at(&running, at);
        faults.fail(call, 1, 0);
        // A page that can't be moved back would be copied.
        faults.fail(Call::CopyIn, 1, 0);
        let refused = running.pager.begin_hold(at, PAGE);
        assert!(matches!(refused, Err(Error::Again(_))), "{call:?}: {refused:?}");
        assert_eq!(kind_at(&running, at), kind);
        assert_eq!(running.pager.stats().held_bytes, 0);
        faults.heal(call);
        faults.heal(Call::CopyIn);
        consistent(&running);
        running.pager.begin_hold(at, PAGE).unwrap();
        running.pager.end_hold(at, PAGE).unwrap();
    }
    check_all(&memory, &running);
}

/// The system does not move a page to memory that its owner has locked, or may only read. The page is copied there.
#[test]
fn staged_pages_come_back_to_memory_that_was_locked_or_protected() {
    for locks in [false, true] {
        let memory = Memory::new(PAGES);
        let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
        running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        let staged = first(&running, &memory, is_staged);
        let at = memory.at(staged).cast();
        // SAFETY: a page of the test's own, which is read and then made writable again.
        unsafe {
            assert_eq!(if locks { libc::mlock2(at, PAGE, 1) } else { libc::mprotect(at, PAGE, libc::PROT_READ) }, 0);
            memory.check(staged, value(staged));
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(if locks { libc::munlock(at, PAGE) } else { libc::mprotect(at, PAGE, rights) }, 0);
        }
        check_all(&memory, &running);
    }
}

/// A region that is full by its own limit does not keep others from being evicted.
#[test]
fn a_region_that_is_full_stops_no_other() {
    for in_place in [false, true] {
        let (small, other) = (Memory::new(PAGES), Memory::new(PAGES));
        let options = evicting(in_place, limited(LIMIT, FaultMode::Sigbus));
        let running = Running::new(&options, &[]);
        let bounded = RegionOptions { max_stored_bytes: Some(8 * PAGE as u64), ..RegionOptions::default() };
        // SAFETY: the memory lives longer than the pager, and is used through this mapping alone.
        unsafe { running.pager.add_region_by_id(small.at(0), LIMIT / 2 * PAGE, &bounded) }.unwrap();
        (0..LIMIT / 2).for_each(|page| small.fill(page, value(page)));
        running.add(&other);
        for _ in 0..3 {
            (0..PAGES).for_each(|page| other.fill(page, value(page)));
        }
        let stats = running.pager.stats();
        assert!(stats.resident_bytes <= ((LIMIT + LIMIT / 2) * PAGE) as u64, "{stats:?}");
        (0..LIMIT / 2).for_each(|page| small.check(page, value(page)));
        (0..PAGES).for_each(|page| other.check(page, value(page)));
        consistent(&running);
    }
}

/// The system drops pages up to one that is locked. The first ones are not dropped again, which would fail because
/// their owner has locked them by then: they are gone, and their copies are all there is.
#[test]
fn pages_that_were_dropped_before_a_locked_one_are_not_forgotten() {
    let memory = Memory::new(16);
    let options = evicting(true, limited(LIMIT, FaultMode::Sigbus));
    let (faults, running) = with_faults(&options, &[]);
    running.add(&memory);
    (0..memory.pages()).for_each(|page| memory.fill(page, value(page)));
    // SAFETY: a page of the test's own.
    assert_eq!(unsafe { libc::mlock(memory.at(8).cast(), PAGE) }, 0);
    faults.fail(Call::Release, 2, 0);
    assert_eq!(running.pager.evict(16).unwrap(), 8);
    faults.heal(Call::Release);
    assert_eq!(kind_at(&running, memory.at(7)), PageKind::Stored);
    assert_eq!(kind_at(&running, memory.at(8)), PageKind::Resident(0));
    check_all(&memory, &running);
}

/// If no page can leave because all regions are full by their own limits, the caller is told at once.
#[test]
fn regions_that_are_all_full_are_told_from_those_that_others_evict() {
    for in_place in [false, true] {
        let memory = Memory::new(PAGES);
        let options = evicting(in_place, limited(LIMIT, FaultMode::Sigbus));
        let running = Running::new(&options, &[]);
        let bounded = RegionOptions { max_stored_bytes: Some(8 * PAGE as u64), ..RegionOptions::default() };
        // SAFETY: the memory lives longer than the pager, and is used through this mapping alone.
        unsafe { running.pager.add_region_by_id(memory.at(0), PAGES * PAGE, &bounded) }.unwrap();
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        while running.pager.evict(8).is_ok() {}
        let refused = running.pager.evict(8);
        assert!(matches!(refused, Err(Error::Limit(_))), "{refused:?}");
        assert_eq!(running.pager.0.account.patience(), PATIENCE);
        check_all(&memory, &running);
    }
}

/// Pages that come back together, of which the system puts only the first ones in place.
#[test]
fn copies_that_stop_halfway() {
    for done in 1..6 {
        let memory = Memory::new(PAGES);
        let (faults, running) = filled(&memory, false);
        _ = running.pager.evict(LIMIT as u64);
        faults.say(Call::CopyIn, libc::EAGAIN, done);
        faults.fail(Call::CopyIn, 1, 0);
        let before = running.pager.stats().counts;
        check_all(&memory, &running);
        let counts = running.pager.stats().counts;
        assert!(counts.loads_ahead > before.loads_ahead || done == 1, "{counts:?}");
        faults.heal(Call::CopyIn);
        check_all(&memory, &running);
    }
}

/// Pages that are staged together, of which the system moves only the first ones.
#[test]
fn moves_that_stop_halfway() {
    for done in [1, 2, 7, 31] {
        for errno in [libc::EAGAIN, libc::EBUSY] {
            let memory = Memory::new(PAGES);
            let (faults, running) = with_faults(&limited(LIMIT, FaultMode::Sigbus), &[]);
            running.add(&memory);
            faults.say(Call::Move, errno, done);
            faults.fail(Call::Move, 1, 0);
            (0..PAGES).for_each(|page| memory.fill(page, value(page)));
            let counts = running.pager.stats().counts;
            assert!(counts.staged > 0 && counts.stored > 0, "{counts:?}");
            consistent(&running);
            faults.heal(Call::Move);
            check_all(&memory, &running);
        }
    }
}

/// No page leaves memory while none can: the limit is passed, and kept again later.
#[test]
fn evictions_that_are_refused_all_the_time() {
    for (call, in_place) in [(Call::Move, false), (Call::Release, false), (Call::Release, true), (Call::Read, true)] {
        let memory = Memory::new(PAGES);
        let options = evicting(in_place, limited(LIMIT, FaultMode::Sigbus));
        let (faults, running) = with_faults(&options, &[]);
        running.add(&memory);
        (0..LIMIT).for_each(|page| memory.fill(page, value(page)));
        faults.say(call, libc::EBUSY, 0);
        faults.fail(call, 1, 0);
        (LIMIT..LIMIT + 8).for_each(|page| memory.fill(page, value(page)));
        let stats = running.pager.stats();
        assert!(stats.counts.over_limit > 0, "{call:?}: {:?}", stats.counts);
        assert!(call == Call::Release && !in_place || stats.counts.pinned > 0, "{call:?}: {:?}", stats.counts);
        assert!(matches!(running.pager.evict(8), Err(Error::Again(_) | Error::Limit(_))), "{call:?}");
        faults.heal(call);
        running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
        assert!(running.pager.stats().resident_bytes <= (LIMIT * PAGE) as u64);
        (LIMIT + 8..PAGES).for_each(|page| memory.fill(page, value(page)));
        check_all(&memory, &running);
    }
}

/// The system does not take the memory of a staged page that is given back. Later it does, and then the page is not
/// charged any more.
#[test]
fn a_staged_page_whose_slot_is_not_given_back_is_not_charged_for_ever() {
    let memory = Memory::new(PAGES);
    let (faults, running) = filled(&memory, false);
    let staged = first(&running, &memory, is_staged);
    faults.fail(Call::Release, 1, 1);
    // SAFETY: the bytes are not needed.
    unsafe { running.pager.discard(memory.at(staged), PAGE) }.unwrap();
    faults.heal(Call::Release);
    memory.check(staged, 0);
    memory.fill(staged, value(staged));
    _ = running.pager.evict(PAGES as u64);
    check_all(&memory, &running);
}

/// The page stays in its place, and is zeros.
#[test]
fn a_page_that_can_not_be_taken_away_reads_as_zero_all_the_same() {
    for in_place in [false, true] {
        let memory = Memory::new(PAGES);
        let (faults, running) = filled(&memory, in_place);
        let call = if in_place { Call::Release } else { Call::Move };
        let resident = first(&running, &memory, |kind| kind == PageKind::Resident(0));
        for errno in [libc::ENOMEM, libc::EAGAIN] {
            faults.say(call, errno, 0);
            faults.fail(call, 1, 1);
            // SAFETY: the bytes are not needed.
            unsafe { running.pager.discard(memory.at(resident), PAGE) }.unwrap();
            faults.heal(call);
            memory.check(resident, 0);
            memory.fill(resident, value(resident));
        }
        check_all(&memory, &running);
    }
}

/// A page that was moved away before it is discarded is not charged for ever either.
#[test]
fn a_discarded_page_whose_memory_is_not_given_back_is_not_charged_for_ever() {
    let memory = Memory::new(PAGES);
    let (faults, running) = filled(&memory, false);
    for _ in 0..3 {
        let resident = first(&running, &memory, |kind| kind == PageKind::Resident(0));
        faults.fail(Call::Release, 1, 1);
        // SAFETY: the bytes are not needed.
        unsafe { running.pager.discard(memory.at(resident), PAGE) }.unwrap();
        faults.heal(Call::Release);
        memory.check(resident, 0);
        memory.fill(resident, value(resident));
    }
    _ = running.pager.evict(PAGES as u64);
    check_all(&memory, &running);
}

/// A region that can't be brought back, or be taken from the userfaultfd, is still there.
#[test]
fn a_region_that_can_not_be_removed_is_there_still() {
    for (call, discards) in [(Call::CopyIn, false), (Call::Unregister, false), (Call::Unregister, true)] {
        let memory = Memory::new(PAGES);
        let (faults, running) = with_faults(&limited(LIMIT, FaultMode::Sigbus), &[]);
        let region = running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        faults.fail(call, 1, 0);
        let refused = match discards {
            // SAFETY: the call is refused, and no page is lost.
            true => unsafe { running.pager.remove_discarding_by_id(region) },
            false => running.pager.remove_by_id(region),
        };
        assert!(matches!(refused, Err(Error::Again(_))), "{call:?}: {refused:?}");
        faults.heal(call);
        check_all(&memory, &running);
        running.remove(region);
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
        let stats = running.pager.stats();
        assert_eq!((stats.resident_bytes, stats.regions), (0, 0));
        assert!(running.pager.snapshot().unwrap().zswap.areas.is_empty());
    }
}

/// A system that does not let go of a region has lifted its protection by then: clean pages are not taken for clean any
/// more.
#[test]
fn writes_after_a_refused_removal_are_not_lost() {
    for evict_in_place in [false, true] {
        let memory = Memory::new(LIMIT);
        let options = evicting(evict_in_place, limited(2 * LIMIT, FaultMode::Sigbus));
        let (faults, running) = with_faults(&options, &[]);
        running.pager.set_kept_copies(100).unwrap();
        let region = running.add(&memory);
        (0..LIMIT).for_each(|page| memory.fill(page, value(page)));
        while running.pager.evict(LIMIT as u64).is_ok_and(|gone| gone > 0) {}
        (0..LIMIT).for_each(|page| memory.check(page, value(page)));
        let clean = || (0..LIMIT).filter(|&page| word_at(&running, memory.at(page)).copy() == KeptCopy::Clean).count();
        assert!(clean() > 0);
        faults.fail(Call::Unregister, 1, 1);
        let refused = running.pager.remove_by_id(region);
        assert!(matches!(refused, Err(Error::Again(_))), "{refused:?}");
        assert_eq!(clean(), 0);
        (0..LIMIT).for_each(|page| memory.fill(page, value(page) + 1));
        _ = running.pager.evict(LIMIT as u64);
        (0..LIMIT).for_each(|page| memory.check(page, value(page) + 1));
        consistent(&running);
    }
}

/// A region that was refused leaves nothing, and can be added later.
#[test]
fn a_region_that_can_not_be_added_leaves_nothing() {
    let memory = Memory::new(PAGES);
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    let (faults, running) = with_faults(&limited(LIMIT, FaultMode::Sigbus), &[]);
    let refusals = [
        (Call::Register, 1, libc::ENOMEM),
        (Call::Register, 1, libc::EBUSY),
        (Call::Register, 1, libc::EINVAL),
        (Call::Register, 1, libc::EPERM),
        (Call::Map, 1, libc::ENOMEM),
        (Call::Commit, 1, libc::ENOMEM),
    ];
    // The later of these calls tell which pages are there. The ones before, about huge pages and merged ones, may be
    // refused.
    let advice = (0..5).map(|nth| (Call::Advise, nth + 1, libc::EAGAIN));
    let mut refused = 0;
    for (call, nth, errno) in refusals.into_iter().chain(advice) {
        faults.say(call, errno, 0);
        faults.fail(call, nth, 1);
        // SAFETY: the memory is used through these addresses alone.
        let added = unsafe { running.pager.add_region_by_id(memory.at(0), memory.bytes(), &memory.options()) };
        faults.heal(call);
        match added {
            Ok(region) => running.remove(region),
            Err(error) => {
                refused += 1;
                assert!(!error.text().is_empty());
            }
        }
        let stats = running.pager.stats();
        assert_eq!((stats.regions, stats.region_bytes, stats.resident_bytes), (0, 0, 0), "{call:?}");
        assert!(running.pager.snapshot().unwrap().zswap.areas.is_empty());
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
    }
    assert!(refused >= 7, "{refused}");
    running.add(&memory);
    check_all(&memory, &running);
}

/// A clean page whose first write can't be let through for a while.
#[test]
fn a_first_write_waits_until_it_may() {
    let memory = Memory::new(PAGES);
    let (faults, running) = filled(&memory, false);
    _ = running.pager.evict(LIMIT as u64);
    (0..PAGES).for_each(|page| memory.check(page, value(page)));
    let clean = (0..PAGES).find(|&page| word_at(&running, memory.at(page)).copy() == KeptCopy::Clean).unwrap();
    faults.say(Call::Protect, libc::EAGAIN, 0);
    faults.fail(Call::Protect, 1, 20);
    memory.fill(clean, 7);
    assert!(faults.seen(Call::Protect) > 20);
    faults.heal(Call::Protect);
    assert_ne!(word_at(&running, memory.at(clean)).copy(), KeptCopy::Clean);
    _ = running.pager.evict(LIMIT as u64);
    memory.check(clean, 7);
    consistent(&running);
}

/// Lent threads that are given back while everything is refused return all the same.
#[test]
fn lent_threads_return_while_everything_is_refused() {
    let memory = Memory::new(PAGES);
    let (faults, running) = with_faults(&limited(LIMIT, FaultMode::Threads), &[Duty::All, Duty::Evict]);
    running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    let calls = [Call::CopyIn, Call::ZeroIn, Call::Move, Call::Protect, Call::Release, Call::Wake, Call::Events];
    calls.iter().for_each(|&call| faults.fail(call, 1, 0));
    let stored = first(&running, &memory, |kind| kind == PageKind::Stored);
    std::thread::scope(|scope| {
        let toucher = scope.spawn(|| memory.check(stored, value(stored)));
        std::thread::sleep(std::time::Duration::from_millis(50));
        running.pager.stop();
        assert!(!toucher.is_finished());
        calls.iter().for_each(|&call| faults.heal(call));
        running.pager.resume();
        let server = scope.spawn(|| running.pager.run(Duty::All).unwrap());
        toucher.join().unwrap();
        running.pager.stop();
        server.join().unwrap();
    });
}
