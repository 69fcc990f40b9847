//! Storing many pages at once: all or nothing, with one reservation.
//!
//! A batch reserves by the estimate, compresses into the pool what its words will name, and publishes all words once
//! everything is there. Until then the words wait in a lane. There are few, set aside when the zswap is created; a
//! batch that finds all of them taken makes one of its own. It does not wait, for the batches that have them may be
//! waiting for their callers' pages, which this batch's thread may have to bring.

use super::area::{Area, AreaState, Call};
use super::limit::Reservation;
use super::store::{Charge, REFUSED_BY, Ready, count_refused, still};
use super::word::{Kind, PageWord};
use crate::error::{Error, Result, not_given};
use crate::heap;
use crate::os::{Mapping, Os};
use crate::sync::{AtomicU64, Lock, Locked, Ordering::Relaxed, Rank};
use crate::units::{PAGE, pages_of};

/// Most pages of a batch: 32 MiB.
pub const MAX_BATCH: usize = 8192;

/// The words of a batch that are not published yet.
pub struct Lane {
    mapping: Mapping,
}

// SAFETY: a lane is memory of its own, behind a lock.
unsafe impl Send for Lane {}

impl Lane {
    fn new(os: &Os) -> Result<Self> {
        const NO_LANE: Error = Error::NoMemory(not_given!("the system gives no addresses for the lanes of batches"));
        let bytes = MAX_BATCH * size_of::<PageWord>();
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_LANE)?;
        os.commit(mapping.base().as_ptr(), bytes).map_err(|_| NO_LANE)?;
        Ok(Self { mapping })
    }

    fn words(&mut self) -> &mut [PageWord] {
        // SAFETY: the mapping has so many words, is this lane's alone, and zero is a word.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base().as_ptr().cast(), MAX_BATCH) }
    }
}

/// A lane of a batch.
enum Taken<'a> {
    /// One of those that were set aside.
    Shared(Locked<'a, Lane>),
    /// One that goes with the batch.
    Own(Lane),
}

impl Taken<'_> {
    fn words(&mut self) -> &mut [PageWord] {
        match self {
            Self::Shared(lane) => lane.words(),
            Self::Own(lane) => lane.words(),
        }
    }
}

/// The lanes of a zswap.
pub struct Lanes {
    os: Os,
    lanes: Box<[Lock<Lane>]>,
    /// Most words of a batch so far.
    touched: AtomicU64,
}

impl Lanes {
    /// So many.
    pub fn new(os: &Os, count: usize) -> Result<Self> {
        let lanes = heap::slice(count, |_| Lane::new(os).map(|lane| Lock::new(Rank::Lane, lane)))?;
        Ok(Self { os: os.clone(), lanes, touched: AtomicU64::new(0) })
    }

    fn take(&self, words: usize) -> Result<Taken<'_>> {
        self.touched.fetch_max(words as u64, Relaxed);
        match self.lanes.iter().find_map(|lane| lane.try_lock()) {
            Some(lane) => Ok(Taken::Shared(lane)),
            None => Lane::new(&self.os).map(Taken::Own),
        }
    }

    /// Bytes of memory that they have, at most.
    pub fn bytes(&self) -> usize {
        let words = self.touched.load(Relaxed) as usize;
        self.lanes.len() * pages_of(words * size_of::<PageWord>()) * PAGE
    }
}

impl Area {
    /// Stores pages that follow each other, from `offset` on: all of them or none. A load that runs meanwhile sees each
    /// page as it was or as it will be. If this fails, nothing is stored in the range any more.
    ///
    /// # Errors
    /// As [`Area::store`]; [`Error::NoMemory`] also if what the batch is expected to take does not fit, before anything
    /// is compressed. [`Error::Invalid`] for more than [`MAX_BATCH`] pages.
    pub fn store_pages(&self, offset: u64, pages: &[[u8; PAGE]]) -> Result<()> {
        // SAFETY: so many pages can be read there.
        unsafe { self.store_pages_from(offset, pages.as_ptr().cast(), pages.len()) }
    }

    /// [`Area::store_pages`] from memory that others may be writing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// `count` times 4096 bytes can be read at `pages`.
    pub unsafe fn store_pages_from(&self, offset: u64, pages: *const u8, count: usize) -> Result<()> {
        const TOO_MANY: Error = Error::Invalid(&"a batch has more than ZSWAP_MAX_BATCH pages");
        if count > MAX_BATCH {
            return Err(TOO_MANY);
        }
        let area = &self.0;
        let call = area.begin_at(offset, count as u64)?;
        if count == 0 {
            return Ok(());
        }
        let stored = area.shared.lanes.take(count).and_then(|mut lane| {
            let words = &mut lane.words()[..count];
            // SAFETY: the caller vouches for the pages.
            unsafe { area.prepare(&call, offset, pages, words) }?;
            for (at, word) in words.iter_mut().enumerate() {
                *word = area.publish(&call, offset + at as u64, *word, |counts| {
                    counts.stores += 1;
                    counts.batch_stores += 1;
                });
            }
            // The pages that were there before.
            words.iter().for_each(|&old| area.discard(old));
            Ok(())
        });
        let Err(error) = stored else { return Ok(()) };
        call.count(|counts| counts.batches_failed += 1);
        (offset..offset + count as u64).for_each(|offset| area.remove_after_failure(&call, offset));
        Err(error)
    }
}

impl AreaState {
    /// Makes what all words of the batch will name, or nothing.
    ///
    /// # Safety
    /// As many pages as `words` can be read at `pages`.
    unsafe fn prepare(&self, call: &Call<'_>, offset: u64, pages: *const u8, words: &mut [PageWord]) -> Result<()> {
        let estimate = self.shared.contexts.take().estimate() * words.len() as u64;
        let mut reservation = self.reserve(call, estimate, words.len() as u64)?;
        for at in 0..words.len() {
            // SAFETY: the caller vouches for the pages.
            let page = unsafe { still(pages.add(at * PAGE)) };
            let made = self.make(call, offset + at as u64, &page, Charge::Batch);
            let charged = made.and_then(|ready| {
                words[at] = ready.word;
                let used = reservation.use_bytes(ready.bytes).map_err(|refused| REFUSED_BY[refused]);
                used.inspect_err(|&refused| self.drop_page(call, ready, refused))
            });
            if let Err(error) = charged {
                self.roll_back(call, &words[..at]);
                return Err(error);
            }
        }
        reservation.settle();
        Ok(())
    }

    fn reserve(&self, call: &Call<'_>, estimate: u64, pages: u64) -> Result<Reservation<'_>> {
        let limits = [&self.shared.limit, &self.limit];
        let refused = limits.iter().position(|limit| !limit.admits(estimate));
        let admitted = refused.map_or(Ok(()), Err);
        let reserved = admitted.and_then(|()| Reservation::new(limits, &self.shared.batches, estimate));
        reserved.map_err(|refused| REFUSED_BY[refused]).inspect_err(|&refused| {
            self.meet(refused, estimate / pages.max(1));
            call.count(|counts| count_refused(counts, refused, pages, true));
        })
    }

    /// A page that was made, and for which there is no room.
    fn drop_page(&self, call: &Call<'_>, ready: Ready, refused: Error) {
        self.meet(refused, ready.bytes);
        self.roll_back(call, &[ready.word]);
        call.count(|counts| count_refused(counts, refused, 1, false));
    }

    /// Frees what words name that were never published, and that the reservation was charged for.
    fn roll_back(&self, call: &Call<'_>, words: &[PageWord]) {
        let mut wasted = 0;
        for word in words {
            if let Kind::Stored(handle) = word.kind() {
                self.free_uncharged(handle);
                wasted += 1;
            }
        }
        call.count(|counts| {
            counts.compressions += wasted;
            counts.compressions_wasted += wasted;
        });
    }
}
