//! The extents of a zswap: their table, their file, and the buffers.

use super::super::entry::Seed;
use super::super::word::ExtentEntry;
use super::blocks::BlockRun;
use super::buffers::{Buffer, ReadBuffer};
use super::cleaning::{Cleaning, Density, VICTIMS};
use super::extent_table::{ExtentAtAGlance, ExtentTable, NewSlot, PinnedExtent};
use super::file_tier::FileTier;
use super::format::{BLOCK, Builder};
use crate::error::Result;
use crate::os::{Errno, Os};
use crate::per_processor::{Lease, PerProcessor};
use crate::pool::Allowance;
use crate::sync::{AtomicU64, Ordering::Relaxed, Rank};
use std::os::fd::BorrowedFd;

/// Most threads that write extents at once.
const WRITERS: usize = 4;
/// Most threads that read at once.
const READERS: usize = 32;

/// The extents of a zswap.
pub struct ExtentStore {
    table: ExtentTable,
    file: FileTier,
    /// A number drawn at random, which the extents of this zswap have and others have not.
    number: u64,
    writers: PerProcessor<Buffer>,
    readers: PerProcessor<ReadBuffer>,
    /// Lent to the thread that cleans: there is one at a time.
    cleaner: PerProcessor<Buffer>,
    /// Bytes of the buffers that were touched.
    buffer_bytes: AtomicU64,
    cleaning: Cleaning,
}

/// Room for an extent: a slot of the table, and blocks of the file. Dropping it gives both back.
pub struct Room<'a> {
    extents: &'a ExtentStore,
    slot: Option<NewSlot<'a>>,
    run: BlockRun,
}

/// An extent that was written, or a part of one: on a full disk the first entries may be there.
pub struct Put<'a> {
    pinned: PinnedExtent<'a>,
    generation: u16,
    /// How many bytes of whole blocks were written: blocks are read whole.
    bytes: usize,
    /// Why there are not more.
    pub error: Option<Errno>,
}

impl Put<'_> {
    /// Returns the page word's name of an entry.
    pub fn entry(&self, number: usize) -> ExtentEntry {
        self.pinned.entry(number, self.generation)
    }

    /// Whether an entry was written whole.
    pub fn has(&self, number: usize) -> bool {
        self.error.is_none() || self.pinned.range(number).end <= self.bytes
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.extents.file.give_back(self.run);
        }
    }
}

impl ExtentStore {
    /// Takes the first `bytes` bytes of a file, on which nothing is.
    pub fn new(os: Os, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        let number = os.number_at_random();
        let file = FileTier::new(os.clone(), fd, bytes)?;
        Ok(Self {
            table: ExtentTable::new(&os, file.blocks())?,
            file,
            number,
            writers: PerProcessor::new(Rank::Extent, WRITERS, || Buffer::of_extent(&os))?,
            readers: PerProcessor::new(Rank::Lane, READERS, || ReadBuffer::new(&os))?,
            cleaner: PerProcessor::new(Rank::Walk, 1, || Buffer::of_extent(&os))?,
            buffer_bytes: AtomicU64::new(0),
            cleaning: Default::default(),
        })
    }

    /// Whether the library's descriptor still is that of the file.
    pub fn is_there(&self) -> bool {
        self.file.is_there()
    }

    /// Whether no extent is there, not even one whose last page has gone.
    pub fn is_empty(&self) -> bool {
        self.end_dying();
        self.table.taken() == 0
    }

    /// Returns the bytes of the blocks of extents that have pages.
    pub fn file_bytes(&self) -> u64 {
        self.table.live_blocks() * BLOCK as u64
    }

    /// Returns the bytes of the entries that page words name.
    pub fn page_bytes(&self) -> u64 {
        self.table.live_bytes()
    }

    /// Returns the bytes of memory of the tables and the buffers.
    pub fn memory_bytes(&self) -> u64 {
        self.table.bytes() + self.file.table_bytes() + self.buffer_bytes.load(Relaxed)
    }

    /// Returns the seed of an entry's check, given the seed that its page has in the pool.
    pub fn seed(&self, of_page: Seed, extent: u64, entry: usize) -> Seed {
        of_page.in_extent(self.number, extent, entry)
    }

    /// Returns the number that the extents of this zswap have in common.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Drops an entry. The caller has removed the only page word that named it.
    pub fn drop_entry(&self, at: ExtentEntry) {
        self.table.drop_entry(at);
    }

    /// Gives back the room of the extents whose last page has gone.
    pub fn end_dying(&self) {
        self.table.end_dying(|run| self.file.give_back(run));
        self.file.punch();
    }

    /// Takes a buffer to make an extent in.
    pub fn write_buffer(&self) -> Lease<'_, Buffer> {
        self.writers.take()
    }

    /// Takes the buffer to read extents into that are cleaned. None: another thread cleans.
    pub fn cleaning_buffer(&self) -> Option<Lease<'_, Buffer>> {
        self.cleaner.try_take()
    }

    /// Notes that the first `bytes` bytes of a buffer were touched.
    pub fn note_buffer(&self, buffer: &mut Buffer, bytes: usize) {
        buffer.note(bytes, &self.buffer_bytes);
    }

    /// Reads a whole extent, which the caller has pinned.
    pub fn read_whole(&self, run: BlockRun, bytes: &mut [u8]) -> std::result::Result<(), Errno> {
        self.file.get(run, 0, bytes)
    }

    /// Returns how many blocks the extents take that have pages.
    pub fn live_blocks(&self) -> u64 {
        self.table.live_blocks()
    }

    /// Whether the blocks have more of them for the live bytes than `density` says.
    pub fn is_sparser_than(&self, density: Density) -> bool {
        self.cleaning.is_sparser_than(&self.table, &self.file, density)
    }

    /// Whether anything has changed since cleaning gained nothing.
    pub fn is_worth_a_try(&self) -> bool {
        self.cleaning.is_worth_a_try(&self.table)
    }

    /// Notes that cleaning gained nothing.
    pub fn note_vain(&self) {
        self.cleaning.note_vain(&self.table);
    }

    /// Notes that a shrink has written `bytes` bytes.
    pub fn note_written(&self, bytes: usize) {
        self.cleaning.note_written(bytes);
    }

    /// Returns how dense a shrink should make the file before it writes, and how much it may move for that.
    pub fn cleaning_due(&self) -> Option<(Density, Allowance)> {
        self.cleaning.due(&self.table, &self.file)
    }

    /// Chooses the extents that have the fewest live bytes a block. Returns how many.
    pub fn choose(&self, victims: &mut [Option<ExtentAtAGlance>; VICTIMS]) -> usize {
        self.cleaning.choose(&self.table, victims)
    }

    /// Takes room for an extent. If the file has no run that is long enough, the last entries are taken away until the
    /// rest fits. None: not one entry fits, or all slots are taken. `cleans`: there is room that is set aside.
    pub fn room_for(&self, builder: &mut Builder<'_>, cleans: bool) -> Option<Room<'_>> {
        let slot = self.table.take()?;
        let wanted = builder.blocks();
        let run = self.file.take(wanted, builder.blocks_of(1), cleans)?;
        if run.count < wanted {
            builder.truncate(builder.fitting(run.count));
        }
        let needed = builder.blocks();
        let rest = BlockRun { first: run.first + needed as u64, count: run.count - needed };
        if rest.count > 0 {
            self.file.give_back(rest);
        }
        Some(Room { extents: self, slot: Some(slot), run: BlockRun { count: needed, ..run } })
    }

    /// Opens an extent for the entries of a builder, and writes it. The caller drops all entries that were not written,
    /// or that no page word is going to name for another reason.
    pub fn put<'a>(&'a self, mut room: Room<'a>, builder: Builder<'_>) -> Put<'a> {
        let (id, run) = (self.table.next_id(), room.run);
        let slot = room.slot.take().expect("taken once");
        let lengths = (0..builder.count()).map(|number| builder.entry(number).bytes);
        let (pinned, generation) = slot.open(id, run, lengths);
        let (bytes, error) = self.file.put(run, builder.seal(self.number, id));
        Put { pinned, generation, bytes: bytes / BLOCK * BLOCK, error }
    }

    /// Pins the extent that a page word names. The caller reads the page word again before it trusts the extent.
    pub fn pin(&self, at: ExtentEntry) -> Option<PinnedExtent<'_>> {
        self.table.pin(at)
    }

    /// Reads an entry, and passes its bytes to `act`. `again`: what was read before is not good enough.
    pub fn read<R>(
        &self,
        pinned: &PinnedExtent<'_>,
        entry: usize,
        again: bool,
        act: impl FnOnce(&[u8]) -> R,
    ) -> std::result::Result<R, Errno> {
        let mut buffer = self.readers.take();
        if again {
            buffer.forget();
        }
        buffer.entry(&self.file, pinned, entry, &self.buffer_bytes).map(act)
    }
}

#[cfg(test)]
impl ExtentStore {
    /// Lets cleaning begin however little there is to gain.
    pub fn clean_without_slack(&self) {
        self.cleaning.no_slack.store(true, Relaxed);
    }

    /// Whether the file is open with `O_DIRECT`.
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    /// Forgets what was read ahead, so that the next load reads the file.
    pub fn forget_reads(&self) {
        self.readers.each(ReadBuffer::forget);
    }

    /// Returns the number of the library's own descriptor.
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        self.file.descriptor()
    }
}
