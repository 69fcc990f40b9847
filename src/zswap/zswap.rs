//! The calls on a zswap, which concern all of its areas.

use super::area::{Area, AreaState};
use super::area_turn::{AreaTurn, QUANTUM};
use super::codec::Codec;
#[cfg(test)]
use super::extents::store::ExtentStore;
use super::extents::store::NewTier;
use super::extents::tier_list::TierList;
use super::fork::ForkState;
use super::handle_packing;
use super::index::MAX_PAGES;
use super::options::{AreaOptions, check_new_limit};
use super::patience::check_not_in_tier;
use super::shared::{Shared, Writeback, WritebackTarget};
use super::shrink_options::{Choice, Quota, ShrinkDone, ShrinkOptions};
use super::sweep::Shrunk;
use super::tier::TierAccess;
use super::walk::Walk;
use super::writeback_refusal::Refusal;
use crate::error::{Error, Result, sentence};
use crate::heap::{self, Counted};
#[cfg(any(test, feature = "uffd"))]
use crate::pool::Pool;
use crate::pool::options::MIN_BYTES;
use crate::pool::{CompactBudget, PoolStats};
use crate::units::PAGE;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;

/// Pages that are kept compressed in memory: a pool, one limit on it, a place to write pages back to, and the areas
/// that share these. The pages themselves are stored to an [`Area`], and loaded from it.
///
/// All methods may be called from any thread, and from a writeback callback. Share a zswap by reference or in an
/// [`Arc`](std::sync::Arc). The memory is released when the zswap and all of its areas have been dropped.
///
/// # Examples
/// A zswap that writes pages back to a file itself, and reads them from there:
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsFd;
/// use zsalloc::{AreaOptions, LoadFlags, PAGE_SIZE, Zswap, ZswapOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let zswap = Zswap::new("example", &ZswapOptions { max_bytes: Some(64 << 20), ..ZswapOptions::default() })?;
/// # let path = std::env::temp_dir().join(format!("zsalloc-example-{}", std::process::id()));
/// let file = File::options().read(true).write(true).create_new(true).open(&path)?;
/// # std::fs::remove_file(&path)?;
/// zswap.set_backing_file(Some((file.as_fd(), 1 << 30)))?;
/// // One area for each swap device or guest: here of 1 GiB.
/// let area = zswap.add_area(1 << 18, &AreaOptions::default())?;
///
/// let mut page = [0; PAGE_SIZE];
/// page[..5].copy_from_slice(b"hello");
/// area.store(7, &page)?;
/// assert_eq!(zswap.shrink(1)?, 1);
/// let mut loaded = [0; PAGE_SIZE];
/// area.load(7, &mut loaded, LoadFlags::KEEP)?;
/// assert_eq!(loaded, page);
/// # Ok(())
/// # }
/// ```
pub struct Zswap {
    pub(super) shared: Counted<Shared>,
    pub(super) fork: ForkState,
}

impl fmt::Debug for Zswap {
    /// Takes no lock, so that it may be called anywhere.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Zswap").field("name", &self.name()).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Zswap {
    /// Adds an area of `pages` pages, none of which is stored yet. Reserves 8 bytes of addresses for each, and takes
    /// memory as pages are stored. The area goes when the last of its handles is dropped, or by [`Area::remove`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for no pages or more than [`super::MAX_AREA_PAGES`], [`Error::NoMemory`] if the system gives
    /// no addresses or no memory, [`Error::Forked`] in a child without the pool.
    pub fn add_area(&self, pages: u64, options: &AreaOptions) -> Result<Area> {
        const PAGES: Error = Error::Invalid(sentence(&"an area has 1 to 2^38 pages"));
        let _call = self.shared.begin()?;
        if pages == 0 || pages > MAX_PAGES {
            return Err(PAGES);
        }
        let id = {
            let mut areas = self.shared.areas.lock();
            areas.last_id += 1;
            areas.last_id
        };
        let area = Area(Counted::new(AreaState::new(self.shared.clone(), id, pages, options.copy()?)?)?);
        // If the area does not get into the list, it is dropped here, outside the lock.
        let listed = heap::push(&mut self.shared.areas.lock().list, (id, area.0.downgrade()));
        listed.map(|()| area)
    }

    /// Returns the name that the zswap was created with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns how many areas there are.
    pub fn area_count(&self) -> usize {
        let _call = self.shared.begin();
        self.shared.areas.lock().list.len()
    }

    /// Returns the pool that the pages are in. Its limit, its callback and its pins are this zswap's.
    #[cfg(any(test, feature = "uffd"))]
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Returns the statistics of the pool that the pages are in.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn pool_stats(&self) -> Result<PoolStats> {
        let _call = self.shared.begin()?;
        self.shared.pool.stats()
    }

    /// Sets how many bytes stored pages may take in the pool, compressed, at least 4112, which one page may take.
    /// `None`: no limit but the pool's capacity. The pool's memory may exceed the limit by some percent
    /// ([`crate::ZswapTuning::headroom_percent`]). The limit may be less than what is stored: stores are refused then,
    /// until enough has gone. The call also forgets that the limit before was met: stores are accepted up to the new
    /// one, also if it is the same.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than 4112 bytes, [`Error::Forked`] in a child without the pool.
    pub fn set_limit(&self, max_bytes: Option<u64>) -> Result<()> {
        check_new_limit(max_bytes)?;
        // A fork waits for the lock of the limit.
        let _call = self.shared.begin();
        self.shared.pool.set_max_bytes(max_bytes.map(|bytes| self.capacity(bytes)))?;
        self.shared.limit.set(max_bytes);
        Ok(())
    }

    /// Returns how much memory the pool may have for a limit.
    fn capacity(&self, max_bytes: u64) -> u64 {
        let headroom = match self.shared.headroom_percent {
            None => max_bytes / 8,
            Some(percent) => (u128::from(max_bytes) * u128::from(percent) / 100) as u64,
        };
        // In a small pool, tables and a partly filled zspage of each class count for much.
        max_bytes.saturating_add(headroom).saturating_add(2 * MIN_BYTES)
    }

    /// Sets the codec of the pages that are stored from now on.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the level is wrong, [`Error::NoMemory`] if there is no memory for its contexts.
    pub fn set_codec(&self, codec: Codec) -> Result<()> {
        let _call = self.shared.begin();
        self.shared.contexts.prepare(codec)?;
        self.shared.codec.set(codec);
        Ok(())
    }

    /// Sets the callback that [`Zswap::shrink`] and [`Area::shrink`] write pages back with, in place of the one before
    /// or of the tiers. A shrink that is running goes on with the callback that it began with.
    ///
    /// The callback is passed the area, the offset and the page, in the thread that shrinks, and several threads may
    /// shrink at once. It writes the page to where the program keeps pages, and returns `Ok` once it is there: then the
    /// page leaves the pool, unless it was loaded, replaced or removed meanwhile. `Err` keeps the page, and so does a
    /// panic. Called with no lock held; it may call anything of the crate, also for this page. What would wait for a
    /// writeback is refused with [`Error::Busy`] in a callback. The page's place on disk belongs to the callback until
    /// it returns, and to the thread that acts on the page next from then on.
    ///
    /// # Errors
    /// [`Error::Busy`] while pages are on a tier, [`Error::NoMemory`] if there is none for the
    /// callback, [`Error::Forked`] in a child without the pool.
    pub fn set_writeback(
        &self,
        writeback: impl Fn(&Area, u64, &[u8; PAGE]) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Result<()> {
        let writeback: Box<Writeback> = heap::boxed(writeback)?;
        self.set_target(WritebackTarget::Callback(Counted::new(writeback)?))
    }

    /// Takes the writeback callback away, or all tiers, so that shrinks have nowhere to write pages to. A
    /// shrink that is running goes on with what it began with.
    ///
    /// # Errors
    /// [`Error::Busy`] while pages are on a tier, [`Error::Forked`] in a child without the pool.
    pub fn clear_writeback(&self) -> Result<()> {
        self.set_target(WritebackTarget::None)
    }

    /// Lets the library write pages back itself, to the first `bytes` bytes of a regular file or a block device, in
    /// place of a callback or of all tiers. None: to no file any more. [`Zswap::add_file_tier`] adds a file beside
    /// others. Pages are written as the pool has them, compressed, up to 64 of them in one write, to the
    /// lowest free blocks of 4096 bytes. They are loaded as all others, and stay on the file until they are replaced or
    /// removed. Blocks without pages are written again, or punched out: at most 1 MiB of them takes room on the disk.
    /// 132 KiB of a file of more than a MiB are set aside for moving pages together, so that a full file has room again
    /// when some of its pages go.
    ///
    /// The page cache stays as it is: the library opens the file once more with `O_DIRECT`, through `/proc`, or else
    /// asks the system to drop what it read and wrote (`RWF_DONTCACHE`, Linux 6.14). Where it can do neither, the page
    /// cache has the file's pages as well.
    ///
    /// The file has to be open for reading and writing (`O_RDWR`), and not for appending (`O_APPEND`), which would
    /// write everything to other places. The descriptor is duplicated. Close no descriptors that are not your own: the
    /// library notices before it writes that its descriptor has become another file's, and writes nothing then.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is none of these or is opened otherwise, or `bytes` is less than a page or more
    /// than 16 TiB, [`Error::System`] if the descriptor can't be duplicated, [`Error::Busy`] while pages are on
    /// a tier, [`Error::NoMemory`] if there is none for its table.
    pub fn set_backing_file(&self, file: Option<(BorrowedFd<'_>, u64)>) -> Result<()> {
        let target = match file {
            Some((fd, bytes)) => {
                let (os, none) = (&self.shared.os, TierList::default());
                WritebackTarget::Tiers(TierList::of(
                    none.store_for(os, NewTier::of_file(os, String::new(), fd, bytes)?)?,
                ))
            }
            None => WritebackTarget::None,
        };
        self.set_target(target)
    }

    pub(super) fn set_target(&self, new: WritebackTarget) -> Result<()> {
        const IN_USE: Error =
            Error::Busy(sentence(&"pages are on the backing file or another tier, or are being written to it"));
        let _call = self.shared.begin()?;
        check_not_in_tier()?;
        // Under the lock no code of the user's may run.
        self.shared.tiers().iter().for_each(|store| _ = store.end_dying());
        let old = {
            let mut target = self.shared.target.write().unwrap_or_else(PoisonError::into_inner);
            if let WritebackTarget::Tiers(tiers) = &*target
                && tiers.is_in_use()
            {
                return Err(IN_USE);
            }
            std::mem::replace(&mut *target, new)
        };
        // Dropped with no lock held, because dropping a callback runs code of the user's.
        drop(old);
        Ok(())
    }

    /// Writes back pages that were not used lately, of all areas in turn, until `pages` pages have left the pool.
    /// Returns how many went, which may be fewer. Allocates nothing. Its effort is bounded: for every 64 pages each
    /// area is swept twice at most, and is left after 16 refusals.
    ///
    /// # Errors
    /// [`Error::Again`] if none could go now, [`Error::NotFound`] if none is in the pool, [`Error::Invalid`] without a
    /// callback or a tier, [`Error::Busy`] in a call of a tier, [`Error::Io`] if the library's descriptor of the file
    /// was closed or is another file's now, [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        Ok(self.shrink_by(&ShrinkOptions { max_pages: pages, ..ShrinkOptions::default() })?.pages)
    }

    /// Writes back pages that were not used lately, as [`Zswap::shrink`] does: those that `options` choose, until as
    /// much has left the pool as they allow. Returns what went, which may be less.
    ///
    /// [`ShrinkOptions::max_bytes`] is never exceeded. A page that would exceed it ends the turn of its area, unless no
    /// page has gone yet: then it is passed by.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `min_age` of more than 3; [`Error::Again`] if no page could go now, is old enough, or
    /// is small enough; the other errors of [`Zswap::shrink`].
    pub fn shrink_by(&self, options: &ShrinkOptions) -> Result<ShrinkDone> {
        check_not_in_tier()?;
        self.shrink_within(options, TierAccess::All)
    }

    /// Shrinks as [`Zswap::shrink`] does, in a call that may use fewer tiers.
    #[cfg(feature = "uffd")]
    pub(crate) fn shrink_with(&self, pages: u64, access: TierAccess) -> Result<u64> {
        Ok(self.shrink_within(&ShrinkOptions { max_pages: pages, ..ShrinkOptions::default() }, access)?.pages)
    }

    fn shrink_within(&self, options: &ShrinkOptions, access: TierAccess) -> Result<ShrinkDone> {
        let _call = self.shared.begin()?;
        options.check()?;
        let target = self.shared.writeback_target()?;
        let quota = Quota::of(options, access);
        let mut done = ShrinkDone::default();
        let mut failure = None;
        for choice in options.choices() {
            failure = self.shrink_turns(choice, quota, &mut done, &target).or(failure);
        }
        if done.pages > 0 || quota.is_spent() {
            return Ok(done);
        }
        Err(failure.unwrap_or_else(|| self.why_nothing(options)))
    }

    /// Writes back pages of all areas in turn, and adds what went to `done`. Returns an error if one was met.
    fn shrink_turns(
        &self,
        choice: Choice,
        quota: Quota,
        done: &mut ShrinkDone,
        target: &WritebackTarget,
    ) -> Option<Error> {
        let (mut idle, mut failure) = (0, None);
        while !quota.after(*done).is_spent() {
            let Some((turn, count)) = AreaTurn::to_shrink(&self.shared.areas) else { break };
            let shrunk = turn.area().shrink_to(choice, quota.after(*done).at_most(QUANTUM), target);
            // Other errors say that the area was removed meanwhile.
            failure = shrunk.err().filter(|error| matches!(error, Error::Io(_))).or(failure);
            *done += shrunk.map_or(ShrinkDone::default(), Shrunk::done);
            let goes_on = matches!(shrunk, Ok(Shrunk::MoreLeft(ShrinkDone { pages: 1.., .. })));
            idle = if goes_on { 0 } else { idle + 1 };
            if idle >= count {
                break;
            }
        }
        failure
    }

    fn why_nothing(&self, options: &ShrinkOptions) -> Error {
        const NOTHING: Error = Error::NotFound(sentence(&"no page is in the pool"));
        const NOT_NOW: Error = Error::Again(sentence(&"no page could be written back now"));
        if self.shared.limit.used() == 0 { NOTHING } else { options.why_nothing(NOT_NOW) }
    }

    /// Returns how many pages are worth writing back now, of all areas: the sum of [`Area::reclaimable_pages`].
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn reclaimable_pages(&self) -> Result<u64> {
        let _call = self.shared.begin()?;
        let mut all = Ok(0);
        Walk::new(&self.shared).each(|area, _| match (area.reclaimable_pages(), &mut all) {
            (Ok(pages), Ok(sum)) => *sum += pages,
            // The area was removed meanwhile.
            (Err(Error::Removed), _) | (_, Err(_)) => {}
            (Err(error), _) => all = Err(error),
        });
        all
    }

    /// Moves objects together and gives the memory that becomes free back to the system, as [`crate::Pool::compact`]
    /// does. Moves what is left of mostly dead extents on the backing file to new ones, and punches out free blocks.
    /// Also gives back the parts of the areas' indexes that have no page any more, and the end of the pool's table of
    /// handles: pages whose handles lie there get others. The budget holds for that, too: each page that gets another
    /// handle counts as 64 bytes. Returns how many pages of 4096 bytes the pool gave back.
    ///
    /// # Errors
    /// Those of [`crate::Pool::compact`].
    pub fn compact(&self, budget: &CompactBudget) -> Result<u64> {
        check_not_in_tier()?;
        let _call = self.shared.begin()?;
        let left = budget.begin();
        Walk::new(&self.shared).each(|area, _| area.0.index.give_back(0, area.pages()));
        self.shared.pool.check_usable()?;
        match self.shared.pool.try_to_compact(left) {
            Some(mut done) if !done.is_cut_short => {
                let packed = handle_packing::pack(&self.shared, &mut done.left);
                self.shared.clean_all(&self.shared.tiers(), &mut done.left);
                Ok(done.pages + packed)
            }
            Some(done) => Ok(done.pages),
            None => Ok(0),
        }
    }

    /// Returns the bytes of the slots of stored pages.
    #[cfg(feature = "uffd")]
    pub(crate) fn used_bytes(&self) -> u64 {
        self.shared.limit.used()
    }
}

#[cfg(test)]
impl Zswap {
    /// Sets counters as if `areas` areas had been added and `claims_made` claims made, and as if each slot of the table
    /// of claims had had so many claims that `claims_left` generations are left.
    pub(crate) fn set_counters(&self, areas: u64, claims_made: u64, claims_left: u64) {
        self.shared.areas.lock().last_id = areas;
        self.shared.next_claim.store(claims_made, crate::sync::Ordering::Relaxed);
        self.shared.claims.set_generations_left(claims_left);
    }

    /// Returns how many threads can compress at a time.
    pub(crate) fn context_count(&self) -> usize {
        self.shared.contexts.count()
    }

    /// Returns how many handles of the backing file there are at this moment, with that of the zswap.
    pub(crate) fn file_users(&self) -> usize {
        match &*self.shared.read_target() {
            WritebackTarget::Tiers(tiers) => tiers.iter().map(|store| store.strong_count() as usize).sum(),
            _ => 0,
        }
    }

    /// Returns the extents on the backing file. While the caller has them, no other file can be set.
    pub(crate) fn extents(&self) -> Counted<ExtentStore> {
        self.shared.tiers().iter().next().expect("a backing file").clone()
    }

    /// Forgets what was read ahead from tiers.
    pub(crate) fn forget_reads(&self) {
        self.shared.tiers().iter().for_each(|store| store.forget_reads());
    }

    /// Returns the number of the library's own descriptor of the backing file.
    pub(crate) fn backing_descriptor(&self) -> Option<std::os::fd::RawFd> {
        self.shared.tiers().iter().next().map(|store| store.descriptor())
    }
}
