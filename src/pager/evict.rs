//! Eviction: the clock hand picks pages that were not used lately and moves them to the staging range; what stays there
//! is compressed, oldest first.

use super::core::{Core, Evicted, PATIENCE};
use super::counts::add;
use super::extents::Extent;
use super::immovable::{Effort, is_lasting};
use super::page::Claim;
use super::picks::Picks;
use super::region::Region;
use super::staging::{BLOCK, Block, PageId};
use super::word::{Copied, Kind, MAX_AGE, State};
use crate::error::Error;
use crate::os::{self, Errno, errno};
use crate::sync::{Lock, Ordering::Relaxed, Rank, Wait};
use crate::units::PAGE;
use crate::zswap::AREA_FULL;

/// State words that are looked at with the hand's lock held, at most.
const LOOKS: usize = 4096;
/// Pages that are evicted in place at once, at least.
const FEW: usize = 16;
/// How often the hand goes around before it gives up: pages of every age are found by then.
const LAPS: u32 = MAX_AGE + 2;
/// Pages that are written to the backing file at once when the pool is full.
const WRITE_BACK: u64 = 64;
/// How often a page is stored that finds the pool full, while others are written back.
const STORES: u32 = 4;
/// Rounds without anything done after which an eviction gives up.
const IDLE: u32 = 3;

/// Where the clock hand stands: an address.
pub struct Hand(usize);

impl Hand {
    /// At the lowest address.
    pub fn locked() -> Lock<Self> {
        Lock::new(Rank::Hand, Self(0))
    }
}

/// What the hand passed by without picking it.
#[derive(Default)]
struct Passed {
    /// Regions that are full by their own limit.
    full: bool,
    /// Pages that others had claimed, and regions that come or go.
    claimed: bool,
}

/// What filling did.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
pub(super) struct Filled {
    /// Pages that wait in the staging range.
    pub(super) staged: u64,
    /// Pages that went from memory.
    pub(super) gone: u64,
    /// Pages that turned out to be immovable.
    pub(super) marked: u64,
    /// There were pages to evict, and no room to store any.
    pub(super) full: bool,
    /// There may be pages to evict in a moment.
    pub(super) busy: bool,
}

impl Filled {
    fn add(&mut self, more: Self) {
        (self.staged, self.gone) = (self.staged + more.staged, self.gone + more.gone);
        self.marked += more.marked;
        self.full |= more.full;
        self.busy |= more.busy;
    }
}

impl Core {
    /// Evicts some pages: moves pages to the staging range while that is below its share, and compresses the oldest
    /// there.
    pub fn evict_some(&self, pages: u64, effort: &mut Effort) -> Evicted {
        let (mut gone, mut idle, mut busy) = (0, 0, false);
        while gone < pages && idle < IDLE && !effort.is_spent() {
            let filled = self.fill_up(pages - gone, effort);
            gone += filled.gone;
            if filled.full && gone == 0 && self.staging.pages() == 0 {
                return Evicted::Full;
            }
            let done = filled.gone + filled.staged + filled.marked;
            let drained = match self.drain(pages.saturating_sub(gone)) {
                Evicted::Pages(drained) => drained,
                Evicted::Full if gone > 0 => break,
                Evicted::Full => return Evicted::Full,
                Evicted::Busy => {
                    busy = true;
                    0
                }
                Evicted::None if done == 0 && !filled.busy => break,
                // What is staged by now is next.
                Evicted::None => 0,
            };
            gone += drained;
            busy |= filled.busy;
            idle = if done + drained > 0 { 0 } else { idle + 1 };
        }
        match gone {
            0 if busy && !effort.is_spent() => Evicted::Busy,
            0 => Evicted::None,
            _ => Evicted::Pages(gone),
        }
    }

    /// Stages pages while the staging range is below its share, or has none to drain: twice as many as are drained at
    /// once, so that it grows to its share by and by.
    fn fill_up(&self, wanted: u64, effort: &mut Effort) -> Filled {
        let mut filled = Filled::default();
        for _ in 0..2 {
            if filled.gone >= wanted || effort.is_spent() {
                break;
            }
            // Where all that is in memory is staged or can't leave, the hand would go around for nothing.
            let stays = self.staging.pages() + self.held() + self.immovable();
            let movable = self.resident() > stays || self.may_retry(effort);
            if movable && self.staging.pages() < self.staged_target() {
                filled.add(self.fill(wanted, effort));
            }
        }
        filled
    }

    /// Moves the hand on to pages that were not used lately, and evicts them from their places.
    fn fill(&self, wanted: u64, effort: &mut Effort) -> Filled {
        let mut laps = 0;
        let mut passed = Passed::default();
        while laps < LAPS {
            let mut hand = self.hand.lock();
            let version = self.extents.version();
            let Some(extent) = self.extents.next(hand.0) else {
                hand.0 = 0;
                laps += 1;
                continue;
            };
            let from = extent.start.max(hand.0);
            let Some(region) = self.places[extent.region].enter() else {
                passed.claimed = true;
                hand.0 = extent.end;
                continue;
            };
            if region.is_full() {
                passed.full = true;
                hand.0 = extent.end;
                continue;
            }
            let mut picks = Picks::new(version);
            let stages = self.moves && region.is_private();
            let most = if stages { BLOCK } else { (wanted as usize).clamp(FEW, BLOCK) };
            hand.0 = self.pick((&region, &extent, from), &mut picks, most, &mut passed, effort);
            if !stages {
                self.protect_picked(&region, &mut picks);
            }
            drop(hand);
            match picks.count {
                0 => {}
                _ if stages => return self.stage(&extent, &mut picks, effort),
                _ => return self.copy_out(&region, &mut picks, effort),
            }
        }
        // The hand went all the way around: there are fewer marked pages than it was told.
        self.end_retries(effort);
        Filled { full: passed.full && !passed.claimed, busy: passed.claimed, ..Filled::default() }
    }

    /// Moves picked pages to a block of the staging range.
    fn stage(&self, extent: &Extent, picks: &mut Picks<'_>, effort: &mut Effort) -> Filled {
        let Some(mut block) = self.staging.take_free() else { return Filled { busy: true, ..Filled::default() } };
        let mut filled = Filled::default();
        let (mut first, mut made_movable) = (0, 0);
        while first < picks.count {
            let end = picks.run(first);
            let slot = block.slot(block.filled);
            (first..end).for_each(|pick| {
                let id = PageId { region: extent.region, page: picks.page[pick] };
                self.staging.note(block.slot(block.filled + pick - first), id);
            });
            // The claims that are left end as they were.
            let Some(inside) = self.enter(picks.version, picks.at[first], picks.at[end - 1] + PAGE) else {
                filled.busy = true;
                break;
            };
            // SAFETY: the pages are claimed, and the block is this thread's.
            let mut moved = unsafe { self.staging.move_in(slot, picks.at[first], end - first) };
            if moved.bytes == 0 && end - first > 1 {
                // They may be of two mappings, which one call does not take.
                // SAFETY: as above.
                moved = unsafe { self.staging.move_in(slot, picks.at[first], 1) };
            }
            let done = moved.bytes / PAGE;
            self.staging.came(done as u64);
            for pick in first..first + done {
                if picks.is_retried(pick) {
                    self.retry_at_once();
                }
                let slot = block.slot(block.filled + pick - first);
                picks.end(pick, State::staged(slot, picks.was(pick)));
            }
            block.filled += done;
            filled.staged += done as u64;
            first += done;
            if let Some(Errno(refused)) = moved.stopped
                && done == 0
            {
                let was = picks.was(first);
                let again = refused == errno::EBUSY && made_movable <= first;
                made_movable = first + 1;
                if !(again && self.make_movable(extent, picks.at[first], was)) {
                    filled.marked += self.not_moved(picks, first, refused, effort);
                    first += 1;
                }
            }
            drop(inside);
        }
        add(&self.counters.staged, filled.staged);
        self.staging.queue(block);
        filled
    }

    /// A picked page that the system did not move: it is pinned, locked, about to change, or moved away, and the event
    /// of that was not read yet, and will not be while the caller is inside the gate. The hand passes it by for a
    /// while. How many pages it marked as immovable.
    fn not_moved(&self, picks: &mut Picks<'_>, pick: usize, refused: i32, effort: &mut Effort) -> u64 {
        if refused == errno::ENOENT {
            // Its owner may have given it back just before it was touched last: then it has zeros, and now has a page
            // of them. If its owner moved it, this is refused.
            let _ = self.uffd.zero(picks.at[pick], PAGE);
        }
        let stays = picks.was(pick).with_age(MAX_AGE);
        let lasting = is_lasting(refused);
        picks.end(pick, if lasting { self.marked(stays) } else { stays });
        if lasting {
            effort.fail(false);
        }
        add(&self.counters.pinned, u64::from(![errno::EAGAIN, errno::ENOENT].contains(&refused)));
        u64::from(lasting)
    }

    /// Compresses the pages that were staged longest, up to so many.
    fn drain(&self, pages: u64) -> Evicted {
        let Some(mut block) = self.staging.take_oldest() else {
            return if self.staging.is_in_use() { Evicted::Busy } else { Evicted::None };
        };
        let mut stored = 0;
        let mut full = None;
        while block.next < block.filled && stored < pages {
            if block.next + 1 < block.filled {
                // The next page arrives while this one is compressed.
                os::prefetch_bytes(self.staging.address(block.slot(block.next + 1)) as *const u8, PAGE);
            }
            match self.compress(block.slot(block.next)) {
                Compressed::Yes | Compressed::Left => stored += 1,
                Compressed::Gone => {}
                Compressed::Full(which) => {
                    full = Some(which);
                    break;
                }
            }
            block.next += 1;
        }
        block.owed += stored;
        let gone = self.give_back(&mut block);
        // A page that has no room, in an area with a limit of its own, must not keep all others from going.
        self.staging.put_back(block, full == Some(Full::Area));
        match full {
            Some(Full::Pool) if gone == 0 => Evicted::Full,
            Some(Full::Area) if gone == 0 => Evicted::Busy,
            _ => Evicted::Pages(gone),
        }
    }

    /// Gives the memory of the slots back that a block was drained of. How many pages went.
    fn give_back(&self, block: &mut Block) -> u64 {
        if block.given == block.next {
            return 0;
        }
        // SAFETY: no state word names these slots: their pages are stored, or were moved back.
        let given = unsafe { self.staging.give_back(block.slot(block.given), block.next - block.given) };
        if given.is_err() {
            // The pages stay charged, and the next one to drain tries again.
            return 0;
        }
        let gone = std::mem::take(&mut block.owed);
        block.given = block.next;
        self.uncharge(gone);
        gone
    }

    /// Compresses the page that a slot was filled with, if it still is there.
    fn compress(&self, slot: u32) -> Compressed {
        let gone = || if self.staging.was_left(slot) { Compressed::Left } else { Compressed::Gone };
        let Some(id) = self.staging.owner(slot) else { return Compressed::Left };
        let Some(region) = self.places[id.region].enter() else { return gone() };
        if id.page >= region.pages() {
            return gone();
        }
        // Who has the page claimed may still need the slot, and may fail and leave the page there.
        let claim = region.page(id.page).claim_if(|state| state.kind() == Kind::Staged(slot));
        let Some(mut claim) = claim else { return gone() };
        let seen = claim.was();
        if seen.copy() == Copied::Clean {
            add(&self.counters.dropped, 1);
        // SAFETY: the claim keeps the page in its slot.
        } else if let Err(full) = unsafe { self.store(&region, id.page, self.staging.address(slot) as *const u8) } {
            // What was there before went with the attempt.
            self.copies_went(u64::from(seen.copy() != Copied::No));
            claim.set(seen.with_copy(Copied::No));
            if full == Full::Area && self.put_in_place(id, &mut claim, slot) {
                return Compressed::Gone;
            }
            return Compressed::Full(full);
        }
        self.copies_went(u64::from(seen.copy() != Copied::No));
        claim.set(self.stored(seen));
        self.staging.went(1);
        Compressed::Yes
    }

    /// Moves a staged page back to its place, for its region is full by its own limit: where it is it would keep others
    /// from being staged. False: that can't be now.
    #[cold]
    fn put_in_place(&self, id: PageId, claim: &mut Claim<'_>, slot: u32) -> bool {
        let version = self.extents.version();
        let Some(at) = self.extents.address_of(id.region, id.page) else { return false };
        let Some(_inside) = self.enter(version, at, at + PAGE) else { return false };
        // SAFETY: the claim makes the slot's page this thread's.
        let moved = unsafe { self.uffd.move_pages(at, self.staging.address(slot), PAGE) };
        if moved.stopped.is_none() {
            claim.set(State::resident(MAX_AGE));
            self.staging.went(1);
        }
        moved.stopped.is_none()
    }

    /// Stores a page, and writes others back if that takes room. An error tells where there is none.
    ///
    /// # Safety
    /// A page of the pager's own can be read at `from`, which nobody changes meanwhile.
    pub unsafe fn store(&self, region: &Region, page: u64, from: *const u8) -> Result<(), Full> {
        for _ in 0..STORES {
            // SAFETY: the caller vouches for the page.
            match region.area.store_own(page, unsafe { &*from.cast() }) {
                Ok(()) => {
                    add(&self.counters.stored, 1);
                    return Ok(());
                }
                Err(Error::NoMemory(_)) if self.drop_copies(WRITE_BACK, true) > 0 => {}
                Err(error) if error == AREA_FULL => match region.area.shrink(WRITE_BACK) {
                    Ok(1..) | Err(Error::NotFound(_)) => {}
                    _ => {
                        region.note_full();
                        return Err(Full::Area);
                    }
                },
                Err(Error::NoMemory(_)) => match self.zswap.shrink(WRITE_BACK) {
                    Ok(1..) => self.pool_full.store(true, Relaxed),
                    // Others were faster, and have written back all there was: there is room by now. (Where they are
                    // at it, which is not told from a file that is full, the page stays: to wait would cost each store
                    // into a pool that is full for good.)
                    Err(Error::NotFound(_)) => {}
                    _ => return Err(Full::Pool),
                },
                Err(_) => return Err(Full::Pool),
            }
        }
        Err(Full::Pool)
    }

    /// The word of a page that leaves memory: with its age, and when it left, for should it be back soon.
    pub(super) fn stored(&self, was: State) -> State {
        State::stored(was.age(), self.departures.fetch_add(1, Relaxed) as u32)
    }

    /// Evicts until so many pages are resident at most, or `most` went, as far as that can be. Waits for others that
    /// are evicting, or that change the regions, but not for ever. The caller has no page claimed, and holds no lock.
    pub fn evict_to(&self, pages: u64, most: u64) -> Evicted {
        let (mut gone, mut fruitless, mut wait) = (0, 0, Wait::default());
        let mut effort = Effort::full(self);
        loop {
            let above = self.resident().saturating_sub(pages);
            let above = above.min(most.saturating_sub(gone));
            let end = |gone: u64| if gone > 0 || above == 0 { Evicted::Pages(gone) } else { Evicted::None };
            if above == 0 || fruitless == PATIENCE {
                return end(gone);
            }
            match self.evict_some(above.min(BLOCK as u64), &mut effort) {
                Evicted::Pages(some) => (gone, fruitless, wait) = (gone + some, 0, Wait::default()),
                Evicted::Full if gone == 0 => return Evicted::Full,
                Evicted::Full => return Evicted::Pages(gone),
                Evicted::None => return end(gone),
                Evicted::Busy => {
                    fruitless += 1;
                    // An event that is waiting to be read may be what others wait for.
                    self.read_events();
                    wait.a_moment();
                }
            }
        }
    }

    /// Picks pages from an address of an extent on, up to as many as a block has slots. Where the hand stands then.
    fn pick<'a>(
        &self,
        (region, extent, from): (&'a Region, &Extent, usize),
        picks: &mut Picks<'a>,
        most: usize,
        passed: &mut Passed,
        effort: &mut Effort,
    ) -> usize {
        let mut fence = false;
        if region.closing.load(Relaxed) {
            passed.claimed = true;
            return extent.end;
        }
        let mut at = from;
        // Another region, and a smaller one, may have the place by now: its pages are let go again.
        let end = extent
            .end
            .min(from + LOOKS * PAGE)
            .min(extent.start + (region.pages().saturating_sub(extent.first)) as usize * PAGE);
        while at < end && picks.count < most {
            let number = extent.page_at(at);
            let page = region.page(number);
            let seen = page.peek();
            let passes = seen.is_immovable() && !self.may_retry(effort);
            if seen.kind() == Kind::Resident(0) && !passes {
                if seen.age() > 0 && !seen.is_immovable() {
                    page.grow_older(seen);
                } else if let Some(mut claim) = page.try_claim(seen) {
                    if seen.is_immovable() {
                        self.retry(effort);
                        claim.set(self.unmarked(seen));
                    }
                    picks.push(claim, at, number, std::mem::take(&mut fence));
                } else {
                    passed.claimed = true;
                }
            }
            passed.claimed |= seen.kind() == Kind::Busy;
            // One that is claimed may be held, too.
            fence |= matches!(seen.kind(), Kind::Resident(1..) | Kind::Busy);
            at += PAGE;
        }
        at
    }
}

/// What became of a staged page.
enum Compressed {
    Yes,
    /// It was touched.
    Gone,
    /// It was given back, and its memory and charge were left.
    Left,
    /// There is no room for it.
    Full(Full),
}

/// What has no room for a page, and nothing that could be written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The pool.
    Pool,
    /// The region's own limit.
    Area,
}
