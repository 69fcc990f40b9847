//! Loading pages from extents on tiers.

use super::area::AreaState;
use super::codec::{self, Target};
use super::entry::{self, Seed};
use super::extents::extent_table::PinnedExtent;
use super::extents::medium::MediumError;
use super::extents::store::ExtentStore;
use super::patience::check_not_in_tier;
use super::running_calls::RunningCall;
use super::store_load_failure::NotLoaded;
use super::tier::TierFailure;
use super::word::ExtentEntry;
use crate::error::{Error, sentence};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// How often an entry is read before its check is believed to be wrong, or a file to be unreadable.
const READS: usize = 4;

const UNREADABLE: Error = Error::Io(sentence(&"the backing file can't be read"));
const AWAY: Error = Error::Again(sentence(&"the tier that has the page can't be reached now: try again later"));
/// The error of a load or a writeback that finds another file under the descriptor, or none.
pub(super) const NOT_THE_FILE: Error = Error::Io(sentence(
    &"the library's descriptor of the backing file was closed or is another file's now: close no descriptors that are \
      not your own",
));

/// What an attempt to read an entry yielded, if the tier returned its bytes.
type EntryRead = Result<(), NotLoaded>;

impl AreaState {
    /// Reads an entry of an extent that is pinned, and decodes it into `page`. A failure leaves the page as it was.
    pub(super) fn read_entry(
        &self,
        call: &RunningCall<'_>,
        (store, pinned): (&ExtentStore, &PinnedExtent<'_>),
        (offset, at): (u64, ExtentEntry),
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<(), NotLoaded> {
        if !store.is_signal_safe() {
            if target == Target::InHandler {
                return Err(NotLoaded::NeedsThread);
            }
            check_not_in_tier()?;
        }
        let read = self.try_to_read(store, pinned, (offset, at), page, target);
        call.count(|counts| match read {
            Ok(()) => {
                counts.file_loads += 1;
                counts.refaults += 1;
            }
            Err(_) => counts.file_read_failures += 1,
        });
        match read {
            Ok(()) => _ = self.recent_refaults.fetch_add(1, Relaxed),
            // What was read from another file says nothing of the page.
            Err(_) if !store.is_there() => return Err(NOT_THE_FILE.into()),
            Err(_) => {}
        }
        read
    }

    fn try_to_read(
        &self,
        store: &ExtentStore,
        pinned: &PinnedExtent<'_>,
        (offset, at): (u64, ExtentEntry),
        page: &mut [u8; PAGE],
        target: Target,
    ) -> EntryRead {
        let number = usize::from(at.entry);
        let seed = store.seed(self.seed(offset), pinned.id(), number);
        let mut failure = NotLoaded::DamagedOnTier;
        for again in 0..READS {
            let read = match target {
                Target::Own | Target::InHandler => {
                    store.read(pinned, number, again > 0, |bytes| self.decode_entry(bytes, seed, page, target))
                }
                Target::Callers => self.read_for_caller(store, pinned, (number, again > 0), seed, page),
            };
            failure = match read {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure,
                Err(MediumError::OfFile(_)) => UNREADABLE.into(),
                // The tier has its own bound, and has tried as often as it thinks right.
                Err(MediumError::OfTier(TierFailure::Away)) => return Err(AWAY.into()),
                Err(MediumError::OfTier(_)) => return Err(NotLoaded::DamagedOnTier),
            };
        }
        if failure == NotLoaded::DamagedOnTier && store.is_there() {
            store.counts.failed(TierFailure::Damaged);
        }
        Err(failure)
    }

    /// Decodes by way of the stack, so that no buffer is held while the caller's page is written. Not inlined: other
    /// loads do not need a page of stack.
    #[inline(never)]
    fn read_for_caller(
        &self,
        store: &ExtentStore,
        pinned: &PinnedExtent<'_>,
        (number, again): (usize, bool),
        seed: Seed,
        page: &mut [u8; PAGE],
    ) -> Result<EntryRead, MediumError> {
        let mut own = [0; PAGE];
        let read = store.read(pinned, number, again, |bytes| self.decode_entry(bytes, seed, &mut own, Target::Own));
        if let Ok(Ok(())) = read {
            *page = own;
        }
        read
    }

    fn decode_entry(&self, bytes: &[u8], seed: Seed, page: &mut [u8; PAGE], target: Target) -> EntryRead {
        let (stored, payload) = entry::open(bytes, seed).ok_or(NotLoaded::DamagedOnTier)?;
        Ok(codec::decode(&self.shared.contexts, stored, payload, page, target)?)
    }
}
