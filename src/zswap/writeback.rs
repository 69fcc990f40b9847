//! Writeback: pages that were not used lately are decoded, claimed, and handed over with no lock held; they go once
//! that is acknowledged.
//!
//! The clock hand sweeps the page words of an area: REFERENCED is cleared and passed by, what is not referenced is
//! claimed. It costs no memory and no lock, and writes back in the order of addresses.

use super::area::{Area, AreaState, Call};
use super::claims::{Claim, Running};
use super::codec::Target;
use super::page::{Kept, Objects};
use super::shared::Backing;
use super::stats::Counts;
use super::waiting::InCallback;
use super::word::{Kind, PageWord};
use crate::error::{Error, Result};
use crate::os;
use crate::sync::Ordering::Relaxed;
use crate::units::{AlignedPage, PAGE};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Writes a page to where the embedder keeps pages. Called with no lock held; it may call anything of the crate, also
/// for this page. `Err` keeps the page.
pub type Writeback = dyn Fn(&Area, u64, &[u8; PAGE]) -> std::result::Result<(), Refusal> + Send + Sync;

/// A [`Writeback`] while it is called.
type Offer<'a> = dyn Fn(&Area, u64, &[u8; PAGE]) -> std::result::Result<(), Refusal> + 'a;

/// A writeback callback of C's, which takes no memory: a function and its context, and what calls it.
#[derive(Clone, Copy)]
pub struct Foreign {
    /// What calls the function with a page that is to go.
    pub caller: fn(&Self, &Area, u64, &[u8; PAGE]) -> std::result::Result<(), Refusal>,
    /// The function, of whatever type `caller` knows.
    pub function: *const (),
    /// What the function is called with.
    pub context: *mut (),
}

// SAFETY: the header says that the callback runs in whichever thread shrinks; its context is for C to guard.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Foreign {
    fn call(&self, area: &Area, offset: u64, page: &[u8; PAGE]) -> std::result::Result<(), Refusal> {
        (self.caller)(self, area, offset, page)
    }
}

/// Why a page was not written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// `EEXIST`: the embedder has the page in memory already: it is in use. It gets a second chance, and the shrink
    /// ends with this area: what it would come to next is in use as well.
    Exists,
    /// `EAGAIN`: not now.
    Again,
    /// `ENOMEM`: the embedder has no memory to write with.
    NoMemory,
    /// `EIO`: the write failed.
    Io,
    /// `ENOSPC`: there is no room for it. The shrink ends: there is none for the next one either.
    NoSpace,
    /// Another positive errno.
    Other(i32),
}

impl Refusal {
    /// Whether to try other pages of the area.
    fn ends_area(self) -> bool {
        matches!(self, Self::Exists | Self::NoSpace)
    }

    fn count(self, counts: &mut Counts) {
        let cause = match self {
            Self::Exists => &mut counts.writeback_exists,
            Self::Again => &mut counts.writeback_again,
            Self::NoMemory => &mut counts.writeback_no_memory,
            Self::Io => &mut counts.writeback_io,
            Self::NoSpace => &mut counts.writeback_no_space,
            Self::Other(_) => &mut counts.writeback_other,
        };
        *cause += 1;
    }
}

pub(super) const NO_BACKING: Error = Error::Invalid(&"the zswap has neither a writeback callback nor a backing file");
const NO_WRITEBACK: Error = Error::Invalid(&"the area is never written back");

/// Pages refused, after which a shrink of an area ends.
const MOST_FAILURES: u64 = 16;

/// A page that is claimed, and pinned.
#[derive(Clone, Copy)]
pub struct Claimed {
    pub offset: u64,
    /// The word as it was claimed.
    pub word: PageWord,
}

/// One sweep of an area's clock hand: it ends after two rounds, for the first one clears what the second one finds.
pub struct Sweep<'a> {
    area: &'a AreaState,
    at: u64,
    /// Pages to pass by still.
    left: u64,
    own: bool,
}

impl<'a> Sweep<'a> {
    /// From where the hand stands; `own`: pages go to places that only their claims write.
    pub fn new(area: &'a AreaState, own: bool) -> Self {
        Self { area, at: area.hand.load(Relaxed), left: area.index.pages() * 2, own }
    }

    /// The next page, decoded into `page`, pinned and claimed; those that can't be decoded are passed by.
    pub fn next(&mut self, call: &Call<'_>, page: &mut [u8; PAGE], target: Target) -> Option<Claimed> {
        while let Some((offset, seen)) = self.advance() {
            let claimed = self.try_claim(offset, seen, |pinned| {
                let decoded = self.area.decode(offset, pinned, page, target);
                decoded.inspect_err(|_| call.count(|counts| counts.decode_failures += 1)).is_ok()
            });
            if claimed.is_some() {
                return claimed;
            }
        }
        None
    }

    /// The next word in the pool, and where it is; the hand stands behind it.
    fn advance(&mut self) -> Option<(u64, PageWord)> {
        let pages = self.area.index.pages();
        while self.left > 0 {
            let found = self.area.index.next_used(self.at, pages);
            let next = found.map_or(pages, |(offset, _)| offset + 1);
            self.left = self.left.saturating_sub((next - self.at).max(1));
            self.at = if next == pages { 0 } else { next };
            self.area.hand.store(self.at, Relaxed);
            if let Some((offset, word)) = found
                && matches!(word.kind(), Kind::Stored(_))
                && !word.has_writeback()
            {
                return Some((offset, word));
            }
        }
        None
    }

    /// Reads and claims a page, unless it was used since the hand last came by.
    fn try_claim(&self, offset: u64, seen: PageWord, read: impl FnOnce((*const u8, usize)) -> bool) -> Option<Claimed> {
        let page = self.area.page(offset);
        if seen.is_referenced() {
            page.exchange_relaxed(seen, seen.with_referenced(false));
            return None;
        }
        self.area.claim(offset, self.own, read)
    }
}

impl AreaState {
    /// Pins, reads and claims the page at `offset`, if it is in the pool and no writeback of it runs.
    fn claim(&self, offset: u64, own: bool, read: impl FnOnce((*const u8, usize)) -> bool) -> Option<Claimed> {
        let (page, number) = (self.page(offset), self.shared.next_claim());
        let claimed = page.find_and_claim(&self.shared.pool, number, own, |&pinned| read(pinned));
        claimed.map(|(word, _)| Claimed { offset, word })
    }

    /// Ends a claim and keeps the page.
    pub(super) fn keep(&self, claimed: Claimed) -> Kept {
        let kept = self.page(claimed.offset).end(claimed.word);
        self.unpin(claimed);
        kept
    }

    fn unpin(&self, claimed: Claimed) {
        if let Kind::Stored(handle) = claimed.word.kind() {
            self.shared.pool.unpin(handle);
        }
    }

    /// Ends a claim whose page was written: it goes, and `to` stays, if nobody used or replaced it meanwhile.
    pub(super) fn written(&self, call: &Call<'_>, claimed: Claimed, to: PageWord) -> bool {
        let mut shard = call.lock();
        let done = self.page(claimed.offset).acknowledge(claimed.word, to);
        let counts = &mut shard.counts;
        match done {
            Ok(()) => {
                counts.went(claimed.word);
                counts.came(to);
                counts.written_back += 1;
            }
            Err(Kept::Replaced) => counts.overtaken += 1,
            Err(Kept::Rescued | Kept::Same) => counts.rescued += 1,
        }
        drop(shard);
        if done.is_ok() {
            self.discard(claimed.word);
        }
        self.unpin(claimed);
        done.is_ok()
    }

    /// Ends a claim whose page was refused.
    pub(super) fn refused(&self, call: &Call<'_>, claimed: Claimed, refusal: Refusal) {
        let page = self.page(claimed.offset);
        if refusal == Refusal::Exists {
            page.reference(claimed.word);
        }
        self.keep(claimed);
        call.count(|counts| refusal.count(counts));
    }
}

impl Area {
    /// Writes back up to `pages` pages by the backing that is set. How many went; and whether more may go.
    pub(super) fn shrink_to(&self, pages: u64, backing: &Backing) -> Result<(u64, bool)> {
        let area = &self.0;
        let call = area.begin()?;
        if area.options.no_writeback {
            return Ok((0, false));
        }
        match backing {
            Backing::None => Ok((0, false)),
            Backing::Callback(callback) => {
                Ok(self.shrink_by(&call, pages, &|area, offset, page| callback(area, offset, page)))
            }
            Backing::Foreign(callback) => {
                Ok(self.shrink_by(&call, pages, &|area, offset, page| callback.call(area, offset, page)))
            }
            Backing::File(file) => area.shrink_to_file(&call, pages, file),
        }
    }

    // Its page is not for the stack of who writes to a file: that may be a signal handler's.
    #[inline(never)]
    fn shrink_by(&self, call: &Call<'_>, pages: u64, callback: &Offer<'_>) -> (u64, bool) {
        let area = &self.0;
        let mut sweep = Sweep::new(area, false);
        let mut page = AlignedPage([0; PAGE]);
        let (mut written, mut failures) = (0, 0);
        while written < pages && failures < MOST_FAILURES {
            let Some(claimed) = sweep.next(call, &mut page.0, Target::Own) else { return (written, false) };
            match offer(callback, self, claimed.offset, &page.0) {
                Ok(()) if area.written(call, claimed, PageWord::EMPTY) => written += 1,
                Ok(()) => {}
                Err(refusal) => {
                    area.refused(call, claimed, refusal);
                    failures += 1;
                    if refusal.ends_area() {
                        return (written, false);
                    }
                }
            }
        }
        (written, failures < MOST_FAILURES)
    }
}

/// Calls the callback. A panic in it counts as its failure.
fn offer(callback: &Offer<'_>, area: &Area, offset: u64, page: &[u8; PAGE]) -> std::result::Result<(), Refusal> {
    #[cfg(debug_assertions)]
    crate::sync::ranks::assert_none();
    let _inside = InCallback::enter();
    let called = catch_unwind(AssertUnwindSafe(|| callback(area, offset, page)));
    called.unwrap_or(Err(Refusal::Other(os::errno::EIO)))
}

impl Area {
    /// Claims up to as many pages as `claims` and `pages` have room for, those that were not used lately, and decodes
    /// them into `pages`. Each is the caller's to write where it keeps pages, and then to end, in any order and from
    /// any thread, with [`Area::end_writeback`]. Until then the page stays stored and can be loaded; whoever removes it
    /// waits. Returns how many there are, which may be fewer than asked, and none.
    ///
    /// Each page is decoded before it is claimed. Where the memory of `pages` is missing, whoever brings it may remove
    /// any page but those that this call has claimed before: it would wait for this thread, which waits for it.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many claims are held as there is room for. [`Error::Invalid`] if the area was removed or
    /// is never written back, [`Error::Forked`] in a child without the pool.
    pub fn begin_writeback(&self, claims: &mut [Claim], pages: &mut [[u8; PAGE]]) -> Result<usize> {
        const NO_ROOM: Error = Error::Busy(&"as many claims are held as there is room for: end some");
        let area = &self.0;
        let call = area.begin()?;
        if area.options.no_writeback {
            return Err(NO_WRITEBACK);
        }
        let mut sweep = Sweep::new(area, false);
        let mut count = 0;
        for (claim, page) in claims.iter_mut().zip(pages) {
            let Some(claimed) = sweep.next(&call, page, Target::Callers) else { break };
            // A claim counts as a running call, so that the area can't be removed under it.
            let shard = area.begin_within()?.keep_running();
            let Claimed { offset, word } = claimed;
            let running = Running { area: area.id, offset, word, shard, thread: os::this_thread() };
            match area.shared.claims.keep(running) {
                Ok(kept) => *claim = kept,
                Err(_) => {
                    area.keep(claimed);
                    area.shards.end(shard);
                    return if count == 0 { Err(NO_ROOM) } else { Ok(count) };
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Ends a claim: `Ok` removes the page, which is written; unless it was loaded, stored or removed meanwhile. `Err`
    /// keeps it. Tells whether it was removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the claim was ended before or is not one of this area; [`Error::Forked`] in a child
    /// without the pool.
    pub fn end_writeback(&self, claim: &Claim, result: std::result::Result<(), Refusal>) -> Result<bool> {
        let area = &self.0;
        // Whoever forks may wait for a call that waits for this claim.
        let call = area.begin_within()?;
        let Running { offset, word, shard, .. } = area.shared.claims.take(area.id, claim)?;
        let claimed = Claimed { offset, word };
        let gone = match result {
            Ok(()) => area.written(&call, claimed, PageWord::EMPTY),
            Err(refusal) => {
                area.refused(&call, claimed, refusal);
                false
            }
        };
        area.shards.end(shard);
        Ok(gone)
    }
}

impl Area {
    /// Writes back up to `pages` pages of this area that were not used lately, as [`crate::Zswap::shrink`] does of all.
    ///
    /// # Errors
    /// [`Error::Again`] if none could go now, [`Error::NotFound`] if none is in the pool, [`Error::Invalid`] without a
    /// callback or a file, or if the area was removed, or is never written back; [`Error::Io`] if the library's
    /// descriptor of the file was closed or is another file's now, [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        const NOTHING: Error = Error::NotFound(&"no page of the area is in the pool");
        const NOT_NOW: Error = Error::Again(&"no page of the area could be written back now");
        let area = &self.0;
        let _call = area.shared.begin()?;
        let backing = area.shared.backing();
        if matches!(backing, Backing::None) {
            return Err(NO_BACKING);
        }
        if area.options.no_writeback {
            return Err(NO_WRITEBACK);
        }
        match self.shrink_to(pages, &backing)?.0 {
            0 if pages == 0 => Ok(0),
            0 if area.limit.used() == 0 => Err(NOTHING),
            0 => Err(NOT_NOW),
            written => Ok(written),
        }
    }

    /// How many pages of this area are worth writing back now, under memory pressure: those in the pool, fewer for each
    /// that lately had to come back from where it was written to, and scaled by how small they are: to write back a
    /// page that takes a quarter of its size in memory frees a quarter.
    ///
    /// What came back is forgiven as it is answered for: each call counts it once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the area was removed, [`Error::Forked`] in a child without the pool.
    pub fn reclaimable_pages(&self) -> Result<u64> {
        let stats = self.stats()?;
        let stored = stats.counts.pool_pages();
        if self.0.options.no_writeback || stored == 0 {
            return Ok(0);
        }
        let answer = |recent: u64| recent.saturating_sub(stored);
        let recent = self.0.recent_refaults.fetch_update(Relaxed, Relaxed, |recent| Some(answer(recent)));
        let freeable = stored - recent.unwrap_or(0).min(stored);
        Ok((u128::from(freeable) * u128::from(stats.used_bytes) / (u128::from(stored) * PAGE as u128)) as u64)
    }
}
