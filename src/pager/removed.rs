//! Ranges that pagers of this process removed lately. A thread that touched one just before may be on its way to the
//! handler of SIGBUS, and get there when its region, or its whole pager, is gone: it has to look again, no more.

use super::clock::now;
use super::extents::Extent;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many are remembered.
const RANGES: usize = 256;
const SECOND: u64 = 1_000_000_000;

/// Start, end, and when, in nanoseconds.
static REMOVED: [[AtomicU64; 3]; RANGES] = [const { [const { AtomicU64::new(0) }; 3] }; RANGES];
static REMOVALS: AtomicU64 = AtomicU64::new(0);

/// Remembers that a part of a region is about to be removed.
pub fn note(part: &Extent) {
    let at = REMOVALS.fetch_add(1, Relaxed) as usize % RANGES;
    let [start, end, when] = &REMOVED[at];
    // Who reads a mixture of two may look once more, or get a signal, which it would have got without this.
    start.store(part.start as u64, Relaxed);
    end.store(part.end as u64, Relaxed);
    // Release pairs with the Acquire in `lately`.
    when.store(now(), Release);
}

/// Whether an address was in a part that was removed within the last second.
pub fn lately(at: usize) -> bool {
    REMOVED.iter().any(|[start, end, when]| {
        // Acquire pairs with the Release in `note`.
        let when = when.load(Acquire);
        when != 0 && when + SECOND > now() && (start.load(Relaxed)..end.load(Relaxed)).contains(&(at as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_removed_last_are_known_where_their_count_goes_round() {
        super::super::clock::start();
        // Where no program has memory.
        let range = |number: usize| Extent { start: number << 12, end: (number + 1) << 12, region: 0, first: 0 };
        REMOVALS.store(u64::MAX - 2, Relaxed);
        for number in 1..6 {
            note(&range(number));
            assert!((1..=number).all(|known| lately(known << 12)) && !lately((number + 1) << 12));
        }
    }
}
