//! A pool that has much more memory than its slots, and no lent thread that compacts it.

use super::{Memory, Running, evicting, limited};
use crate::pager::FaultMode;
use crate::units::PAGE;

const LIMIT: usize = 64;
const PAGES: usize = 4096;
/// One page of so many is left when the others are discarded.
const LEFT: usize = 4;
/// The pages that are written again and again.
const WRITTEN: usize = 2 * LIMIT;

/// Touches that evict give the memory of holes back, although most of the pages that are left stay compressed.
#[test]
fn touches_that_evict_compact_a_sparse_pool() {
    for in_place in [false, true] {
        let memory = Memory::new(PAGES);
        let running = Running::new(&evicting(in_place, limited(LIMIT, FaultMode::Sigbus)), &[]);
        let region = running.add(&memory);
        (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
        for page in (0..PAGES).filter(|page| !page.is_multiple_of(LEFT)) {
            // SAFETY: the memory is used through its addresses alone.
            unsafe { running.pager.discard(memory.at(page), PAGE) }.unwrap();
        }
        let core = &running.pager.0;
        let is_sparse = || {
            let used = core.zswap.used_bytes();
            core.zswap.pool().total_pages() * PAGE as u64 > used + used / 8 + (1 << 20)
        };
        assert!(is_sparse(), "three quarters of the pool are holes");
        let mut rounds = 0;
        while is_sparse() && rounds < 2000 {
            (0..WRITTEN).for_each(|page| memory.fill(page * LEFT, (page * LEFT) as u64 + 1));
            rounds += 1;
        }
        assert!(!is_sparse(), "in place: {in_place}, {} pages", core.zswap.pool().total_pages());
        (0..PAGES).step_by(LEFT).for_each(|page| memory.check(page, page as u64 + 1));
        running.remove(region);
    }
}
