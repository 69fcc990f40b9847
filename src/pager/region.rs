//! A region: memory of the program that is under the pager, the state words of its pages, and their area of zswap.

use crate::error::{Error, Result, not_given};
use crate::field::Field;
use crate::os::userfault::Faulting;
use crate::os::{self, Mapping, Os};
use crate::readahead::Readahead;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::units::{PAGE, pages_of};
use crate::zswap::{Area, LoadFlags, NotLoaded, TierAccess};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use super::page::StateWord;
use super::time;

const PLACE: Field = Field::first(16);
const SERIAL: Field = PLACE.then(48);
const _: () = assert!(Field::fill(&[PLACE, SERIAL], 64));
/// The most regions of a pager at once.
pub const MAX_REGIONS: usize = PLACE.max() as usize + 1;

/// Names a region of a pager. A pager never gives two regions the same name, even if the first one is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct RegionId(u64);

impl RegionId {
    /// Names the region that has this place and this serial number.
    pub(super) fn new(place: usize, serial: u64) -> Self {
        Self(SERIAL.set(PLACE.set(0, place as u64), serial))
    }

    /// The place of the region among those of its pager.
    pub(crate) fn place(self) -> usize {
        PLACE.get(self.0) as usize
    }

    /// The serial number of the region, which tells it from others that had its place.
    pub(super) fn serial(self) -> u64 {
        SERIAL.get(self.0)
    }

    /// The name as a number, for interfaces such as C's that Rust's types can't cross. It is never 0.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The name whose [`RegionId::number`] is this. Calls refuse a name that was never given to a region.
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }
}

/// Gives the regions of a pager their serial numbers, from 1 on.
#[derive(Default)]
pub struct Serials(AtomicU64);

impl Serials {
    /// The last serial number. After it comes 1 again, after more regions than can be added in the life of a machine.
    pub const LAST: u64 = SERIAL.max();

    /// Lets a test go on after this serial number.
    #[cfg(test)]
    pub fn set_last(&self, serial: u64) {
        self.0.store(serial, Relaxed);
    }

    /// Returns the serial number of the region that was added last.
    pub fn last(&self) -> u64 {
        // Relaxed: a region that the caller knows of was added before.
        self.0.load(Relaxed)
    }

    /// Takes the next serial number.
    pub fn next(&self) -> u64 {
        let after = |serial: u64| serial % Self::LAST + 1;
        // Relaxed: the numbers only have to differ.
        let last = self.0.fetch_update(Relaxed, Relaxed, |last| Some(after(last)));
        after(last.unwrap_or_else(|last| last))
    }
}

/// The kind of memory of a region, which decides how its pages are evicted.
pub enum Memory {
    /// Private anonymous memory.
    Private,
    /// A memory file, mapped shared, and the offset in it where the region begins.
    Shared(OwnedFd, u64),
}

const MILLISECOND: u64 = 1_000_000;
/// How long evictions pass a region by whose area is full, in milliseconds.
const FULL_FOR: u64 = 100;

/// Memory under the pager.
pub struct RegionState {
    /// Tells the region from others that have its place at other times.
    pub serial: u64,
    /// The area of zswap that its pages go to.
    pub area: Area,
    /// The kind of its memory.
    pub memory: Memory,
    /// Whether the system protects its pages from writes, and tells of unmapped ones if they are of a memory file.
    pub protects: bool,
    /// Whether its pages are touched in order.
    pub ahead: Readahead,
    /// Whether pages of its memory file may be parts of huge pages: some were in the file before it was a region, or
    /// were found to be. Pages that the pager puts in place are not.
    pub may_be_huge: AtomicBool,
    /// Its owner does not move, unmap or give back memory by itself.
    pub settled: bool,
    /// The region is being removed, and evictions pass it by.
    pub closing: AtomicBool,
    /// When its area was last found full, in milliseconds of the pager's clock; 0: never.
    full: AtomicU64,
    words: Mapping,
    pages: u64,
}

// SAFETY: the mapping is shared as atomics alone.
unsafe impl Sync for RegionState {}
// SAFETY: the mapping belongs to this value, and goes where it goes.
unsafe impl Send for RegionState {}

impl RegionState {
    /// Makes a region whose pages are all empty, as many as the area has.
    pub fn new(os: &Os, area: Area, memory: Memory, protects: bool) -> Result<Self> {
        const NO_ADDRESSES: Error =
            Error::NoMemory(not_given!("the system gives no addresses for the region, 4 bytes a page"));
        let pages = area.pages();
        let bytes = pages_of(pages as usize * size_of::<StateWord>()) * PAGE;
        let words = os.reserve(bytes, PAGE).map_err(|_| NO_ADDRESSES)?;
        os.commit(words.base().as_ptr(), bytes).map_err(|_| NO_ADDRESSES)?;
        // Huge pages would commit words that nothing uses. A refusal costs memory and nothing else.
        let _ = os.advise(words.base().as_ptr(), bytes, os::Advice::NotHuge);
        Ok(Self {
            serial: 0,
            area,
            memory,
            protects,
            ahead: Readahead::default(),
            may_be_huge: AtomicBool::new(false),
            settled: false,
            closing: AtomicBool::new(false),
            full: AtomicU64::new(0),
            words,
            pages,
        })
    }

    /// Decodes a page into a page of the pager's own, from the pool or from the tiers that the thread may use.
    pub fn load(&self, page: u64, to: &mut [u8; PAGE], tiers: TierAccess) -> std::result::Result<(), NotLoaded> {
        match tiers {
            TierAccess::All => self.area.load_own(page, to, LoadFlags::KEEP),
            TierAccess::SignalSafe => self.area.load_in_handler(page, to, LoadFlags::KEEP),
        }
    }

    /// Notes that the area has no room by its own limit, and nothing that could be written back.
    #[cold]
    pub fn note_full(&self) {
        // Relaxed: it is a hint.
        self.full.store(time::now() / MILLISECOND, Relaxed);
    }

    /// Whether the area was found full a moment ago. Evictions pass the region by for a while, because others may have
    /// room.
    pub fn is_full(&self) -> bool {
        let since = self.full.load(Relaxed);
        since != 0 && time::now() / MILLISECOND < since + FULL_FOR
    }

    /// The state word of a page.
    #[inline]
    pub fn page(&self, page: u64) -> &StateWord {
        assert!(page < self.pages);
        // SAFETY: the mapping has a word for each page, lives as long as this does, is zeros at first, and is used as
        // atomics alone.
        unsafe { self.words.base().cast::<StateWord>().add(page as usize).as_ref() }
    }

    /// The number of its pages.
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

    /// The faults that the system should tell of.
    pub fn faulting(&self) -> Faulting {
        Faulting { protected: self.protects, unmapped: !self.is_private() && self.protects }
    }

    /// Whether the memory is private and anonymous.
    pub fn is_private(&self) -> bool {
        matches!(self.memory, Memory::Private)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_wrap_without_0() {
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
