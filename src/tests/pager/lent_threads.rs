//! Threads that the pager starts when it is asked for one.

use super::{Memory, limited, soon};
use crate::error::Error;
use crate::os::{Call, Os, injected::Faults};
use crate::pager::{Duty, FaultMode, Pager};
use crate::units::PAGE;
use std::sync::Arc;

fn with_faults() -> (Arc<Faults>, Pager) {
    let faults = Arc::new(Faults::default());
    let os = Os { faults: Some(faults.clone()) };
    (faults, Pager::with_os(os, "test", &limited(64, FaultMode::Sigbus)).unwrap())
}

#[test]
fn thread_that_the_system_refuses_is_an_error() {
    let (faults, pager) = with_faults();
    faults.fail(Call::Thread, 1, 1);
    let refused = pager.lend(Duty::All).unwrap_err();
    assert!(matches!(refused, Error::System { .. } | Error::NoMemory(_)), "{refused:?}");
    assert!(refused.to_string().contains("pthread_create"), "{refused}");
    assert_eq!(pager.stats().lent_threads, 0);
    drop(pager.lend(Duty::All).unwrap());
    assert_eq!(pager.stats().lent_threads, 0);
}

/// A thread that the pager starts counts at once, and one of the program's own from the moment that it runs.
#[test]
fn lent_thread_counts_at_once_and_until_it_is_dropped() {
    let pager = Pager::new("test", &limited(64, FaultMode::Sigbus)).unwrap();
    let (lent, work) = pager.lend_own(Duty::All).unwrap();
    assert_eq!(pager.stats().lent_threads, 0);
    let thread = std::thread::spawn(move || work.run());
    assert!(soon(|| pager.stats().lent_threads == 1));
    let other = pager.lend(Duty::Evict).unwrap();
    assert_eq!(pager.stats().lent_threads, 2);
    drop(lent);
    thread.join().unwrap();
    assert_eq!(pager.stats().lent_threads, 1);
    drop(other);
    assert_eq!(pager.stats().lent_threads, 0);
}

/// A guard that is dropped before its work begins ends the work at once.
#[test]
fn work_that_was_given_back_before_it_began_returns() {
    let pager = Pager::new("test", &limited(64, FaultMode::Sigbus)).unwrap();
    let (lent, work) = pager.lend_own(Duty::All).unwrap();
    drop(lent);
    work.run();
    let (_lent, work) = pager.lend_own(Duty::Evict).unwrap();
    drop(pager);
    work.run();
}

/// A pager that is dropped while a region of its is there goes on, and ends with the region.
#[test]
fn pager_ends_with_the_last_of_its_guards() {
    let memory = Memory::new(256);
    let pager = Pager::new("test", &limited(64, FaultMode::Sigbus)).unwrap();
    let core = pager.0.core().clone();
    let lent = pager.lend(Duty::All).unwrap();
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    let region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &memory.options()) }.unwrap();
    let held = pager.hold(memory.at(3), 2 * PAGE).unwrap();
    drop(pager);
    (0..256).for_each(|page| memory.fill(page, page as u64 + 1));
    (0..256).for_each(|page| memory.check(page, page as u64 + 1));
    assert_eq!((core.holds.pages(), core.lending.threads()), (2, 1));
    drop(region);
    assert_eq!((core.holds.pages(), core.lending.threads()), (0, 1));
    drop(held);
    assert!(soon(|| core.lending.threads() == 0));
    drop(lent);
    assert_eq!(core.account.resident(), 0);
    (0..256).for_each(|page| memory.check(page, page as u64 + 1));
}

/// A region that the system does not let go stays with its pager, and another attempt removes it.
#[test]
fn region_that_can_not_be_removed_stays_under_its_guard() {
    let memory = Memory::new(256);
    let (faults, pager) = with_faults();
    // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
    let mut region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &memory.options()) }.unwrap();
    (0..256).for_each(|page| memory.fill(page, page as u64 + 1));
    faults.fail(Call::Unregister, 1, 1);
    assert!(matches!(region.remove(), Err(Error::Again(_))));
    (0..256).for_each(|page| memory.check(page, page as u64 + 1));
    region.remove().unwrap();
    assert_eq!(pager.stats().regions, 0);
    (0..256).for_each(|page| memory.check(page, page as u64 + 1));
}

/// Memory that the system does not let go stays mapped, and nothing waits.
#[test]
fn memory_that_can_not_be_unmapped_stays() {
    let (faults, pager) = with_faults();
    let mut memory = pager.map(256 * PAGE).unwrap();
    memory.fill(7);
    let at = memory.as_ptr();
    faults.fail(Call::Unregister, 1, 1);
    drop(memory);
    assert_eq!(pager.stats().regions, 1);
    // SAFETY: the memory is still mapped, as this tests.
    assert!((0..256).all(|page| unsafe { at.add(page * PAGE).read_volatile() } == 7));
}
