//! A shrink to the library's own file: pages are claimed, and their entries are written as extents.

use super::area::AreaState;
use super::entry;
use super::extents::format::Builder;
use super::extents::store::ExtentStore;
use super::file_load::NOT_THE_FILE;
use super::running_calls::RunningCall;
use super::sweep::{ClaimedPage, Shrunk, Sweep};
use super::word::{MAX_ENTRIES, PageWord};
use super::writeback_refusal::Refusal;
use crate::error::Result;
use crate::os::{Errno, errno};

impl AreaState {
    /// Writes up to `pages` pages back to the library's own file.
    pub(super) fn shrink_to_file(&self, call: &RunningCall<'_>, pages: u64, extents: &ExtentStore) -> Result<Shrunk> {
        let mut sweep = Sweep::new(self, true);
        let mut written = 0;
        while written < pages {
            if !extents.is_there() {
                call.count(|counts| counts.writeback_io += 1);
                return if written > 0 { Ok(Shrunk::Ended(written)) } else { Err(NOT_THE_FILE) };
            }
            extents.end_dying();
            let most = (pages - written).min(MAX_ENTRIES as u64) as usize;
            if let Some((density, mut allowance)) = extents.cleaning_due() {
                self.shared.clean(extents, density, &mut allowance);
            }
            match self.write_extent(call, &mut sweep, most, extents) {
                Shrunk::MoreLeft(more) => written += more,
                Shrunk::Ended(more) => return Ok(Shrunk::Ended(written + more)),
            }
        }
        Ok(Shrunk::MoreLeft(written))
    }

    /// Writes back up to `most` pages as one extent. Not inlined: cleaning needs a stack as large as this, and comes
    /// before it.
    #[inline(never)]
    fn write_extent<'a>(
        &self,
        call: &RunningCall<'_>,
        sweep: &mut Sweep<'a>,
        most: usize,
        extents: &ExtentStore,
    ) -> Shrunk {
        let mut buffer = extents.write_buffer();
        let mut builder = Builder::new(buffer.all());
        let mut claimed = [const { None }; MAX_ENTRIES];
        let found = self.claim_entries(call, sweep, &mut claimed[..most], &mut builder);
        if found == 0 {
            return Shrunk::Ended(0);
        }
        let Some(room) = extents.room_for(&mut builder, false) else {
            call.count(|counts| counts.writeback_no_space += 1);
            return Shrunk::Ended(0);
        };
        let (fits, bytes) = (builder.count(), builder.bytes());
        claimed[fits..].iter_mut().for_each(|page| drop(page.take()));
        if fits < found {
            call.count(|counts| counts.writeback_no_space += 1);
        }
        let put = extents.put(room, builder);
        let mut gone = 0;
        for (number, page) in claimed[..fits].iter_mut().enumerate() {
            let Some(page) = page.take() else { continue };
            let at = put.entry(number);
            let went = if put.has(number) {
                page.written(call, PageWord::backed(at))
            } else {
                page.refused(call, refusal_of(put.error));
                false
            };
            gone += u64::from(went);
            if !went {
                extents.drop_entry(at);
            }
        }
        extents.note_buffer(&mut buffer, bytes);
        extents.note_written(bytes);
        let all = put.error.is_none() && fits == found;
        if all { Shrunk::MoreLeft(gone) } else { Shrunk::Ended(gone) }
    }

    /// Claims a page for each of `claimed`, as far as there are pages and there is room, and adds its entry to the
    /// extent. Returns how many there are.
    fn claim_entries<'a>(
        &self,
        call: &RunningCall<'_>,
        sweep: &mut Sweep<'a>,
        claimed: &mut [Option<ClaimedPage<'a>>],
        builder: &mut Builder<'_>,
    ) -> usize {
        let mut count = 0;
        while count < claimed.len() && builder.has_room() {
            claimed[count] = sweep.next_with(|offset, pinned| {
                // The entry of a page that could not be claimed after all.
                builder.truncate(count);
                pinned.prefetch();
                let Some(whole) = entry::whole(pinned.slot(), self.seed(offset)) else {
                    call.count(|counts| counts.decode_failures += 1);
                    return false;
                };
                builder.push(self.id, offset, whole);
                true
            });
            if claimed[count].is_none() {
                break;
            }
            count += 1;
        }
        builder.truncate(count);
        count
    }
}

fn refusal_of(error: Option<Errno>) -> Refusal {
    match error {
        Some(Errno(errno::ENOSPC)) => Refusal::NoSpace,
        Some(Errno(errno::EAGAIN)) => Refusal::Again,
        Some(Errno(errno::ENOMEM)) => Refusal::NoMemory,
        _ => Refusal::Io,
    }
}
