//! Ranges that pagers of this process removed lately. A thread that touched one just before may reach the handler of
//! SIGBUS when the region, or its whole pager, is gone. It only has to look again.

use super::extents::Extent;
use super::time::now;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many ranges are remembered.
const RANGES: usize = 256;
const SECOND: u64 = 1_000_000_000;

/// The start and end of each range, and when it was removed, in nanoseconds of the pager's clock.
static REMOVED: [[AtomicU64; 3]; RANGES] = [const { [const { AtomicU64::new(0) }; 3] }; RANGES];
static REMOVALS: AtomicU64 = AtomicU64::new(0);

/// Notes that a part of a region is about to be removed.
pub fn note_removal(part: &Extent) {
    let at = REMOVALS.fetch_add(1, Relaxed) as usize % RANGES;
    let [start, end, when] = &REMOVED[at];
    // A reader of a mixture of two ranges may look once more, or get a signal that it would have got without this.
    start.store(part.start as u64, Relaxed);
    end.store(part.end as u64, Relaxed);
    // Release pairs with the Acquire in `was_removed`.
    when.store(now(), Release);
}

/// Whether an address was in a part that was removed within the last second.
pub fn was_removed(at: usize) -> bool {
    REMOVED.iter().any(|[start, end, when]| {
        // Acquire pairs with the Release in `note_removal`.
        let when = when.load(Acquire);
        when != 0 && when + SECOND > now() && (start.load(Relaxed)..end.load(Relaxed)).contains(&(at as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_removals_are_known_after_their_count_wraps() {
        super::super::time::start();
        // Where no program has memory.
        let range = |number: usize| Extent { start: number << 12, end: (number + 1) << 12, region: 0, first: 0 };
        REMOVALS.store(u64::MAX - 2, Relaxed);
        for number in 1..6 {
            note_removal(&range(number));
            assert!((1..=number).all(|known| was_removed(known << 12)) && !was_removed((number + 1) << 12));
        }
    }
}
