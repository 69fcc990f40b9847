//! The library's own backing file: pages of 4096 bytes at places that the library gives out.
//!
//! A page word names a place and its generation, and a table in memory has the check of what was written there. So a
//! read that raced with the next page of that place is found out. Each writeback owns the place that it writes to:
//! nothing ever waits for such a writeback.

use super::lowest_free::LowestFree;
use super::word::{FileSlot, MAX_SLOTS};
use crate::error::{Error, Result, not_given, sentence};
use crate::field::Field;
use crate::heap;
use crate::os::{Advice, Errno, FileId, Mapping, Os, errno};
use crate::per_processor::{Lease, PerProcessor};
use crate::sync::{
    AtomicU64, Lock, Locked,
    Ordering::{Acquire, Relaxed, Release},
    Rank,
};
use crate::units::{AlignedPage, PAGE, pages_of};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most pages that are written together.
pub const WRITTEN_AT_ONCE: usize = 32;
/// Most threads that read at once.
const READERS: usize = 32;

/// The record of a place.
const CHECK: Field = Field::first(32);
const GENERATION: Field = CHECK.then(16);

/// The file, and what is where on it.
pub struct BackingFile {
    fd: ManuallyDrop<OwnedFd>,
    /// Which file `fd` was when it was set.
    id: FileId,
    slots: usize,
    places: LowestFree,
    os: Os,
    /// The bits of `places`, then a record for each place: check and generation. Then a page for each reader.
    mapping: Mapping,
    free: Lock<FreePlaces>,
    /// The pages that are being written.
    pages: Lock<Box<WriteBuffer>>,
    /// Lends each reader one of the readers' pages.
    readers: PerProcessor<()>,
}

/// Pages that are written together.
pub type WriteBuffer = [AlignedPage; WRITTEN_AT_ONCE];

/// A page to read into, for one thread. That thread may be in a signal handler, whose stack has no room for pages.
pub struct ReadPage<'a> {
    _lease: Lease<'a, ()>,
    page: &'a mut AlignedPage,
}

impl ReadPage<'_> {
    /// Returns the page. It holds what was read last.
    pub fn bytes(&mut self) -> &mut [u8; PAGE] {
        &mut self.page.0
    }
}

struct FreePlaces {
    taken: usize,
    /// The first place that was never given out. From here on the tables take no memory.
    fresh: usize,
}

/// A place on the file. Dropping it gives the place back.
pub struct FilePlace<'a> {
    file: &'a BackingFile,
    slot: FileSlot,
}

impl FilePlace<'_> {
    /// Returns which place it is.
    pub fn slot(&self) -> FileSlot {
        self.slot
    }

    /// Notes the check of the page that will be written there.
    pub fn note_check(&self, check: u32) {
        self.file.note_check(self.slot, check);
    }

    /// Keeps the place taken: a page word names it now. [`BackingFile::release`] gives it back when that word goes.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for FilePlace<'_> {
    fn drop(&mut self) {
        self.file.release(self.slot);
    }
}

// SAFETY: records are shared as atomics, bits are changed by the holder of `free` alone, and each reader's page is
// written by the holder of its lease.
unsafe impl Sync for BackingFile {}

impl BackingFile {
    /// Takes the first `bytes` bytes of a file. They are the library's from now on.
    pub fn new(os: Os, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        const SIZE: Error =
            Error::Invalid(sentence(&"the backing file's bytes have to be 4096 at least, and 16 TiB at most"));
        const NO_FILE: Error = Error::Invalid(sentence(
            &"the backing file has to be open for reading and writing (O_RDWR), and not for appending (O_APPEND)",
        ));
        const NO_KIND: Error = Error::Invalid(sentence(&"the backing file has to be a regular file or a block device"));
        const NO_MEMORY: Error =
            Error::NoMemory(not_given!("there is no memory for the table of the backing file's pages"));
        if !(PAGE as u64..=MAX_SLOTS * PAGE as u64).contains(&bytes) {
            return Err(SIZE);
        }
        let slots = (bytes / PAGE as u64) as usize;
        let kept = os.keeps_what_is_written(fd);
        if !kept.map_err(|errno| Error::system(errno, sentence(&"asking how the backing file was opened")))? {
            return Err(NO_FILE);
        }
        let id = os.file_id(fd).map_err(|errno| Error::system(errno, sentence(&"fstat of the backing file")))?;
        if !id.has_places() {
            return Err(NO_KIND);
        }
        let fd = os.duplicate(fd).map_err(|errno| Error::system(errno, sentence(&"duplicating the backing file")))?;
        let places = LowestFree::new(slots);
        let bytes = Self::readers_at(&places, slots) + READERS * PAGE;
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_MEMORY)?;
        os.unlock(mapping.base().as_ptr(), bytes);
        os.commit(mapping.base().as_ptr(), bytes).map_err(|_| NO_MEMORY)?;
        // Huge pages would commit the tables of unused places. A refusal costs memory and nothing else.
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::NotHuge);
        let pages = heap::boxed([const { AlignedPage([0; PAGE]) }; WRITTEN_AT_ONCE])?;
        let free = Lock::new(Rank::FileSlots, FreePlaces { taken: 0, fresh: 0 });
        let readers = PerProcessor::new(Rank::Lane, READERS, || Ok(()))?;
        let fd = ManuallyDrop::new(fd);
        Ok(Self { fd, id, slots, places, os, mapping, free, pages: Lock::new(Rank::Lane, pages), readers })
    }

    fn records_at(places: &LowestFree) -> usize {
        pages_of(places.words() * size_of::<u64>()) * PAGE
    }

    fn readers_at(places: &LowestFree, slots: usize) -> usize {
        Self::records_at(places) + pages_of(slots * size_of::<u64>()) * PAGE
    }

    fn bits(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins with this many words, which are shared as atomics.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.places.words()) }
    }

    fn records(&self) -> &[AtomicU64] {
        // SAFETY: after the bits, page-aligned, the mapping has a record for each place, shared as atomics.
        unsafe {
            let first = self.mapping.base().as_ptr().add(Self::records_at(&self.places));
            std::slice::from_raw_parts(first.cast(), self.slots)
        }
    }

    /// Returns the record of a place that the caller owns.
    fn record(&self, slot: u32) -> &AtomicU64 {
        &self.records()[slot as usize]
    }

    /// Returns how many places are taken.
    pub fn taken(&self) -> usize {
        self.free.lock().taken
    }

    /// Returns the bytes of memory of the tables, and of the pages that are written from and read into.
    pub fn table_bytes(&self) -> u64 {
        let touched = self.free.lock().fresh;
        let tables = self.places.pages_touched(touched) + pages_of(touched * size_of::<u64>());
        (size_of::<WriteBuffer>() + (READERS + tables) * PAGE) as u64
    }

    /// Takes the lowest free place, if there is one. So the file grows no further than it must, pages that are written
    /// together get neighbouring places, and on a full disk the places that it has room for come first.
    pub fn allocate(&self) -> Option<FilePlace<'_>> {
        let mut free = self.free.lock();
        if free.taken == self.slots {
            return None;
        }
        let slot = self.places.take_lowest(self.bits());
        free.taken += 1;
        free.fresh = free.fresh.max(slot + 1);
        let generation = GENERATION.get(self.record(slot as u32).load(Relaxed)) as u16;
        Some(FilePlace { file: self, slot: FileSlot { index: slot as u32, generation } })
    }

    /// Gives a place back. The caller has removed the only word that named it.
    pub fn release(&self, slot: FileSlot) {
        let mut free = self.free.lock();
        // Release pairs with the Acquire in `check_of`: a reader of the new generation does not see the old check.
        self.record(slot.index).store(GENERATION.set(0, u64::from(slot.generation.wrapping_add(1))), Release);
        self.places.release(self.bits(), slot.index as usize);
        free.taken -= 1;
    }

    fn note_check(&self, slot: FileSlot, check: u32) {
        // Release pairs with the Acquire in `check_of`. The word that names the place is published after this.
        let record = GENERATION.set(CHECK.set(0, u64::from(check)), u64::from(slot.generation));
        self.record(slot.index).store(record, Release);
    }

    /// Returns the check of what was written to a place, or none if the place was given back.
    ///
    /// The caller need not own the place: its word may name a place of a larger file that this one has replaced.
    pub fn check_of(&self, slot: FileSlot) -> Option<u32> {
        // Acquire pairs with the Release in `note_check`.
        let record = self.records().get(slot.index as usize)?.load(Acquire);
        (GENERATION.get(record) == u64::from(slot.generation)).then(|| CHECK.get(record) as u32)
    }

    /// Whether the descriptor is still that of the file. The program may have closed it, and opened another file that
    /// got its number.
    pub fn is_there(&self) -> bool {
        self.os.file_id(self.fd.as_fd()).is_ok_and(|id| id == self.id)
    }

    /// Takes the pages that the next write is made of, waiting for the write before.
    pub fn lock_pages(&self) -> Locked<'_, Box<WriteBuffer>> {
        self.pages.lock()
    }

    /// Writes pages to places that follow each other. Returns how many were written whole, and what stopped the write.
    pub fn write(&self, first: u32, pages: &[AlignedPage]) -> (usize, Option<Errno>) {
        // SAFETY: an `AlignedPage` is bytes without padding, and the slice has them one after the other.
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

    /// Takes a page to read into: that of this processor, or else any that is free.
    pub fn read_page(&self) -> ReadPage<'_> {
        let lease = self.readers.take();
        let page = Self::readers_at(&self.places, self.slots) + lease.index() * PAGE;
        // SAFETY: the readers' pages follow the records, page-aligned. This one belongs to the holder of its lease.
        let page = unsafe { &mut *self.mapping.base().as_ptr().add(page).cast() };
        ReadPage { _lease: lease, page }
    }

    /// Reads a place into a page of the caller's, at any address. A failure leaves the page as it was. Not inlined:
    /// other reads do not need a page of stack.
    #[inline(never)]
    pub fn read_for_caller(&self, slot: u32, page: &mut [u8; PAGE]) -> Result<(), Errno> {
        let mut copy = AlignedPage([0; PAGE]);
        self.read(slot, &mut copy.0)?;
        *page = copy.0;
        Ok(())
    }

    /// Reads a place. `page` lies at a multiple of its size, as a file opened with O_DIRECT demands.
    pub fn read(&self, slot: u32, page: &mut [u8; PAGE]) -> Result<(), Errno> {
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

impl Drop for BackingFile {
    fn drop(&mut self) {
        // A descriptor that has become another file's is not the library's to close.
        if self.is_there() {
            // SAFETY: the descriptor is dropped once, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

#[cfg(test)]
impl BackingFile {
    /// Returns the number of the library's own descriptor.
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&*self.fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load reads its page word first, and finds the file after that. Another file may have been set in between.
    #[test]
    fn a_place_that_only_an_older_file_had_has_no_check() {
        let os = Os::default();
        let memory = os.memory_file("backing", 0, false).unwrap();
        let file = BackingFile::new(os, memory.as_fd(), PAGE as u64).unwrap();
        let own = file.allocate().unwrap();
        own.note_check(7);
        assert_eq!(file.check_of(own.slot()), Some(7));
        for index in [1, 511, u32::MAX] {
            assert_eq!(file.check_of(FileSlot { index, generation: 0 }), None);
        }
    }
}
