//! Storing many pages at once: all or nothing, with one reservation.
//!
//! A batch reserves by the estimate, puts the entries of its pages into the pool, and publishes their page words once
//! all are there. Until then the words wait in a lane ([`super::lanes`]).

use super::area::{Area, AreaState};
use super::lanes::MAX_BATCH;
use super::pool_objects;
use super::running_calls::RunningCall;
use super::store::{Ready, still};
use super::store_load_failure::NotStored;
use super::word::{PageWord, WordKind};
use crate::error::{Error, Result, sentence};
use crate::units::PAGE;

impl Area {
    /// Stores pages that follow each other, from `offset` on: all of them or none. A load that runs meanwhile sees each
    /// page as it was or as it will be. If this fails, nothing is stored in the range any more. With
    /// [`crate::AreaOptions::keep_old`] nothing has changed instead.
    ///
    /// # Errors
    /// Those of [`Area::store`]. [`Error::Limit`] also if what the batch is expected to take does not fit, before
    /// anything is compressed. [`Error::Invalid`] for more than [`MAX_BATCH`] pages.
    pub fn store_pages(&self, offset: u64, pages: &[[u8; PAGE]]) -> Result<()> {
        // SAFETY: this many pages can be read there.
        unsafe { self.store_pages_from(offset, pages.as_ptr().cast(), pages.len()) }
    }

    /// Stores pages, as [`Area::store_pages`] does, from memory that other threads may be writing.
    ///
    /// # Errors
    /// Those of [`Area::store_pages`].
    ///
    /// # Safety
    /// `count` times 4096 bytes can be read at `pages`.
    pub(super) unsafe fn store_pages_from(&self, offset: u64, pages: *const u8, count: usize) -> Result<()> {
        const TOO_MANY: Error = Error::Invalid(sentence(&"a batch has at most 8192 pages"));
        if count > MAX_BATCH {
            return Err(TOO_MANY);
        }
        let area = &self.0;
        let call = area.begin_at(offset, count as u64)?;
        if count == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for the pages.
        let stored = unsafe { area.store_batch(&call, offset, pages, count) };
        if stored.is_err() {
            call.count(|counts| counts.batches_failed += 1);
            (offset..offset + count as u64).for_each(|offset| area.remove_after_failure(&call, offset));
        }
        stored.map_err(NotStored::into_error)
    }
}

impl AreaState {
    /// Makes all pages of a batch, and publishes them.
    ///
    /// # Safety
    /// `count` pages can be read at `pages`.
    unsafe fn store_batch(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        pages: *const u8,
        count: usize,
    ) -> Result<(), NotStored> {
        let mut lane = self.shared.lanes.take(count)?;
        let words = &mut lane.words()[..count];
        // SAFETY: the caller vouches for the pages.
        unsafe { self.prepare(call, offset, pages, words) }?;
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.publish(call, offset + at as u64, *word, |counts| {
                counts.stores += 1;
                counts.batch_stores += 1;
            });
        }
        // The words are now those of the pages that were there before.
        words.iter().for_each(|&old| self.discard(old));
        Ok(())
    }

    /// Makes what all words of the batch will name, or nothing.
    ///
    /// # Safety
    /// As many pages as `words` can be read at `pages`.
    unsafe fn prepare(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        pages: *const u8,
        words: &mut [PageWord],
    ) -> Result<(), NotStored> {
        let estimate = self.shared.contexts.take().estimate() * words.len() as u64;
        let mut reservation = self.reserve(call, estimate, words.len() as u64)?;
        // After the reservation: if this fails, the entries are freed before their charge is given back.
        let mut unpublished = Unpublished { area: self, call, count: 0, words };
        for at in 0..unpublished.words.len() {
            // SAFETY: the caller vouches for the pages.
            let page = unsafe { still(pages.add(at * PAGE)) };
            let ready = self.make(call, offset + at as u64, &page)?;
            let bytes = ready.slot_bytes();
            unpublished.add(ready);
            if let Err(refused) = reservation.use_bytes(bytes) {
                self.limits().meet(refused, bytes);
                let refused = NotStored::from(refused);
                call.count(|counts| refused.count(counts, 1));
                return Err(refused);
            }
        }
        unpublished.keep();
        reservation.settle();
        Ok(())
    }
}

/// The words of a batch that are not published yet. Dropping it frees the entries that they name. Their charge belongs
/// to the reservation.
struct Unpublished<'a> {
    area: &'a AreaState,
    call: &'a RunningCall<'a>,
    words: &'a mut [PageWord],
    count: usize,
}

impl Unpublished<'_> {
    fn add(&mut self, ready: Ready<'_>) {
        self.words[self.count] = ready.into_word();
        self.count += 1;
    }

    /// Keeps what the words name: they are going to be published.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unpublished<'_> {
    #[cold]
    fn drop(&mut self) {
        let mut wasted = 0;
        for word in &self.words[..self.count] {
            if let WordKind::Stored(handle) = word.kind() {
                pool_objects::free(&self.area.shared.pool, handle);
                wasted += 1;
            }
        }
        self.call.count(|counts| {
            counts.compressions += wasted;
            counts.compressions_wasted += wasted;
        });
    }
}
