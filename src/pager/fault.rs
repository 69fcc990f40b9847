//! Serving a touch: the page's state word decides what is put in the page's place.

use super::away_wait::AwayWait;
use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::file_pages::Shown;
use super::options::FaultMode;
use super::page::PageClaim;
use super::region::RegionState;
use super::state::{KeptCopy, MAX_AGE, PageKind, PageState};
use crate::error::{Error, sentence};
use crate::os::errno;
use crate::os::sigbus::Touch;
use crate::os::userfault::Progress;
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;
use crate::zswap::TierAccess;
use std::time::Instant;

/// How often a call that the system refuses is tried again before the touch fails: a second or so.
pub const TRIES: u32 = 1000;
/// How often a lent thread tries: for some milliseconds, because other touches may wait for it as well. The thread that
/// touched touches again.
pub const FEW_TRIES: u32 = 6;

/// How serving a touch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultOutcome {
    /// The page is in place, or poisoned so that the touch gets a signal.
    Done,
    /// No region has the address.
    Unknown,
    /// The system refuses a call that serving the touch needs. Nothing is lost, and the page is not in place.
    Failed(Error),
}

/// Why a page is not in place yet.
pub(super) enum Stop {
    /// Something came in between: look again.
    Again,
    /// The owner gave the page back, and the system has not taken it out of its place yet.
    Leaving,
    /// The owner gave the page back together with many others, not all of which are discarded yet.
    Shut,
    /// The stored copy of the page is damaged.
    Lost,
    /// The system refuses a call that bringing the page back needs.
    Refused(Error),
    /// The page is on a tier that a signal handler may not call.
    NeedsThread,
    /// The page's tier can't be reached now, or no thread is lent that may call it.
    Away(Error),
}

/// What a touch wants of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The page is about to be written.
    pub write: bool,
    /// The page is held as well.
    pub hold: bool,
    /// The tiers that the thread may use which serves the touch.
    pub tiers: TierAccess,
}

impl Want {
    /// What a call of the program's wants, which is not in a signal handler: it holds pages, which may be written, or
    /// only needs them in memory.
    pub(super) fn of_call(holds: bool) -> Self {
        Self { write: holds, hold: holds, tiers: TierAccess::All }
    }
}

const ZERO: Error = Error::Again(sentence(&"the system refuses UFFDIO_ZEROPAGE"));
const MOVE: Error = Error::Again(sentence(&"the system refuses UFFDIO_MOVE out of the staging range"));
const SHOW: Error = Error::Again(sentence(&"the system refuses UFFDIO_CONTINUE"));
const PROTECT: Error = Error::Again(sentence(&"the system refuses UFFDIO_WRITEPROTECT"));
/// The memory was changing each time that a page was looked up.
pub(super) const MOVING: Error =
    Error::Again(sentence(&"the owner of the memory keeps giving it back or moving it: try again"));
const LOST: Error = Error::Damaged(sentence(&"the stored copy of a page is damaged"));

impl Core {
    /// Serves a touch in the thread that touches, in a signal handler. Returns none if the address is not the pager's,
    /// or not any more; false if the touch can't be served.
    pub fn serve_signal(&self, touch: Touch) -> Option<bool> {
        debug_assert!(self.mode == FaultMode::Sigbus);
        if self.guard.in_child() {
            // What a child has at this address is its own.
            return None;
        }
        for _ in 0..2 {
            match self.serve_timed(TRIES, touch.at, touch.write) {
                FaultOutcome::Done => return Some(true),
                // The event that tells the address may not have been read yet.
                FaultOutcome::Unknown => self.read_events(),
                FaultOutcome::Failed(_) => return Some(false),
            }
        }
        None
    }

    /// Serves a touch, and measures how long every eighth takes: reading the clock twice takes 2 % of a touch.
    pub(super) fn serve_timed(&self, refusals: u32, at: usize, write: bool) -> FaultOutcome {
        let want = Want { write, hold: false, tiers: self.access() };
        if !self.counters.faults.load(Relaxed).is_multiple_of(8) {
            return self.serve_within(refusals, at, want);
        }
        let start = Instant::now();
        let served = self.serve_within(refusals, at, want);
        self.latencies.add(start.elapsed().as_nanos() as u64);
        served
    }

    /// Puts the page of an address in its place. Allocates nothing, and takes no lock that the thread which this
    /// interrupted could hold.
    pub fn serve(&self, at: usize, want: Want) -> FaultOutcome {
        self.serve_within(TRIES, at, want)
    }

    /// Puts the page of an address in its place, and fails after `most` refusals by the system.
    pub(super) fn serve_within(&self, most: u32, at: usize, want: Want) -> FaultOutcome {
        let at = at & !(PAGE - 1);
        let mut wait = Wait::default();
        let mut away = AwayWait::new(most < TRIES);
        let mut last = MOVING;
        let (mut tries, mut refusals, mut leaving) = (0, 0, 0);
        while tries < TRIES && refusals < most {
            tries += 1;
            let version = self.extents.version();
            let Some(extent) = self.extents.find(at) else { return FaultOutcome::Unknown };
            let Some(region) = self.places[extent.region].enter() else { continue };
            let mut touched = self.touch(&region, &extent, at, want, (version, leaving < TRIES));
            drop(region);
            if let Err(Stop::NeedsThread) = touched {
                touched = self.ask_to_serve(at, want.write);
            }
            match touched {
                Ok(()) => return FaultOutcome::Done,
                Err(Stop::Lost) => return FaultOutcome::Failed(LOST),
                Err(Stop::Refused(error)) => (refusals, last) = (refusals + 1, error),
                Err(Stop::Away(error)) if away.goes_on() => (tries, last) = (tries - 1, error),
                Err(Stop::Away(error)) => (refusals, last) = (most, error),
                Err(Stop::Again | Stop::NeedsThread) => {}
                // The system will take the page out soon, so the thread waits for that. A page that became resident now
                // could be moved to the staging range before the system takes it out, and would come back with its old
                // bytes.
                Err(Stop::Leaving) => (tries, leaving) = (tries - 1, leaving + 1),
                // The discard of the range will end, sooner if this thread helps.
                Err(Stop::Shut) => {
                    tries -= 1;
                    if !self.do_some_work() {
                        wait.a_moment();
                    }
                    continue;
                }
            }
            add(&self.counters.retries, 1);
            self.read_events();
            if tries + leaving > 3 {
                wait.a_moment();
            }
        }
        add(&self.counters.failed, 1);
        FaultOutcome::Failed(last)
    }

    /// Tries once to put a page in its place. `version`: of the table of extents where the extent was found. `waits`:
    /// a page that its owner is giving back is waited for.
    fn touch(
        &self,
        region: &RegionState,
        extent: &Extent,
        at: usize,
        want: Want,
        (version, waits): (u64, bool),
    ) -> Result<(), Stop> {
        let number = extent.page_at(at);
        if number >= region.pages() {
            // Another region has the place by now.
            return Err(Stop::Again);
        }
        let page = region.page(number);
        // The page word of the area is fetched while the state word is.
        region.area.prefetch(number);
        // Room comes first. It may take an eviction, and others may wait for this very page once it is claimed.
        let seen = page.peek();
        region.area.prefetch_handle(number);
        let room = seen.needs_room().then(|| self.room_for(region, want.tiers));
        let mut claim = page.claim();
        let room = room.filter(|_| claim.was().needs_room());
        let inside = self.enter(version, at, at + PAGE);
        match claim.was().kind() {
            _ if inside.is_none() && self.gate.is_shut(at, at + PAGE) => Err(Stop::Shut),
            _ if inside.is_none() => Err(Stop::Again),
            PageKind::Empty | PageKind::Stored if room.is_none() => Err(Stop::Again),
            PageKind::Empty => self.zero_in(region, &mut claim, at, waits && self.moves),
            PageKind::Stored => self.load_in(region, extent, &mut claim, at, want),
            PageKind::Staged(slot) => self.move_back(&mut claim, slot, at),
            PageKind::Resident(_) if region.is_private() => self.again_in(region, &mut claim, at, want),
            PageKind::Resident(_) => self.again_in_file(region, extent, &mut claim, at, want),
            PageKind::Busy => Err(Stop::Again),
            PageKind::Poisoned => Err(Stop::Lost),
        }?;
        if let Some(room) = room {
            room.keep();
        }
        if want.hold {
            self.hold_claimed(&mut claim);
        }
        add(&self.counters.faults, 1);
        Ok(())
    }

    /// Fills an EMPTY page with zeros. If a private page is mapped already and `may_be_leaving`, its owner is taken to
    /// be giving it back, and the touch waits. If not, another thread was faster. A page that a memory file has already
    /// stays as it is.
    fn zero_in(
        &self,
        region: &RegionState,
        claim: &mut PageClaim<'_>,
        at: usize,
        may_be_leaving: bool,
    ) -> Result<(), Stop> {
        if !self.put_zeros(at)? {
            if !region.is_private() {
                self.show_again(at)?;
            } else if may_be_leaving {
                return Err(Stop::Leaving);
            }
        }
        add(&self.counters.zero_fills, 1);
        claim.set(PageState::resident(0));
        Ok(())
    }

    /// Serves a touch of a private page that is resident by its word: it is written for the first time, or another
    /// thread was faster. If the page is missing all the same, its owner gave it back, and it reads as zero.
    fn again_in(&self, region: &RegionState, claim: &mut PageClaim<'_>, at: usize, want: Want) -> Result<(), Stop> {
        debug_assert!(matches!(claim.was().kind(), PageKind::Resident(_)));
        let was_clean = claim.was().copy() == KeptCopy::Clean;
        let is_first_write = was_clean && want.write;
        // A page that is missing and written for the first time comes here again at once.
        let was_missing = !is_first_write && self.put_zeros(at)?;
        if want.write && region.protects && !was_missing {
            self.uffd.protect(at, PAGE, false).or_else(|errno| self.refused(at, errno.0, PROTECT))?;
        }
        if is_first_write || was_clean && was_missing {
            add(&self.counters.first_writes, u64::from(is_first_write));
            claim.set(claim.was().with_copy(KeptCopy::Stale));
        }
        Ok(())
    }

    /// Serves a touch of a page of a memory file that is resident by its word: it is written for the first time, or it
    /// is in the file and not mapped. The system unmaps pages when it splits or makes huge pages. A page that is not in
    /// the file was given back by its owner, and reads as zero.
    fn again_in_file(
        &self,
        region: &RegionState,
        extent: &Extent,
        claim: &mut PageClaim<'_>,
        at: usize,
        want: Want,
    ) -> Result<(), Stop> {
        let was_clean = claim.was().copy() == KeptCopy::Clean;
        let is_first_write = was_clean && want.write;
        // A page that is mapped now is not protected.
        let is_new = match is_first_write && !want.hold {
            // The page was most likely protected. If not, the touch comes here again at once.
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
            // Another thread mapped the page, or a call for its neighbour did, which does not wake waiting threads.
            let _ = self.uffd.wake(at, PAGE);
        }
        if was_clean && (want.write || is_new) {
            add(&self.counters.first_writes, u64::from(is_first_write));
            claim.set(claim.was().with_copy(KeptCopy::Stale));
        }
        Ok(())
    }

    /// Maps a page that its file has, or had a moment ago.
    pub(super) fn show_again(&self, at: usize) -> Result<(), Stop> {
        match self.show(at) {
            Ok(Shown::Now) => Ok(()),
            Ok(Shown::Before) => self.refused(at, errno::EEXIST, SHOW),
            Ok(Shown::Missing) => Err(Stop::Again),
            Err(errno) => self.refused(at, errno.0, SHOW),
        }
    }

    /// Maps zeros where a page is missing. Returns false if a page is mapped there.
    fn put_zeros(&self, at: usize) -> Result<bool, Stop> {
        match self.uffd.zero(at, PAGE) {
            Progress { stopped: None, .. } => Ok(true),
            Progress { stopped: Some(errno), .. } => self.refused(at, errno.0, ZERO).map(|()| false),
        }
    }

    /// Tells what a refusal to fill a page means for the touch. It is fine if the page is mapped.
    pub(super) fn refused(&self, at: usize, refused: i32, error: Error) -> Result<(), Stop> {
        match refused {
            // A page is mapped already. The call did nothing, and so woke nobody.
            errno::EEXIST => {
                let _ = self.uffd.wake(at, PAGE);
                Ok(())
            }
            // An event has to be read first, or the range is not what it was.
            errno::EAGAIN | errno::ENOENT => Err(Stop::Again),
            _ => Err(Stop::Refused(error)),
        }
    }

    /// Moves a page from the staging range back to its place.
    fn move_back(&self, claim: &mut PageClaim<'_>, slot: u32, at: usize) -> Result<(), Stop> {
        let moved = self.staging.move_out(slot, &self.uffd, at, claim);
        match moved.stopped.map(|errno| errno.0) {
            None => {}
            // If a page is mapped in its place, the program has seen that one, and the staged one is of no use.
            Some(errno @ (errno::EEXIST | errno::EAGAIN | errno::ENOENT)) => {
                self.refused(at, errno, MOVE)?;
                self.free_slot(slot, claim);
            }
            Some(_) => self.put_back_by_copy(claim, slot, at)?,
        }
        let age = (claim.was().age() + 1).min(MAX_AGE);
        // Nothing protects the page in its place, so the copy is not clean any more.
        let copy = if claim.was().copy() == KeptCopy::No { KeptCopy::No } else { KeptCopy::Stale };
        claim.set(PageState::resident(age).with_copy(copy));
        self.staging.went(1);
        add(&self.counters.rescues, 1);
        Ok(())
    }

    /// Copies a staged page to its place. The system does not move a page to memory with other rights or flags, as
    /// after mprotect or mlock by its owner, but it copies one there.
    #[cold]
    fn put_back_by_copy(&self, claim: &PageClaim<'_>, slot: u32, at: usize) -> Result<(), Stop> {
        // SAFETY: the claim makes the slot's page this thread's, and the page that is missing as well.
        let copied = unsafe { self.uffd.copy(at, self.staging.address(slot) as *const u8, PAGE, false) };
        if let Some(stopped) = copied.stopped {
            self.refused(at, stopped.0, MOVE)?;
        }
        self.free_slot(slot, claim);
        Ok(())
    }

    /// Gives back the memory of a slot whose page is in its place as well. The caller's claim ends with that.
    #[cold]
    fn free_slot(&self, slot: u32, claim: &PageClaim<'_>) {
        if !self.staging.empty(slot, claim) {
            self.account.charge_above(1);
        }
    }
}
