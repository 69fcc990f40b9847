//! An area: a fixed number of pages, with its own limit, statistics and clock hand.

use super::codec::{self, Target};
use super::entry::{self, Seed};
use super::index::Index;
use super::limit::{ByteLimit, Limits};
use super::options::{AreaOptions, check_limit, check_new_limit};
use super::page::PageCell;
use super::pool_objects::{self, PinnedObject};
use super::running_calls::{RunningCall, Shards};
use super::shared::Shared;
use super::stats::{AreaStats, Counts};
use super::store_load_failure::NotLoaded;
use super::tier::{TierMask, check_mask};
use super::word::{PageWord, WordKind};
use crate::error::{Error, Result, sentence};
use crate::heap::Counted;
use crate::os::current_cpu;
use crate::sync::{AtomicU64, Lock, Ordering::Relaxed, Rank};
use crate::units::PAGE;
use std::fmt;

/// The pages of one swap device or of one guest's memory: a fixed number of them, each stored under its offset in the
/// pool of the zswap.
///
/// This is a handle. Clones are the same area, which goes when the last of them does, or by [`Area::remove`]. All
/// methods may be called from any thread, and from a writeback callback. If two threads store, take or invalidate the
/// same offset at once, the outcome is that of one order or the other.
///
/// # Examples
/// ```
/// use zsalloc::{AreaOptions, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};
///
/// # fn main() -> zsalloc::Result<()> {
/// let zswap = Zswap::new("example", &ZswapOptions::default())?;
/// // 1024 pages, which may take 1 MiB of the pool.
/// let area = zswap.add_area(1024, &AreaOptions { max_bytes: Some(1 << 20), ..AreaOptions::default() })?;
///
/// // Many pages in one call, all or nothing.
/// area.store_pages(0, &[[1; PAGE_SIZE], [2; PAGE_SIZE], [3; PAGE_SIZE]])?;
/// // `KEEP` leaves the page stored; `TAKE` removes it.
/// let mut page = [0; PAGE_SIZE];
/// area.load(1, &mut page, LoadFlags::TAKE)?;
/// assert_eq!(page, [2; PAGE_SIZE]);
/// assert_eq!(area.stored().collect::<Vec<_>>(), [0, 2]);
/// // Pages that are not needed any more.
/// area.invalidate(0, 1024, Patience::Wait)?;
/// assert_eq!(area.stored().next(), None);
/// # Ok(())
/// # }
/// ```
pub struct Area(pub(crate) Counted<AreaState>);

impl fmt::Debug for Area {
    /// Takes no lock, so that it may be called anywhere.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        let mut out = out.debug_struct("Area");
        out.field("name", &self.name()).field("id", &state.id).field("pages", &self.pages()).finish_non_exhaustive()
    }
}

impl Clone for Area {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The parts of an area.
pub struct AreaState {
    pub(super) shared: Counted<Shared>,
    pub(super) id: u64,
    pub(super) index: Index,
    pub(super) limit: ByteLimit,
    pub(super) shards: Shards,
    pub(super) options: AreaOptions,
    /// A [`TierMask`].
    tiers: AtomicU64,
    /// Where the clock hand of writeback stands, that of shrinks which take only some of the pages, and that of
    /// recompression.
    pub(super) hand: AtomicU64,
    pub(super) picking_hand: AtomicU64,
    pub(super) recompress_hand: AtomicU64,
    /// Refaults that [`Area::reclaimable_pages`] has not accounted for yet.
    pub(super) recent_refaults: AtomicU64,
    /// Bytes of the slots of the pages that callers have claimed.
    pub(super) claimed_bytes: AtomicU64,
    /// The area's part of the walk over all areas that runs.
    pub(super) step: Lock<Step>,
}

/// An area's part of a walk over all areas, which chains the areas through themselves.
#[derive(Default)]
pub struct Step {
    pub next: Option<Area>,
    /// What the area had and did when the walk began, if the walk is for statistics.
    pub stats: AreaStats,
}

/// The error for a range that reaches past the end of an area.
pub const PAST_END: Error =
    Error::OutOfRange(sentence(&"the offset, or the end of the range, is past the end of the area"));

impl AreaState {
    pub(super) fn new(shared: Counted<Shared>, id: u64, pages: u64, options: AreaOptions) -> Result<Self> {
        check_limit(options.max_bytes)?;
        check_mask(options.tiers)?;
        Ok(Self {
            index: Index::new(shared.os.clone(), pages)?,
            limit: ByteLimit::new(options.max_bytes, shared.accept_percent, shared.shards)?,
            shards: Shards::new(shared.shards)?,
            hand: AtomicU64::new(0),
            picking_hand: AtomicU64::new(0),
            recompress_hand: AtomicU64::new(0),
            recent_refaults: AtomicU64::new(0),
            claimed_bytes: AtomicU64::new(0),
            step: Lock::new(Rank::Step, Step::default()),
            shared,
            id,
            tiers: AtomicU64::new(options.tiers),
            options,
        })
    }

    /// Returns which tiers the area's pages may go to. Relaxed: a shrink that runs may not know of a change yet.
    pub(super) fn tiers(&self) -> TierMask {
        TierMask(self.tiers.load(Relaxed))
    }

    /// Begins a call on the area.
    #[inline]
    pub(super) fn begin(&self) -> Result<RunningCall<'_>> {
        self.shared.pool.check_usable()?;
        self.shards.begin().ok_or(Error::Removed)
    }

    /// Begins a call within another one, or a call that ends a claim.
    pub(super) fn begin_within(&self) -> Result<RunningCall<'_>> {
        self.shared.pool.check_usable()?;
        self.shards.begin_within().ok_or(Error::Removed)
    }

    /// Begins a call on `count` pages from `offset` on.
    #[inline]
    pub(super) fn begin_at(&self, offset: u64, count: u64) -> Result<RunningCall<'_>> {
        if offset >= self.index.pages() || count > self.index.pages() - offset {
            return Err(PAST_END);
        }
        self.begin()
    }

    #[inline]
    pub(super) fn page(&self, offset: u64) -> PageCell<'_> {
        self.index.page(offset)
    }

    #[inline]
    pub(super) fn seed(&self, offset: u64) -> Seed {
        Seed::new(self.id, offset)
    }

    /// The limits that each page of the area is charged to.
    #[inline]
    pub(super) fn limits(&self) -> Limits<'_> {
        Limits { zswap: &self.shared.limit, area: &self.limit, part: current_cpu() }
    }

    /// Decodes the entry of `offset` into `page`. A check that is wrong leaves the page as it was.
    #[inline]
    pub(super) fn decode(
        &self,
        offset: u64,
        pinned: &PinnedObject<'_>,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<(), NotLoaded> {
        pinned.prefetch();
        let (stored, payload) = entry::open(pinned.slot(), self.seed(offset)).ok_or(NotLoaded::Damaged)?;
        Ok(codec::decode(&self.shared.contexts, stored, payload, page, target)?)
    }

    /// Refuses a thread that must not wait for the writeback of a page.
    pub(super) fn may_wait(&self, offset: u64) -> Result<()> {
        self.shared.claims.may_wait(self.id, offset)
    }

    /// Gives back what a word named that was replaced or removed. The thread that changed the word does this, once.
    #[inline]
    pub(super) fn discard(&self, word: PageWord) {
        match word.kind() {
            WordKind::Empty | WordKind::Filled(_) => {}
            WordKind::Stored(handle) => self.limits().uncharge(pool_objects::free(&self.shared.pool, handle)),
            WordKind::Backed(at) => self.shared.drop_entry(at),
        }
    }

    /// Returns what the area has and did, given its counts.
    pub(super) fn stats_of(&self, counts: Counts) -> AreaStats {
        AreaStats {
            area: self.id,
            area_pages: self.index.pages(),
            max_bytes: self.limit.max(),
            used_bytes: self.limit.used(),
            metadata_bytes: self.index.bytes() + (self.shards.bytes() + self.limit.bytes() + size_of::<Self>()) as u64,
            limit_hits: self.limit.hits(),
            counts,
        }
    }

    /// Releases every page of an area on which no call runs, and none begins.
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
        // In a forked child without the pool nothing can be freed, and nothing has to be.
        if self.shared.pool.check_usable().is_err() {
            return;
        }
        // Within, because the last handle may go in a call on the zswap.
        let _call = self.shared.begin_within();
        self.end_claims();
        if self.shards.remove() {
            self.shared.forget_area(self.id, &self.shards.counts());
            self.release_all();
        }
    }
}

impl Area {
    /// Removes the area and releases all its pages. Waits for nothing. From then on calls on its clones are refused
    /// with [`Error::Removed`].
    ///
    /// # Errors
    /// [`Error::Busy`] while a call on it runs or a claim on it is held; nothing has changed then. [`Error::Removed`]
    /// if it was removed before, [`Error::Forked`] in a child without the pool.
    pub fn remove(&self) -> Result<()> {
        const RUNNING: Error =
            Error::Busy(sentence(&"a call on the area is running, or a claim on it is held: end it first"));
        let area = &self.0;
        let _call = area.shared.begin()?;
        // Refused if the area was removed before.
        drop(area.begin()?);
        if !area.shards.remove() {
            return Err(RUNNING);
        }
        area.shared.forget_area(area.id, &area.shards.counts());
        area.release_all();
        Ok(())
    }

    /// Returns how many pages the area has room for: its offsets are 0 to one less than this.
    pub fn pages(&self) -> u64 {
        self.0.index.pages()
    }

    /// Asks the processor to fetch what a load of this offset needs first. Does nothing for an offset past the end.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        if offset < self.0.index.pages() {
            self.0.index.prefetch(offset);
        }
    }

    /// Asks the processor to fetch the handle word that the page word of an offset names. The page word was fetched.
    #[cfg(feature = "uffd")]
    #[inline]
    pub(crate) fn prefetch_handle(&self, offset: u64) {
        if let Some(handle) = self.handle_hint(offset) {
            self.0.shared.pool.prefetch(handle);
        }
    }

    /// Asks the processor to fetch the record of the page's zspage. Its handle word was fetched.
    #[cfg(feature = "uffd")]
    #[inline]
    pub(crate) fn prefetch_record(&self, offset: u64) {
        if let Some(handle) = self.handle_hint(offset) {
            self.0.shared.pool.prefetch_record(handle);
        }
    }

    #[cfg(feature = "uffd")]
    #[inline]
    fn handle_hint(&self, offset: u64) -> Option<u64> {
        match self.0.page(offset).peek().kind() {
            WordKind::Stored(handle) => Some(self.0.shared.pool.long_handle(handle)),
            _ => None,
        }
    }

    /// Returns the name that the area was given in [`AreaOptions::name`]. Empty: it has none.
    pub fn name(&self) -> &str {
        &self.0.options.name
    }

    /// Returns the number of the area, by which callbacks tell areas apart. A zswap uses no number twice.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Returns the number that the area was given in [`AreaOptions::context`].
    pub fn context(&self) -> usize {
        self.0.options.context
    }

    /// Sets how many bytes the pages of the area may take in the pool, compressed, at least 4112, which one page may
    /// take. `None`: no limit of its own. The limit may be less than what the area has: stores are refused then, until
    /// enough has gone. The call also forgets that the limit before was met: stores are accepted up to the new one,
    /// also if it is the same.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than 4112 bytes, [`Error::Removed`], [`Error::Forked`] in a child without the pool.
    pub fn set_limit(&self, max_bytes: Option<u64>) -> Result<()> {
        let _call = self.0.begin()?;
        check_new_limit(max_bytes)?;
        self.0.limit.set(max_bytes);
        Ok(())
    }

    /// Sets which tiers the area's pages may go to: bit N stands for tier N, and 0 for all. Pages that are on other
    /// tiers stay there, until they are replaced or removed, or their tier is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number above 7, [`Error::Removed`], [`Error::Forked`] in a child without the pool.
    pub fn set_tiers(&self, tiers: u64) -> Result<()> {
        let _call = self.0.begin()?;
        check_mask(tiers)?;
        self.0.tiers.store(tiers, Relaxed);
        Ok(())
    }

    /// Returns what the area has and did, at one moment.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Forked`] in a child without the pool.
    pub fn stats(&self) -> Result<AreaStats> {
        let _call = self.0.begin()?;
        Ok(self.0.stats_of(self.0.shards.counts()))
    }
}

#[cfg(test)]
impl AreaState {
    /// Returns the shards, to lock them.
    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Returns the bytes of the slots of the pages that callers have claimed.
    pub(crate) fn claimed_bytes(&self) -> u64 {
        self.claimed_bytes.load(Relaxed)
    }
}

#[cfg(test)]
impl Area {
    /// Returns whether a store of the zswap compacted in vain a moment ago.
    pub(crate) fn has_compacted_in_vain(&self) -> bool {
        self.0.shared.compacted_in_vain.lately()
    }

    /// Returns the page word at an offset.
    pub(crate) fn word_at(&self, offset: u64) -> PageWord {
        self.0.page(offset).peek()
    }

    /// Changes the page word at an offset, as damage would.
    pub(crate) fn set_word_at(&self, offset: u64, word: PageWord) {
        self.0.page(offset).0.store(word.0, Relaxed);
    }

    /// Returns the object of a page in the pool, and the bytes of its slot. It stays there while no thread frees or
    /// moves it.
    pub(crate) fn object_of(&self, offset: u64) -> Option<(*mut u8, usize)> {
        let (_, pinned) = self.0.page(offset).find(&self.0.shared.pool);
        pinned.map(|pinned| (pinned.slot().as_ptr().cast_mut(), pinned.slot().len()))
    }
}
