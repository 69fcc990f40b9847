//! Storing a page: copy, compress once, allocate exactly, publish.

use super::area::{Area, AreaState, Call};
use super::codec::{Context, Stored};
use super::entry::{self, MAX_ENTRY, Seed};
use super::limit::charge_both;
use super::page::Frozen;
use super::stats::Counts;
use super::word::{Kind, PageWord, repeated_word};
use crate::error::{Error, Result};
use crate::os;
use crate::pool::{CompactBudget, Compacted, Pool};
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;

pub(super) const FULL: Error = Error::NoMemory(&"the limit of the zswap is met: shrink, then retry");
pub(crate) const AREA_FULL: Error = Error::NoMemory(&"the limit of the area is met: shrink it, then retry");
const INCOMPRESSIBLE: Error = Error::NoSpace(&"the page does not compress, and the area takes no such pages");

/// What it means that a limit refused: the zswap's, or the area's.
pub(super) const REFUSED_BY: [Error; 2] = [FULL, AREA_FULL];

/// What one store may compact before it gives up: some 250 pages, a millisecond.
const BUDGET: CompactBudget = CompactBudget { max_bytes_moved: 1 << 20, max_microseconds: 1000 };
/// How often a store waits for another thread that is compacting, at most: some 50 ms.
const OTHERS: u64 = 100;

/// A page that is ready to be published.
#[derive(Clone, Copy)]
pub struct Ready {
    /// Its word.
    pub word: PageWord,
    /// Bytes of its slot, which are charged.
    pub bytes: u64,
}

/// Who has made room for a page that is being stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// Nobody yet: it is charged once its size is known.
    Exact,
    /// The caller, such as a batch, which sees to the charge itself.
    Batch,
}

impl Area {
    /// Stores a page: what was stored at this offset is replaced. The page is copied first, so that it may change
    /// meanwhile. If this fails, nothing is stored at this offset any more: an older copy is removed.
    ///
    /// Never waits for a writeback when it succeeds; when it fails, as [`Area::invalidate`] does.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when a limit is met or the system gives no memory: shrink, then retry. [`Error::NoSpace`] if
    /// the page does not compress and the area refuses such pages. [`Error::Invalid`] past the end of the area, or if
    /// it was removed, [`Error::Forked`] in a child without the pool: then nothing has changed.
    #[inline]
    pub fn store(&self, offset: u64, page: &[u8; PAGE]) -> Result<()> {
        // SAFETY: a page can be read there.
        unsafe { self.store_from(offset, page.as_ptr()) }
    }

    /// [`Area::store`] from memory that others may be writing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 4096 bytes can be read at `page`, which need not be aligned.
    pub unsafe fn store_from(&self, offset: u64, page: *const u8) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.index.prefetch(offset);
        // SAFETY: the caller vouches for the page.
        let page = unsafe { still(page) };
        self.0.store_still(&call, offset, &page)
    }

    /// [`Area::store_from`] a page of the library's own, which holds still, and which no fault keeps this thread from
    /// reading.
    #[cfg(feature = "uffd")]
    pub(crate) fn store_own(&self, offset: u64, page: &[u8; PAGE]) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.index.prefetch(offset);
        self.0.store_still(&call, offset, page)
    }
}

/// A copy of a caller's page, which others may be writing: from here on it holds still. Made before anything is taken
/// that another thread could wait for: the page may be missing, and whoever brings it back may need this zswap.
///
/// # Safety
/// A page can be read at `page`, which need not be aligned.
#[inline]
pub(super) unsafe fn still(page: *const u8) -> [u8; PAGE] {
    // SAFETY: the caller vouches; an array of bytes has no alignment.
    unsafe { page.cast::<[u8; PAGE]>().read() }
}

impl AreaState {
    fn store_still(&self, call: &Call<'_>, offset: u64, page: &[u8; PAGE]) -> Result<()> {
        match self.make(call, offset, page, Charge::Exact) {
            Ok(ready) => {
                let old = self.publish(call, offset, ready.word, |counts| counts.stores += 1);
                self.discard(old);
                Ok(())
            }
            Err(error) => {
                self.remove_after_failure(call, offset);
                Err(error)
            }
        }
    }

    /// Makes what the word of `page`, which holds still, will name.
    #[inline]
    pub(super) fn make(&self, call: &Call<'_>, offset: u64, page: &[u8; PAGE], charge: Charge) -> Result<Ready> {
        if let Some(word) = repeated_word(page).and_then(PageWord::filled) {
            return Ok(Ready { word, bytes: 0 });
        }
        let mut context = self.shared.contexts.take();
        if charge == Charge::Exact {
            self.admit(call, context.estimate())?;
        }
        let made = self.compress_and_put(&mut context, page, self.seed(offset), charge);
        drop(context);
        made.inspect_err(|&error| self.count_refusal(call, error))
    }

    /// Refuses what the limits can't take by the estimate, before it is compressed.
    #[inline]
    fn admit(&self, call: &Call<'_>, estimate: u64) -> Result<()> {
        let refused = if !self.shared.limit.admits(estimate) {
            FULL
        } else if !self.limit.admits(estimate) {
            AREA_FULL
        } else {
            return Ok(());
        };
        self.meet(refused, estimate);
        call.count(|counts| count_refused(counts, refused, 1, true));
        Err(refused)
    }

    /// Notes which limit was met.
    pub(super) fn meet(&self, refused: Error, page_bytes: u64) {
        if refused == FULL {
            self.shared.limit.meet(page_bytes);
        } else if refused == AREA_FULL {
            self.limit.meet(page_bytes);
        }
    }

    #[cold]
    fn count_refusal(&self, call: &Call<'_>, error: Error) {
        call.count(|counts| {
            counts.compressions += 1;
            counts.compressions_wasted += 1;
            count_refused(counts, error, 1, false);
        });
    }

    fn compress_and_put(&self, context: &mut Context, page: &[u8; PAGE], seed: Seed, charge: Charge) -> Result<Ready> {
        let pool = &self.shared.pool;
        let raw_slot = pool.class_size(MAX_ENTRY)?;
        let packed =
            context.compress(self.shared.codec(), page).map(|(stored, bytes)| (stored, bytes, pool.class_size(bytes)));
        // What would take as large a slot as the page itself is better stored as it is: it need not be decoded.
        let (stored, bytes, slot_bytes) = match packed {
            Some((stored, bytes, Ok(slot))) if slot < raw_slot => (stored, bytes, slot),
            _ if self.options.refuse_incompressible => return Err(INCOMPRESSIBLE),
            _ => {
                let (stored, bytes) = context.keep_raw(page);
                (stored, bytes, raw_slot)
            }
        };
        let word = self.put(seed, stored, context, bytes, slot_bytes as u64, charge)?;
        context.note(slot_bytes);
        Ok(Ready { word, bytes: slot_bytes as u64 })
    }

    /// Puts the context's entry of so many bytes, whose header is still to be filled in, into the pool.
    pub(super) fn put(
        &self,
        seed: Seed,
        stored: Stored,
        context: &mut Context,
        bytes: usize,
        slot_bytes: u64,
        charge: Charge,
    ) -> Result<PageWord> {
        if charge == Charge::Exact {
            self.charge(slot_bytes)?;
        }
        let made = self.allocate(bytes);
        let Ok((handle, at)) = made else {
            if charge == Charge::Exact {
                self.uncharge(slot_bytes);
            }
            return made.map(|_| PageWord::EMPTY);
        };
        let padded = context.entry(bytes.next_multiple_of(16));
        entry::seal(&mut padded[..bytes], slot_bytes as usize, seed, stored);
        // SAFETY: the bytes up to a multiple of 16 are the context's. The object is mapped, its slot is a multiple of
        // 16 bytes, and nobody else knows of it.
        unsafe { os::copy_past_caches(padded.as_ptr(), at, bytes) };
        // SAFETY: the mapping was made above.
        let unmapped = unsafe { self.shared.pool.unmap_raw(handle) };
        debug_assert!(unmapped.is_ok());
        Ok(PageWord::stored(Pool::short_handle(handle), stored == Stored::Raw))
    }

    /// Charges both limits, or neither.
    pub(super) fn charge(&self, bytes: u64) -> Result<()> {
        let charged = charge_both([&self.shared.limit, &self.limit], bytes).map_err(|refused| REFUSED_BY[refused]);
        charged.inspect_err(|&refused| self.meet(refused, bytes))
    }

    /// Allocates an object, mapped. Compacts before it gives up, for as long as that moves anything.
    fn allocate(&self, bytes: usize) -> Result<(u64, *mut u8)> {
        match self.shared.pool.malloc_mapped_raw(bytes) {
            Err(Error::NoMemory(_)) => self.allocate_by_compaction(bytes),
            done => done,
        }
    }

    #[cold]
    fn allocate_by_compaction(&self, bytes: usize) -> Result<(u64, *mut u8)> {
        let (shared, pool) = (&self.shared, &self.shared.pool);
        shared.capacity_hits.fetch_add(1, Relaxed);
        // In steps, each of which may be enough; no more of them than it takes to move all there is.
        let steps = pool.total_pages() * PAGE as u64 / BUDGET.max_bytes_moved + OTHERS;
        let mut wait = Wait::default();
        for _ in 0..steps {
            let compacted = pool.try_to_compact(&BUDGET);
            let made = pool.malloc_mapped_raw(bytes);
            match (made, compacted) {
                (Err(Error::NoMemory(_)), Some(done)) if done == Compacted::default() => break,
                (Err(Error::NoMemory(_)), Some(_)) => {}
                // Another thread is making room.
                (Err(Error::NoMemory(_)), None) => wait.a_moment(),
                (done, _) => return done,
            }
        }
        // What a budget leaves is kept warm, and is some percent of a small pool.
        if shared.compacted_in_vain_lately() {
            return pool.malloc_mapped_raw(bytes);
        }
        loop {
            let pages = pool.compact(&CompactBudget::default())?;
            match pool.malloc_mapped_raw(bytes) {
                // Each time around may empty what the one before has sorted.
                Err(Error::NoMemory(_)) if pages > 0 => {}
                Err(error) => {
                    shared.note_compacted_in_vain();
                    return Err(error);
                }
                done => return done,
            }
        }
    }

    /// Publishes a word, and counts it in the same moment. Returns what was there.
    #[inline]
    pub(super) fn publish(
        &self,
        call: &Call<'_>,
        offset: u64,
        word: PageWord,
        count: impl Fn(&mut Counts),
    ) -> PageWord {
        let page = self.page(offset);
        loop {
            let mut shard = call.lock();
            match page.publish(word) {
                Ok(old) => {
                    shard.counts.went(old);
                    shard.counts.came(word);
                    shard.counts.compressions += u64::from(matches!(word.kind(), Kind::Stored(_)));
                    count(&mut shard.counts);
                    drop(shard);
                    self.index.note(offset);
                    return old;
                }
                Err(Frozen) => {
                    drop(shard);
                    page.wait_for_thaw();
                }
            }
        }
    }

    /// A store failed: what was stored before must not win later.
    #[cold]
    pub(super) fn remove_after_failure(&self, call: &Call<'_>, offset: u64) {
        let page = self.page(offset);
        let mut shard = call.lock();
        let old = page.remove();
        shard.counts.went(old);
        shard.counts.removed_by_failure += u64::from(old.kind() != Kind::Empty);
        drop(shard);
        self.discard(old);
        if old.must_be_awaited() && self.may_wait(offset).is_ok() {
            page.wait_for(old);
        }
    }
}

/// Counts pages that were refused, by cause.
pub fn count_refused(counts: &mut Counts, error: Error, pages: u64, early: bool) {
    let cause = match error {
        FULL => &mut counts.refused_limit,
        AREA_FULL => &mut counts.refused_area_limit,
        Error::NoSpace(_) => &mut counts.refused_incompressible,
        _ => &mut counts.refused_memory,
    };
    *cause += pages;
    if early {
        counts.refused_early += pages;
    }
}
