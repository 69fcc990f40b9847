//! Which addresses belong to which region. Every touch looks that up, without a lock.
//!
//! The table is a sorted array behind a sequence number: a reader looks again if the table changed meanwhile. A writer
//! holds the lock of events, with signals blocked, so that a reader in a signal handler never waits for the thread that
//! it interrupted.

use crate::error::{Error, Limit, Result, sentence};
use crate::heap;
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    Wait, fence,
};
use crate::units::PAGE;

/// A range of addresses that belongs to a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first address.
    pub start: usize,
    /// The address after the last.
    pub end: usize,
    /// The place of the region.
    pub region: usize,
    /// The number of the page at the first address.
    pub first: u64,
}

impl Extent {
    /// The number of the page at an address inside.
    #[inline]
    pub fn page_at(&self, at: usize) -> u64 {
        self.first + ((at - self.start) / PAGE) as u64
    }

    /// The part of the extent that is inside a range.
    pub fn within(self, start: usize, end: usize) -> Option<Self> {
        let (from, to) = (self.start.max(start), self.end.min(end));
        (from < to).then(|| Self { start: from, end: to, region: self.region, first: self.page_at(from) })
    }
}

/// The error for a range that has a part in a region, where it must have none.
pub(super) const OVERLAPS: Error = Error::Invalid(sentence(&"a part of the range is in another region already"));
/// The error for a range that is not in regions as a whole.
pub const NO_REGION: Error = Error::Invalid(sentence(&"a part of the range is in no region"));

/// Returns the start and end of the whole pages that a range touches. No bytes touch none.
pub fn whole_pages(at: usize, bytes: usize) -> Result<(usize, usize)> {
    let start = at & !(PAGE - 1);
    let end = at.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(NO_REGION)?;
    Ok((start, if bytes == 0 { start } else { end }))
}

/// Words of an extent in the table.
const WORDS: usize = 4;
/// How many more extents than were added there may be, because owners unmapped or moved a part in the middle: the
/// system does not ask whether there is room. If there are more, touches of the part above the cut are not served, and
/// get a signal.
const CUTS: usize = if cfg!(loom) { 1 } else { 4096 };

/// The table of extents.
pub struct Extents {
    /// Odd while a thread writes.
    sequence: AtomicU64,
    count: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Extents {
    /// An empty table with room for `most` extents that are added.
    pub fn new(most: usize) -> Result<Self> {
        let words = heap::slice((most + CUTS) * WORDS, |_| Ok(AtomicU64::new(0)))?;
        Ok(Self { sequence: AtomicU64::new(0), count: AtomicU64::new(0), words })
    }

    fn most(&self) -> usize {
        self.words.len() / WORDS - CUTS
    }

    fn get(&self, at: usize) -> Extent {
        let word = |field: usize| self.words[at * WORDS + field].load(Relaxed);
        Extent { start: word(0) as usize, end: word(1) as usize, region: word(2) as usize, first: word(3) }
    }

    fn put(&self, at: usize, extent: Extent) {
        let values = [extent.start as u64, extent.end as u64, extent.region as u64, extent.first];
        (0..WORDS).for_each(|field| self.words[at * WORDS + field].store(values[field], Relaxed));
    }

    fn len(&self) -> usize {
        (self.count.load(Relaxed) as usize).min(self.words.len() / WORDS)
    }

    /// The version of the table: another number after every change.
    #[inline]
    pub fn version(&self) -> u64 {
        self.sequence.load(Acquire)
    }

    /// Runs `look` until no thread wrote meanwhile.
    fn read<T>(&self, look: impl Fn() -> T) -> T {
        let mut wait = Wait::default();
        loop {
            // Acquire pairs with the Release at the end of `write`.
            let before = self.sequence.load(Acquire);
            if before.is_multiple_of(2) {
                let seen = look();
                // Pairs with the fence in `write`: if `look` saw anything of a later writer, this sees its odd number.
                fence(Acquire);
                if self.sequence.load(Relaxed) == before {
                    return seen;
                }
            }
            wait.a_moment();
        }
    }

    /// The first extent that ends after an address.
    pub fn next(&self, at: usize) -> Option<Extent> {
        self.read(|| {
            let count = self.len();
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                if self.get(middle).end <= at { low = middle + 1 } else { high = middle }
            }
            (low < count).then(|| self.get(low))
        })
    }

    /// The extent that an address is in.
    #[inline]
    pub fn find(&self, at: usize) -> Option<Extent> {
        self.next(at).filter(|extent| extent.start <= at)
    }

    /// The parts of extents in a range, first to last.
    pub fn within(&self, start: usize, end: usize) -> impl Iterator<Item = Extent> + '_ {
        let mut at = start;
        std::iter::from_fn(move || {
            let part = self.next(at)?.within(at, end)?;
            at = part.end;
            Some(part)
        })
    }

    /// Whether regions have all of a range.
    pub fn cover(&self, start: usize, end: usize) -> bool {
        self.within(start, end).map(|part| part.end - part.start).sum::<usize>() == end - start
    }

    /// The first part of a region at or after an address.
    pub fn next_of(&self, region: usize, from: usize) -> Option<Extent> {
        let mut at = from;
        while let Some(extent) = self.next(at) {
            if extent.region == region {
                return extent.within(at, usize::MAX);
            }
            at = extent.end;
        }
        None
    }

    /// The address of a page of a region, if it has one.
    pub fn address_of(&self, region: usize, page: u64) -> Option<usize> {
        let mut from = 0;
        while let Some(part) = self.next_of(region, from) {
            let at = page.checked_sub(part.first).map(|pages| part.start + pages as usize * PAGE);
            if let Some(at) = at.filter(|&at| at < part.end) {
                return Some(at);
            }
            from = part.end;
        }
        None
    }

    /// The first part of a region.
    pub fn first_of(&self, region: usize) -> Option<Extent> {
        self.next_of(region, 0)
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> u64 {
        (self.words.len() * size_of::<u64>()) as u64
    }

    /// Adds an extent. If the one before it ends where this one begins, and is of the same region, they become one. The
    /// caller holds the lock of events.
    pub fn add(&self, extent: Extent) -> Result<()> {
        self.add_up_to(extent, self.most())
    }

    /// Adds a part that its owner moved. The system does not ask whether there is room, so there is more room for such
    /// parts.
    pub fn add_moved(&self, extent: Extent) -> Result<()> {
        self.add_up_to(extent, self.words.len() / WORDS)
    }

    fn add_up_to(&self, extent: Extent, most: usize) -> Result<()> {
        const FULL: Error = Error::Limit(Limit::Regions);
        if self.within(extent.start, extent.end).next().is_some() {
            return Err(OVERLAPS);
        }
        let count = self.len();
        let place = self.place_behind(extent.start);
        let before = place.checked_sub(1).map(|at| self.get(at));
        let goes_on = |before: &Extent| before.end == extent.start && before.region == extent.region;
        if let Some(before) = before.filter(goes_on)
            && before.page_at(before.end) == extent.first
        {
            self.write(|| self.put(place - 1, Extent { end: extent.end, ..before }));
            return Ok(());
        }
        if count >= most {
            return Err(FULL);
        }
        self.write(|| {
            (place..count).rev().for_each(|at| self.put(at + 1, self.get(at)));
            self.put(place, extent);
            self.count.store(count as u64 + 1, Relaxed);
        });
        Ok(())
    }

    /// The number of extents that begin at an address or before it. The caller holds the lock of events.
    fn place_behind(&self, at: usize) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.get(middle).start <= at { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Cuts a range out. What is left of an extent on both sides stays. The caller holds the lock of events.
    pub fn cut(&self, start: usize, end: usize) {
        while let Some(part) = self.within(start, end).next() {
            let whole = self.find(part.start).expect("it was just there");
            let at = self.place_behind(whole.start) - 1;
            let before = Extent { end: part.start, ..whole };
            let after =
                Extent { start: part.end, first: whole.first + ((part.end - whole.start) / PAGE) as u64, ..whole };
            self.replace(at, [before, after].map(|left| (left.start < left.end).then_some(left)));
        }
    }

    /// Replaces an extent with what is left of it. Allocates nothing: it may run in a signal handler. If the table is
    /// full, the part above the cut is lost.
    fn replace(&self, at: usize, left: [Option<Extent>; 2]) {
        let count = self.len();
        let left = if count == self.words.len() / WORDS { [left[0].or(left[1]), None] } else { left };
        self.write(|| {
            match left.iter().flatten().count() {
                0 => (at + 1..count).for_each(|next| self.put(next - 1, self.get(next))),
                2 => (at + 1..count).rev().for_each(|next| self.put(next + 1, self.get(next))),
                _ => {}
            }
            left.iter().flatten().enumerate().for_each(|(place, &extent)| self.put(at + place, extent));
            self.count.store((count + left.iter().flatten().count() - 1) as u64, Relaxed);
        });
    }

    fn write(&self, change: impl FnOnce()) {
        let before = self.sequence.load(Relaxed);
        self.sequence.store(before.wrapping_add(1), Relaxed);
        // Pairs with the fence in `read`: a thread that sees anything that changes below sees the odd number.
        fence(Release);
        change();
        // Release pairs with the Acquire in `read`.
        self.sequence.store(before.wrapping_add(2), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(from: usize, to: usize, region: usize, first: u64) -> Extent {
        Extent { start: from * PAGE, end: to * PAGE, region, first }
    }

    #[test]
    fn table_works_when_its_version_wraps() {
        let table = Extents::new(4).unwrap();
        table.sequence.store(u64::MAX - 3, Relaxed);
        let mut versions = std::collections::HashSet::new();
        for round in 0..6 {
            assert!(versions.insert(table.version()));
            table.add(extent(round, round + 1, 1, 0)).unwrap();
            assert_eq!(table.find(round * PAGE), Some(extent(round, round + 1, 1, 0)));
            assert!(versions.insert(table.version()));
            table.cut(round * PAGE, (round + 1) * PAGE);
            assert_eq!(table.find(round * PAGE), None);
        }
        assert!(versions.contains(&0) && versions.iter().all(|version| version.is_multiple_of(2)));
    }

    #[test]
    fn extents_are_added_found_and_cut() {
        let table = Extents::new(4).unwrap();
        table.add(extent(20, 30, 2, 0)).unwrap();
        table.add(extent(10, 20, 1, 0)).unwrap();
        assert!(matches!(table.add(extent(15, 16, 3, 0)), Err(Error::Invalid(_))));
        assert_eq!(table.find(25 * PAGE).unwrap().page_at(25 * PAGE), 5);
        assert_eq!((table.find(9 * PAGE), table.find(30 * PAGE)), (None, None));
        table.cut(12 * PAGE, 22 * PAGE);
        let all: Vec<_> = table.within(0, usize::MAX).collect();
        assert_eq!(all, [extent(10, 12, 1, 0), extent(22, 30, 2, 2)]);
        table.cut(24 * PAGE, 26 * PAGE);
        let all: Vec<_> = table.within(11 * PAGE, 27 * PAGE).collect();
        assert_eq!(all, [extent(11, 12, 1, 1), extent(22, 24, 2, 2), extent(26, 27, 2, 6)]);
        table.add(extent(0, 1, 4, 0)).unwrap();
        table.add(extent(1, 3, 4, 1)).unwrap();
        assert_eq!(table.find(0), Some(extent(0, 3, 4, 0)));
        assert!(matches!(table.add(extent(3, 4, 4, 9)), Err(Error::Limit(Limit::Regions))));
    }
}
