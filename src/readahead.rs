//! How many pages a touch brings in, decided by how the last ones came.
//!
//! A program may go through several parts of its memory in order at the same time. So a few streams are remembered,
//! each by the page that comes next. A touch that continues none of them begins one, in one of the places for that:
//! streams that were continued have places of their own, so that touches in random order do not make them be
//! forgotten.

use crate::field::Field;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crossbeam_utils::CachePadded;

/// Pages that the next touch of a stream brings in.
const WINDOW: Field = Field::first(8);
/// The page that comes after those that were brought in last.
const NEXT: Field = WINDOW.then(56);
const _: () = assert!(Field::fill(&[WINDOW, NEXT], 64));

/// Places for streams that were continued, and as many for those that begin.
const STREAMS: usize = 4;

/// The streams of a region or a guest.
#[derive(Default)]
pub struct Readahead(CachePadded<Streams>);

#[derive(Default)]
struct Streams {
    /// Those that were continued, then those that began.
    all: [AtomicU64; STREAMS * 2],
    /// How many of each kind took a place, in turn.
    turns: [AtomicU64; 2],
}

impl Readahead {
    /// The number of pages to bring in for a touch of `page`: more than one if it continues a stream.
    #[inline]
    pub fn window(&self, page: u64) -> usize {
        self.stream(page).map_or(1, |at| WINDOW.get(self.read(at)) as usize)
    }

    /// Notes that `count` pages were brought in from `page` on, of at most `most`. A touch of the next one brings in
    /// twice as many.
    #[inline]
    pub fn loaded(&self, page: u64, count: usize, most: usize) {
        let (next, window) = (page + count as u64, (count * 2).min(most) as u64);
        let place = match self.stream(page) {
            Some(at) if at < STREAMS => at,
            // The stream was continued for the first time.
            Some(at) => {
                self.0.all[at].store(0, Relaxed);
                self.next_place(0)
            }
            None => STREAMS + self.next_place(1),
        };
        self.0.all[place].store(NEXT.set(WINDOW.set(0, window), next), Relaxed);
    }

    /// The place of the stream whose next page this is.
    #[inline]
    fn stream(&self, page: u64) -> Option<usize> {
        (0..STREAMS * 2).find(|&at| NEXT.get(self.read(at)) == page && page != 0)
    }

    #[inline]
    fn read(&self, at: usize) -> u64 {
        // Relaxed, here and in what stores: it is a hint.
        self.0.all[at].load(Relaxed)
    }

    /// The place among those of a kind whose turn it is.
    #[inline]
    fn next_place(&self, kind: usize) -> usize {
        let turn = self.0.turns[kind].load(Relaxed);
        // Two threads may take the same place, and one of the streams begins anew.
        self.0.turns[kind].store(turn.wrapping_add(1), Relaxed);
        turn as usize % STREAMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16;

    #[test]
    fn window_doubles_up_to_the_last_page_of_the_largest_region() {
        for first in [1, u64::from(u32::MAX) - 3, (1 << 48) - MOST as u64] {
            let ahead = Readahead::default();
            assert_eq!(ahead.window(first), 1);
            let mut page = first;
            for wanted in [2, 4, 8, MOST, MOST] {
                let count = ahead.window(page);
                ahead.loaded(page, count, MOST);
                page += count as u64;
                assert_eq!(ahead.window(page), wanted);
                assert_eq!((ahead.window(page - 1), ahead.window(page + 1)), (1, 1));
            }
        }
    }

    /// Streams that were continued are known although pages are touched in random order in between.
    #[test]
    fn streams_survive_random_touches() {
        let ahead = Readahead::default();
        let mut nexts: Vec<u64> = (1..=STREAMS as u64).map(|stream| stream * 1000).collect();
        for next in &mut nexts {
            (0..2).for_each(|_| {
                let count = ahead.window(*next);
                ahead.loaded(*next, count, MOST);
                *next += count as u64;
            });
        }
        for round in 0..50_u64 {
            (0..20).for_each(|touch| ahead.loaded(1 << 40 | (round * 20 + touch) << 20, 1, MOST));
            for next in &mut nexts {
                let count = ahead.window(*next);
                assert!(count > 1, "round {round}");
                ahead.loaded(*next, count, MOST);
                *next += count as u64;
            }
        }
    }
}
