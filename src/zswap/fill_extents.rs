//! A shrink to tiers: pages are claimed, and their entries are written as extents.

use super::area::AreaState;
use super::entry;
use super::extents::format::Builder;
use super::extents::medium::MediumError;
use super::extents::store::{ExtentStore, Put};
use super::extents::tier_list::TierList;
use super::running_calls::RunningCall;
use super::shrink_options::{Choice, Quota, ShrinkDone};
use super::sweep::{ClaimedPage, Shrunk, Sweep};
use super::tier::TierFailure;
use super::tier_load::NOT_THE_FILE;
use super::word::{MAX_ENTRIES, PageWord};
use super::writeback_refusal::Refusal;
use crate::error::Result;
use crate::heap::Counted;
use crate::os::{Errno, errno};

/// The pages of an extent that is being made.
type Claimed<'a> = [Option<ClaimedPage<'a>>; MAX_ENTRIES];

impl AreaState {
    /// Writes pages back to the tiers that the area and the call may use, each extent to the first one that takes it.
    pub(super) fn shrink_to_tiers(
        &self,
        call: &RunningCall<'_>,
        choice: Choice,
        quota: Quota,
        tiers: &TierList,
    ) -> Result<Shrunk> {
        let mut sweep = Sweep::new(self, choice, true);
        let mut done = ShrinkDone::default();
        let usable = || {
            tiers.iter().filter(|store| self.tiers().has(store.tier) && quota.access.includes(store.is_signal_safe()))
        };
        while !quota.after(done).is_spent() {
            let first = match self.check_tiers(call, usable().map(|store| &**store)) {
                Ok(Some(first)) => first,
                Err(error) if done.pages == 0 => return Err(error),
                _ => return Ok(Shrunk::Ended(done)),
            };
            usable().for_each(|store| self.shared.keep_dense(store, tiers, quota.access));
            let left = quota.after(done);
            let most = left.pages.min(MAX_ENTRIES as u64) as usize;
            sweep.set_quota(left);
            match self.write_extent(call, &mut sweep, most, (first, &mut usable())) {
                Shrunk::MoreLeft(more) => done += more,
                Shrunk::Ended(more) => {
                    done += more;
                    return Ok(Shrunk::Ended(done));
                }
            }
        }
        Ok(Shrunk::MoreLeft(done))
    }

    /// Returns the first tier that can be written to, and counts those that are not there. None: there is no tier.
    fn check_tiers<'t>(
        &self,
        call: &RunningCall<'_>,
        tiers: impl Iterator<Item = &'t ExtentStore>,
    ) -> Result<Option<&'t ExtentStore>> {
        let mut gone = false;
        for store in tiers {
            if store.is_there() {
                return Ok(Some(store));
            }
            gone = true;
        }
        if gone {
            call.count(|counts| counts.writeback_io += 1);
            return Err(NOT_THE_FILE);
        }
        Ok(None)
    }

    /// Writes back up to `most` pages as one extent, which is made in a buffer of the first tier. Not inlined: cleaning
    /// needs a stack as large as this, and comes before it.
    #[inline(never)]
    fn write_extent<'a>(
        &self,
        call: &RunningCall<'_>,
        sweep: &mut Sweep<'a>,
        most: usize,
        (first, tiers): (&ExtentStore, &mut dyn Iterator<Item = &Counted<ExtentStore>>),
    ) -> Shrunk {
        let mut buffer = first.write_buffer();
        let mut builder = Builder::new(buffer.all());
        let mut claimed: Claimed<'a> = [const { None }; MAX_ENTRIES];
        if self.claim_entries(call, sweep, &mut claimed[..most], &mut builder) == 0 {
            return Shrunk::Ended(ShrinkDone::default());
        }
        let bytes = builder.bytes();
        let done = self.put_claimed(call, &mut builder, &mut claimed, tiers);
        first.note_buffer(&mut buffer, bytes);
        done
    }

    /// Puts an extent on the first tier that takes it, or takes a part of it. What no tier takes stays in the pool.
    fn put_claimed<'a>(
        &self,
        call: &RunningCall<'_>,
        builder: &mut Builder<'_>,
        claimed: &mut Claimed<'a>,
        tiers: &mut dyn Iterator<Item = &Counted<ExtentStore>>,
    ) -> Shrunk {
        let mut refusal = None;
        while let Some(store) = tiers.next() {
            if store.is_leaving() || !store.is_there() {
                continue;
            }
            let Some(room) = store.room_for(builder, false) else { continue };
            // The pages for which there is no room are claimed again for another extent.
            claimed[builder.count()..].iter_mut().for_each(|page| drop(page.take()));
            let put = store.put(room, builder);
            if put.error.is_none() || put.has(0) {
                store.note_written(builder.bytes());
                let gone = self.name_entries(call, store, &put, &mut claimed[..builder.count()]);
                let may_go_on = put.error.is_none() || tiers.next().is_some();
                return if may_go_on { Shrunk::MoreLeft(gone) } else { Shrunk::Ended(gone) };
            }
            (0..builder.count()).for_each(|number| store.drop_entry(put.entry(number)));
            refusal = put.error.map(refusal_of);
        }
        match refusal {
            Some(refusal) => {
                claimed.iter_mut().filter_map(Option::take).for_each(|page| page.refused(call, refusal));
            }
            None => call.count(|counts| counts.writeback_no_space += 1),
        }
        Shrunk::Ended(ShrinkDone::default())
    }

    /// Lets the page words name the entries of an extent that was put, as far as they were written. Returns what
    /// went.
    fn name_entries(
        &self,
        call: &RunningCall<'_>,
        store: &ExtentStore,
        put: &Put<'_>,
        claimed: &mut [Option<ClaimedPage<'_>>],
    ) -> ShrinkDone {
        let mut gone = ShrinkDone::default();
        for (number, page) in claimed.iter_mut().enumerate() {
            let Some(page) = page.take() else { continue };
            let (at, slot_bytes) = (put.entry(number), page.slot_bytes());
            let went = if put.has(number) {
                page.written(call, PageWord::backed(at))
            } else {
                page.refused(call, put.error.map_or(Refusal::Io, refusal_of));
                false
            };
            if went {
                gone.count(slot_bytes);
            } else {
                store.drop_entry(at);
            }
        }
        gone
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

fn refusal_of(error: MediumError) -> Refusal {
    match error {
        MediumError::OfFile(Errno(errno::ENOSPC)) | MediumError::OfTier(TierFailure::Full) => Refusal::NoSpace,
        MediumError::OfFile(Errno(errno::EAGAIN)) | MediumError::OfTier(TierFailure::Away) => Refusal::Again,
        MediumError::OfFile(Errno(errno::ENOMEM)) => Refusal::NoMemory,
        MediumError::OfFile(_) | MediumError::OfTier(TierFailure::Damaged) => Refusal::Io,
    }
}
