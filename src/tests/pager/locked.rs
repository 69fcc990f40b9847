//! Memory that is locked, as all of a process's may be.

use super::look::consistent;
use super::{Memory, Running, limited};
use crate::pager::FaultMode;
use crate::tests::skip::skip;
use crate::units::PAGE;

const LIMIT: usize = 64;
const PAGES: usize = 2 * LIMIT;

/// The region and the staging range are both locked, and so the system moves pages from one to the other.
#[test]
fn staged_pages_go_from_memory_that_is_locked() {
    let memory = Memory::new(PAGES);
    let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[]);
    running.add(&memory);
    let (staging, bytes) = running.pager.0.staging.range();
    for (at, bytes) in [(memory.at(0) as usize, memory.bytes()), (staging, bytes)] {
        // SAFETY: ranges of the test's own and of its pager, whose pages are locked as they come.
        if unsafe { libc::mlock2(at as *const _, bytes, 1) } != 0 {
            skip("staged_pages_go_from_memory_that_is_locked", "nothing may be locked");
            return;
        }
    }
    for round in 0..3 {
        (0..PAGES).for_each(|page| memory.fill(page, (round * PAGES + page) as u64));
        running.pager.evict(PAGES as u64).unwrap();
        let stats = running.pager.stats();
        assert_eq!((stats.resident_bytes, stats.staged_bytes, stats.counts.over_limit), (0, 0, 0), "{stats:?}");
        let mut seen = vec![0u8; bytes / PAGE];
        // SAFETY: the range is the pager's, and there is room for a byte for each of its pages.
        assert_eq!(unsafe { libc::mincore(staging as *mut _, bytes, seen.as_mut_ptr()) }, 0);
        assert!(seen.iter().all(|page| page & 1 == 0), "a slot has its memory still");
        (0..PAGES).for_each(|page| memory.check(page, (round * PAGES + page) as u64));
        consistent(&running);
    }
}
