//! Where a guest's memory is, which of its pages still come from the snapshot, and which were written.

use crate::bitmap::{Bits, words_of};
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::units::PAGE;

/// A range of a guest's memory, at addresses of the guest's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestRange {
    /// The address of the range in the guest's process.
    pub at: u64,
    /// The length of the range.
    pub bytes: u64,
    /// The offset of its content in the snapshot, and in the memory file if the guest has one.
    pub offset: u64,
    /// The size of its pages, which has to be [`crate::PAGE_SIZE`].
    pub page_bytes: u64,
}

/// A page of a guest: the range that has it, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPage {
    range: usize,
    page: usize,
}

impl GuestPage {
    /// The first page of the first range.
    pub const FIRST: Self = Self { range: 0, page: 0 };
}

/// A range, with bits for its pages.
struct Range {
    start: usize,
    end: usize,
    /// The page of the area from which the first page is filled.
    first: u64,
    /// A bit for each page: it was filled, or given back, and is the guest's own.
    own: Bits<Box<[u64]>>,
    /// A bit for each page: it was written, or given back, since the last report.
    dirty: Bits<Box<[u64]>>,
    /// Whether the system said that the range is not registered for write protection.
    plain: bool,
}

/// The ranges of a guest, in the order of their addresses.
pub struct Ranges(Box<[Range]>);

impl Ranges {
    /// Checks and sorts the ranges of a guest whose snapshot has `snapshot_pages` pages.
    pub fn new(ranges: &[GuestRange], snapshot_pages: u64) -> Result<Self> {
        const NONE: Error = Error::Invalid(sentence(&"a guest needs at least one range of memory: the table is empty"));
        const PAGES: Error =
            Error::Invalid(sentence(&"guest memory has huge pages, which can't be served: give it pages of 4 KiB"));
        const WHOLE: Error = Error::Invalid(sentence(
            &"a range of guest memory or its offset is not of whole pages: use multiples of 4096",
        ));
        const PAST: Error = Error::Invalid(sentence(
            &"a range of guest memory is past the end of the snapshot: pass the table that came with this snapshot",
        ));
        const MORE: Error = Error::Invalid(sentence(
            &"the ranges have more memory than the snapshot: pass the table that came with this snapshot",
        ));
        const TWICE: Error =
            Error::Invalid(sentence(&"two ranges of guest memory overlap: give each address to one range"));
        let page = PAGE as u64;
        let mut sorted = heap::copied(ranges)?;
        sorted.sort_unstable_by_key(|range| range.at);
        let mut pages = 0_u64;
        for range in &sorted {
            if range.page_bytes != page {
                return Err(PAGES);
            }
            if range.bytes == 0 || [range.at, range.bytes, range.offset].iter().any(|number| number % page != 0) {
                return Err(WHOLE);
            }
            let end = range.offset.checked_add(range.bytes);
            if range.at.checked_add(range.bytes).is_none() || end.is_none_or(|end| end / page > snapshot_pages) {
                return Err(PAST);
            }
            // This can't overflow: each range is at most as long as the snapshot, and so is the sum so far. The sum
            // bounds the bits below, whatever the other process wrote into the table.
            pages += range.bytes / page;
            if pages > snapshot_pages {
                return Err(MORE);
            }
        }
        if sorted.windows(2).any(|pair| pair[0].at + pair[0].bytes > pair[1].at) {
            return Err(TWICE);
        }
        if sorted.is_empty() { Err(NONE) } else { Ok(Self(heap::slice(sorted.len(), |at| Range::new(&sorted[at]))?)) }
    }

    /// Finds the page at an address.
    pub fn find(&self, at: usize) -> Option<GuestPage> {
        let range = self.0.partition_point(|range| range.end <= at);
        let start = self.0.get(range)?.start;
        (start <= at).then(|| GuestPage { range, page: (at - start) / PAGE })
    }

    /// Returns the page of the area from which a page is filled.
    pub fn source(&self, place: GuestPage) -> u64 {
        self.0[place.range].first + place.page as u64
    }

    /// Whether a page is the guest's own, and no longer the snapshot's.
    pub fn is_own(&self, place: GuestPage) -> bool {
        self.0[place.range].own.is_set(place.page)
    }

    /// Counts the pages from this one on that still come from the snapshot, up to `most`.
    pub fn fresh(&self, place: GuestPage, most: usize) -> usize {
        let range = &self.0[place.range];
        let pages = ((range.end - range.start) / PAGE - place.page).min(most);
        let own = |ahead: &usize| self.is_own(GuestPage { page: place.page + ahead, ..place });
        (0..pages).find(own).unwrap_or(pages)
    }

    /// Makes `pages` pages from this one on the guest's own.
    pub fn make_own(&mut self, place: GuestPage, pages: usize) {
        let own = &mut self.0[place.range].own;
        (place.page..place.page + pages).for_each(|page| own.set(page));
    }

    /// Notes that `pages` pages from this one on were written.
    pub fn make_dirty(&mut self, place: GuestPage, pages: usize) {
        let dirty = &mut self.0[place.range].dirty;
        (place.page..place.page + pages).for_each(|page| dirty.set(page));
    }

    /// Notes that `pages` pages from this one on were reported.
    pub fn make_clean(&mut self, place: GuestPage, pages: usize) {
        let dirty = &mut self.0[place.range].dirty;
        (place.page..place.page + pages).for_each(|page| dirty.clear(page));
    }

    /// Finds the first run of dirty pages from a page on, in one range. Returns its first page and its length.
    pub fn next_dirty(&self, from: GuestPage) -> Option<(GuestPage, usize)> {
        for (index, range) in self.0.iter().enumerate().skip(from.range) {
            let first = if index == from.range { from.page } else { 0 };
            if let Some(page) = range.dirty.next_set(first) {
                let end = range.dirty.next_clear(page).min(range.pages() as usize);
                return Some((GuestPage { range: index, page }, end - page));
            }
        }
        None
    }

    /// Whether the range of a page is not registered for write protection, as far as the system has said.
    pub fn is_plain(&self, place: GuestPage) -> bool {
        self.0[place.range].plain
    }

    /// Notes whether the range of a page is not registered for write protection.
    pub fn set_plain(&mut self, place: GuestPage, plain: bool) {
        self.0[place.range].plain = plain;
    }

    /// Whether any range is not registered for write protection, as far as the system has said.
    pub fn has_plain(&self) -> bool {
        self.0.iter().any(|range| range.plain)
    }

    /// Returns the address of a page.
    pub fn address(&self, place: GuestPage) -> usize {
        self.0[place.range].start + place.page * PAGE
    }

    /// Describes `pages` pages from this one on as a range.
    pub fn describe(&self, place: GuestPage, pages: usize) -> GuestRange {
        let page = PAGE as u64;
        let (at, offset) = (self.address(place) as u64, self.source(place) * page);
        GuestRange { at, bytes: pages as u64 * page, offset, page_bytes: page }
    }

    /// Finds the page whose content is at an offset of the snapshot.
    pub fn at_offset(&self, offset: u64) -> Option<GuestPage> {
        let page = offset / PAGE as u64;
        let inside = |range: &Range| (range.first..range.first + range.pages()).contains(&page);
        let range = self.0.iter().position(inside)?;
        Some(GuestPage { range, page: (page - self.0[range].first) as usize })
    }

    /// Whether no two ranges share a page of the snapshot.
    pub fn are_apart(&self) -> Result<bool> {
        let mut parts = heap::with_capacity(self.0.len())?;
        parts.extend(self.0.iter().map(|range| (range.first, range.first + range.pages())));
        parts.sort_unstable();
        Ok(parts.windows(2).all(|pair| pair[0].1 <= pair[1].0))
    }

    /// Returns the end of the last page of the snapshot that a range has, in pages.
    pub fn last(&self) -> u64 {
        self.0.iter().map(|range| range.first + range.pages()).max().unwrap_or(0)
    }

    /// Makes all pages between two addresses the guest's own, and dirty. Returns how many there are.
    pub fn give_back(&mut self, start: usize, end: usize) -> u64 {
        let mut pages = 0;
        for index in 0..self.0.len() {
            let range = &self.0[index];
            let (from, to) = (start.max(range.start), end.min(range.end));
            if from < to {
                let count = (to - from).div_ceil(PAGE);
                let place = GuestPage { range: index, page: (from - range.start) / PAGE };
                self.make_own(place, count);
                self.make_dirty(place, count);
                pages += count as u64;
            }
        }
        pages
    }

    /// Returns the first page from an address on that is in no range.
    pub fn outside(&self, at: usize) -> usize {
        self.0.iter().fold(at, |at, range| if (range.start..range.end).contains(&at) { range.end } else { at })
    }

    /// Returns the bytes of guest memory.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|range| (range.end - range.start) as u64).sum()
    }

    /// Returns the address and the length in bytes of each range.
    pub fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().map(|range| (range.start, range.end - range.start))
    }
}

impl Range {
    fn new(range: &GuestRange) -> Result<Self> {
        let (start, bytes) = (range.at as usize, range.bytes as usize);
        let bits = || heap::zeros(words_of(bytes / PAGE)).map(Bits::of);
        let first = range.offset / PAGE as u64;
        Ok(Self { start, end: start + bytes, first, own: bits()?, dirty: bits()?, plain: false })
    }

    fn pages(&self) -> u64 {
        ((self.end - self.start) / PAGE) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB4: u64 = PAGE as u64;

    fn range(at: u64, pages: u64, offset: u64) -> GuestRange {
        GuestRange { at: at * KIB4, bytes: pages * KIB4, offset: offset * KIB4, page_bytes: KIB4 }
    }

    #[test]
    fn a_page_is_found_in_its_range_and_nowhere_else() {
        let ranges = Ranges::new(&[range(200, 10, 100), range(100, 100, 0)], 110).unwrap();
        let source = |page: usize| ranges.find(page * PAGE + 5).map(|place| ranges.source(place));
        assert_eq!([99, 100, 199, 200, 209, 210].map(source), [None, Some(0), Some(99), Some(100), Some(109), None]);
    }

    #[test]
    fn what_is_given_back_is_the_guests_own() {
        let mut ranges = Ranges::new(&[range(100, 100, 0), range(300, 10, 100)], 110).unwrap();
        assert_eq!(ranges.give_back(190 * PAGE, 305 * PAGE), 15);
        let fresh = |page: usize| ranges.fresh(ranges.find(page * PAGE).unwrap(), 8);
        assert_eq!([100, 185, 189, 190, 304, 305].map(fresh), [8, 5, 1, 0, 0, 5]);
        assert_eq!(ranges.give_back(0, 50 * PAGE), 0);
        assert_eq!(ranges.bytes(), 110 * KIB4);
    }

    #[test]
    fn dirty_pages_are_found_in_runs() {
        let mut ranges = Ranges::new(&[range(100, 200, 0), range(500, 10, 300)], 400).unwrap();
        assert_eq!(ranges.next_dirty(GuestPage::FIRST), None);
        for (page, pages) in [(100, 1), (163, 3), (299, 1), (500, 10)] {
            ranges.make_dirty(ranges.find(page * PAGE).unwrap(), pages);
        }
        let (mut runs, mut from) = (Vec::new(), GuestPage::FIRST);
        while let Some((place, pages)) = ranges.next_dirty(from) {
            let run = ranges.describe(place, pages);
            runs.push((run.at / KIB4, run.bytes / KIB4, run.offset / KIB4));
            ranges.make_clean(place, pages);
            from = place;
        }
        assert_eq!(runs, [(100, 1, 0), (163, 3, 63), (299, 1, 199), (500, 10, 300)]);
        assert_eq!(ranges.next_dirty(GuestPage::FIRST), None);
    }

    #[test]
    fn a_page_is_found_by_its_offset() {
        let ranges = Ranges::new(&[range(200, 10, 100), range(100, 50, 0)], 110).unwrap();
        let at = |page: u64| ranges.at_offset(page * KIB4 + 5).map(|place| ranges.address(place) / PAGE);
        assert_eq!([0, 49, 50, 100, 109, 110].map(at), [Some(100), Some(149), None, Some(200), Some(209), None]);
        assert_eq!((ranges.last(), ranges.are_apart()), (110, Ok(true)));
        let same = Ranges::new(&[range(200, 10, 10), range(100, 20, 0)], 110).unwrap();
        assert_eq!(same.are_apart(), Ok(false));
    }

    #[test]
    fn there_is_always_an_address_outside() {
        let ranges = Ranges::new(&[range(16, 10, 0), range(26, 10, 10), range(40, 10, 20)], 100).unwrap();
        assert_eq!([15, 16, 30, 36, 45, 60].map(|page| ranges.outside(page * PAGE) / PAGE), [15, 36, 36, 36, 50, 60]);
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let refused = |table: &[GuestRange]| Ranges::new(table, 100).err().map(Error::text).unwrap_or_default();
        assert!(refused(&[]).contains("at least one"));
        assert!(refused(&[GuestRange { page_bytes: 2 << 20, ..range(512, 100, 0) }]).contains("huge"));
        assert!(refused(&[GuestRange { at: 7, ..range(0, 1, 0) }]).contains("whole"));
        assert!(refused(&[range(5, 0, 0)]).contains("whole"));
        assert!(refused(&[range(5, 1, 100)]).contains("past"));
        assert!(refused(&[GuestRange { offset: 0_u64.wrapping_sub(KIB4), ..range(5, 1, 0) }]).contains("past"));
        assert!(refused(&[GuestRange { at: 0_u64.wrapping_sub(KIB4), ..range(5, 2, 0) }]).contains("past"));
        assert!(refused(&[range(5, 60, 0), range(500, 60, 0)]).contains("more"));
        assert!(refused(&[range(5, 10, 0), range(14, 10, 10)]).contains("overlap"));
        assert_eq!(refused(&[range(5, 10, 0), range(15, 10, 10)]), "");
    }
}
