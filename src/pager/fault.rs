//! Serving a touch: what the page's state word says decides what is put in its place.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::file_pages::Shown;
use super::page::Claim;
use super::region::Region;
use super::scratch::{LOT, Lot};
use super::word::{Copied, Kind, MAX_AGE, State};
use crate::error::Error;
use crate::os::errno;
use crate::os::userfault::Progress;
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;
use crate::zswap::{DAMAGED, LoadFlags};

/// How often a call that the system refuses is tried again before the touch fails: a second or so.
pub(super) const TRIES: u32 = 1000;
/// How often by a lent thread, for which others may wait as well: milliseconds. Who touched touches again.
pub(super) const FEW_TRIES: u32 = 6;

/// How serving a touch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// The page is in place, or a signal is what the touch gets.
    Done,
    /// No region has the address.
    Unknown,
    /// The system refuses what it takes; nothing is lost, and the page is not in place.
    Failed(Error),
}

/// Why a page is not in place yet.
enum Stop {
    /// Something came in between: look again.
    Again,
    /// Its owner gave the page back, and the system has not taken it out of its place yet.
    Leaving,
    /// Its owner gave the page back together with many others, which were not all seen to yet.
    Shut,
    /// The system refuses.
    Refused(Error),
}

/// What is wanted of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// It is about to be written.
    pub write: bool,
    /// It is to be held as well.
    pub hold: bool,
}

const COPY: Error = Error::Again(&"the system refuses UFFDIO_COPY");
const ZERO: Error = Error::Again(&"the system refuses UFFDIO_ZEROPAGE");
const MOVE: Error = Error::Again(&"the system refuses UFFDIO_MOVE out of the staging range");
const SHOW: Error = Error::Again(&"the system refuses UFFDIO_CONTINUE");
const WRITE: Error = Error::Again(&"the memory file of a region can't be written: is its file system full?");
const PROTECT: Error = Error::Again(&"the system refuses UFFDIO_WRITEPROTECT");
pub(super) const MOVING: Error = Error::Again(&"the owner of the memory gives it back or moves it all the time");
const LOST: Error = Error::Io(&"the stored copy of a page is damaged");

impl Core {
    /// Puts the page of an address in its place. Takes no lock that a thread could hold which this interrupted, and
    /// allocates nothing.
    pub fn serve(&self, at: usize, want: Want) -> Served {
        self.serve_within(TRIES, at, want)
    }

    /// The same, but ends with so many refusals.
    pub fn serve_within(&self, most: u32, at: usize, want: Want) -> Served {
        let at = at & !(PAGE - 1);
        let mut wait = Wait::default();
        let mut last = MOVING;
        let (mut tries, mut refusals, mut leaving) = (0, 0, 0);
        while tries < TRIES && refusals < most {
            tries += 1;
            let version = self.extents.version();
            let Some(extent) = self.extents.find(at) else { return Served::Unknown };
            let Some(region) = self.places[extent.region].enter() else { continue };
            match self.touch(&region, &extent, at, want, (version, leaving < TRIES)) {
                Ok(()) => {
                    add(&self.counters.faults, 1);
                    return Served::Done;
                }
                Err(Stop::Refused(error)) if error == LOST => return Served::Failed(error),
                Err(Stop::Refused(error)) => (refusals, last) = (refusals + 1, error),
                Err(Stop::Again) => {}
                // That ends by itself, so whoever serves waits for it. What became resident now could be moved away
                // before the system looks for it, and would come back as it was.
                Err(Stop::Leaving) => (tries, leaving) = (tries - 1, leaving + 1),
                // That ends by itself, too, and sooner if this thread helps.
                Err(Stop::Shut) => {
                    drop(region);
                    tries -= 1;
                    if !self.do_some_work() {
                        wait.a_moment();
                    }
                    continue;
                }
            }
            drop(region);
            add(&self.counters.retries, 1);
            self.read_events();
            if tries + leaving > 3 {
                wait.a_moment();
            }
        }
        add(&self.counters.failed, 1);
        Served::Failed(last)
    }

    fn touch(
        &self,
        region: &Region,
        extent: &Extent,
        at: usize,
        want: Want,
        (version, waits): (u64, bool),
    ) -> Result<(), Stop> {
        let number = extent.page_at(at);
        if number >= region.pages() {
            // Another region has its place by now.
            return Err(Stop::Again);
        }
        let page = region.page(number);
        // While the state word is fetched, so is what comes next.
        region.area.prefetch(number);
        let needs_room = matches!(page.peek().kind(), Kind::Empty | Kind::Stored);
        if needs_room {
            // Before the page is claimed: evicting takes its time, and others may be waiting for this very page. What a
            // region that is being removed takes is not the pager's any more in a moment.
            if region.closing.load(Relaxed) { self.charge_above(1) } else { self.charge(1) }
        }
        let mut claim = page.claim();
        let has_room = needs_room && matches!(claim.was().kind(), Kind::Empty | Kind::Stored);
        if needs_room && !has_room {
            self.uncharge(1);
        }
        let inside = self.enter(version, at, at + PAGE);
        let done = match claim.was().kind() {
            _ if inside.is_none() && self.gate.is_shut(at, at + PAGE) => Err(Stop::Shut),
            _ if inside.is_none() => Err(Stop::Again),
            Kind::Empty | Kind::Stored if !has_room => Err(Stop::Again),
            Kind::Empty => self.zero_in(region, &mut claim, at, waits && self.moves),
            Kind::Stored => self.load_in(region, extent, &mut claim, at, want),
            Kind::Staged(slot) => self.move_back(&mut claim, slot, at),
            Kind::Resident(_) if region.is_private() => self.again_in(region, &mut claim, at, want),
            Kind::Resident(_) => self.again_in_file(region, extent, &mut claim, at, want),
            Kind::Busy => Err(Stop::Again),
            Kind::Poisoned => Err(Stop::Refused(LOST)),
        };
        if done.is_err() && has_room {
            self.uncharge(1);
        }
        done?;
        if want.hold {
            self.hold_claimed(&mut claim);
        }
        Ok(())
    }

    /// Fills an EMPTY page with zeros. `may_be_leaving`: a private page that is there already is one that its owner is
    /// giving back at this moment. A page that a memory file has already stays as it is.
    fn zero_in(&self, region: &Region, claim: &mut Claim<'_>, at: usize, may_be_leaving: bool) -> Result<(), Stop> {
        if !self.put_zeros(at)? {
            if !region.is_private() {
                self.show_again(at)?;
            } else if may_be_leaving {
                return Err(Stop::Leaving);
            }
        }
        add(&self.counters.zero_fills, 1);
        claim.set(State::resident(0));
        Ok(())
    }

    /// Serves a touch of a private page whose word says that it is in place: it is written for the first time, or
    /// another thread was faster. If it is missing all the same, its owner gave it back, and it reads as zero.
    fn again_in(&self, region: &Region, claim: &mut Claim<'_>, at: usize, want: Want) -> Result<(), Stop> {
        debug_assert!(matches!(claim.was().kind(), Kind::Resident(_)));
        let was_clean = claim.was().copy() == Copied::Clean;
        let is_first_write = was_clean && want.write;
        // A page that is missing and written for the first time comes here again at once.
        let was_missing = !is_first_write && self.put_zeros(at)?;
        if want.write && region.protects && !was_missing {
            self.uffd.protect(at, PAGE, false).or_else(|errno| self.refused(at, errno.0, PROTECT))?;
        }
        if is_first_write || was_clean && was_missing {
            add(&self.counters.first_writes, u64::from(is_first_write));
            claim.set(claim.was().with_copy(Copied::Stale));
        }
        Ok(())
    }

    /// Serves a touch of a page of a memory file whose word says that it is in place: it is written for the first time,
    /// or it is in the file and not mapped. The system unmaps pages when it splits or makes huge pages. A page that is
    /// not in the file was given back by its owner, and reads as zero.
    fn again_in_file(
        &self,
        region: &Region,
        extent: &Extent,
        claim: &mut Claim<'_>,
        at: usize,
        want: Want,
    ) -> Result<(), Stop> {
        let was_clean = claim.was().copy() == Copied::Clean;
        let is_first_write = was_clean && want.write;
        // What is mapped now is not protected.
        let is_new = match is_first_write && !want.hold {
            // It was most likely protected, and otherwise the touch comes here again at once.
            true => false,
            false => match self.show(at) {
                Ok(Shown::Now) => true,
                Ok(Shown::Before) => false,
                Ok(Shown::Missing) => self.put_zeros(at)?,
                Err(errno) => self.refused(at, errno.0, SHOW).map(|()| false)?,
            },
        };
        if is_new {
            region.may_be_huge.store(true, Relaxed);
        }
        if is_new && let Some(next) = at.checked_add(PAGE).filter(|&next| next < extent.end) {
            self.show_ahead(region, extent.page_at(next), next, self.gate.open_until(at, extent.end));
        }
        if want.write && region.protects && !is_new {
            self.uffd.protect(at, PAGE, false).or_else(|errno| self.refused(at, errno.0, PROTECT))?;
        } else if !is_new {
            // It was mapped by another thread, or by a call for its neighbour, which does not wake who waits for it.
            let _ = self.uffd.wake(at, PAGE);
        }
        if was_clean && (want.write || is_new) {
            add(&self.counters.first_writes, u64::from(is_first_write));
            claim.set(claim.was().with_copy(Copied::Stale));
        }
        Ok(())
    }

    /// Maps a page that its file has, or had a moment ago.
    fn show_again(&self, at: usize) -> Result<(), Stop> {
        match self.show(at) {
            Ok(Shown::Now) => Ok(()),
            Ok(Shown::Before) => self.refused(at, errno::EEXIST, SHOW),
            Ok(Shown::Missing) => Err(Stop::Again),
            Err(errno) => self.refused(at, errno.0, SHOW),
        }
    }

    /// Puts zeros where a page is missing. False: there is one.
    fn put_zeros(&self, at: usize) -> Result<bool, Stop> {
        match self.uffd.zero(at, PAGE) {
            Progress { stopped: None, .. } => Ok(true),
            Progress { stopped: Some(errno), .. } => self.refused(at, errno.0, ZERO).map(|()| false),
        }
    }

    /// What it means that the system refused to fill a page.
    fn refused(&self, at: usize, refused: i32, error: Error) -> Result<(), Stop> {
        match refused {
            // There is a page already. Nobody is woken by a call that did nothing.
            errno::EEXIST => {
                let _ = self.uffd.wake(at, PAGE);
                Ok(())
            }
            // An event has to be read first; or the range is not what it was.
            errno::EAGAIN | errno::ENOENT => Err(Stop::Again),
            _ => Err(Stop::Refused(error)),
        }
    }

    /// A page that waits in the staging range comes back as it is.
    fn move_back(&self, claim: &mut Claim<'_>, slot: u32, at: usize) -> Result<(), Stop> {
        // SAFETY: the claim makes the slot's page this thread's.
        let moved = unsafe { self.uffd.move_pages(at, self.staging.address(slot), PAGE) };
        match moved.stopped.map(|errno| errno.0) {
            None => {}
            // There is a page in its place: it is what the program has seen, and the staged one is of no use.
            Some(errno @ (errno::EEXIST | errno::EAGAIN | errno::ENOENT)) => {
                self.refused(at, errno, MOVE)?;
                self.free_slot(slot);
            }
            Some(_) => self.copy_back(slot, at)?,
        }
        let age = (claim.was().age() + 1).min(MAX_AGE);
        // Where it is now nothing protects it.
        let copy = if claim.was().copy() == Copied::No { Copied::No } else { Copied::Stale };
        claim.set(State::resident(age).with_copy(copy));
        self.staging.went(1);
        add(&self.counters.rescues, 1);
        Ok(())
    }

    /// The system does not move a page to where it may be less, as after mprotect or mlock by its owner. It copies it.
    #[cold]
    fn copy_back(&self, slot: u32, at: usize) -> Result<(), Stop> {
        // SAFETY: the claim makes the slot's page this thread's, and the one that is missing.
        let copied = unsafe { self.uffd.copy(at, self.staging.address(slot) as *const u8, PAGE, false) };
        if let Some(stopped) = copied.stopped {
            self.refused(at, stopped.0, MOVE)?;
        }
        self.free_slot(slot);
        Ok(())
    }

    /// The page in a slot is in its place as well, and the caller's claim ends with that.
    #[cold]
    fn free_slot(&self, slot: u32) {
        // SAFETY: the claim makes the slot's page this thread's, and no word names the slot from its end on.
        if unsafe { self.staging.give_back(slot, 1) }.is_err() {
            self.staging.leave(slot);
            self.charge_above(1);
        }
    }

    /// A page that is in zswap, and those after it if the program seems to go through them in order.
    fn load_in(
        &self,
        region: &Region,
        extent: &Extent,
        first: &mut Claim<'_>,
        at: usize,
        want: Want,
    ) -> Result<(), Stop> {
        let page = extent.page_at(at);
        let mut lot = self.scratch.take();
        match region.area.load_own(page, lot.page(0), LoadFlags::KEEP) {
            Ok(()) => {}
            Err(error) if error == DAMAGED => return self.poison(region, first, at),
            Err(error) => return Err(Stop::Refused(error)),
        }
        let mut ahead: [Option<Claim<'_>>; LOT] = [const { None }; LOT];
        let room = ((self.gate.open_until(at, extent.end) - at) / PAGE).min(region.ahead.window(page));
        let count = 1 + load_ahead(region, page + 1, &mut lot, &mut ahead[..room.saturating_sub(1)]);
        let keeps = self.keeps(region, want, count as u64);
        // They do not wait for room: their number is bounded, so that the limit holds nearly.
        self.charge_above(count as u64 - 1);
        // SAFETY: the lot has so many pages, and the claims make the missing ones this thread's.
        let mut copied = unsafe { self.uffd.copy(at, lot.address(0), count * PAGE, keeps == Copied::Clean) };
        if copied.bytes == 0 && count > 1 {
            // Those ahead may be in another mapping, and one call does not fill two.
            // SAFETY: as above.
            copied = unsafe { self.uffd.copy(at, lot.address(0), PAGE, keeps == Copied::Clean) };
        }
        let done = copied.bytes / PAGE;
        self.uncharge((count - done.max(1)) as u64);
        if done == 0 {
            let errno = copied.stopped.map_or(errno::EAGAIN, |errno| errno.0);
            if errno == errno::EEXIST && !region.is_private() {
                // It is a page that the system could not take out of the file, or one that came to the file by another
                // mapping. Nobody has seen it in this one.
                self.put_into_file(region, page, lot.page(0)).map_err(|_| Stop::Refused(WRITE))?;
                self.show_again(at)?;
            } else {
                // A private page that is there already is not what was decoded.
                self.refused(at, errno, COPY)?;
            }
        }
        // The bytes are in place now, and only now may the copies go.
        let copy = if done == 0 { Copied::Stale } else { keeps };
        let age = self.age_of(first.was());
        first.set(self.resident_with(region, page, copy).with_age(age));
        for (next, claim) in (page + 1..).zip(ahead.iter_mut().take(done.max(1) - 1)) {
            claim.as_mut().expect("it was loaded").set(self.resident_with(region, next, copy));
        }
        region.ahead.loaded(page, done.max(1));
        add(&self.counters.loads, 1);
        add(&self.counters.loads_ahead, done.max(1) as u64 - 1);
        Ok(())
    }

    /// How old a page is that comes back: one that did not stay away for long is used more often than others.
    fn age_of(&self, stored: State) -> u32 {
        let away = stored.departures_since(self.departures.load(Relaxed) as u32);
        if u64::from(away) < self.limit() / 4 { (stored.age() + 1).min(MAX_AGE) } else { 0 }
    }

    /// What becomes of the copies of pages that were decoded. Clean ones are kept as far as there are not too many; and
    /// a thread that evicts in the background sees to those that are stale, unless it has enough of them: they take
    /// memory of the pool.
    fn keeps(&self, region: &Region, want: Want, pages: u64) -> Copied {
        let (copies, most) = (self.copies() + pages, self.most_copies());
        match !want.write && region.protects && copies <= most {
            true => Copied::Clean,
            false if self.evictors.load(Relaxed) > 0 && copies <= most + self.reserve() => Copied::Stale,
            false => Copied::No,
        }
    }

    /// What the word says of a page that was put in place. Without a copy, if that is what it is to be.
    fn resident_with(&self, region: &Region, page: u64, copy: Copied) -> State {
        match copy {
            Copied::No => self.forget(region, page),
            _ => self.copies_came(1),
        }
        State::resident(0).with_copy(copy)
    }

    /// A page whose copy is damaged never reads as anything: whoever touches it gets SIGBUS.
    #[cold]
    fn poison(&self, region: &Region, claim: &mut Claim<'_>, at: usize) -> Result<(), Stop> {
        let mut poisoned = self.uffd.poison(at, PAGE);
        if poisoned.stopped.is_some_and(|errno| errno.0 == errno::EEXIST) && region.protects {
            // A page of a memory file leaves its protection behind, in the place where the mark has to be.
            self.uffd.protect(at, PAGE, false).or_else(|errno| self.refused(at, errno.0, LOST))?;
            poisoned = self.uffd.poison(at, PAGE);
        }
        match poisoned.stopped.map(|errno| errno.0) {
            None => {}
            Some(errno::EAGAIN) => return Err(Stop::Again),
            // The system has no such thing: the touch fails each time it comes here.
            Some(_) => return Err(Stop::Refused(LOST)),
        }
        add(&self.counters.poisoned, 1);
        claim.set(State::POISONED);
        Err(Stop::Refused(LOST))
    }

    /// How many pages that are resident or staged have a copy in zswap.
    pub fn copies(&self) -> u64 {
        self.copies.load(Relaxed)
    }

    /// Such pages came.
    pub fn copies_came(&self, pages: u64) {
        self.copies.fetch_add(pages, Relaxed);
    }

    /// Such pages have none any more, or are stored.
    pub fn copies_went(&self, pages: u64) {
        self.copies.fetch_sub(pages, Relaxed);
    }

    /// Most copies that are kept.
    fn most_copies(&self) -> u64 {
        self.limit().saturating_mul(self.kept_percent.load(Relaxed)) / 100
    }

    /// How many pages are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }
}

/// Decodes pages from `first` on, each to its place in the lot, as far as they are in zswap and nobody has them
/// claimed. How many.
fn load_ahead<'a>(region: &'a Region, first: u64, lot: &mut Lot<'_>, claims: &mut [Option<Claim<'a>>]) -> usize {
    for (number, place) in claims.iter_mut().enumerate() {
        let page = region.page(first + number as u64);
        let seen = page.peek();
        let claim = if seen.kind() == Kind::Stored { page.try_claim(seen) } else { None };
        let loaded = claim.is_some()
            && region.area.load_own(first + number as u64, lot.page(number + 1), LoadFlags::KEEP).is_ok();
        if !loaded {
            return number;
        }
        *place = claim;
    }
    claims.len()
}
