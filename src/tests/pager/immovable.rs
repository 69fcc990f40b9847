//! Pages that can't leave, and are more than the limit: touches go above it at once, and it holds again once the pages
//! can leave. The tests check counts of attempts, because the attempts took the time.

use super::look::consistent;
use super::{Memory, Running, evicting, limited};
use crate::pager::for_c::{PagerForC, RegionId};
use crate::pager::{Duty, FaultMode, PagerCounts};
use crate::tests::skip::skip;
use crate::units::PAGE;
use std::time::{Duration, Instant};

const LIMIT: usize = 64;
/// Pages that can't leave.
const STUCK: usize = 8 * LIMIT;
/// Pages that are touched meanwhile.
const TOUCHED: usize = 16 * LIMIT;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

fn running(mode: FaultMode, in_place: bool) -> Running {
    let duties: &[Duty] = if mode == FaultMode::Threads { &[Duty::Serve] } else { &[] };
    Running::new(&evicting(in_place, limited(STUCK + LIMIT, mode)), duties)
}

fn fill(memory: &Memory) {
    (0..memory.pages()).for_each(|page| memory.fill(page, value(page)));
}

fn check(memory: &Memory) {
    (0..memory.pages()).for_each(|page| memory.check(page, value(page)));
}

fn unlock(memory: &Memory) {
    // SAFETY: a range of the test's own.
    assert_eq!(unsafe { libc::munlock(memory.at(0).cast(), memory.bytes()) }, 0);
}

/// A pager with a region of filled pages that are locked.
fn with_locked_pages(mode: FaultMode, in_place: bool) -> (Memory, Running, RegionId) {
    let memory = Memory::new(STUCK);
    let running = running(mode, in_place);
    let region = running.add(&memory);
    fill(&memory);
    // SAFETY: a range of the test's own.
    let locked = unsafe { libc::mlock(memory.at(0).cast(), memory.bytes()) };
    assert_eq!(locked, 0, "the test locks 2 MiB: raise RLIMIT_MEMLOCK");
    (memory, running, region)
}

fn counts(running: &Running) -> PagerCounts {
    running.pager.stats().counts
}

/// Touches other pages while those of `stuck` can't leave. Nothing is tried more than a few times.
fn touches_go_on(running: &Running, stuck: &Memory) {
    let refused = running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64));
    assert!(refused.is_err(), "{refused:?}");
    let others = Memory::new(TOUCHED);
    let region = running.add(&others);
    let (before, start) = (counts(running), Instant::now());
    fill(&others);
    check(&others);
    let after = counts(running);
    let (tried, stored) = (after.pinned - before.pinned, after.stored - before.stored);
    // Immovable pages are tried again every 10 ms, a block at once. Each touch may evict another page.
    let again = 64 * (start.elapsed().as_millis() as u64 / 10 + 2);
    assert!(tried <= STUCK as u64 + again, "{tried} attempts, {again} of them again");
    assert!(stored <= STUCK as u64 + again + 4 * TOUCHED as u64, "{stored} pages were compressed");
    assert!(after.over_limit > before.over_limit);
    assert!(running.pager.stats().immovable_bytes >= (STUCK / 2 * PAGE) as u64);
    // A little more than the immovable pages.
    let resident = running.pager.stats().resident_bytes as usize / PAGE;
    assert!(resident <= STUCK + 3 * LIMIT, "{resident} pages are in memory");
    check(stuck);
    check(&others);
    consistent(running);
    running.remove(region);
}

/// Lets the pages leave again, which nobody tells the pager. The limit holds after a few more touches.
fn the_limit_holds_again(running: &Running, stuck: &Memory) {
    let others = Memory::new(TOUCHED);
    let region = running.add(&others);
    for _ in 0..400 {
        fill(&others);
        if running.pager.stats().resident_bytes <= (LIMIT * PAGE) as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(running.pager.stats().resident_bytes <= (LIMIT * PAGE) as u64);
    check(stuck);
    check(&others);
    consistent(running);
    assert_eq!(running.pager.stats().immovable_bytes, 0);
    running.remove(region);
}

const WAYS: [(FaultMode, bool); 4] =
    [(FaultMode::Sigbus, false), (FaultMode::Sigbus, true), (FaultMode::Threads, false), (FaultMode::Threads, true)];

#[test]
fn locked_pages() {
    for (mode, in_place) in WAYS {
        let (memory, running, region) = with_locked_pages(mode, in_place);
        touches_go_on(&running, &memory);
        unlock(&memory);
        the_limit_holds_again(&running, &memory);
        running.remove(region);
        check(&memory);
    }
}

/// Touches that come slowly find the next attempt on immovable pages due each time. They still evict other pages.
#[test]
fn slow_touches_keep_memory_bounded() {
    for (mode, in_place) in WAYS {
        let (memory, running, region) = with_locked_pages(mode, in_place);
        assert!(running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).is_err());
        let others = Memory::new(TOUCHED);
        let other_region = running.add(&others);
        fill(&others);
        for page in 0..TOUCHED {
            running.pager.0.immovable.retry_at_once();
            others.check(page, value(page));
            let resident = running.pager.stats().resident_bytes as usize / PAGE;
            assert!(resident <= STUCK + LIMIT, "{resident} pages are in memory after {page} touches");
        }
        consistent(&running);
        running.remove(other_region);
        unlock(&memory);
        running.remove(region);
        check(&memory);
    }
}

/// A call that asks for eviction tries immovable pages without a delay.
#[test]
fn pages_that_were_locked_leave_when_a_call_asks() {
    for (mode, in_place) in WAYS {
        let (memory, running, region) = with_locked_pages(mode, in_place);
        assert!(running.pager.evict(STUCK as u64).is_err());
        unlock(&memory);
        assert_eq!(running.pager.evict(STUCK as u64), Ok(STUCK as u64));
        assert_eq!(running.pager.stats().immovable_bytes, 0);
        check(&memory);
        consistent(&running);
        running.remove(region);
    }
}

/// The marks go when the pages are held, given back, unmapped or removed.
#[test]
fn pages_that_could_not_leave_are_held_and_given_back() {
    for (mode, in_place) in WAYS {
        let (memory, running, region) = with_locked_pages(mode, in_place);
        assert!(running.pager.evict(STUCK as u64).is_err());
        running.pager.begin_hold(memory.at(3), 4 * PAGE).unwrap();
        consistent(&running);
        // SAFETY: the test needs none of the bytes.
        unsafe { running.pager.discard(memory.at(0), 32 * PAGE) }.unwrap();
        consistent(&running);
        (0..32).for_each(|page| memory.check(page, 0));
        (32..STUCK).for_each(|page| memory.check(page, value(page)));
        running.pager.end_hold(memory.at(3), 4 * PAGE).unwrap();
        assert!(running.pager.evict(STUCK as u64).is_err());
        running.remove(region);
        assert_eq!((running.pager.stats().immovable_bytes, running.pager.stats().resident_bytes), (0, 0));
    }
}

/// Pages that a forked child shares with this process. The child has ended before the pager has to move them, but they
/// are not this process's alone until they are written.
#[test]
fn pages_that_were_shared_with_a_child() {
    let memory = Memory::new(STUCK);
    let running = running(FaultMode::Sigbus, false);
    let region = running.add(&memory);
    fill(&memory);
    assert_eq!(memory.advise(0, STUCK, libc::MADV_DOFORK), 0);
    // SAFETY: the child does nothing but end.
    match unsafe { libc::fork() } {
        // SAFETY: the child does nothing but end.
        0 => unsafe { libc::_exit(0) },
        child => {
            let mut status = 0;
            // SAFETY: the status can be written.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        }
    }
    assert_eq!(memory.advise(0, STUCK, libc::MADV_DONTFORK), 0);
    running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
    assert_eq!(running.pager.stats().immovable_bytes, 0);
    check(&memory);
    consistent(&running);
    running.remove(region);
}

/// Has the system merge equal pages, quickly, while this lives.
struct Merging([(&'static str, String); 3]);

impl Merging {
    fn start() -> Option<Self> {
        let names = ["run", "sleep_millisecs", "pages_to_scan"];
        let path = |name: &str| format!("/sys/kernel/mm/ksm/{name}");
        let old = names.map(|name| (name, std::fs::read_to_string(path(name)).unwrap_or_default()));
        let set = |(name, value): (&str, &str)| std::fs::write(path(name), value).is_ok();
        if [("sleep_millisecs", "0"), ("pages_to_scan", "20000"), ("run", "1")].map(set) == [true; 3] {
            return Some(Self(old));
        }
        skip("pages_that_are_merged_leave", "KSM can't be turned on here");
        None
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.0.iter().for_each(|(name, value)| _ = std::fs::write(format!("/sys/kernel/mm/ksm/{name}"), value));
    }
}

fn merged() -> u64 {
    std::fs::read_to_string("/proc/self/ksm_merging_pages").map_or(0, |pages| pages.trim().parse().unwrap())
}

#[test]
fn pages_that_are_merged_leave() {
    let Some(_merging) = Merging::start() else { return };
    for (mode, in_place) in WAYS {
        for before in [true, false] {
            let memory = Memory::new(STUCK);
            let running = running(mode, in_place);
            (0..STUCK).for_each(|page| memory.fill(page, 1 + page as u64 % 4));
            let merge = || {
                assert_eq!(memory.advise(0, STUCK, libc::MADV_MERGEABLE), 0);
                for _ in 0..2000 {
                    if merged() >= STUCK as u64 / 2 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert!(merged() >= STUCK as u64 / 2, "{} pages were merged", merged());
            };
            if before {
                merge();
            }
            let region = running.add(&memory);
            if !before {
                merge();
            }
            running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
            assert!(running.pager.stats().resident_bytes <= (LIMIT * PAGE) as u64);
            (0..STUCK).for_each(|page| memory.check(page, 1 + page as u64 % 4));
            consistent(&running);
            running.remove(region);
        }
    }
}
