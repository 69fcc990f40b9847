//! Loading pages from the library's own file.

use super::area::AreaState;
use super::backing_file::BackingFile;
use super::codec::Target;
use super::entry::Seed;
use super::page::read_before_word;
use super::running_calls::RunningCall;
use super::store_load_failure::NotLoaded;
use super::word::{FileSlot, PageWord, WordKind};
use crate::error::{Error, sentence};
use crate::sync::Ordering::Relaxed;
use crate::units::{AlignedPage, PAGE};

/// How often a page is read before its check is believed to be wrong.
const READS: usize = 4;

const UNREADABLE: Error = Error::Io(sentence(&"the backing file can't be read"));
/// The error of a load or a writeback that finds another file under the descriptor, or none.
pub(super) const NOT_THE_FILE: Error = Error::Io(sentence(
    &"the library's descriptor of the backing file was closed or is another file's now: close no descriptors that are \
      not your own",
));

impl AreaState {
    /// Returns the seed of the checks of pages on the file. It is not that of the entries in the pool.
    pub(super) fn file_seed(&self, offset: u64) -> Seed {
        Seed::new(!self.id, offset)
    }

    /// Reads what a BACKED word names into `page`.
    pub(super) fn read_from_file(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        seen: PageWord,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<Read, NotLoaded> {
        let WordKind::Backed(slot) = seen.kind() else { return Ok(Read::Stale) };
        let Some(file) = self.shared.file() else { return Ok(Read::Stale) };
        let backed = BackedPage { area: self, call, file: &file, offset, seen, slot };
        match target {
            Target::Own => backed.read(file.read_page().bytes(), page),
            Target::Callers => backed.read_for_caller(page),
        }
    }

    /// Checks once more a page that was read before its word was taken. In between, other pages may have had its place
    /// so often that the generation came round and the word looked unchanged. Then the page is read again: the place is
    /// this thread's now.
    pub(super) fn reread_if_reused(
        &self,
        offset: u64,
        taken: PageWord,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<(), NotLoaded> {
        let WordKind::Backed(slot) = taken.kind() else { return Ok(()) };
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
        if check == Some(seed.check(page)) { Ok(()) } else { Err(or_not_the_file(&file, NotLoaded::Damaged)) }
    }
}

/// Whether the thing that a page word names was read.
pub(super) enum Read {
    /// It was, and is right.
    Done,
    /// The page went meanwhile: there is something new to read.
    Stale,
}

/// A page on the file that is being loaded.
struct BackedPage<'a> {
    area: &'a AreaState,
    call: &'a RunningCall<'a>,
    file: &'a BackingFile,
    offset: u64,
    seen: PageWord,
    slot: FileSlot,
}

impl BackedPage<'_> {
    /// Reads the page by way of the stack, so that nothing is held while the caller's page is written. Not inlined:
    /// other loads do not need a page of stack.
    #[inline(never)]
    fn read_for_caller(&self, page: &mut [u8; PAGE]) -> Result<Read, NotLoaded> {
        self.read(&mut AlignedPage([0; PAGE]).0, page)
    }

    /// Reads the place into `copy`, and copies it to `page` if its check is right.
    fn read(&self, copy: &mut [u8; PAGE], page: &mut [u8; PAGE]) -> Result<Read, NotLoaded> {
        let mut failure = NotLoaded::Damaged;
        for _ in 0..READS {
            let check = self.file.check_of(self.slot);
            let read = self.file.read(self.slot.index, copy);
            read_before_word();
            if !self.area.page(self.offset).peek().is_version_of(self.seen) {
                return Ok(Read::Stale);
            }
            match read {
                Ok(()) if check == Some(self.area.file_seed(self.offset).check(copy)) => {
                    *page = *copy;
                    self.area.recent_refaults.fetch_add(1, Relaxed);
                    self.call.count(|counts| {
                        counts.file_loads += 1;
                        counts.refaults += 1;
                    });
                    return Ok(Read::Done);
                }
                Ok(()) => failure = NotLoaded::Damaged,
                Err(_) => failure = UNREADABLE.into(),
            }
        }
        self.call.count(|counts| counts.file_read_failures += 1);
        Err(or_not_the_file(self.file, failure))
    }
}

/// Returns `failure` if the descriptor is still that of the file. What was read from another file says nothing of the
/// page.
fn or_not_the_file(file: &BackingFile, failure: NotLoaded) -> NotLoaded {
    if file.is_there() { failure } else { NOT_THE_FILE.into() }
}
