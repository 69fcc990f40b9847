//! Loading pages from extents on the library's own file.

use super::area::AreaState;
use super::codec::{self, Target};
use super::entry::{self, Seed};
use super::extents::extent_table::PinnedExtent;
use super::extents::store::ExtentStore;
use super::running_calls::RunningCall;
use super::store_load_failure::NotLoaded;
use super::word::ExtentEntry;
use crate::error::{Error, sentence};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// How often an entry is read before its check is believed to be wrong.
const READS: usize = 4;

const UNREADABLE: Error = Error::Io(sentence(&"the backing file can't be read"));
/// The error of a load or a writeback that finds another file under the descriptor, or none.
pub(super) const NOT_THE_FILE: Error = Error::Io(sentence(
    &"the library's descriptor of the backing file was closed or is another file's now: close no descriptors that are \
      not your own",
));

impl AreaState {
    /// Reads an entry of an extent that is pinned, and decodes it into `page`. A failure leaves the page as it was.
    pub(super) fn read_entry(
        &self,
        call: &RunningCall<'_>,
        (extents, pinned): (&ExtentStore, &PinnedExtent<'_>),
        (offset, at): (u64, ExtentEntry),
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<(), NotLoaded> {
        let number = usize::from(at.entry);
        let seed = extents.seed(self.seed(offset), pinned.id(), number);
        let mut failure = NotLoaded::Damaged;
        for again in 0..READS {
            let read = match target {
                Target::Own => {
                    extents.read(pinned, number, again > 0, |bytes| self.decode_entry(bytes, seed, page, target))
                }
                Target::Callers => self.read_for_caller(extents, pinned, (number, again > 0), seed, page),
            };
            failure = match read {
                Ok(Ok(())) => {
                    self.recent_refaults.fetch_add(1, Relaxed);
                    call.count(|counts| {
                        counts.file_loads += 1;
                        counts.refaults += 1;
                    });
                    return Ok(());
                }
                Ok(Err(failure)) => failure,
                Err(_) => UNREADABLE.into(),
            };
        }
        call.count(|counts| counts.file_read_failures += 1);
        Err(or_not_the_file(extents, failure))
    }

    /// Decodes by way of the stack, so that no buffer is held while the caller's page is written. Not inlined: other
    /// loads do not need a page of stack.
    #[inline(never)]
    fn read_for_caller(
        &self,
        extents: &ExtentStore,
        pinned: &PinnedExtent<'_>,
        (number, again): (usize, bool),
        seed: Seed,
        page: &mut [u8; PAGE],
    ) -> Result<Result<(), NotLoaded>, crate::os::Errno> {
        let mut own = [0; PAGE];
        let read = extents.read(pinned, number, again, |bytes| self.decode_entry(bytes, seed, &mut own, Target::Own));
        if let Ok(Ok(())) = read {
            *page = own;
        }
        read
    }

    fn decode_entry(&self, bytes: &[u8], seed: Seed, page: &mut [u8; PAGE], target: Target) -> Result<(), NotLoaded> {
        let (stored, payload) = entry::open(bytes, seed).ok_or(NotLoaded::Damaged)?;
        Ok(codec::decode(&self.shared.contexts, stored, payload, page, target)?)
    }
}

/// Returns `failure` if the descriptor is still that of the file. What was read from another file says nothing of the
/// page.
fn or_not_the_file(extents: &ExtentStore, failure: NotLoaded) -> NotLoaded {
    if extents.is_there() { failure } else { NOT_THE_FILE.into() }
}
