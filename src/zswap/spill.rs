//! Writing pages back to the library's own file, and loading them from there.

use super::area::AreaState;
use super::backing_file::{BackingFile, FilePlace, WRITTEN_AT_ONCE, WriteBuffer};
use super::calls::RunningCall;
use super::codec::Target;
use super::entry::Seed;
use super::failure::NotLoaded;
use super::page::read_before_word;
use super::refusal::Refusal;
use super::sweep::{ClaimedPage, Shrunk, Sweep};
use super::word::{FileSlot, PageWord, WordKind};
use crate::error::{Error, Result};
use crate::os::{Errno, errno};
use crate::sync::Ordering::Relaxed;
use crate::units::{AlignedPage, PAGE};

/// How often a page is read before its check is believed to be wrong.
const READS: usize = 4;

const UNREADABLE: Error = Error::Io(&"the backing file can't be read");
const NOT_THE_FILE: Error = Error::Io(
    &"the library's descriptor of the backing file was closed or is another file's now: close no descriptors that are \
      not your own",
);

/// A page that is claimed, and the place that it is written to.
struct Placed<'a> {
    page: ClaimedPage<'a>,
    place: FilePlace<'a>,
}

impl AreaState {
    /// Writes up to `pages` pages back to the library's own file.
    pub(super) fn shrink_to_file(&self, call: &RunningCall<'_>, pages: u64, file: &BackingFile) -> Result<Shrunk> {
        let mut buffer = file.lock_pages();
        let mut sweep = Sweep::new(self, true);
        let mut written = 0;
        while written < pages {
            if !file.is_there() {
                call.count(|counts| counts.writeback_io += 1);
                return if written > 0 { Ok(Shrunk::Ended(written)) } else { Err(NOT_THE_FILE) };
            }
            let most = (pages - written).min(WRITTEN_AT_ONCE as u64) as usize;
            match self.write_some(call, &mut sweep, most, file, &mut buffer) {
                Shrunk::MoreLeft(more) => written += more,
                Shrunk::Ended(more) => return Ok(Shrunk::Ended(written + more)),
            }
        }
        Ok(Shrunk::MoreLeft(written))
    }

    /// Writes back up to `most` pages together.
    fn write_some<'a>(
        &self,
        call: &RunningCall<'_>,
        sweep: &mut Sweep<'a>,
        most: usize,
        file: &'a BackingFile,
        buffer: &mut WriteBuffer,
    ) -> Shrunk {
        let mut placed = [const { None }; WRITTEN_AT_ONCE];
        let (count, full) = self.place_some(call, sweep, file, &mut placed[..most], buffer);
        let (mut gone, mut failed) = (0, false);
        let mut from = 0;
        while from < count {
            let (first, run) = run_of(&placed[from..count]);
            let (whole, error) = file.write(first, &buffer[from..from + run]);
            for (at, Placed { page, place }) in placed[from..from + run].iter_mut().filter_map(Option::take).enumerate()
            {
                if at >= whole {
                    page.refused(call, refusal_of(error));
                    failed = true;
                } else if page.written(call, PageWord::backed(place.slot())) {
                    place.keep();
                    gone += 1;
                }
            }
            from += run;
        }
        if count == 0 || full || failed { Shrunk::Ended(gone) } else { Shrunk::MoreLeft(gone) }
    }

    /// Finds a place for each of `placed`, and a page for each place, which is claimed and decoded into `buffer`.
    /// Returns how many there are, and whether the file is full.
    fn place_some<'a>(
        &self,
        call: &RunningCall<'_>,
        sweep: &mut Sweep<'a>,
        file: &'a BackingFile,
        placed: &mut [Option<Placed<'a>>],
        buffer: &mut WriteBuffer,
    ) -> (usize, bool) {
        for (at, (placed, copy)) in placed.iter_mut().zip(buffer).enumerate() {
            let Some(place) = file.allocate() else {
                call.count(|counts| counts.writeback_no_space += 1);
                return (at, true);
            };
            let Some(page) = sweep.next(call, &mut copy.0, Target::Own) else { return (at, false) };
            place.note_check(self.file_seed(page.offset()).check(&copy.0));
            *placed = Some(Placed { page, place });
        }
        (placed.len(), false)
    }

    /// Returns the seed of the checks of pages on the file. It is not that of the entries in the pool.
    fn file_seed(&self, offset: u64) -> Seed {
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

/// Returns the place of the first page, and how many pages from it on have places that follow each other.
fn run_of(placed: &[Option<Placed<'_>>]) -> (u32, usize) {
    let index = |placed: &Option<Placed<'_>>| placed.as_ref().map(|placed| placed.place.slot().index);
    let first = placed.first().and_then(index).unwrap_or_default();
    let follows = |(number, place)| index(place).map(u64::from) == Some(u64::from(first) + number);
    (first, (0u64..).zip(placed).take_while(|&pair| follows(pair)).count())
}

fn refusal_of(error: Option<Errno>) -> Refusal {
    match error {
        Some(Errno(errno::ENOSPC)) => Refusal::NoSpace,
        Some(Errno(errno::EAGAIN)) => Refusal::Again,
        Some(Errno(errno::ENOMEM)) => Refusal::NoMemory,
        _ => Refusal::Io,
    }
}
