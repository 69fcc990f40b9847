//! How many pages a touch brings in, decided by how the last ones came.

use super::scratch::BUFFER_PAGES;
use crate::field::Field;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Pages that the next touch brings in, if it is in order.
const WINDOW: Field = Field::first(8);
/// The page that comes after those that were brought in last.
const NEXT: Field = WINDOW.then(56);
const _: () = assert!(Field::fill(&[WINDOW, NEXT], 64));

/// Whether the pages of a region are touched in order.
#[derive(Default)]
pub struct Readahead(AtomicU64);

impl Readahead {
    /// The number of pages to bring in for a touch of `page`: more than one if it comes after those that were brought
    /// in last.
    #[inline]
    pub fn window(&self, page: u64) -> usize {
        // Relaxed, here and below: it is a hint.
        let last = self.0.load(Relaxed);
        if NEXT.get(last) == page && page != 0 { WINDOW.get(last) as usize } else { 1 }
    }

    /// Notes that `count` pages were brought in from `page` on. A touch of the next one brings in twice as many.
    #[inline]
    pub fn loaded(&self, page: u64, count: usize) {
        self.0.store(NEXT.set(WINDOW.set(0, (count * 2).min(BUFFER_PAGES) as u64), page + count as u64), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zswap::MAX_AREA_PAGES;

    #[test]
    fn window_doubles_up_to_the_last_page_of_the_largest_region() {
        for first in [1, u64::from(u32::MAX) - 3, MAX_AREA_PAGES - BUFFER_PAGES as u64] {
            let ahead = Readahead::default();
            assert_eq!(ahead.window(first), 1);
            let mut page = first;
            for wanted in [2, 4, 8, BUFFER_PAGES, BUFFER_PAGES] {
                let count = ahead.window(page);
                ahead.loaded(page, count);
                page += count as u64;
                assert_eq!(ahead.window(page), wanted);
                assert_eq!((ahead.window(page - 1), ahead.window(page + 1)), (1, 1));
            }
        }
    }
}
