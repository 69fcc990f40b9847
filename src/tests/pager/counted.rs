//! What a caller sees of a touch that is not served: whether it was tried, and whether a thread is lent to serve it.
//! And how pages leave.

use super::look::{consistent, kind_at, with_faults};
use super::{Memory, Running, evicting, limited};
use crate::os::sigbus::Touch;
use crate::os::{Call, injected::Faults};
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::state::PageKind;
use crate::pager::{Duty, EvictionInUse, FaultMode, PagerCounts};
use crate::units::PAGE;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: usize = 64;
const PAGES: usize = 3 * LIMIT;

/// Waits until something holds.
fn until(so: impl Fn() -> bool) {
    while !so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn counts(running: &Running) -> PagerCounts {
    running.pager.stats().counts
}

/// Memory, a pager, and a page of the memory that is stored and holds its number and 1. The memory comes first, so that
/// it is dropped last: unmapping a region would wait for a thread that reads its events.
fn filled(mode: FaultMode, duties: &[Duty]) -> (Memory, Arc<Faults>, Running, RegionId, usize) {
    let memory = Memory::new(PAGES);
    let (faults, running) = with_faults(&limited(LIMIT, mode), duties);
    let region = running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
    let stored = (0..PAGES).find(|&page| kind_at(&running, memory.at(page)) == PageKind::Stored).unwrap();
    assert_eq!(counts(&running).failed, 0);
    (memory, faults, running, region, stored)
}

#[test]
fn a_touch_that_the_thread_itself_gives_up_is_counted() {
    let (memory, faults, running, region, stored) = filled(FaultMode::Sigbus, &[]);
    let (touch, before) = (Touch { at: memory.at(stored) as usize, write: false }, counts(&running));
    faults.fail(Call::CopyIn, 1, 0);
    // The handler of SIGBUS does this.
    assert_eq!(running.pager.0.serve_signal(touch), Some(false));
    let after = counts(&running);
    assert_eq!((after.failed, after.faults), (1, before.faults));
    assert!(after.retries >= before.retries + 100, "{after:?}");
    running.pager.begin_hold(memory.at(stored), PAGE).unwrap_err();
    assert_eq!(counts(&running).failed, 2);
    running.pager.remove_by_id(region).unwrap_err();
    assert_eq!(counts(&running).failed, 3);
    faults.heal(Call::CopyIn);
    memory.check(stored, stored as u64 + 1);
    assert_eq!(counts(&running).failed, 3);
    consistent(&running);
}

#[test]
fn a_touch_that_lent_threads_give_up_is_counted_each_time() {
    let (memory, faults, running, _, stored) = filled(FaultMode::Threads, &[Duty::All]);
    faults.fail(Call::CopyIn, 1, 0);
    std::thread::scope(|scope| {
        let toucher = scope.spawn(|| memory.check(stored, stored as u64 + 1));
        until(|| counts(&running).failed >= 2);
        assert!(!toucher.is_finished());
        faults.heal(Call::CopyIn);
    });
    let json: serde_json::Value = serde_json::from_str(&running.pager.stats_json().unwrap()).unwrap();
    assert!(json["pager"]["counts"]["failed"].as_u64().unwrap() >= 2);
    consistent(&running);
}

#[test]
fn stats_tell_how_pages_are_evicted() {
    for (in_place, name) in [(true, "in-place"), (false, "moving")] {
        let memory = Memory::new(PAGES);
        let running = Running::new(&evicting(in_place, limited(LIMIT, FaultMode::Sigbus)), &[]);
        let region = running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
        let (stats, counts) = (running.pager.stats(), counts(&running));
        if stats.eviction == EvictionInUse::Moving || in_place {
            let json: serde_json::Value = serde_json::from_str(&running.pager.stats_json().unwrap()).unwrap();
            assert_eq!(json["pager"]["eviction"], name);
        }
        let moves = stats.eviction == EvictionInUse::Moving;
        assert_eq!(stats.eviction == EvictionInUse::InPlace, in_place);
        assert_eq!(counts.evicted_in_place, if moves { 0 } else { counts.stored + counts.dropped });
        assert_eq!((counts.staged > 0, counts.stored > 0), (moves, true));
        running.remove(region);
    }
}

#[test]
fn stats_tell_whether_a_thread_is_lent() {
    let memory = Memory::new(PAGES);
    let running = Running::new(&limited(LIMIT, FaultMode::Threads), &[]);
    running.add(&memory);
    let lent = || running.pager.stats().lent_threads;
    let told = || {
        let json: serde_json::Value = serde_json::from_str(&running.pager.stats_json().unwrap()).unwrap();
        json["pager"]["lent_threads"].as_u64().unwrap()
    };
    std::thread::scope(|scope| {
        let toucher = scope.spawn(|| memory.fill(0, 1));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((toucher.is_finished(), lent(), told()), (false, 0, 0));
        for (number, duty) in [Duty::Evict, Duty::Serve, Duty::All].into_iter().enumerate() {
            let pager = &running.pager;
            scope.spawn(move || pager.run(duty).unwrap());
            until(|| lent() == number as u64 + 1);
        }
        toucher.join().unwrap();
        assert_eq!(told(), 3);
        running.pager.stop();
    });
    assert_eq!((lent(), told()), (0, 0));
}
