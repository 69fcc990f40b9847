//! Removing pages, in time proportional to what is stored.

use super::area::{Area, AreaState};
use super::index::STRETCH;
use super::patience::{NOT_NOW, Patience, in_callback};
use super::running_calls::RunningCall;
use super::word::{PageWord, WordKind};
use crate::error::Result;

/// Most pages that are removed under one lock.
const AT_ONCE: usize = 64;

impl Area {
    /// Removes every page stored in the range. Offsets that hold none are fine. Takes time in proportion to what is
    /// stored there. When this returns, no writeback of a page of the range runs that began before: what the caller
    /// writes to the places of these pages on disk stays. The copies that it has there are old from then on: forget
    /// them, or a load that finds nothing here will take them for the newest.
    ///
    /// It waits for callbacks that are writing pages of the range, and for claims of them. So hold no lock that such a
    /// callback takes, or a thread before it ends its claim. Callbacks may call this; they do not wait.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] in a callback, for a range with a page that is being written back, or if this thread
    /// began a claim of such a page that has not ended; [`crate::Error::Again`] likewise with [`Patience::NoWait`]:
    /// nothing has changed, unless the writeback began after this did, and then pages before it are gone.
    /// [`crate::Error::OutOfRange`] past the end of the area, [`crate::Error::Removed`], [`crate::Error::Forked`] in a
    /// child without the pool.
    pub fn invalidate(&self, offset: u64, count: u64, patience: Patience) -> Result<()> {
        let call = self.0.begin_at(offset, count)?;
        let end = offset + count;
        let waits = patience == Patience::Wait && !in_callback();
        self.0.check_writebacks(offset, end, patience)?;
        let mut at = offset;
        while let Some((used, _)) = self.0.index.next_used(at, end) {
            at = self.0.remove_some(&call, used, end, waits)?;
        }
        if count >= STRETCH {
            self.0.index.give_back(offset, end);
        }
        Ok(())
    }
}

impl AreaState {
    /// Refuses a range with a page whose writeback this thread may not wait for.
    fn check_writebacks(&self, from: u64, end: u64, patience: Patience) -> Result<()> {
        if patience == Patience::Wait && !in_callback() && self.shared.claims.held() == 0 {
            return Ok(());
        }
        let mut at = from;
        while let Some((offset, word)) = self.index.next_used(at, end) {
            if word.must_be_awaited() {
                self.may_wait(offset)?;
                if patience == Patience::NoWait {
                    return Err(NOT_NOW);
                }
            }
            at = offset + 1;
        }
        Ok(())
    }

    /// Removes some pages of a range, and waits for their writebacks. Returns where to go on.
    fn remove_some(&self, call: &RunningCall<'_>, from: u64, end: u64, waits: bool) -> Result<u64> {
        let mut gone = [(0, PageWord::EMPTY); AT_ONCE];
        let mut count = 0;
        let mut refused = None;
        let stop = end.min((from / STRETCH + 1) * STRETCH);
        let mut at = from;
        let mut shard = call.lock();
        while at < stop && count < AT_ONCE {
            let page = self.page(at);
            let seen = page.peek();
            if seen != PageWord::EMPTY && !seen.is_frozen() {
                let removed = if waits { Ok(page.remove()) } else { page.remove_now() };
                let Ok(old) = removed else {
                    refused = Some(at);
                    break;
                };
                shard.counts.went(old);
                shard.counts.invalidated += u64::from(old.kind() != WordKind::Empty);
                gone[count] = (at, old);
                count += 1;
            }
            at += 1;
        }
        drop(shard);
        gone[..count].iter().for_each(|&(_, old)| self.discard(old));
        for &(offset, old) in gone[..count].iter().filter(|(_, old)| waits && old.must_be_awaited()) {
            self.page(offset).wait_for(old);
        }
        match refused {
            Some(offset) => self.may_wait(offset).and(Err(NOT_NOW)),
            None => Ok(at),
        }
    }
}
