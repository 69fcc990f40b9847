//! Eviction in place: protect, copy, compress, drop. For memory files, and for private memory where pages can't be
//! moved or are not to be.
//!
//! A page is claimed all the while, and protected before it is copied: a thread that writes faults, and waits for the
//! claim; what it wrote before is in the copy. Threads that read go on until the page is dropped. Pages of private
//! memory are protected by one call, from the first that was picked to the last, and dropped by one: each such call
//! interrupts every other processor that runs this process, some 5 us, while moving single pages does so for each. A
//! page in between that is protected for nothing finds that out when it is written.

use super::core::Core;
use super::counts::add;
use super::evict::{Filled, Full};
use super::file_pages::Stuck;
use super::gate::Inside;
use super::immovable::{Effort, is_lasting};
use super::picks::Picks;
use super::region::{Memory, Region};
use super::scratch::{LOT, Lot};
use super::staging::BLOCK;
use super::word::{Copied, MAX_AGE};
use crate::os::{Backed, Errno, Span, errno};
use crate::units::PAGE;

/// What became of a picked page in zswap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It was not read: the system did not protect it, or its owner gave it back.
    Not,
    /// It is there, and the system does not let it be read.
    Unreadable,
    /// There is no room for it.
    Refused(Full),
    /// It is there.
    Stored,
}

impl Core {
    /// Protects picked pages from writes, but those that are clean, which are. The hand is held, so that no page in
    /// between becomes held meanwhile.
    pub(super) fn protect_picked(&self, region: &Region, picks: &mut Picks<'_>) {
        let Some(_inside) = self.enter_picked(picks) else {
            picks.unprotected.fill(true);
            return;
        };
        let mut first = 0;
        while first < picks.count {
            let end = if region.is_private() { picks.fenced(first) } else { picks.run(first) };
            let dirty = |pick: &usize| picks.was(*pick).copy() != Copied::Clean;
            let (low, high) = ((first..end).find(dirty), (first..end).rfind(dirty));
            if let (Some(low), Some(high)) = (low, high) {
                let (at, bytes) = (picks.at[low], picks.at[high] + PAGE - picks.at[low]);
                if self.uffd.protect(at, bytes, true).is_err() {
                    (low..=high).for_each(|pick| picks.unprotected[pick] = true);
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
    pub(super) fn copy_out(&self, region: &Region, picks: &mut Picks<'_>, effort: &mut Effort) -> Filled {
        // From the first byte that is read to the last page that is dropped.
        let Some(_inside) = self.enter_picked(picks) else { return Filled { busy: true, ..Filled::default() } };
        let mut put = [Put::Not; BLOCK];
        let mut first = 0;
        while first < picks.count {
            let end = (first + LOT).min(picks.count);
            let full = put.contains(&Put::Refused(Full::Pool));
            self.store_picked(region, picks, (first, end), full, &mut put);
            first = end;
        }
        let (gone, marked) = self.drop_picked(region, picks, &put, effort);
        Filled { gone, marked, full: gone == 0 && put.contains(&Put::Refused(Full::Pool)), ..Filled::default() }
    }

    /// Stores some picked pages; those that are clean are. Once the pool is full no other is tried: each attempt may
    /// be one to write others back to a file that is full as well.
    fn store_picked(
        &self,
        region: &Region,
        picks: &mut Picks<'_>,
        (first, end): (usize, usize),
        mut full: bool,
        put: &mut [Put; BLOCK],
    ) {
        let mut lot = self.scratch.take();
        let mut dirty = [0; LOT];
        let mut count = 0;
        for (pick, put) in put.iter_mut().enumerate().take(end).skip(first) {
            if picks.was(pick).copy() == Copied::Clean {
                *put = Put::Stored;
                add(&self.counters.dropped, 1);
            } else if full {
                *put = Put::Refused(Full::Pool);
            } else if !picks.unprotected[pick] {
                dirty[count] = pick;
                count += 1;
            }
        }
        let read = self.read_picked(region, picks, &dirty[..count], &mut lot);
        for (place, &pick) in dirty[..count].iter().enumerate() {
            if !read[place] {
                // Its owner gave it back, of which nobody was told: it has zeros, and now a page of them, which can go
                // the next time. Where there is a page, or nothing may be, this is refused.
                if self.uffd.zero(picks.at[pick], PAGE).stopped == Some(Errno(errno::EEXIST)) {
                    put[pick] = Put::Unreadable;
                }
                continue;
            }
            if full {
                put[pick] = Put::Refused(Full::Pool);
                continue;
            }
            // SAFETY: the lot has a page there.
            let stored = unsafe { self.store(region, picks.page[pick], lot.address(place)) };
            put[pick] = stored.map_or_else(Put::Refused, |()| Put::Stored);
            full = stored == Err(Full::Pool);
        }
    }

    /// Reads pages to the lot. Which of them; the others are not there, though their words say so.
    fn read_picked(&self, region: &Region, picks: &Picks<'_>, which: &[usize], lot: &mut Lot<'_>) -> [bool; LOT] {
        let mut read = [false; LOT];
        match &region.memory {
            Memory::Private => {
                let mut spans = [Span::new(std::ptr::null_mut(), 0); LOT];
                which
                    .iter()
                    .zip(&mut spans)
                    .for_each(|(&pick, span)| *span = Span::new(picks.at[pick] as *mut u8, PAGE));
                let mut first = 0;
                while first < which.len() {
                    // SAFETY: the lot has room for as many pages.
                    let pages = unsafe { self.own.read_pages(&spans[first..which.len()], lot.address(first)) };
                    read[first..first + pages].fill(true);
                    // Those after one that can't be read may be there.
                    first += pages + 1;
                }
            }
            Memory::Shared(file, offset) => {
                for (place, &pick) in which.iter().enumerate() {
                    let from = offset + picks.page[pick] * PAGE as u64;
                    read[place] = self.os.read_at(file, lot.page(place), from) == Ok(PAGE);
                }
            }
        }
        read
    }

    /// Drops pages that are stored. How many went, and how many turned out to be immovable.
    fn drop_picked(
        &self,
        region: &Region,
        picks: &mut Picks<'_>,
        put: &[Put; BLOCK],
        effort: &mut Effort,
    ) -> (u64, u64) {
        let together = self.drop_together(region, picks, put);
        let (mut tried, mut gone, mut marked, mut stuck) = (0, 0, 0, Stuck::default());
        for (pick, put) in put.iter().enumerate().take(picks.count) {
            let was = picks.was(pick);
            // What went together is gone: to drop it once more may fail, where its owner has locked it meanwhile.
            let went = *put == Put::Stored && tried < together;
            tried += usize::from(*put == Put::Stored);
            let dropped = match *put {
                Put::Stored if went => Ok(()),
                Put::Stored => self.drop_in_place(region, picks, pick, &mut stuck),
                Put::Unreadable => Err(Errno(errno::EPERM)),
                Put::Not | Put::Refused(_) => Err(Errno(errno::EAGAIN)),
            };
            self.copies_went(u64::from(was.copy() != Copied::No));
            let Err(Errno(refused)) = dropped else {
                if picks.is_retried(pick) {
                    self.retry_at_once();
                }
                // Before the claim ends: whoever finds nothing to evict must not find the page charged.
                self.uncharge(1);
                picks.end(pick, self.stored(was));
                gone += 1;
                continue;
            };
            // Whatever copy there is now, the word says that there is none.
            self.forget(region, picks.page[pick]);
            add(&self.counters.pinned, u64::from(!matches!(put, Put::Refused(_))));
            let stays = was.with_copy(Copied::No).with_age(MAX_AGE);
            if is_lasting(refused) {
                effort.fail(true);
                marked += 1;
                picks.end(pick, self.marked(stays));
            } else {
                picks.end(pick, stays);
            }
        }
        if !region.is_private() && self.held() > 0 {
            (0..picks.count).for_each(|pick| self.show_held_around(region, picks.page[pick], picks.at[pick]));
        }
        (gone, marked)
    }

    /// Drops private pages that are stored by one call, if the system has one. How many went, from the first on.
    fn drop_together(&self, region: &Region, picks: &Picks<'_>, put: &[Put; BLOCK]) -> usize {
        let mut spans = [Span::new(std::ptr::null_mut(), 0); BLOCK];
        let mut count = 0;
        for pick in (0..picks.count).filter(|&pick| put[pick] == Put::Stored) {
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
    fn drop_in_place(&self, region: &Region, picks: &Picks<'_>, pick: usize, stuck: &mut Stuck) -> Result<(), Errno> {
        let at = picks.at[pick];
        match &region.memory {
            // MADV_DONTNEED can't return 0 for a page that it left: it takes the page out of this process's tables, and
            // private memory has no other place. Somebody's pin keeps the old page, and not what is read here.
            // SAFETY: the page is in zswap, protected and claimed.
            Memory::Private => unsafe { self.os.release(at as *mut u8, PAGE, Backed::LentReleasable).map(|_| ()) },
            Memory::Shared(..) => self.drop_from_file(region, picks.page[pick], at, stuck),
        }
    }
}
