//! Extents: a page that leaves the pool is an entry of an extent, whose slot word is the product's. Nobody waits, each
//! extent ends once, and a reader never takes the bytes of the next extent of a slot for its own.

macro_rules! programs {
    ($($name:ident, $most:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race(Some($most), Start::Stored, true, &[$(&$thread),*]);
        }
    )*};
}

macro_rules! programs_of_neighbours {
    ($($name:ident, $start:ident, $most:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race_on(Some($most), [Start::$start; 2], true, vec![$($thread.to_vec()),*]);
        }
    )*};
}

mod dying;
mod failing;
mod neighbours;

use super::orders::Start;
use super::{Op, race};
use crate::sync::{AtomicU32, AtomicU64, Cell, Ordering::Relaxed};
use crate::zswap::extents::slot::{DyingSlots, MadeDying, SlotCell, after};
use crate::zswap::page::PageCell;
use crate::zswap::word::{ExtentEntry, PageWord};
use loom::sync::Mutex;

const SLOTS: usize = 3;
const ENTRIES: usize = 2;
const ENDED: u64 = u64::MAX;

/// A stand-in for the tier: extents of one entry or two. Generations never change, so that every reuse of a slot is the
/// worst case: a generation that has come round. The bytes are cells, whose races loom finds.
pub struct Extents {
    words: [AtomicU64; SLOTS],
    bytes: [[Cell<u64>; ENTRIES]; SLOTS],
    links: [AtomicU32; SLOTS],
    dying: DyingSlots,
    free: Mutex<Vec<u32>>,
}

/// A pinned extent.
pub struct Pinned<'a> {
    extents: &'a Extents,
    slot: u32,
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        let made = self.extents.word(self.slot).unpin();
        self.extents.bury_if(made, self.slot);
    }
}

impl Pinned<'_> {
    /// Reads an entry of the extent.
    pub fn read(&self, at: ExtentEntry) -> u64 {
        // SAFETY: the extent is pinned; loom finds a thread that writes it.
        let value = self.extents.bytes[self.slot as usize][usize::from(at.entry)].with(|cell| unsafe { *cell });
        assert_ne!(value, ENDED, "a pinned extent ended");
        value
    }

    pub fn entry(&self, number: usize) -> ExtentEntry {
        ExtentEntry { slot: self.slot, entry: number as u8, generation: 0 }
    }
}

impl Extents {
    pub fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            bytes: std::array::from_fn(|_| std::array::from_fn(|_| Cell::new(ENDED))),
            links: std::array::from_fn(|_| AtomicU32::new(0)),
            dying: DyingSlots::new(),
            free: Mutex::new((0..SLOTS as u32).collect()),
        }
    }

    fn word(&self, slot: u32) -> SlotCell<'_> {
        SlotCell(&self.words[slot as usize])
    }

    fn bury_if(&self, MadeDying(dying): MadeDying, slot: u32) {
        if dying {
            self.dying.bury(slot, &self.links[slot as usize]);
        }
    }

    /// Writes an extent, as a shrink does: first those go that have died.
    pub fn write(&self, values: &[u64]) -> Pinned<'_> {
        self.end_dying();
        let slot = self.free.lock().unwrap().pop().expect("room for what the models write");
        assert_eq!(self.word(slot).open(values.len()), 0);
        for (cell, value) in self.bytes[slot as usize].iter().zip(values) {
            // SAFETY: no page word names the extent yet; loom finds a reader of the one before.
            cell.with_mut(|cell| unsafe { *cell = *value });
        }
        Pinned { extents: self, slot }
    }

    fn end_dying(&self) {
        let mut next = self.dying.exhume();
        while let Some(slot) = next {
            next = after(&self.links[slot as usize]);
            assert_eq!(self.word(slot).peek(), None, "a live extent ends");
            for cell in &self.bytes[slot as usize] {
                // SAFETY: nobody has the extent pinned any more; loom finds out if somebody has.
                cell.with_mut(|cell| unsafe { *cell = ENDED });
            }
            self.word(slot).end();
            // Generation 0 once more.
            self.words[slot as usize].store(0, Relaxed);
            let mut free = self.free.lock().unwrap();
            assert!(!free.contains(&slot), "an extent ends once");
            free.push(slot);
        }
    }

    /// Drops an entry that no page word names any more.
    pub fn drop_entry(&self, at: ExtentEntry) {
        let made = self.word(at.slot).drop_entries(1);
        self.bury_if(made, at.slot);
    }

    /// Pins an extent, if it is there.
    pub fn try_pin(&self, at: ExtentEntry) -> Option<Pinned<'_>> {
        // Made only if it is pinned: dropping it unpins.
        self.word(at.slot).pin(at.generation).then(|| Pinned { extents: self, slot: at.slot })
    }

    /// Pins the extent that a page word names, as the product does. None if the page was replaced. The extent may have
    /// ended and its slot be open again, under the same generation: then the page word names it still, and the product
    /// tries again too.
    pub fn pin(&self, at: ExtentEntry, page: PageCell<'_>, seen: PageWord) -> Option<Pinned<'_>> {
        self.try_pin(at).filter(|_| page.is_still(seen))
    }

    pub fn check_free(&self, taken: usize) {
        self.end_dying();
        assert_eq!(self.free.lock().unwrap().len(), SLOTS - taken, "every other extent ended");
    }
}

programs! {
    load_vs_writeback, 3: [Op::Load, Op::Load], [Op::Written];
    take_vs_writeback, 3: [Op::Take], [Op::Written];
    store_vs_writeback, 3: [Op::Store(201)], [Op::Written];
    invalidate_vs_writeback, 3: [Op::Invalidate], [Op::Written];
    writeback_vs_writeback, 3: [Op::Written], [Op::Written];
    load_of_a_page_that_is_written_then_replaced, 3: [Op::Load], [Op::Written, Op::Store(201), Op::Written];
    take_of_a_page_that_is_written_then_replaced, 3: [Op::Take], [Op::Written, Op::Store(201), Op::Written];
    load_vs_failed_writeback, 3: [Op::Load], [Op::Refused, Op::Written];
    two_removals_of_a_written_page, 3: [Op::Written, Op::Invalidate], [Op::Store(201)];
    writeback_take_store, 2: [Op::Written, Op::Take], [Op::Load], [Op::Store(201)];
    load_vs_clean, 3: [Op::Written, Op::Load], [Op::Clean];
    load_of_a_page_that_is_moved_and_written_again, 2:
        [Op::Written, Op::Clean, Op::Store(201), Op::Written], [Op::Load];
    take_vs_clean, 3: [Op::Written, Op::Take], [Op::Clean];
    store_vs_clean, 3: [Op::Written, Op::Store(201)], [Op::Clean];
    invalidate_vs_clean, 3: [Op::Written, Op::Invalidate], [Op::Clean];
    clean_vs_clean, 3: [Op::Written, Op::Clean], [Op::Clean];
    writeback_of_the_next_version_vs_clean, 2: [Op::Written, Op::Store(201), Op::Written], [Op::Clean];
    clean_load_store, 2: [Op::Written, Op::Clean], [Op::Load], [Op::Store(201)];
}
