//! Lanes: where the page words of a batch wait until all of its pages are made.
//!
//! A zswap sets some lanes aside when it is created. A batch that finds all of them taken makes one of its own instead
//! of waiting: the batches that have them may be waiting for pages of their callers' memory, which this batch's thread
//! may have to bring.

use super::word::PageWord;
use crate::error::{Error, Result, not_given};
use crate::os::{Mapping, Os};
use crate::per_processor::{Lease, PerProcessor};
use crate::sync::{AtomicU64, Ordering::Relaxed, Rank};
use crate::units::{PAGE, pages_of};

/// The most pages that one call of [`crate::Area::store_pages`] takes: 32 MiB.
pub const MAX_BATCH: usize = 8192;

/// Room for the words of one batch.
pub struct Lane {
    mapping: Mapping,
}

// SAFETY: a lane is memory of its own, which only the owner of the `Lane` reaches.
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
        // SAFETY: the mapping has room for MAX_BATCH words and is this lane's alone, and zero is a word.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base().as_ptr().cast(), MAX_BATCH) }
    }
}

/// The lane of one batch.
pub enum BatchLane<'a> {
    /// A lane that was set aside.
    Shared(Lease<'a, Lane>),
    /// A lane that goes with the batch.
    Own(Lane),
}

impl BatchLane<'_> {
    /// Returns the words, [`MAX_BATCH`] of them. What they hold is what the batch before left.
    pub fn words(&mut self) -> &mut [PageWord] {
        match self {
            Self::Shared(lane) => lane.words(),
            Self::Own(lane) => lane.words(),
        }
    }
}

/// The lanes of a zswap.
pub struct Lanes {
    os: Os,
    lanes: PerProcessor<Lane>,
    /// Most words of a batch so far.
    touched: AtomicU64,
}

impl Lanes {
    /// Sets `count` lanes aside.
    pub fn new(os: &Os, count: usize) -> Result<Self> {
        let lanes = PerProcessor::new(Rank::Lane, count, || Lane::new(os))?;
        Ok(Self { os: os.clone(), lanes, touched: AtomicU64::new(0) })
    }

    /// Takes a lane for a batch of `words` pages.
    pub fn take(&self, words: usize) -> Result<BatchLane<'_>> {
        self.touched.fetch_max(words as u64, Relaxed);
        match self.lanes.try_take() {
            Some(lane) => Ok(BatchLane::Shared(lane)),
            None => Lane::new(&self.os).map(BatchLane::Own),
        }
    }

    /// Returns the most bytes of memory that the lanes can have.
    pub fn bytes(&self) -> usize {
        let words = self.touched.load(Relaxed) as usize;
        self.lanes.count() * pages_of(words * size_of::<PageWord>()) * PAGE
    }
}
