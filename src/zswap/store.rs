//! Storing a page: copy it, compress it once, allocate exactly what it takes, publish its word.

use super::allocate::Packed;
use super::area::{Area, AreaState};
use super::codec::{Context, repeated_word};
use super::entry::MAX_ENTRY;
use super::limit::Charged;
use super::page::Frozen;
use super::pool_objects::NewEntry;
use super::running_calls::RunningCall;
use super::stats::Counts;
use super::store_load_failure::NotStored;
use super::word::{PageWord, WordKind};
use crate::error::Result;
use crate::units::PAGE;

impl Area {
    /// Stores a page at `offset`, in the place of what was stored there. The zswap copies it: `page` may change or go
    /// once this returns.
    ///
    /// If this fails with [`crate::Error::Limit`], [`crate::Error::NoMemory`] or [`crate::Error::TooLarge`], nothing is
    /// stored at `offset` any more: an older page is removed, so that it can't be taken for the new one. Then a copy of
    /// an older page that was written back to the program's disk is old too, and must not be read. With
    /// [`crate::AreaOptions::keep_old`] nothing has changed instead.
    ///
    /// A store that succeeds never waits for a writeback. One that fails waits as [`Area::invalidate`] does, unless it
    /// is in a writeback callback or its thread holds the page's claim. May be called from any thread, and from a
    /// writeback callback.
    ///
    /// # Errors
    /// [`crate::Error::Limit`] if a limit is met: shrink, by as much as [`Area::usage`] and [`crate::Zswap::usage`]
    /// say, then try again. [`crate::Error::NoMemory`] if the system gives no memory. [`crate::Error::TooLarge`] if the
    /// page does not compress and the area refuses such pages. [`crate::Error::OutOfRange`] past the end of the area,
    /// [`crate::Error::Removed`], [`crate::Error::Forked`] in a child without the pool: then nothing has changed.
    #[inline]
    pub fn store(&self, offset: u64, page: &[u8; PAGE]) -> Result<()> {
        // SAFETY: a page can be read there.
        unsafe { self.store_from(offset, page.as_ptr()) }
    }

    /// Stores a page, as [`Area::store`] does, from memory that other threads may be writing.
    ///
    /// # Errors
    /// Those of [`Area::store`].
    ///
    /// # Safety
    /// 4096 bytes can be read at `page`, which need not be aligned.
    pub(super) unsafe fn store_from(&self, offset: u64, page: *const u8) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.index.prefetch(offset);
        // SAFETY: the caller vouches for the page.
        let page = unsafe { still(page) };
        self.0.store_still(&call, offset, &page).map_err(NotStored::into_error)
    }

    /// Stores a page of the library's own. It holds still, and no fault keeps this thread from reading it.
    #[cfg(feature = "uffd")]
    pub(crate) fn store_own(&self, offset: u64, page: &[u8; PAGE]) -> Result<(), NotStored> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.index.prefetch(offset);
        self.0.store_still(&call, offset, page)
    }
}

/// Copies a page of the caller's, which other threads may be writing, so that it holds still. This comes before
/// anything is taken that another thread could wait for: the page may be missing, and the thread that brings it may
/// need this zswap.
///
/// # Safety
/// A page can be read at `page`, which need not be aligned.
#[inline]
pub(super) unsafe fn still(page: *const u8) -> [u8; PAGE] {
    // SAFETY: the caller vouches for the page; an array of bytes has no alignment.
    unsafe { page.cast::<[u8; PAGE]>().read() }
}

/// A page that is ready to be published.
pub(super) enum Ready<'a> {
    /// It repeats a word, and its page word says so.
    Filled(PageWord),
    /// Its entry is in the pool.
    Stored(NewEntry<'a>),
}

impl Ready<'_> {
    /// Returns the bytes of the slot that the page takes.
    pub(super) fn slot_bytes(&self) -> u64 {
        match self {
            Self::Filled(_) => 0,
            Self::Stored(entry) => entry.slot_bytes(),
        }
    }

    /// Returns the page word. The caller publishes it.
    #[inline]
    pub(super) fn into_word(self) -> PageWord {
        match self {
            Self::Filled(word) => word,
            Self::Stored(entry) => {
                let word = entry.word();
                entry.keep();
                word
            }
        }
    }
}

impl AreaState {
    fn store_still(&self, call: &RunningCall<'_>, offset: u64, page: &[u8; PAGE]) -> Result<(), NotStored> {
        match self.make_charged(call, offset, page) {
            Ok((ready, charged)) => {
                let old = self.publish(call, offset, ready.into_word(), |counts| counts.stores += 1);
                if let Some(charged) = charged {
                    charged.keep();
                }
                self.discard(old);
                Ok(())
            }
            Err(error) => {
                self.remove_after_failure(call, offset);
                Err(error)
            }
        }
    }

    /// Makes a page ready to be published, and charges it.
    #[inline]
    fn make_charged(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        page: &[u8; PAGE],
    ) -> Result<(Ready<'_>, Option<Charged<'_>>), NotStored> {
        if let Some(word) = repeated_word(page).and_then(PageWord::filled) {
            return Ok((Ready::Filled(word), None));
        }
        let mut context = self.shared.contexts.take();
        self.admit(call, context.estimate())?;
        let made = self.compress_and_put(call, &mut context, offset, page, |bytes| self.charge(bytes));
        made.map(|(entry, charged)| (Ready::Stored(entry), Some(charged)))
    }

    /// Makes a page ready to be published, without a charge: a batch has its reservation.
    #[inline]
    pub(super) fn make(&self, call: &RunningCall<'_>, offset: u64, page: &[u8; PAGE]) -> Result<Ready<'_>, NotStored> {
        if let Some(word) = repeated_word(page).and_then(PageWord::filled) {
            return Ok(Ready::Filled(word));
        }
        let mut context = self.shared.contexts.take();
        let made = self.compress_and_put(call, &mut context, offset, page, |_| Ok(()));
        made.map(|(entry, ())| Ready::Stored(entry))
    }

    /// Compresses a page, charges its slot by `charge`, and then puts the entry into the pool.
    #[inline]
    fn compress_and_put<C>(
        &self,
        call: &RunningCall<'_>,
        context: &mut Context,
        offset: u64,
        page: &[u8; PAGE],
        charge: impl FnOnce(u64) -> Result<C, NotStored>,
    ) -> Result<(NewEntry<'_>, C), NotStored> {
        let made = self.pack(context, page).and_then(|packed| {
            let charged = charge(packed.slot_bytes as u64)?;
            let entry = self.put(self.seed(offset), packed, context)?;
            context.note(packed.slot_bytes);
            Ok((entry, charged))
        });
        made.inspect_err(|&refused| self.count_refusal(call, refused))
    }

    #[cold]
    fn count_refusal(&self, call: &RunningCall<'_>, refused: NotStored) {
        call.count(|counts| {
            counts.compressions += 1;
            counts.compressions_wasted += 1;
            refused.count(counts, 1);
        });
    }

    /// Compresses a page into the entry of a context.
    fn pack(&self, context: &mut Context, page: &[u8; PAGE]) -> Result<Packed, NotStored> {
        let pool = &self.shared.pool;
        let raw_slot = pool.class_size(MAX_ENTRY)?;
        let packed = context.compress(self.shared.codec.get(), page);
        // An entry that would take as large a slot as the page itself does not help: the page is better stored as it
        // is, and need not be decoded.
        match packed.map(|(stored, bytes)| (stored, bytes, pool.class_size(bytes))) {
            Some((stored, bytes, Ok(slot_bytes))) if slot_bytes < raw_slot => Ok(Packed { stored, bytes, slot_bytes }),
            _ if self.options.refuse_incompressible => Err(NotStored::Incompressible),
            _ => {
                let (stored, bytes) = context.keep_raw(page);
                Ok(Packed { stored, bytes, slot_bytes: raw_slot })
            }
        }
    }

    /// Publishes a word, and counts it in the same moment. Returns what was there.
    #[inline]
    pub(super) fn publish(
        &self,
        call: &RunningCall<'_>,
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
                    shard.counts.compressions += u64::from(matches!(word.kind(), WordKind::Stored(_)));
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

    /// Removes the older page after a store that failed, so that no load returns it in place of the newer one. An area
    /// that keeps old pages keeps it.
    #[cold]
    pub(super) fn remove_after_failure(&self, call: &RunningCall<'_>, offset: u64) {
        if self.options.keep_old {
            return;
        }
        let page = self.page(offset);
        let mut shard = call.lock();
        let old = page.remove();
        shard.counts.went(old);
        shard.counts.removed_by_failure += u64::from(old.kind() != WordKind::Empty);
        drop(shard);
        self.discard(old);
        if old.must_be_awaited() && self.may_wait(offset).is_ok() {
            page.wait_for(old);
        }
    }
}
