//! A region: memory of the program's that is under the pager, the state words of its pages, and their area of zswap.

use crate::error::{Error, Result, not_given};
use crate::os::userfault::Faulting;
use crate::os::{self, Mapping, Os};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::units::{PAGE, pages_of};
use crate::word::Field;
use crate::zswap::Area;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use super::clock;
use super::page::Page;
use super::scratch::LOT;

const PLACE: Field = Field::new(0, 16);
const SERIAL: Field = Field::new(16, 48);
/// Most regions of a pager at once.
pub const MAX_REGIONS: usize = 1 << 16;

/// Names a region of a pager. A pager gives no two regions the same name, also not when the first one is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct RegionId(u64);

impl RegionId {
    /// The region that has this place, and was added to its pager as this one of many.
    pub(super) fn new(place: usize, serial: u64) -> Self {
        Self(SERIAL.set(PLACE.set(0, place as u64), serial))
    }

    /// Its place among the regions that are there.
    pub(crate) fn place(self) -> usize {
        PLACE.get(self.0) as usize
    }

    /// Which of the regions that had the place.
    pub(super) fn serial(self) -> u64 {
        SERIAL.get(self.0)
    }

    /// The name as a number, for where Rust's types can't go, as to C; never 0.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The name that [`RegionId::number`] returned the number of. Calls refuse names that never were a region's.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }
}

/// Gives the regions of a pager their serial numbers, from 1 on.
#[derive(Default)]
pub struct Serials(AtomicU64);

impl Serials {
    /// The last one. After it comes 1 again, after more regions than can be added in the life of a machine.
    pub const LAST: u64 = SERIAL.mask() >> 16;

    /// As after that one.
    #[cfg(test)]
    pub fn set_last(&self, serial: u64) {
        self.0.store(serial, Relaxed);
    }

    /// The next one.
    pub fn next(&self) -> u64 {
        let after = |serial: u64| serial % Self::LAST + 1;
        // Relaxed: the numbers differ, and that is all.
        let last = self.0.fetch_update(Relaxed, Relaxed, |last| Some(after(last)));
        after(last.unwrap_or_else(|last| last))
    }
}

/// What kind of memory a region is, which decides how its pages are evicted.
pub enum Memory {
    /// Private and anonymous.
    Private,
    /// A memory file, mapped shared; where in the file the region begins.
    Shared(OwnedFd, u64),
}

const MILLISECOND: u64 = 1_000_000;
/// How long evictions pass a region by whose area is full, in milliseconds.
const FULL_FOR: u64 = 100;

/// A region's parts.
pub struct Region {
    /// Tells it from the other regions that have its place at other times.
    pub serial: u64,
    /// Where its pages go.
    pub area: Area,
    /// What it is made of.
    pub memory: Memory,
    /// Whether the system protects its pages from writes, and tells of unmapped ones if they are of a memory file.
    pub protects: bool,
    /// Whether it is gone through in order.
    pub ahead: Ahead,
    /// Whether pages of its memory file may be parts of huge pages: some were in the file before it was a region, or
    /// were found to be. Those that the pager puts in place are not.
    pub may_be_huge: AtomicBool,
    /// Evictions pass it by: it is being removed.
    pub closing: AtomicBool,
    /// When its area was found full, in milliseconds since the process began to count; 0: never.
    full: AtomicU64,
    words: Mapping,
    pages: u64,
}

// SAFETY: the mapping is shared as atomics alone.
unsafe impl Sync for Region {}
// SAFETY: as above.
unsafe impl Send for Region {}

impl Region {
    /// A region of so many pages, none of which has anything.
    pub fn new(os: &Os, area: Area, memory: Memory, protects: bool) -> Result<Self> {
        const NO_ADDRESSES: Error =
            Error::NoMemory(not_given!("the system gives no addresses for the region, 4 bytes a page"));
        let pages = area.pages();
        let bytes = pages_of(pages as usize * size_of::<Page>()) * PAGE;
        let words = os.reserve(bytes, PAGE).map_err(|_| NO_ADDRESSES)?;
        os.commit(words.base().as_ptr(), bytes).map_err(|_| NO_ADDRESSES)?;
        // Huge pages would commit words that nothing uses; a refusal costs memory and nothing else.
        let _ = os.advise(words.base().as_ptr(), bytes, os::Advice::NotHuge);
        Ok(Self {
            serial: 0,
            area,
            memory,
            protects,
            ahead: Ahead::default(),
            may_be_huge: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            full: AtomicU64::new(0),
            words,
            pages,
        })
    }

    /// Its area has no room by its own limit, and nothing that could be written back.
    #[cold]
    pub fn note_full(&self) {
        // Relaxed: it is a hint.
        self.full.store(clock::now() / MILLISECOND, Relaxed);
    }

    /// Whether that was a moment ago: evictions pass it by for a while, for others may have room.
    pub fn is_full(&self) -> bool {
        let since = self.full.load(Relaxed);
        since != 0 && clock::now() / MILLISECOND < since + FULL_FOR
    }

    /// A page's state word.
    #[inline]
    pub fn page(&self, page: u64) -> &Page {
        assert!(page < self.pages);
        // SAFETY: so many words fit in the mapping, which lives as long as this does, is zeros at first, and is used as
        // atomics alone.
        unsafe { self.words.base().cast::<Page>().add(page as usize).as_ref() }
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The memory file, and where in it a page is. Only for regions that are not private.
    pub fn in_file(&self, page: u64) -> (&OwnedFd, u64) {
        match &self.memory {
            Memory::Shared(file, offset) => (file, offset + page * PAGE as u64),
            Memory::Private => unreachable!("private memory is in no file"),
        }
    }

    /// Which faults the system is to tell of.
    pub fn faulting(&self) -> Faulting {
        Faulting { protected: self.protects, unmapped: !self.is_private() && self.protects }
    }

    /// Whether pages are moved to the staging range.
    pub fn is_private(&self) -> bool {
        matches!(self.memory, Memory::Private)
    }
}

/// How many pages a touch brings in, from how the last ones came.
#[derive(Default)]
pub struct Ahead(AtomicU64);

const WINDOW_BITS: u32 = 8;

impl Ahead {
    /// Pages to bring in for a touch of `page`: more than one if it is what comes after those that were brought in
    /// last.
    #[inline]
    pub fn window(&self, page: u64) -> usize {
        let last = self.0.load(Relaxed);
        if last >> WINDOW_BITS == page && page != 0 { (last & 0xff) as usize } else { 1 }
    }

    /// So many pages were brought in from `page` on. A touch of the next one brings in twice as many.
    #[inline]
    pub fn loaded(&self, page: u64, count: usize) {
        self.0.store((page + count as u64) << WINDOW_BITS | (count * 2).min(LOT) as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zswap::MAX_AREA_PAGES;

    #[test]
    fn pages_ahead_are_told_up_to_the_last_page_of_the_largest_region() {
        for first in [1, u64::from(u32::MAX) - 3, MAX_AREA_PAGES - LOT as u64] {
            let ahead = Ahead::default();
            assert_eq!(ahead.window(first), 1);
            let mut page = first;
            for wanted in [2, 4, 8, LOT, LOT] {
                let count = ahead.window(page);
                ahead.loaded(page, count);
                page += count as u64;
                assert_eq!(ahead.window(page), wanted);
                assert_eq!((ahead.window(page - 1), ahead.window(page + 1)), (1, 1));
            }
        }
    }

    #[test]
    fn serial_numbers_go_round_without_0() {
        let serials = Serials::default();
        assert_eq!((serials.next(), serials.next()), (1, 2));
        serials.set_last(Serials::LAST - 2);
        let next: Vec<_> = (0..4).map(|_| serials.next()).collect();
        assert_eq!(next, [Serials::LAST - 1, Serials::LAST, 1, 2]);
        assert_eq!(RegionId::new(MAX_REGIONS - 1, Serials::LAST).number(), u64::MAX);
        let last = RegionId::of_number(u64::MAX);
        assert_eq!((last.place(), last.serial()), (MAX_REGIONS - 1, Serials::LAST));
    }
}
