//! An area: a fixed number of pages, with its own limit, statistics and clock hand.

use super::claims::Running;
use super::codec::Target;
use super::entry::{self, Seed};
use super::index::Index;
use super::limit::Limit;
use super::options::AreaOptions;
use super::page::{Objects, Page};
use super::shared::Shared;
use super::stats::{AreaStats, Counts, Shard, Shards};
use super::waiting;
use super::walk::Step;
use super::word::{Kind, PageWord};
use super::writeback::Claimed;
use crate::error::{Error, Result};
use crate::heap::Counted;
use crate::os;
use crate::pool::{MapMode, Pool};
use crate::sync::{AtomicU64, Lock, Locked, Ordering::Relaxed, Rank, Wait};
use crate::units::{AlignedPage, PAGE};
use std::ptr::NonNull;

/// What a swap device or a guest's memory is: a fixed number of pages, stored in its zswap's pool under their offsets.
///
/// A handle to it: clones are the same area, which goes when the last of them does, or by [`Area::remove`]. All methods
/// may be called from any thread, and from a writeback callback. Two threads that store, take or invalidate the same
/// offset at once get the outcome of one order or the other.
pub struct Area(pub(crate) Counted<AreaState>);

impl Clone for Area {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// An area's parts.
pub struct AreaState {
    pub(super) shared: Counted<Shared>,
    pub(super) id: u64,
    pub(super) index: Index,
    pub(super) limit: Limit,
    pub(super) shards: Shards,
    pub(super) options: AreaOptions,
    /// Where the clock hand of writeback stands, and that of recompression.
    pub(super) hand: AtomicU64,
    pub(super) recompress_hand: AtomicU64,
    /// Refaults that the next [`Area::reclaimable_pages`] has to make good for.
    pub(super) recent_refaults: AtomicU64,
    /// Of the walk over all areas that runs.
    pub(super) step: Lock<Step>,
}

pub(super) const REMOVED: Error = Error::Invalid(&"the area was removed");
/// The error for a range that reaches past the end of an area.
pub const PAST_END: Error = Error::Invalid(&"the offset, or the end of the range, is past the end of the area");
pub(crate) const DAMAGED: Error = Error::Io(&"the stored page is damaged: its check is wrong");

/// A call that runs on an area, which can't be removed meanwhile.
pub struct Call<'a> {
    pub area: &'a AreaState,
    shard: usize,
}

impl Call<'_> {
    /// The part of the statistics that the call began in.
    #[inline]
    pub fn lock(&self) -> Locked<'_, Shard> {
        self.area.shards.lock(self.shard)
    }

    /// Counts something.
    #[inline]
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// Which part it began in, for a claim that outlives the call.
    pub fn keep_running(self) -> usize {
        let shard = self.shard;
        std::mem::forget(self);
        shard
    }
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        self.area.shards.end(self.shard);
    }
}

impl Objects for Pool {
    type Pinned = (*const u8, usize);

    #[inline]
    fn pin(&self, short_handle: u64) -> Option<Self::Pinned> {
        let handle = self.long_handle(short_handle);
        let mut wait = Wait::default();
        loop {
            match self.map_sized_raw(handle, MapMode::Read) {
                Ok((at, bytes)) => return Some((at.cast_const(), bytes)),
                // So many threads load this page right now that one more can't be counted.
                Err(Error::Busy(_)) => wait.a_moment(),
                Err(_) => return None,
            }
        }
    }

    #[inline]
    fn unpin(&self, short_handle: u64) {
        // SAFETY: the pin is the caller's.
        let unpinned = unsafe { self.unmap_raw(self.long_handle(short_handle)) };
        debug_assert!(unpinned.is_ok());
    }
}

impl AreaState {
    pub(super) fn new(shared: Counted<Shared>, id: u64, pages: u64, options: AreaOptions) -> Result<Self> {
        let max = if options.max_bytes == 0 { u64::MAX } else { options.max_bytes };
        Ok(Self {
            index: Index::new(shared.os.clone(), pages)?,
            limit: Limit::new(max, shared.accept_percent),
            shards: Shards::new(shared.shards)?,
            hand: AtomicU64::new(0),
            recompress_hand: AtomicU64::new(0),
            recent_refaults: AtomicU64::new(0),
            step: Lock::new(Rank::Step, Step::default()),
            shared,
            id,
            options,
        })
    }

    /// A call begins.
    #[inline]
    pub(super) fn begin(&self) -> Result<Call<'_>> {
        self.shared.pool.check_usable()?;
        let shard = self.shards.begin().ok_or(REMOVED)?;
        Ok(Call { area: self, shard })
    }

    /// A call within another one begins, or one that ends a claim.
    pub(super) fn begin_within(&self) -> Result<Call<'_>> {
        self.shared.pool.check_usable()?;
        let shard = self.shards.begin_within().ok_or(REMOVED)?;
        Ok(Call { area: self, shard })
    }

    /// A call on a page begins.
    #[inline]
    pub(super) fn begin_at(&self, offset: u64, count: u64) -> Result<Call<'_>> {
        if offset >= self.index.pages() || count > self.index.pages() - offset {
            return Err(PAST_END);
        }
        self.begin()
    }

    #[inline]
    pub(super) fn page(&self, offset: u64) -> Page<'_> {
        self.index.page(offset)
    }

    #[inline]
    pub(super) fn seed(&self, offset: u64) -> Seed {
        Seed::new(self.id, offset)
    }

    /// Decodes the pinned entry of `offset` into `page`; a check that is wrong leaves it as it was.
    #[inline]
    pub(super) fn decode(
        &self,
        offset: u64,
        pinned: (*const u8, usize),
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<()> {
        // SAFETY: the pin keeps the object in place, and so many bytes are its slot; whoever wrote it published it
        // after that, and nobody writes it again.
        let slot = unsafe { std::slice::from_raw_parts(pinned.0, pinned.1) };
        os::prefetch_bytes(pinned.0, pinned.1);
        let (stored, payload) = entry::open(slot, self.seed(offset)).ok_or(DAMAGED)?;
        super::codec::decode(&self.shared.contexts, stored, payload, page, target)
    }

    /// The same into a page of the caller's stack.
    pub(super) fn decode_aligned(&self, offset: u64, pinned: (*const u8, usize)) -> Result<AlignedPage> {
        let mut page = AlignedPage([0; PAGE]);
        self.decode(offset, pinned, &mut page.0, Target::Own).map(|()| page)
    }

    /// Whether this thread may wait for the writeback of a page that runs. Not in a callback, for another thread's
    /// callback may be waiting for this one's page; nor while this thread is the one that has to end the writeback.
    pub(super) fn may_wait(&self, offset: u64) -> Result<()> {
        if waiting::in_callback() {
            return Err(waiting::IN_CALLBACK);
        }
        if self.shared.claims.is_mine(self.id, offset) { Err(waiting::OWN_CLAIM) } else { Ok(()) }
    }

    /// Gives back what a word named that was replaced or removed: whoever changed the word does this, once.
    #[inline]
    pub(super) fn discard(&self, word: PageWord) {
        match word.kind() {
            Kind::Empty | Kind::Filled(_) => {}
            Kind::Stored(handle) => self.free_object(handle),
            Kind::Backed(slot) => self.shared.free_file_slot(slot),
        }
    }

    /// Frees an object, and takes its charge back.
    #[inline]
    pub(super) fn free_object(&self, short_handle: u64) {
        self.uncharge(self.free_uncharged(short_handle));
    }

    /// Frees an object whose charge is another's to take back. How many bytes its slot had.
    #[inline]
    pub(super) fn free_uncharged(&self, short_handle: u64) -> u64 {
        let pool = &self.shared.pool;
        let mut wait = Wait::default();
        loop {
            // SAFETY: the only word that named it does so no more.
            match unsafe { pool.free_sized_raw(pool.long_handle(short_handle)) } {
                Ok(bytes) => return bytes as u64,
                Err(Error::Busy(_)) => wait.a_moment(),
                Err(error) => {
                    debug_assert!(false, "{error}");
                    return 0;
                }
            }
        }
    }

    /// Takes a charge back from both limits.
    #[inline]
    pub(super) fn uncharge(&self, bytes: u64) {
        self.shared.limit.uncharge(bytes);
        self.limit.uncharge(bytes);
    }

    /// What it has and did, given its counts.
    pub(super) fn stats_of(&self, counts: Counts) -> AreaStats {
        AreaStats {
            area: self.id,
            area_pages: self.index.pages(),
            max_bytes: self.limit.max(),
            used_bytes: self.limit.used(),
            metadata_bytes: self.metadata_bytes(),
            limit_hits: self.limit.hits(),
            counts,
        }
    }

    pub(super) fn metadata_bytes(&self) -> u64 {
        self.index.bytes() + (self.shards.bytes() + size_of::<Self>()) as u64
    }

    /// Ends the claims that nobody can end any more, and keeps their pages.
    pub(super) fn end_claims(&self) {
        let mut from = 0;
        while let Some(Running { offset, word, shard, .. }) = self.shared.claims.take_next(self.id, &mut from) {
            self.keep(Claimed { offset, word });
            self.shards.end(shard);
        }
    }

    /// Releases every page, of an area on which no call runs and none begins.
    fn release_all(&self) {
        let mut at = 0;
        while let Some((offset, _)) = self.index.next_used(at, self.index.pages()) {
            self.discard(self.page(offset).remove());
            at = offset + 1;
        }
    }
}

impl Drop for AreaState {
    fn drop(&mut self) {
        // In a forked child without the pool nothing can be freed, nor has to be.
        if self.shared.pool.check_usable().is_err() {
            return;
        }
        // The last handle may go in a call on the zswap.
        let _call = self.shared.begin_within();
        self.end_claims();
        if self.shards.remove() {
            self.shared.forget_area(self.id, &self.shards.counts());
            self.release_all();
        }
    }
}

impl Area {
    /// Removes the area: releases all its pages. Waits for nothing. Its clones are refused with [`Error::Invalid`] from
    /// then on.
    ///
    /// # Errors
    /// [`Error::Busy`] while a call on it runs or a claim on it is held; nothing has changed then. [`Error::Invalid`]
    /// if it was removed before, [`Error::Forked`] in a child without the pool.
    pub fn remove(&self) -> Result<()> {
        const RUNNING: Error = Error::Busy(&"a call on the area is running, or a claim on it is held");
        let area = &self.0;
        let _call = area.shared.begin()?;
        // Also says whether it was removed before.
        drop(area.begin()?);
        if !area.shards.remove() {
            return Err(RUNNING);
        }
        area.shared.forget_area(area.id, &area.shards.counts());
        area.release_all();
        Ok(())
    }

    /// Turns this handle into a pointer, for where Rust's types can't go, as to C. [`Area::from_raw`] turns it back.
    pub fn into_raw(self) -> NonNull<()> {
        self.0.into_raw()
    }

    /// The pointer that [`Area::into_raw`] returns. It is the same for all clones of an area.
    pub fn as_raw(&self) -> NonNull<()> {
        self.0.as_raw()
    }

    /// The handle that a pointer is of.
    ///
    /// # Safety
    /// The pointer came from [`Area::into_raw`], or from [`Area::as_raw`] of a handle that still lives. What this
    /// returns is dropped at most once for each [`Area::into_raw`], and is not used after that.
    pub unsafe fn from_raw(pointer: NonNull<()>) -> Self {
        // SAFETY: the caller vouches for the pointer.
        Self(unsafe { Counted::from_raw(pointer) })
    }

    /// Pages it has room for.
    pub fn pages(&self) -> u64 {
        self.0.index.pages()
    }

    /// Fetches what a load of this offset needs first. Does nothing for an offset past the end.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        if offset < self.0.index.pages() {
            self.0.index.prefetch(offset);
        }
    }

    /// Its number: callbacks tell areas apart by it. Not used twice by one zswap.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The number that it was given in [`AreaOptions::context`].
    pub fn context(&self) -> usize {
        self.0.options.context
    }

    /// Sets how many bytes of slots its pages may take; 0: no limit of its own. Less than it has is allowed: stores are
    /// refused until enough has gone.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was removed, [`Error::Forked`] in a child without the pool.
    pub fn set_limit(&self, max_bytes: u64) -> Result<()> {
        let _call = self.0.begin()?;
        self.0.limit.set(if max_bytes == 0 { u64::MAX } else { max_bytes });
        Ok(())
    }

    /// The first offset from `from` on that has a page, in the pool, filled, or on the library's own file.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Invalid`] if the area was removed, [`Error::Forked`] in a child
    /// without the pool.
    pub fn next_stored(&self, from: u64) -> Result<u64> {
        const NONE: Error = Error::NotFound(&"no page is stored from there on");
        let _call = self.0.begin()?;
        let mut at = from;
        while let Some((offset, word)) = self.0.index.next_used(at, self.0.index.pages()) {
            if word.kind() != Kind::Empty {
                return Ok(offset);
            }
            at = offset + 1;
        }
        Err(NONE)
    }

    /// What it has and did, at one moment.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it was removed, [`Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<AreaStats> {
        let _call = self.0.begin()?;
        Ok(self.0.stats_of(self.0.shards.counts()))
    }

    /// Notes that so many pages that were written back are needed again: [`Area::reclaimable_pages`] is smaller for a
    /// while. Loads from the library's own file note themselves.
    pub fn note_refaults(&self, pages: u64) -> Result<()> {
        let call = self.0.begin()?;
        let more = |recent: u64| Some(recent.saturating_add(pages));
        // Ok: there is always another value.
        let _ = self.0.recent_refaults.fetch_update(Relaxed, Relaxed, more);
        call.count(|counts| counts.refaults = counts.refaults.saturating_add(pages));
        Ok(())
    }
}

#[cfg(test)]
impl Area {
    /// The page word at an offset.
    pub(crate) fn word_at(&self, offset: u64) -> PageWord {
        self.0.page(offset).peek()
    }

    /// Puts another word in a page's place, as damage would.
    pub(crate) fn set_word_at(&self, offset: u64, word: PageWord) {
        self.0.page(offset).0.store(word.0, Relaxed);
    }

    /// The object of a page in the pool, and the bytes of its slot. It stays there while nobody frees or moves it.
    pub(crate) fn object_of(&self, offset: u64) -> Option<(*mut u8, usize)> {
        let pool = &self.0.shared.pool;
        let (word, pinned) = self.0.page(offset).find(pool);
        let (Kind::Stored(handle), Some((at, bytes))) = (word.kind(), pinned) else { return None };
        pool.unpin(handle);
        Some((at.cast_mut(), bytes))
    }
}
