//! Serving a touch: what the page's state word says decides what is put in its place.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::page::Claim;
use super::region::Region;
use super::scratch::LOT;
use super::word::{Kind, MAX_AGE, State};
use crate::error::Error;
use crate::os::errno;
use crate::os::userfault::Progress;
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;
use crate::zswap::{LoadFlags, Patience};

/// How often a call that the system refuses is tried again before the touch fails: a second or so.
const TRIES: u32 = 1000;

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
const LOST: Error = Error::Io(&"the stored copy of a page is damaged");

impl Core {
    /// Puts the page of an address in its place. Takes no lock that a thread could hold which this interrupted, and
    /// allocates nothing.
    pub fn serve(&self, at: usize, want: Want) -> Served {
        let at = at & !(PAGE - 1);
        let mut wait = Wait::default();
        let mut last = LOST;
        for tries in 0..TRIES {
            let Some(extent) = self.extents.find(at) else { return Served::Unknown };
            let Some(region) = self.places[extent.region].enter() else { continue };
            match self.touch(&region, &extent, at, want) {
                Ok(()) => {
                    add(&self.counters.faults, 1);
                    return Served::Done;
                }
                Err(Stop::Refused(error)) if error == LOST => return Served::Failed(error),
                Err(Stop::Refused(error)) => last = error,
                Err(Stop::Again) => {}
            }
            drop(region);
            add(&self.counters.retries, 1);
            self.read_events();
            if tries > 2 {
                wait.a_moment();
            }
        }
        Served::Failed(last)
    }

    fn touch(&self, region: &Region, extent: &Extent, at: usize, want: Want) -> Result<(), Stop> {
        let page = region.page(extent.page_at(at));
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
        let done = match claim.was().kind() {
            Kind::Empty | Kind::Stored if !has_room => Err(Stop::Again),
            Kind::Empty => self.zero_in(&mut claim, at),
            Kind::Stored => self.load_in(region, extent, &mut claim, at),
            Kind::Staged(slot) => self.move_back(&mut claim, slot, at),
            Kind::Resident(_) => self.again_in(&mut claim, at),
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

    /// A page that has nothing: zeros.
    fn zero_in(&self, claim: &mut Claim<'_>, at: usize) -> Result<(), Stop> {
        self.put_zeros(at)?;
        add(&self.counters.zero_fills, 1);
        claim.set(State::resident(0));
        Ok(())
    }

    /// A page that is in place, as far as its word says. Mostly another thread was faster. If it is missing all the
    /// same its owner gave it back meanwhile, and it reads as zero.
    fn again_in(&self, claim: &mut Claim<'_>, at: usize) -> Result<(), Stop> {
        debug_assert!(matches!(claim.was().kind(), Kind::Resident(_)));
        self.put_zeros(at)
    }

    fn put_zeros(&self, at: usize) -> Result<(), Stop> {
        match self.uffd.zero(at, PAGE) {
            Progress { stopped: None, .. } => Ok(()),
            Progress { stopped: Some(errno), .. } => self.refused(at, errno.0, ZERO),
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
        if let Some(stopped) = moved.stopped {
            self.refused(at, stopped.0, MOVE)?;
            // There is a page in its place: it is what the program has seen, and the staged one is of no use.
        }
        let age = (claim.was().age() + 1).min(MAX_AGE);
        claim.set(State::resident(age));
        self.staging.went(1);
        add(&self.counters.rescues, 1);
        Ok(())
    }

    /// A page that is in zswap, and those after it if the program seems to go through them in order. It leaves zswap
    /// once it is in place.
    fn load_in(&self, region: &Region, extent: &Extent, first: &mut Claim<'_>, at: usize) -> Result<(), Stop> {
        let page = extent.page_at(at);
        let mut lot = self.scratch.take();
        match region.area.load(page, lot.page(0), LoadFlags::KEEP) {
            Ok(()) => {}
            Err(Error::Io(_)) => return self.poison(first, at),
            Err(error) => return Err(Stop::Refused(error)),
        }
        let room = ((extent.end - at) / PAGE).min(LOT);
        let mut ahead: [Option<Claim<'_>>; LOT] = [const { None }; LOT];
        let mut count = 1;
        let wanted = region.ahead.window(page).min(room);
        while count < wanted {
            let next = region.page(page + count as u64);
            let seen = next.peek();
            let claimed = if seen.kind() == Kind::Stored { next.try_claim(seen) } else { None };
            let Some(claim) = claimed else { break };
            if region.area.load(page + count as u64, lot.page(count), LoadFlags::KEEP).is_err() {
                break;
            }
            ahead[count] = Some(claim);
            count += 1;
        }
        // They may have to wait for room: their number was bounded so that the limit holds nevertheless.
        self.charge_above(count as u64 - 1);
        let placed = self.place(region, page, lot.address(0), at, count);
        let done = placed.as_ref().copied().unwrap_or(0);
        self.uncharge((count as u64 - 1).saturating_sub((done as u64).saturating_sub(1)));
        ahead.iter_mut().take(done).flatten().for_each(|claim| claim.set(State::resident(0)));
        drop(ahead);
        placed?;
        first.set(State::resident(0));
        region.ahead.loaded(page, done);
        add(&self.counters.loads, 1);
        add(&self.counters.loads_ahead, done as u64 - 1);
        Ok(())
    }

    /// Copies decoded pages to where they are missing, and removes their copies from zswap. How many, at least 1.
    fn place(&self, region: &Region, page: u64, from: *const u8, at: usize, count: usize) -> Result<usize, Stop> {
        // SAFETY: the lot has so many pages, and the claims make the missing ones this thread's.
        let copied = unsafe { self.uffd.copy(at, from, count * PAGE, false) };
        let mut done = copied.bytes / PAGE;
        if done == 0 {
            let stopped = copied.stopped.map_or(errno::EAGAIN, |errno| errno.0);
            self.refused(at, stopped, COPY)?;
            done = 1;
        }
        // The bytes are in place now, and only now may the copies go.
        let gone = region.area.invalidate(page, done as u64, Patience::Wait);
        debug_assert!(gone.is_ok());
        Ok(done)
    }

    /// A page whose copy is damaged never reads as anything: whoever touches it gets SIGBUS.
    #[cold]
    fn poison(&self, claim: &mut Claim<'_>, at: usize) -> Result<(), Stop> {
        let poisoned = self.uffd.poison(at, PAGE);
        match poisoned.stopped.map(|errno| errno.0) {
            None => {}
            Some(errno::EAGAIN) => return Err(Stop::Again),
            // The system has no such thing: the touch fails each time it comes here.
            Some(_) => return Err(Stop::Refused(LOST)),
        }
        add(&self.counters.poisoned, 1);
        claim.set(State::POISONED);
        // The page takes no memory.
        self.uncharge(1);
        Ok(())
    }

    /// How many pages are held.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }
}
