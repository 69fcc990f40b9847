//! Writing pages back to the library's own file.

use super::area::AreaState;
use super::backing_file::{BackingFile, FilePlace, WRITTEN_AT_ONCE, WriteBuffer};
use super::codec::Target;
use super::file_load::NOT_THE_FILE;
use super::running_calls::RunningCall;
use super::sweep::{ClaimedPage, Shrunk, Sweep};
use super::word::PageWord;
use super::writeback_refusal::Refusal;
use crate::error::Result;
use crate::os::{Errno, errno};

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
