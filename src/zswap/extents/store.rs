//! The extents of a tier: their table, their medium, and the buffers.

use super::super::entry::Seed;
use super::super::tier::{Tier, TierFailure, TierOptions};
use super::super::word::ExtentEntry;
use super::blocks::BlockRun;
use super::buffers::{Buffer, ReadBuffer};
use super::cleaning::{Cleaning, Density, VICTIMS};
use super::extent_table::{ExtentAtAGlance, ExtentTable, NewSlot, PinnedExtent};
use super::file_tier::FileTier;
use super::format::{BLOCK, Builder};
use super::medium::{Medium, MediumError, Placed};
use super::own_tier::OwnTier;
use super::tier_stats::{TierCounts, TierStats};
use crate::error::{Error, Result, sentence};
use crate::os::Os;
use crate::per_processor::{Lease, PerProcessor};
use crate::pool::Allowance;
use crate::sync::{AtomicU32, AtomicU64, Ordering::Relaxed, Rank};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Most threads that write extents at once.
const WRITERS: usize = 4;
/// Most threads that read at once.
const READERS: usize = 32;

/// The extents of a tier.
pub struct ExtentStore {
    /// The number of the tier, which its zswap uses for no other one at the same time.
    pub tier: u32,
    pub name: String,
    table: ExtentTable,
    medium: Medium,
    max_bytes: u64,
    /// A number drawn at random, which the extents of this tier have and others have not.
    owner: u64,
    writers: PerProcessor<Buffer>,
    readers: PerProcessor<ReadBuffer>,
    /// Lent to the thread that cleans: there is one at a time.
    cleaner: PerProcessor<Buffer>,
    /// Bytes of the buffers that were touched.
    buffer_bytes: AtomicU64,
    cleaning: Cleaning,
    /// 1: the tier is being removed. Nothing is written to it any more.
    leaving: AtomicU32,
    pub counts: TierCounts,
}

/// Room for an extent: a slot of the table, and blocks of the medium. Dropping it gives both back.
pub struct Room<'a> {
    extents: &'a ExtentStore,
    slot: Option<NewSlot<'a>>,
    run: BlockRun,
}

/// An extent that was written, or a part of one: on a full disk the first entries may be there.
pub struct Put<'a> {
    pinned: PinnedExtent<'a>,
    generation: u16,
    /// How many bytes can be read.
    bytes: usize,
    /// Why there are not more.
    pub error: Option<MediumError>,
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
            self.extents.medium.give_back(self.run);
        }
    }
}

/// What a tier is made of, before it has its slots.
pub struct NewTier {
    name: String,
    medium: Medium,
    blocks: u64,
    owner: u64,
}

impl NewTier {
    /// Takes the first `bytes` bytes of a file, on which nothing is.
    pub fn of_file(os: &Os, name: String, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        let file = FileTier::new(os.clone(), fd, bytes)?;
        Ok(Self { name, blocks: file.blocks(), medium: Medium::File(file), owner: os.number_at_random() })
    }

    /// Takes a tier of the program's own.
    pub fn of_own(os: &Os, tier: Box<dyn Tier>, options: &TierOptions) -> Result<Self> {
        const BYTES: Error =
            Error::Invalid(sentence(&"max_bytes of a tier has to be 4096 at least, and 16 TiB at most"));
        if !(BLOCK as u64..=16 << 40).contains(&options.max_bytes) {
            return Err(BYTES);
        }
        let (owner, blocks) = (os.number_at_random(), options.max_bytes / BLOCK as u64);
        Ok(Self { name: options.copy_name()?, blocks, medium: Medium::Own(OwnTier::new(tier, owner, blocks)), owner })
    }

    /// Returns how many blocks the tier has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }
}

impl ExtentStore {
    /// Makes the store of a tier that has a number and slots.
    pub fn new(os: &Os, new: NewTier, tier: u32, slots: Range<u32>) -> Result<Self> {
        Ok(Self {
            tier,
            name: new.name,
            table: ExtentTable::new(os, slots)?,
            medium: new.medium,
            max_bytes: new.blocks * BLOCK as u64,
            owner: new.owner,
            writers: PerProcessor::new(Rank::Extent, WRITERS, || Buffer::of_extent(os))?,
            readers: PerProcessor::new(Rank::Lane, READERS, || ReadBuffer::new(os))?,
            cleaner: PerProcessor::new(Rank::Walk, 1, || Buffer::of_extent(os))?,
            buffer_bytes: AtomicU64::new(0),
            cleaning: Default::default(),
            leaving: AtomicU32::new(0),
            counts: TierCounts::new()?,
        })
    }

    /// Whether the library's descriptor of a file still is that of the file.
    pub fn is_there(&self) -> bool {
        self.medium.is_there()
    }

    /// Whether the tier may be used in a signal handler.
    pub fn is_signal_safe(&self) -> bool {
        self.medium.is_signal_safe()
    }

    /// Whether the tier is being removed.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) != 0
    }

    /// Says whether the tier is being removed. Relaxed: the removal looks whether the tier is empty afterwards.
    pub fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving.into(), Relaxed);
    }

    /// Returns the slots that page words name the extents by.
    pub fn slots(&self) -> Range<u32> {
        self.table.slots()
    }

    /// Whether no page is on the tier, and none is on its way there. The caller has removed the extents whose last page
    /// has gone. Those that a tier of the program's own could not remove are left to it.
    pub fn is_unused(&self) -> bool {
        let left = if self.is_signal_safe() { self.table.taken() as u64 } else { self.table.live_entries() };
        left == 0
    }

    /// Returns the bytes of the blocks of extents that have pages.
    pub fn bytes(&self) -> u64 {
        self.table.live_blocks() * BLOCK as u64
    }

    /// Returns the bytes of the entries that page words name.
    pub fn page_bytes(&self) -> u64 {
        self.table.live_bytes()
    }

    /// Returns how many pages are on the tier.
    pub fn pages(&self) -> u64 {
        self.table.live_entries()
    }

    /// Returns the bytes of memory of the tables and the buffers.
    pub fn memory_bytes(&self) -> u64 {
        self.table.bytes() + self.medium.table_bytes() + self.buffer_bytes.load(Relaxed)
    }

    /// Returns what the tier has, and what happened on it.
    pub fn stats(&self) -> TierStats {
        let mut stats = TierStats {
            tier: self.tier,
            is_file: self.is_signal_safe(),
            owner: self.owner,
            pages: self.pages(),
            page_bytes: self.page_bytes(),
            bytes: self.bytes(),
            max_bytes: self.max_bytes,
            extents: self.table.taken() as u64,
            memory_bytes: self.memory_bytes(),
            ..TierStats::default()
        };
        self.counts.read_into(&mut stats);
        stats
    }

    /// Returns the seed of an entry's check, given the seed that its page has in the pool.
    pub fn seed(&self, of_page: Seed, extent: u64, entry: usize) -> Seed {
        of_page.in_extent(self.owner, extent, entry)
    }

    /// Returns the number that the extents of this tier have in common.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// Drops an entry. The caller has removed the only page word that named it.
    pub fn drop_entry(&self, at: ExtentEntry) {
        self.table.drop_entry(at);
    }

    /// Removes the extents whose last page has gone, and gives back their room. Returns false if some have to be
    /// removed later, because the tier is away.
    pub fn end_dying(&self) -> bool {
        let mut away = false;
        let all = self.table.end_dying(|number, run| {
            away = away || self.medium.remove(number, run).inspect_err(|&why| self.counts.failed(why)).is_err();
            !away
        });
        self.medium.punch();
        all
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

    /// Reads a whole extent, which the caller has pinned. Returns how many bytes it has, in whole blocks on a file.
    pub fn read_whole(&self, placed: Placed, buffer: &mut Buffer) -> Option<usize> {
        let all = self.medium.span(placed, 0..placed.bytes);
        self.note_buffer(buffer, all.len());
        let read = self.medium.get(placed, all.clone(), buffer.all());
        read.inspect_err(|&error| self.failed(error)).ok().map(|()| all.len())
    }

    /// Returns how many blocks the extents take that have pages.
    pub fn live_blocks(&self) -> u64 {
        self.table.live_blocks()
    }

    /// Whether the blocks have more of them for the live bytes than `density` says.
    pub fn is_sparser_than(&self, density: Density) -> bool {
        self.cleaning.is_sparser_than(&self.table, &self.medium, density)
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

    /// Returns how dense a shrink should make the tier before it writes, and how much it may move for that.
    pub fn cleaning_due(&self) -> Option<(Density, Allowance)> {
        self.cleaning.due(&self.table, &self.medium)
    }

    /// Chooses the extents that have the fewest live bytes a block, or any that have pages if the tier is being
    /// removed. Returns how many.
    pub fn choose(&self, victims: &mut [Option<ExtentAtAGlance>; VICTIMS]) -> usize {
        self.cleaning.choose(&self.table, self.is_leaving(), victims)
    }

    /// Takes room for an extent. If a file has no run that is long enough, the last entries are taken away until the
    /// rest fits. None: not one entry fits, or all slots are taken. `cleans`: there is room that is set aside.
    pub fn room_for(&self, builder: &mut Builder<'_>, cleans: bool) -> Option<Room<'_>> {
        let entries = builder.count();
        let slot = self.table.take();
        let room = slot.and_then(|slot| {
            let run = self.medium.take(builder, cleans)?;
            Some(Room { extents: self, slot: Some(slot), run })
        });
        if room.is_none() || builder.count() < entries {
            self.counts.failed(TierFailure::Full);
        }
        room
    }

    /// Opens an extent for the entries of a builder, and writes it. The caller drops all entries that were not written,
    /// or that no page word is going to name for another reason.
    pub fn put<'a>(&'a self, mut room: Room<'a>, builder: &mut Builder<'_>) -> Put<'a> {
        let (number, run) = (self.table.next_id(), room.run);
        let slot = room.slot.take().expect("taken once");
        let lengths = (0..builder.count()).map(|number| builder.entry(number).bytes);
        let (pinned, generation) = slot.open(number, run, lengths);
        let (bytes, error) = self.medium.put(number, run, builder, self.owner);
        if bytes > 0 {
            pinned.note_written(builder.count());
        }
        match error {
            Some(error) => self.failed(error),
            None => self.counts.put(builder.bytes()),
        }
        Put { pinned, generation, bytes, error }
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
    ) -> std::result::Result<R, MediumError> {
        let began = Instant::now();
        let mut buffer = self.readers.take();
        if again {
            buffer.forget();
        }
        let read = buffer.entry(&self.medium, pinned, entry, &self.buffer_bytes);
        let bytes = read.inspect_err(|&error| self.failed(error))?;
        self.counts.loaded(began.elapsed().as_nanos() as u64);
        Ok(act(bytes))
    }

    fn failed(&self, error: MediumError) {
        self.counts.failed(error.failure());
    }
}

impl Drop for ExtentStore {
    fn drop(&mut self) {
        // A tier of the program's own keeps nothing that no page needs, unless it is away.
        self.end_dying();
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
        matches!(&self.medium, Medium::File(file) if file.is_direct())
    }

    /// Forgets what was read ahead, so that the next load reads the tier.
    pub fn forget_reads(&self) {
        self.readers.each(ReadBuffer::forget);
    }

    /// Returns the number of the library's own descriptor.
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        match &self.medium {
            Medium::File(file) => file.descriptor(),
            Medium::Own(_) => -1,
        }
    }
}
