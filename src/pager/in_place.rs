//! Eviction in place: protect, copy, compress, drop. For memory files, and for private memory if pages can't be moved
//! or the options say so.
//!
//! A page is claimed all the while, and protected before it is copied. A thread that writes to it faults, and waits for
//! the claim; what it wrote before is in the copy. Threads that read go on until the page is dropped. Pages of private
//! memory are protected by one call, from the first that was picked to the last, and dropped by one. Each such call
//! interrupts every other processor that runs this process, some 5 us, while moving single pages does so for each. A
//! page in between that is protected needlessly gets its protection lifted by its first write.

use super::core::Core;
use super::counts::add;
use super::file_pages::Stuck;
use super::gate::Inside;
use super::hand_turn::HandTurn;
use super::immovable::{Effort, is_lasting};
use super::picks::{PICKS, Picks};
use super::region::{Memory, RegionState};
use super::scratch::{BUFFER_PAGES, PageBuffer};
use super::state::{KeptCopy, MAX_AGE};
use super::store::NoRoom;
use crate::os::{Backed, Errno, Span, errno};
use crate::units::PAGE;

/// What became of a picked page in zswap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreOutcome {
    /// The page was not read: the system did not protect it, or its owner gave it back.
    Not,
    /// The page is in its place, and the system does not let it be read.
    Unreadable,
    /// There is no room for the page.
    Refused(NoRoom),
    /// zswap has the page.
    Stored,
}

impl Core {
    /// Protects picked pages from writes, except clean ones, which are protected already. The caller has a lane of the
    /// hand: a thread that holds a page in between meanwhile waits for it, and lifts the protection then.
    pub(super) fn protect_picked(&self, region: &RegionState, picks: &mut Picks<'_>) {
        let Some(_inside) = self.enter_picked(picks) else {
            (0..picks.count).for_each(|pick| picks.refuse(pick));
            return;
        };
        let mut first = 0;
        while first < picks.count {
            let end = if region.is_private() { picks.fenced(first) } else { picks.run(first) };
            let dirty = |pick: &usize| picks.was(*pick).copy() != KeptCopy::Clean;
            let (low, high) = ((first..end).find(dirty), (first..end).rfind(dirty));
            if let (Some(low), Some(high)) = (low, high) {
                let (at, bytes) = (picks.at[low], picks.at[high] + PAGE - picks.at[low]);
                if self.uffd.protect(at, bytes, true).is_err() {
                    (low..=high).for_each(|pick| picks.refuse(pick));
                }
            }
            first = end;
        }
    }

    /// Enters the gate for all that was picked.
    fn enter_picked(&self, picks: &Picks<'_>) -> Option<Inside<'_>> {
        let last = picks.count.checked_sub(1)?;
        self.enter(picks.version, picks.at[0], picks.at[last] + PAGE)
    }

    /// Evicts picked pages that were protected.
    pub(super) fn evict_in_place(&self, region: &RegionState, picks: &mut Picks<'_>, effort: &mut Effort) -> HandTurn {
        // The gate stays open to this thread from the first byte that is read to the last page that is dropped.
        let Some(_inside) = self.enter_picked(picks) else { return HandTurn { busy: true, ..HandTurn::default() } };
        let mut put = [StoreOutcome::Not; PICKS];
        let mut first = 0;
        while first < picks.count {
            let end = (first + BUFFER_PAGES).min(picks.count);
            let full = put.contains(&StoreOutcome::Refused(NoRoom::Pool));
            self.store_picked(region, picks, (first, end), full, &mut put);
            first = end;
        }
        let (gone, marked) = self.drop_picked(region, picks, &put, effort);
        HandTurn {
            gone,
            marked,
            full: gone == 0 && put.contains(&StoreOutcome::Refused(NoRoom::Pool)),
            ..HandTurn::default()
        }
    }

    /// Stores some picked pages. Clean ones are stored already. Once the pool is full no other page is tried: each
    /// attempt may try to write others back to a file that is full as well.
    fn store_picked(
        &self,
        region: &RegionState,
        picks: &mut Picks<'_>,
        (first, end): (usize, usize),
        mut full: bool,
        put: &mut [StoreOutcome; PICKS],
    ) {
        let mut buffer = self.scratch.take();
        let mut dirty = [0; BUFFER_PAGES];
        let mut count = 0;
        for (pick, put) in put.iter_mut().enumerate().take(end).skip(first) {
            if picks.was(pick).copy() == KeptCopy::Clean {
                *put = StoreOutcome::Stored;
                add(&self.counters.dropped, 1);
            } else if full {
                *put = StoreOutcome::Refused(NoRoom::Pool);
            } else if picks.is_protected(pick) {
                dirty[count] = pick;
                count += 1;
            }
        }
        let read = self.read_picked(region, picks, &dirty[..count], &mut buffer);
        for (place, &pick) in dirty[..count].iter().enumerate() {
            if !read[place] {
                // The page was not read. If nothing is mapped, its owner gave it back unnoticed: put zeros there, which
                // can be evicted later. EEXIST: a page is mapped and can't be read. After any other refusal it is tried
                // again later.
                if self.uffd.zero(picks.at[pick], PAGE).stopped == Some(Errno(errno::EEXIST)) {
                    put[pick] = StoreOutcome::Unreadable;
                }
                continue;
            }
            if full {
                put[pick] = StoreOutcome::Refused(NoRoom::Pool);
                continue;
            }
            // SAFETY: the buffer has a page there.
            let stored = unsafe { self.store(region, picks.page(pick), buffer.address(place)) };
            put[pick] = stored.map_or_else(StoreOutcome::Refused, |()| StoreOutcome::Stored);
            full = stored == Err(NoRoom::Pool);
        }
    }

    /// Reads pages to the buffer. Returns which were read. The others are not mapped, though their words say so.
    fn read_picked(
        &self,
        region: &RegionState,
        picks: &Picks<'_>,
        which: &[usize],
        buffer: &mut PageBuffer<'_>,
    ) -> [bool; BUFFER_PAGES] {
        let mut read = [false; BUFFER_PAGES];
        match &region.memory {
            Memory::Private => {
                let mut spans = [Span::new(std::ptr::null_mut(), 0); BUFFER_PAGES];
                which
                    .iter()
                    .zip(&mut spans)
                    .for_each(|(&pick, span)| *span = Span::new(picks.at[pick] as *mut u8, PAGE));
                let mut first = 0;
                while first < which.len() {
                    // SAFETY: the buffer has room for as many pages.
                    let pages = unsafe { self.own.read_pages(&spans[first..which.len()], buffer.address(first)) };
                    read[first..first + pages].fill(true);
                    // Pages after one that can't be read may be there.
                    first += pages + 1;
                }
            }
            Memory::Shared(file, offset) => {
                for (place, &pick) in which.iter().enumerate() {
                    let from = offset + picks.page(pick) * PAGE as u64;
                    read[place] = self.os.read_at(file, buffer.page(place), from) == Ok(PAGE);
                }
            }
        }
        read
    }

    /// Drops pages that are stored. Returns how many left memory, and how many turned out to be immovable.
    fn drop_picked(
        &self,
        region: &RegionState,
        picks: &mut Picks<'_>,
        put: &[StoreOutcome; PICKS],
        effort: &mut Effort,
    ) -> (u64, u64) {
        let together = self.drop_together(region, picks, put);
        let (mut tried, mut gone, mut marked, mut stuck) = (0, 0, 0, Stuck::default());
        for (pick, put) in put.iter().enumerate().take(picks.count) {
            let was = picks.was(pick);
            // Pages that one call dropped are gone. Dropping one again may fail, if its owner has locked it meanwhile.
            let went = *put == StoreOutcome::Stored && tried < together;
            tried += usize::from(*put == StoreOutcome::Stored);
            let dropped = match *put {
                StoreOutcome::Stored if went => Ok(()),
                StoreOutcome::Stored => self.drop_in_place(region, picks, pick, &mut stuck),
                StoreOutcome::Unreadable => Err(Errno(errno::EPERM)),
                StoreOutcome::Not | StoreOutcome::Refused(_) => Err(Errno(errno::EAGAIN)),
            };
            self.kept.remove(u64::from(was.copy() != KeptCopy::No));
            let Err(Errno(refused)) = dropped else {
                if picks.is_retried(pick) {
                    self.immovable.retry_at_once();
                }
                // Before the claim ends: a thread that finds nothing to evict must not find the page charged.
                self.account.uncharge(1);
                picks.end(pick, self.stored(was));
                gone += 1;
                continue;
            };
            // The page stays, and its new state will say that zswap has no copy. So remove the copy that zswap may
            // have.
            self.forget(region, picks.page(pick));
            add(&self.counters.pinned, u64::from(!matches!(put, StoreOutcome::Refused(_))));
            let stays = was.with_copy(KeptCopy::No).with_age(MAX_AGE);
            if is_lasting(refused) {
                effort.fail(true, picks.is_retried(pick));
                marked += 1;
                picks.end(pick, self.immovable.marked(stays));
            } else {
                picks.end(pick, stays);
            }
        }
        if !region.is_private() && self.holds.pages() > 0 {
            (0..picks.count).for_each(|pick| self.show_held_around(region, picks.page(pick), picks.at[pick]));
        }
        add(&self.counters.evicted_in_place, gone);
        (gone, marked)
    }

    /// Drops stored private pages by one call, if the system has one. Returns how many of them were dropped, from the
    /// first on. Not inlined: its spans would be on the stack of a signal handler while pages are compressed.
    #[inline(never)]
    fn drop_together(&self, region: &RegionState, picks: &Picks<'_>, put: &[StoreOutcome; PICKS]) -> usize {
        let mut spans = [Span::new(std::ptr::null_mut(), 0); PICKS];
        let mut count = 0;
        for pick in (0..picks.count).filter(|&pick| put[pick] == StoreOutcome::Stored) {
            spans[count] = Span::new(picks.at[pick] as *mut u8, PAGE);
            count += 1;
        }
        match region.is_private() && count > 1 {
            // SAFETY: the pages are in zswap, protected and claimed.
            true => unsafe { self.os.release_many(&spans[..count]) }.unwrap_or(0) / PAGE,
            false => 0,
        }
    }

    /// Drops a page that is in zswap, protected and claimed.
    fn drop_in_place(
        &self,
        region: &RegionState,
        picks: &Picks<'_>,
        pick: usize,
        stuck: &mut Stuck,
    ) -> Result<(), Errno> {
        let at = picks.at[pick];
        match &region.memory {
            // MADV_DONTNEED can't return 0 for a page that it left: it takes the page out of this process's tables, and
            // private memory has no other place. Somebody's pin keeps the old page, and not what is read here.
            // SAFETY: the page is in zswap, protected and claimed.
            Memory::Private => unsafe { self.os.release(at as *mut u8, PAGE, Backed::LentReleasable).map(|_| ()) },
            Memory::Shared(..) => self.drop_from_file(region, picks.page(pick), at, stuck),
        }
    }
}
