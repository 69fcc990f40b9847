//! Counters of a pager, each started near its wrap.

use super::look::consistent;
use super::{Memory, Running, WAYS, evicting, limited};
use crate::pager::Duty;
use crate::sync::Ordering::Relaxed;

const LIMIT: usize = 64;
const PAGES: usize = 3 * LIMIT;

/// Pages leave memory and come back in every way while the counts of departures and of compressed pages wrap: the 25
/// bits in a page's word, the 32 bits that they are taken from, and the whole.
#[test]
fn pages_come_back_when_the_counts_of_departures_wrap() {
    for (mode, evict_in_place, shared) in WAYS {
        for before in [(1 << 25) - 40, (1 << 32) - 40, u64::MAX - 40] {
            let memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
            let options = evicting(evict_in_place, limited(LIMIT, mode));
            let running = Running::new(&options, &[Duty::All]);
            let core = &running.pager.0;
            core.account.all_departures().store(before, Relaxed);
            core.counters.stored.store(before, Relaxed);
            core.upkeep.set_looked_at(before);
            core.counters.faults.store(before, Relaxed);
            let region = running.add(&memory);
            for round in 0..3 {
                (0..PAGES).for_each(|page| memory.fill(page, (round * PAGES + page + 1) as u64));
                (0..PAGES).for_each(|page| memory.check(page, (round * PAGES + page + 1) as u64));
            }
            let gone = core.account.all_departures().load(Relaxed).wrapping_sub(before);
            assert!((PAGES as u64..u64::MAX / 2).contains(&gone), "{gone} left");
            consistent(&running);
            running.remove(region);
            (0..PAGES).for_each(|page| memory.check(page, (2 * PAGES + page + 1) as u64));
        }
    }
}
