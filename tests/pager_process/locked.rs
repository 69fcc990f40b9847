//! Processes that lock all of their memory.

use crate::processes::PAGE;
use crate::{Fixture, GOOD, PAGES, Test, options};
use zsalloc::{AreaOptions, CompactBudget, FaultMode, LoadFlags, Pager, Patience, Zswap, ZswapOptions};

/// The tests.
pub const TESTS: &[Test] = &[
    ("locked in memory, pages are evicted", GOOD, || evict_locked(libc::MCL_CURRENT)),
    ("locked when it is mapped, pages are evicted", GOOD, || evict_locked(libc::MCL_CURRENT | libc::MCL_FUTURE)),
    ("locked in memory, a pool is compacted", GOOD, || compact_locked(libc::MCL_CURRENT)),
    ("locked when it is mapped, a pool is compacted", GOOD, || {
        compact_locked(libc::MCL_CURRENT | libc::MCL_FUTURE);
    }),
];

/// Locks all memory of the process. Returns false if the process may not.
fn lock(flags: i32) -> bool {
    // SAFETY: the call changes no memory.
    let locked = unsafe { libc::mlockall(flags) } == 0;
    if !locked {
        crate::skip::skip("pager_process_locked", "this process may not lock its memory");
    }
    locked
}

/// Returns the bytes of the process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

/// Checks that the memory of evicted pages goes, although the process locks its memory: that which it has, or also that
/// which it maps later.
fn evict_locked(flags: i32) {
    if flags & libc::MCL_FUTURE != 0 && !lock(flags) {
        return;
    }
    let pager = Pager::new("locked", &options(FaultMode::Sigbus)).unwrap();
    let fixture = Fixture::unevicted(pager, FaultMode::Sigbus);
    if !lock(flags) {
        return;
    }
    for _ in 0..3 {
        fixture.memory.check();
        let before = resident();
        let most = fixture.pager.stats().resident_bytes;
        assert!(fixture.pager.evict(PAGES as u64).is_ok());
        assert!(fixture.pager.evict(PAGES as u64).is_err() || fixture.pager.stats().resident_bytes == 0);
        assert_eq!(fixture.pager.stats().resident_bytes, 0);
        assert!(resident() + most as usize / 2 < before, "{} of {before} bytes are left of {most}", resident());
    }
}

/// Makes a page that is stored in some 1700 bytes, so that a zspage has several.
fn page(offset: u64) -> [u8; PAGE] {
    let mut state = offset;
    std::array::from_fn(|at| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        if at < 1600 { (state >> 33) as u8 } else { offset as u8 }
    })
}

/// Checks that compaction gives memory back, although the process locks its memory.
fn compact_locked(flags: i32) {
    const STORED: u64 = 4000;
    if flags & libc::MCL_FUTURE != 0 && !lock(flags) {
        return;
    }
    let zswap = Zswap::new("locked", &ZswapOptions { max_bytes: Some(64 << 20), ..ZswapOptions::default() }).unwrap();
    let area = zswap.add_area(STORED, &AreaOptions::default()).unwrap();
    (0..STORED).for_each(|offset| area.store(offset, &page(offset)).unwrap());
    if !lock(flags) {
        return;
    }
    let (before, pages) = (resident(), zswap.pool_stats().unwrap().total_pages);
    // The remaining pages are scattered.
    (0..STORED).filter(|at| at % 8 != 0).for_each(|at| area.invalidate(at, 1, Patience::Wait).unwrap());
    zswap.compact(&CompactBudget::default()).unwrap();
    let left = zswap.pool_stats().unwrap().total_pages;
    assert!(left < pages / 4, "{left} of {pages} pages are left");
    let gone = (pages - left) as usize * PAGE;
    assert!(resident() + gone / 2 < before, "{} of {before} bytes are left, {gone} went", resident());
    let mut loaded = [0; PAGE];
    for offset in (0..STORED).step_by(8) {
        area.load(offset, &mut loaded, LoadFlags::KEEP).unwrap();
        assert_eq!(loaded, page(offset));
    }
}
