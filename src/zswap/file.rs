//! The library's own backing file: pages of 4096 bytes at places that the library gives out.
//!
//! A page's word names its place and the place's generation, and a table in memory has the check of what was written
//! there, so that a read that raced with the place's next tenant is found out. Each writeback owns the place it writes
//! to: nothing ever waits for one.

use super::area::{AreaState, Call, DAMAGED};
use super::codec::Target;
use super::entry::Seed;
use super::load::Read;
use super::page::read_before_word;
use super::places::Places;
use super::word::{FileSlot, Kind, MAX_SLOTS, PageWord};
use super::writeback::{Claimed, Refusal, Sweep};
use crate::error::{Error, Result, not_given};
use crate::heap;
use crate::os::{Advice, Errno, FileId, Mapping, Os, current_cpu, errno};
use crate::sync::{
    AtomicU64, Lock, Locked,
    Ordering::{Acquire, Relaxed, Release},
    Rank,
};
use crate::units::{AlignedPage, PAGE, pages_of};
use crate::word::Field;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Pages that are written together.
const AT_ONCE: usize = 32;
/// Pages that are read at once.
const READERS: usize = 32;
/// How often a page is read before its check is believed to be wrong.
const READS: usize = 4;

const UNREADABLE: Error = Error::Io(&"the backing file can't be read");
const NOT_THE_FILE: Error = Error::Io(
    &"the library's descriptor of the backing file was closed or is another file's now: close no descriptors that are \
      not your own",
);

const CHECK: Field = Field::new(0, 32);
const GENERATION: Field = Field::new(32, 16);

/// The file, and who is where on it.
pub struct BackingFile {
    fd: ManuallyDrop<OwnedFd>,
    /// Which file that was when it was set.
    id: FileId,
    slots: usize,
    places: Places,
    os: Os,
    /// The bits of `places`, then a record for each place: check and generation. Then a page for each reader.
    mapping: Mapping,
    free: Lock<Free>,
    lane: Lock<Box<[AlignedPage; AT_ONCE]>>,
    readers: [Lock<()>; READERS],
}

/// A page to read to that is this thread's. It may read in a signal handler, whose stack has no room for pages.
struct Reading<'a> {
    _lock: Locked<'a, ()>,
    page: &'a mut AlignedPage,
}

struct Free {
    taken: usize,
    /// Places from here on were never given out: their part of the table takes no memory.
    fresh: usize,
}

// SAFETY: records are shared as atomics, bits are changed by the holder of the lock alone.
unsafe impl Sync for BackingFile {}

impl BackingFile {
    /// The first `bytes` bytes of a file, which are the library's from now on.
    pub fn new(os: Os, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        const SIZE: Error = Error::Invalid(&"the backing file's bytes have to be 4096 at least, and 16 TiB at most");
        const NO_FILE: Error = Error::Invalid(
            &"the backing file has to be open for reading and writing (O_RDWR), and not for appending (O_APPEND)",
        );
        const NO_KIND: Error = Error::Invalid(&"the backing file has to be a regular file or a block device");
        const NO_MEMORY: Error =
            Error::NoMemory(not_given!("there is no memory for the table of the backing file's pages"));
        if !(PAGE as u64..=MAX_SLOTS * PAGE as u64).contains(&bytes) {
            return Err(SIZE);
        }
        let slots = (bytes / PAGE as u64) as usize;
        let kept = os.keeps_what_is_written(fd);
        if !kept.map_err(|errno| Error::system(errno, &"asking how the backing file was opened"))? {
            return Err(NO_FILE);
        }
        let id = os.file_id(fd).map_err(|errno| Error::system(errno, &"fstat of the backing file"))?;
        if !id.has_places() {
            return Err(NO_KIND);
        }
        let fd = os.duplicate(fd).map_err(|errno| Error::system(errno, &"duplicating the backing file"))?;
        let places = Places::new(slots);
        let bytes = Self::readers_at(&places, slots) + READERS * PAGE;
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_MEMORY)?;
        os.unlock(mapping.base().as_ptr(), bytes);
        os.commit(mapping.base().as_ptr(), bytes).map_err(|_| NO_MEMORY)?;
        // Huge pages would commit places that nothing uses; a refusal costs memory and nothing else.
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::NotHuge);
        let pages = heap::boxed([const { AlignedPage([0; PAGE]) }; AT_ONCE])?;
        let free = Lock::new(Rank::FileSlots, Free { taken: 0, fresh: 0 });
        let readers = std::array::from_fn(|_| Lock::new(Rank::Lane, ()));
        let fd = ManuallyDrop::new(fd);
        Ok(Self { fd, id, slots, places, os, mapping, free, lane: Lock::new(Rank::Lane, pages), readers })
    }

    fn records_at(places: &Places) -> usize {
        pages_of(places.words() * size_of::<u64>()) * PAGE
    }

    fn readers_at(places: &Places, slots: usize) -> usize {
        Self::records_at(places) + pages_of(slots * size_of::<u64>()) * PAGE
    }

    fn bits(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins with so many words.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.places.words()) }
    }

    fn records(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has a record for each place after the bits, page-aligned.
        unsafe {
            let first = self.mapping.base().as_ptr().add(Self::records_at(&self.places));
            std::slice::from_raw_parts(first.cast(), self.slots)
        }
    }

    /// The record of a place that the caller owns.
    fn record(&self, slot: u32) -> &AtomicU64 {
        &self.records()[slot as usize]
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.free.lock().taken
    }

    /// Bytes of memory of its tables, and of what it writes from and reads to.
    pub fn table_bytes(&self) -> u64 {
        let touched = self.free.lock().fresh;
        let tables = self.places.pages_touched(touched) + pages_of(touched * size_of::<u64>());
        (size_of::<[AlignedPage; AT_ONCE]>() + (READERS + tables) * PAGE) as u64
    }

    /// The lowest free place, if there is one. So the file grows no further than it has to, neighbours get neighbouring
    /// places, and where the disk is full those come first that it has room for.
    fn allocate(&self) -> Option<FileSlot> {
        let mut free = self.free.lock();
        if free.taken == self.slots {
            return None;
        }
        let slot = self.places.take_lowest(self.bits());
        free.taken += 1;
        free.fresh = free.fresh.max(slot + 1);
        let generation = GENERATION.get(self.record(slot as u32).load(Relaxed)) as u16;
        Some(FileSlot { index: slot as u32, generation })
    }

    /// Gives a place back: whoever removed the only word that names it, or never published one.
    pub fn release(&self, slot: FileSlot) {
        let mut free = self.free.lock();
        // Release pairs with the Acquire in `check_of`: a reader of the new generation does not see the old check.
        self.record(slot.index).store(GENERATION.set(0, u64::from(slot.generation.wrapping_add(1))), Release);
        self.places.release(self.bits(), slot.index as usize);
        free.taken -= 1;
    }

    fn note_check(&self, slot: FileSlot, check: u32) {
        // Release pairs with the Acquire in `check_of`; the word that names the place is published after this.
        let record = GENERATION.set(CHECK.set(0, u64::from(check)), u64::from(slot.generation));
        self.record(slot.index).store(record, Release);
    }

    /// The check of what was written to a place; none once the place was given back.
    ///
    /// The caller may own nothing: its word may name a place of a larger file that this one has replaced.
    fn check_of(&self, slot: FileSlot) -> Option<u32> {
        // Acquire pairs with the Release in `note_check`.
        let record = self.records().get(slot.index as usize)?.load(Acquire);
        (GENERATION.get(record) == u64::from(slot.generation)).then(|| CHECK.get(record) as u32)
    }

    /// Whether the descriptor still is that of the file: the program may have closed it, and been given its number for
    /// another file.
    fn is_there(&self) -> bool {
        self.os.file_id(self.fd.as_fd()).is_ok_and(|id| id == self.id)
    }

    /// Writes pages to places that follow each other. How many were written whole, and what stopped it.
    fn write(&self, first: u32, pages: &[AlignedPage]) -> (usize, Option<Errno>) {
        // SAFETY: pages are bytes, one after the other.
        let bytes = unsafe { std::slice::from_raw_parts(pages.as_ptr().cast::<u8>(), size_of_val(pages)) };
        let mut done = 0;
        while done < bytes.len() {
            match self.os.write_at(&self.fd, &bytes[done..], u64::from(first) * PAGE as u64 + done as u64) {
                Ok(0) => return (done / PAGE, Some(Errno(errno::EIO))),
                Ok(more) => done += more,
                Err(Errno(errno::EINTR)) => {}
                Err(error) => return (done / PAGE, Some(error)),
            }
        }
        (pages.len(), None)
    }

    /// A page to read to: this processor's, or one that nobody has.
    fn reading(&self) -> Reading<'_> {
        let own = current_cpu() % READERS;
        let free = |at: usize| self.readers[at].try_lock().map(|lock| (at, lock));
        let (at, lock) = (own..READERS).chain(0..own).find_map(free).unwrap_or_else(|| (own, self.readers[own].lock()));
        let page = Self::readers_at(&self.places, self.slots) + at * PAGE;
        // SAFETY: the readers' pages follow the records, page-aligned; this one is the lock's holder's alone.
        let page = unsafe { &mut *self.mapping.base().as_ptr().add(page).cast() };
        Reading { _lock: lock, page }
    }

    /// A failure leaves the caller's page as it was. Not inlined, for the page of its stack.
    #[inline(never)]
    fn read_for_caller(&self, slot: u32, page: &mut [u8; PAGE]) -> std::result::Result<(), Errno> {
        let mut copy = AlignedPage([0; PAGE]);
        self.read(slot, &mut copy.0)?;
        *page = copy.0;
        Ok(())
    }

    /// `page` lies at a multiple of its size: a file that was opened with O_DIRECT takes no other.
    fn read(&self, slot: u32, page: &mut [u8; PAGE]) -> std::result::Result<(), Errno> {
        debug_assert!(page.as_ptr().addr().is_multiple_of(PAGE), "the page is not aligned");
        let mut done = 0;
        while done < PAGE {
            match self.os.read_at(&self.fd, &mut page[done..], u64::from(slot) * PAGE as u64 + done as u64) {
                Ok(0) => return Err(Errno(errno::EIO)),
                Ok(more) => done += more,
                Err(Errno(errno::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A page that is claimed and has a place.
type Placed = (Claimed, FileSlot, usize);

impl AreaState {
    /// Writes back to the library's own file. How many pages went, and whether more may go.
    pub(super) fn shrink_to_file(&self, call: &Call<'_>, pages: u64, file: &BackingFile) -> Result<(u64, bool)> {
        let mut lane = file.lane.lock();
        let mut sweep = Sweep::new(self, true);
        let mut written = 0;
        while written < pages {
            if !file.is_there() {
                call.count(|counts| counts.writeback_io += 1);
                return if written > 0 { Ok((written, false)) } else { Err(NOT_THE_FILE) };
            }
            let most = (pages - written).min(AT_ONCE as u64) as usize;
            let (count, full) = self.write_some(call, &mut sweep, most, file, &mut lane);
            written += count.unwrap_or(0);
            if full || count.is_none() {
                return Ok((written, false));
            }
        }
        Ok((written, true))
    }

    /// Writes back up to `most` pages together: how many went, none if there was nothing to write or nothing could be
    /// written; and whether the file is full.
    fn write_some(
        &self,
        call: &Call<'_>,
        sweep: &mut Sweep<'_>,
        most: usize,
        file: &BackingFile,
        lane: &mut Locked<'_, Box<[AlignedPage; AT_ONCE]>>,
    ) -> (Option<u64>, bool) {
        let mut placed: [Option<Placed>; AT_ONCE] = [None; AT_ONCE];
        let mut count = 0;
        let mut full = false;
        while count < most && !full {
            let Some(slot) = file.allocate() else {
                full = true;
                break;
            };
            let Some(claimed) = sweep.next(call, &mut lane[count].0, Target::Own) else {
                file.release(slot);
                break;
            };
            file.note_check(slot, self.file_seed(claimed.offset).check(&lane[count].0));
            placed[count] = Some((claimed, slot, count));
            count += 1;
        }
        if full {
            call.count(|counts| counts.writeback_no_space += 1);
        }
        if count == 0 {
            return (None, full);
        }
        let (mut gone, mut failed) = (0, false);
        let mut from = 0;
        while from < count {
            let run = run_length(&placed[from..count]);
            let first = placed[from].expect("placed").1.index;
            let (whole, error) = file.write(first, &lane[from..from + run]);
            for (at, &(claimed, slot, _)) in placed[from..from + run].iter().flatten().enumerate() {
                if at < whole {
                    gone += u64::from(self.end_on_file(call, claimed, slot, file));
                } else {
                    file.release(slot);
                    self.refused(call, claimed, refusal_of(error));
                    failed = true;
                }
            }
            from += run;
        }
        (if failed && gone == 0 { None } else { Some(gone) }, full || failed)
    }

    /// The page is on the file: it goes there, unless it was used or replaced meanwhile.
    fn end_on_file(&self, call: &Call<'_>, claimed: Claimed, slot: FileSlot, file: &BackingFile) -> bool {
        let gone = self.written(call, claimed, PageWord::backed(slot));
        if !gone {
            file.release(slot);
        }
        gone
    }

    /// What pages on the file are checked with: another seed than that of the entries in the pool.
    fn file_seed(&self, offset: u64) -> Seed {
        Seed::new(!self.id, offset)
    }

    /// Reads a page that is on the library's own file.
    pub(super) fn read_from_file(
        &self,
        call: &Call<'_>,
        offset: u64,
        seen: PageWord,
        slot: FileSlot,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<Read> {
        let Some(file) = self.shared.file() else { return Ok(Read::Stale) };
        match target {
            Target::Own => self.read_by_way_of(call, offset, seen, (&file, slot), &mut file.reading().page.0, page),
            Target::Callers => self.read_for_caller(call, offset, seen, (&file, slot), page),
        }
    }

    /// Holds no reader's page while it touches the caller's. Not inlined: nobody else needs a page of the stack.
    #[inline(never)]
    fn read_for_caller(
        &self,
        call: &Call<'_>,
        offset: u64,
        seen: PageWord,
        place: (&BackingFile, FileSlot),
        page: &mut [u8; PAGE],
    ) -> Result<Read> {
        self.read_by_way_of(call, offset, seen, place, &mut AlignedPage([0; PAGE]).0, page)
    }

    /// Reads a place to `copy`, and what is right to `page`.
    fn read_by_way_of(
        &self,
        call: &Call<'_>,
        offset: u64,
        seen: PageWord,
        (file, slot): (&BackingFile, FileSlot),
        copy: &mut [u8; PAGE],
        page: &mut [u8; PAGE],
    ) -> Result<Read> {
        let mut failure = DAMAGED;
        for _ in 0..READS {
            let check = file.check_of(slot);
            let read = file.read(slot.index, copy);
            read_before_word();
            if !self.page(offset).peek().is_version_of(seen) {
                return Ok(Read::Stale);
            }
            match read {
                Ok(()) if check == Some(self.file_seed(offset).check(copy)) => {
                    *page = *copy;
                    self.recent_refaults.fetch_add(1, Relaxed);
                    call.count(|counts| {
                        counts.file_loads += 1;
                        counts.refaults += 1;
                    });
                    return Ok(Read::Done);
                }
                Ok(()) => failure = DAMAGED,
                Err(_) => failure = UNREADABLE,
            }
        }
        call.count(|counts| counts.file_read_failures += 1);
        // What is read from another file says nothing of the page.
        Err(if file.is_there() { failure } else { NOT_THE_FILE })
    }
}

impl AreaState {
    /// After a take: the place was read before it was this thread's. Had it been given to another and back to this very
    /// page meanwhile, with its generation gone round, the word would have been the same: what was read is checked once
    /// more, and is read anew if it was not this.
    pub(super) fn reread_if_reused(
        &self,
        offset: u64,
        taken: PageWord,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<()> {
        let Kind::Backed(slot) = taken.kind() else { return Ok(()) };
        let Some(file) = self.shared.file() else { return Ok(()) };
        let check = file.check_of(slot);
        let seed = self.file_seed(offset);
        if check == Some(seed.check(page)) {
            return Ok(());
        }
        match target {
            Target::Own => file.read(slot.index, page),
            Target::Callers => file.read_for_caller(slot.index, page),
        }
        .map_err(|_| UNREADABLE)?;
        match check == Some(seed.check(page)) {
            true => Ok(()),
            false if file.is_there() => Err(DAMAGED),
            false => Err(NOT_THE_FILE),
        }
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // What has become another file's is not the library's to close.
        if self.is_there() {
            // SAFETY: it is dropped once, and used no more.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

#[cfg(test)]
impl BackingFile {
    /// The number of the library's own descriptor.
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&*self.fd)
    }
}

/// How many of the pages, from the first on, have places that follow each other.
fn run_length(placed: &[Option<Placed>]) -> usize {
    let index = |at: usize| placed[at].map(|(_, slot, _)| u64::from(slot.index));
    (1..placed.len()).find(|&at| index(at) != index(at - 1).map(|before| before + 1)).unwrap_or(placed.len())
}

fn refusal_of(error: Option<Errno>) -> Refusal {
    match error {
        Some(Errno(errno::ENOSPC)) => Refusal::NoSpace,
        Some(Errno(errno::EAGAIN)) => Refusal::Again,
        Some(Errno(errno::ENOMEM)) => Refusal::NoMemory,
        _ => Refusal::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load reads its page's word, and only then finds the file: another one may have been set between the two.
    #[test]
    fn a_place_that_only_an_older_file_had_has_no_check() {
        let os = Os::default();
        let memory = os.memory_file("backing", 0, false).unwrap();
        let file = BackingFile::new(os, memory.as_fd(), PAGE as u64).unwrap();
        let own = file.allocate().unwrap();
        file.note_check(own, 7);
        assert_eq!(file.check_of(own), Some(7));
        for index in [1, 511, u32::MAX] {
            assert_eq!(file.check_of(FileSlot { index, generation: 0 }), None);
        }
    }
}
