//! The table of extents: for each its slot word, its number, where it lies, and how long its entries are.

use super::super::lowest_free::LowestFree;
use super::super::word::{ExtentEntry, MAX_ENTRIES};
use super::blocks::BlockRun;
use super::format::FIRST_ENTRY;
use super::medium::Placed;
use super::slot::{DyingSlots, MadeDying, SlotCell, after};
use crate::error::{Error, Result, not_given};
use crate::field::Field;
use crate::os::{Mapping, Os};
use crate::sync::{
    AtomicU16, AtomicU32, AtomicU64, Lock,
    Ordering::{Acquire, Relaxed, Release},
    Rank,
};
use crate::units::{PAGE, pages_of};
use std::ops::Range;

/// The place of an extent: its first block, and how many blocks it has.
const FIRST_BLOCK: Field = Field::first(40);
const BLOCKS: Field = FIRST_BLOCK.then(24);

/// A slot of the table. Zero is that of a free slot.
#[repr(C)]
struct Record {
    word: AtomicU64,
    /// The number of the extent, which is never used again.
    id: AtomicU64,
    place: AtomicU64,
    /// The link of a dying slot.
    next: AtomicU32,
    /// How many entries the extent had when it was made; 0 while it is being written.
    count: AtomicU32,
    lengths: [AtomicU16; MAX_ENTRIES],
}

// docs/benchmarks.md says what a page costs in the table.
const _: () = assert!(size_of::<Record>() == 160);

struct FreeSlots {
    taken: usize,
    /// The first slot that was never taken. From here on the table takes no memory.
    fresh: usize,
}

/// The extents of a tier.
pub struct ExtentTable {
    /// The number of its first slot, by which page words name it. Other tiers have other slots.
    first: u32,
    slots: usize,
    tree: LowestFree,
    /// The bits of `tree`, then the records.
    mapping: Mapping,
    free: Lock<FreeSlots>,
    dying: DyingSlots,
    next_id: AtomicU64,
    /// Bytes of all entries that a page word names, or is about to.
    live_bytes: AtomicU64,
    /// Entries that a page word names, or is about to.
    live_entries: AtomicU64,
    /// Blocks of the extents that are not dying.
    live_blocks: AtomicU64,
}

/// What an extent looked like a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtentAtAGlance {
    /// The name of its first entry.
    pub first: ExtentEntry,
    /// How many entries page words name, of the `count` that it was made with.
    pub left: usize,
    pub count: usize,
    /// An estimate of the bytes of these entries: their share of the bytes of all.
    pub bytes_left: usize,
    pub blocks: usize,
}

/// A slot that this thread has taken and not opened yet. Dropping it gives the slot back.
pub struct NewSlot<'a> {
    table: &'a ExtentTable,
    slot: u32,
}

/// An extent that is pinned: it stays as it is until this is dropped.
pub struct PinnedExtent<'a> {
    table: &'a ExtentTable,
    slot: u32,
}

impl ExtentTable {
    /// Makes a table whose extents have these slots.
    pub fn new(os: &Os, slots: Range<u32>) -> Result<Self> {
        const NO_MEMORY: Error = Error::NoMemory(not_given!("there is no memory for the table of the tier's pages"));
        let (first, slots) = (slots.start, slots.len());
        let tree = LowestFree::new(slots);
        let bytes = Self::records_at(&tree) + pages_of(slots * size_of::<Record>()) * PAGE;
        let mapping = os.sparse_memory(bytes).map_err(|_| NO_MEMORY)?;
        Ok(Self {
            first,
            slots,
            tree,
            mapping,
            free: Lock::new(Rank::FileSlots, FreeSlots { taken: 0, fresh: 0 }),
            dying: DyingSlots::new(),
            next_id: AtomicU64::new(1),
            live_bytes: AtomicU64::new(0),
            live_entries: AtomicU64::new(0),
            live_blocks: AtomicU64::new(0),
        })
    }

    fn records_at(tree: &LowestFree) -> usize {
        pages_of(tree.words() * size_of::<u64>()) * PAGE
    }

    fn bits(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins with this many words, which are shared as atomics.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.tree.words()) }
    }

    fn records(&self) -> &[Record] {
        // SAFETY: after the bits, page-aligned, the mapping has a record for each slot, all of atomics. Zero is one.
        unsafe {
            let first = self.mapping.base().as_ptr().add(Self::records_at(&self.tree));
            std::slice::from_raw_parts(first.cast(), self.slots)
        }
    }

    fn record(&self, slot: u32) -> &Record {
        &self.records()[(slot - self.first) as usize]
    }

    /// Returns the slots that page words name the extents by.
    pub fn slots(&self) -> Range<u32> {
        self.first..self.first + self.slots as u32
    }

    /// Returns the bytes of memory that the table takes.
    pub fn bytes(&self) -> u64 {
        let fresh = self.free.lock().fresh;
        ((self.tree.pages_touched(fresh) + pages_of(fresh * size_of::<Record>())) * PAGE) as u64
    }

    /// Returns how many slots are taken, those of dying extents included.
    pub fn taken(&self) -> usize {
        self.free.lock().taken
    }

    /// Returns the bytes of the entries that page words name.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Relaxed)
    }

    /// Returns how many entries page words name.
    pub fn live_entries(&self) -> u64 {
        self.live_entries.load(Relaxed)
    }

    /// Returns how many blocks the extents take that are not dying.
    pub fn live_blocks(&self) -> u64 {
        self.live_blocks.load(Relaxed)
    }

    /// Takes a free slot, if there is one.
    pub fn take(&self) -> Option<NewSlot<'_>> {
        let mut free = self.free.lock();
        if free.taken == self.slots {
            return None;
        }
        let slot = self.tree.take_lowest(self.bits());
        free.taken += 1;
        free.fresh = free.fresh.max(slot + 1);
        Some(NewSlot { table: self, slot: self.first + slot as u32 })
    }

    fn release(&self, slot: u32) {
        let mut free = self.free.lock();
        self.tree.release(self.bits(), (slot - self.first) as usize);
        free.taken -= 1;
    }

    /// Returns the number of the next extent.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Pins the extent that a page word names. The caller reads the page word again before it trusts the extent. None
    /// if the extent is gone.
    pub fn pin(&self, at: ExtentEntry) -> Option<PinnedExtent<'_>> {
        let record = self.records().get(at.slot.checked_sub(self.first)? as usize)?;
        // Made only if it is pinned: dropping it unpins.
        SlotCell(&record.word).pin(at.generation).then(|| PinnedExtent { table: self, slot: at.slot })
    }

    /// Drops an entry. The caller has removed the only page word that named it.
    pub fn drop_entry(&self, at: ExtentEntry) {
        let record = self.record(at.slot);
        self.live_bytes.fetch_sub(record.lengths[usize::from(at.entry)].load(Relaxed).into(), Relaxed);
        self.live_entries.fetch_sub(1, Relaxed);
        let made = SlotCell(&record.word).drop_entries(1);
        self.bury_if(made, at.slot);
    }

    fn bury_if(&self, MadeDying(dying): MadeDying, slot: u32) {
        if dying {
            self.live_blocks.fetch_sub(run_of(self.record(slot).place.load(Relaxed)).count as u64, Relaxed);
            self.dying.bury(slot, &self.record(slot).next);
        }
    }

    /// Ends the extents that died: `remove` removes each, by its number and place, from its tier. Returns false if some
    /// have to be removed later, for which `remove` returned false.
    pub fn end_dying(&self, mut remove: impl FnMut(u64, BlockRun) -> bool) -> bool {
        let mut all = true;
        let mut next = self.dying.exhume();
        while let Some(slot) = next {
            let record = self.record(slot);
            next = after(&record.next);
            if remove(record.id.load(Relaxed), run_of(record.place.load(Relaxed))) {
                SlotCell(&record.word).end();
                self.release(slot);
            } else {
                self.dying.bury(slot, &record.next);
                all = false;
            }
        }
        all
    }

    /// Looks at up to `most` slots from `from` on, round and round, and calls `look` with each live extent. Returns
    /// where it ended.
    pub fn look_at(&self, from: usize, most: usize, mut look: impl FnMut(ExtentAtAGlance)) -> usize {
        let fresh = self.free.lock().fresh;
        let mut at = from;
        for _ in 0..most.min(fresh) {
            at = if at >= fresh { 0 } else { at };
            let slot = self.first + at as u32;
            let record = self.record(slot);
            if let Some((generation, left)) = SlotCell(&record.word).peek() {
                let count = (record.count.load(Relaxed) as usize).clamp(1, MAX_ENTRIES);
                let lengths = record.lengths[..count].iter().map(|length| usize::from(length.load(Relaxed)));
                look(ExtentAtAGlance {
                    first: ExtentEntry { slot, entry: 0, generation },
                    left,
                    count,
                    bytes_left: lengths.sum::<usize>() * left / count,
                    blocks: run_of(record.place.load(Relaxed)).count,
                });
            }
            at += 1;
        }
        at
    }
}

fn run_of(place: u64) -> BlockRun {
    BlockRun { first: FIRST_BLOCK.get(place), count: BLOCKS.get(place) as usize }
}

impl<'a> NewSlot<'a> {
    /// Opens the slot for an extent whose entries have these lengths, pinned. The entries live from now on, and nobody
    /// reads them before [`PinnedExtent::note_written`].
    pub fn open(self, id: u64, run: BlockRun, lengths: impl Iterator<Item = usize>) -> (PinnedExtent<'a>, u16) {
        let (table, slot) = (self.table, self.slot);
        std::mem::forget(self);
        let record = table.record(slot);
        let (mut count, mut bytes) = (0, 0);
        for (to, length) in record.lengths.iter().zip(lengths) {
            to.store(length as u16, Relaxed);
            count += 1;
            bytes += length;
        }
        record.id.store(id, Relaxed);
        record.place.store(BLOCKS.set(FIRST_BLOCK.set(0, run.first), run.count as u64), Relaxed);
        record.count.store(0, Relaxed);
        table.live_bytes.fetch_add(bytes as u64, Relaxed);
        table.live_entries.fetch_add(count as u64, Relaxed);
        table.live_blocks.fetch_add(run.count as u64, Relaxed);
        let generation = SlotCell(&record.word).open(count);
        (PinnedExtent { table, slot }, generation)
    }
}

impl Drop for NewSlot<'_> {
    fn drop(&mut self) {
        self.table.release(self.slot);
    }
}

impl PinnedExtent<'_> {
    fn record(&self) -> &Record {
        self.table.record(self.slot)
    }

    /// Notes that an extent of `count` entries was written, all of it or a part.
    pub fn note_written(&self, count: usize) {
        // Release pairs with the Acquire of `is_written`: what the tier was passed comes before. Threads that load a
        // page know by its page word.
        self.record().count.store(count as u32, Release);
    }

    /// Whether the extent was written. While it is being written its tier has not heard of it.
    pub fn is_written(&self) -> bool {
        self.record().count.load(Acquire) != 0
    }

    /// Returns the number of the extent.
    pub fn id(&self) -> u64 {
        self.record().id.load(Relaxed)
    }

    /// Returns the number of the extent, where it lies, and how many bytes it has.
    pub fn placed(&self) -> Placed {
        let record = self.record();
        let count = (record.count.load(Relaxed) as usize).min(MAX_ENTRIES);
        let entries: usize = record.lengths[..count].iter().map(|length| usize::from(length.load(Relaxed))).sum();
        Placed { number: self.id(), run: run_of(record.place.load(Relaxed)), bytes: FIRST_ENTRY + entries }
    }

    /// Returns where an entry lies in the extent. One that the extent was made without has no bytes.
    pub fn range(&self, number: usize) -> Range<usize> {
        let record = self.record();
        let count = (record.count.load(Relaxed) as usize).min(MAX_ENTRIES);
        let mut lengths = record.lengths[..count].iter().map(|length| usize::from(length.load(Relaxed)));
        let start = FIRST_ENTRY + lengths.by_ref().take(number).sum::<usize>();
        start..start + lengths.next().unwrap_or(0)
    }

    /// Returns the page word's name of an entry of the extent, which has this generation.
    pub fn entry(&self, number: usize, generation: u16) -> ExtentEntry {
        ExtentEntry { slot: self.slot, entry: number as u8, generation }
    }
}

impl Drop for PinnedExtent<'_> {
    fn drop(&mut self) {
        let made = SlotCell(&self.record().word).unpin();
        self.table.bury_if(made, self.slot);
    }
}
