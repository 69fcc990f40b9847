//! Which offsets of an area have a page.

use super::area::Area;
use super::word::WordKind;
use crate::error::{Error, Result, sentence};
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

/// The offsets of an area that have a page, in ascending order: what [`Area::stored`] and [`Area::stored_in`] return.
#[derive(Clone, Debug)]
#[must_use = "an iterator does nothing until it is asked for the next offset"]
pub struct StoredOffsets<'a> {
    area: &'a Area,
    /// The offsets that were not looked at yet.
    from: u64,
    end: u64,
}

impl Area {
    /// Returns the offsets that have a page, in ascending order: in the pool, filled, or on a tier.
    /// Offsets without a page cost next to nothing.
    ///
    /// Other threads may store and remove pages meanwhile. A page that is there from the beginning to the end is found,
    /// exactly once. A page that comes or goes meanwhile may be found or not. When an offset is returned, its page may
    /// have gone already.
    ///
    /// There are none if the area was removed, and in a forked child without the pool. Callbacks may call this.
    pub fn stored(&self) -> StoredOffsets<'_> {
        self.stored_in(..)
    }

    /// Returns the offsets of a range that have a page, as [`Area::stored`] does for the whole area. The range may end
    /// past the end of the area.
    pub fn stored_in(&self, offsets: impl RangeBounds<u64>) -> StoredOffsets<'_> {
        let after = |offset: u64| offset.saturating_add(1);
        let from = match offsets.start_bound() {
            Bound::Included(&offset) => offset,
            Bound::Excluded(&offset) => after(offset),
            Bound::Unbounded => 0,
        };
        let end = match offsets.end_bound() {
            Bound::Included(&offset) => after(offset),
            Bound::Excluded(&offset) => offset,
            Bound::Unbounded => u64::MAX,
        };
        StoredOffsets { area: self, from, end: end.min(self.pages()) }
    }

    /// Returns the first offset, from `from` on, that has a page.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Removed`], [`Error::Forked`] in a child
    /// without the pool.
    pub(super) fn next_stored(&self, from: u64, end: u64) -> Result<u64> {
        const NONE: Error = Error::NotFound(sentence(&"no page is stored from there on"));
        let _call = self.0.begin()?;
        let mut at = from;
        while let Some((offset, word)) = self.0.index.next_used(at, end) {
            if word.kind() != WordKind::Empty {
                return Ok(offset);
            }
            at = offset + 1;
        }
        Err(NONE)
    }
}

impl Iterator for StoredOffsets<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let found = self.area.next_stored(self.from, self.end).ok();
        self.from = found.map_or(self.end, |offset| offset + 1);
        found
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.end.saturating_sub(self.from)).ok())
    }
}

impl FusedIterator for StoredOffsets<'_> {}
