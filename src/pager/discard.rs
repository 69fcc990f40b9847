//! Giving parts of regions back through the pager, which makes no events.

use super::core::Core;
use super::counts::add;
use super::fault::{MOVING, TRIES};
use super::file_pages::Left;
use super::page::Claim;
use super::region::{Memory, Region};
use super::word::{Copied, Kind, MAX_AGE, State};
use crate::error::{Error, Result};
use crate::os::{Backed, Errno, errno};
use crate::sync::Wait;
use crate::units::PAGE;

type Tried = std::result::Result<(), Errno>;

impl Core {
    /// Gives a range back: it reads as zeros from then on.
    pub fn discard(&self, at: usize, bytes: usize) -> Result<()> {
        const NOT_PAGES: Error = Error::Invalid(&"what is given back is whole pages of 4096 bytes");
        if !at.is_multiple_of(PAGE) || !bytes.is_multiple_of(PAGE) {
            return Err(NOT_PAGES);
        }
        let (start, end) = self.check_range(at, bytes)?;
        (start..end).step_by(PAGE).try_for_each(|at| self.give_back_page(at))
    }

    /// Gives the page of an address back, wherever it is.
    fn give_back_page(&self, at: usize) -> Result<()> {
        let mut wait = Wait::default();
        for _ in 0..TRIES {
            match self.try_to_give_back(at) {
                Ok(()) => return Ok(()),
                // Its owner is giving it back as well.
                Err(Errno(errno::EAGAIN)) if self.gate.is_shut(at, at + PAGE) => self.do_all_work(),
                Err(Errno(errno::EAGAIN)) => {}
                Err(errno) => return Err(Error::system(errno, &"giving back a page of a region")),
            }
            self.read_events();
            wait.a_moment();
        }
        Err(MOVING)
    }

    fn try_to_give_back(&self, at: usize) -> Tried {
        let version = self.extents.version();
        // Its owner may have unmapped it, or removed the region, by now: then there is nothing to give back.
        let Some(extent) = self.extents.find(at) else { return Ok(()) };
        let Some(region) = self.places[extent.region].enter() else { return Err(Errno(errno::EAGAIN)) };
        let page = extent.page_at(at);
        if page >= region.pages() {
            // Another region has its place.
            return Err(Errno(errno::EAGAIN));
        }
        if region.page(page).peek() == State::EMPTY {
            return Ok(());
        }
        let mut claim = region.page(page).claim();
        let Some(_inside) = self.enter(version, at, at + PAGE) else { return Err(Errno(errno::EAGAIN)) };
        self.give_back_claimed(&region, page, &mut claim, at)
    }

    fn give_back_claimed(&self, region: &Region, page: u64, claim: &mut Claim<'_>, at: usize) -> Tried {
        let taken = match claim.was().kind() {
            Kind::Resident(0) => self.take_out(region, page, claim, at),
            // It stays where it is, for the system may be writing there.
            Kind::Resident(_) => Err(Errno(errno::EBUSY)),
            Kind::Poisoned => {
                self.heal(region, page, claim, at)?;
                self.take_out(region, page, claim, at)
            }
            _ => {
                self.discard_claimed(region, page, at, claim);
                Ok(())
            }
        };
        match taken {
            Ok(()) | Err(Errno(errno::EAGAIN)) => taken,
            Err(_) => self.zero_in_place(region, page, claim, at),
        }
    }

    /// Takes a page that is in its place out of there. Private memory is moved away first where that can be: giving it
    /// back in its place would be an event.
    fn take_out(&self, region: &Region, page: u64, claim: &mut Claim<'_>, at: usize) -> Tried {
        match &region.memory {
            Memory::Shared(..) => {
                if self.discard_from_file(region, page, at)? == Left::Stays {
                    self.drop_copy(region, page, claim.was());
                    claim.set(self.marked(claim.becomes().with_copy(Copied::No).with_age(MAX_AGE)));
                    return Ok(());
                }
            }
            Memory::Private if self.moves => self.move_away(at)?,
            // SAFETY: the caller has no need of the bytes; no event is asked for where pages are not moved.
            Memory::Private => unsafe { self.os.release(at as *mut u8, PAGE, Backed::LentReleasable).map(|_| ())? },
        }
        // A page that was marked as damaged is resident by now.
        let was = claim.becomes();
        self.drop_copy(region, page, claim.was());
        self.unmarked(was);
        self.uncharge(1);
        add(&self.counters.discarded, 1);
        claim.set(State::EMPTY);
        Ok(())
    }

    fn move_away(&self, at: usize) -> Tried {
        let mut block = self.staging.take_free().ok_or(Errno(errno::ENOMEM))?;
        let slot = block.slot(0);
        // SAFETY: the page is claimed, and the block is this thread's.
        let moved = unsafe { self.staging.move_in(slot, at, 1) };
        // SAFETY: no word names the slot.
        if moved.stopped.is_none() && unsafe { self.staging.give_back(slot, 1) }.is_err() {
            // It is there that the page is charged now, until the block is drained.
            self.staging.leave(slot);
            self.charge_above(1);
            block.filled = 1;
        }
        self.staging.queue(block);
        match moved.stopped {
            None => Ok(()),
            Some(Errno(errno::ENOENT)) => {
                // Its owner gave it back before it was touched last, and then it has zeros, and now a page of them; or
                // moved it, which is refused here. What it was is seen the next time.
                let _ = self.uffd.zero(at, PAGE);
                Err(Errno(errno::EAGAIN))
            }
            Some(refused) => Err(refused),
        }
    }

    /// Puts zeros over the mark of a page whose copy is damaged, which only a copy can: the mark is there in its place.
    fn heal(&self, region: &Region, page: u64, claim: &mut Claim<'_>, at: usize) -> Tried {
        let mut lot = self.scratch.take();
        lot.page(0).fill(0);
        // SAFETY: the lot has a page, and the claim makes the marked one this thread's.
        let copied = unsafe { self.uffd.copy(at, lot.address(0), PAGE, false) };
        match copied.stopped {
            None => {}
            // The file has a page there, which is not what is read: the mark is.
            Some(Errno(errno::EEXIST)) if !region.is_private() => {
                self.put_into_file(region, page, lot.page(0))?;
                self.show(at)?;
            }
            Some(Errno(errno::EEXIST)) => {}
            Some(refused) => return Err(refused),
        }
        self.forget(region, page);
        self.charge_above(1);
        claim.set(State::resident(0));
        Ok(())
    }

    /// A page that stays in its place, because it is held or the system has it pinned, is zeros from now on.
    fn zero_in_place(&self, region: &Region, page: u64, claim: &mut Claim<'_>, at: usize) -> Tried {
        match self.uffd.zero(at, PAGE).stopped {
            // It was missing.
            None => {}
            Some(Errno(errno::EEXIST)) => {
                if region.protects {
                    self.uffd.protect(at, PAGE, false)?;
                    if claim.was().copy() == Copied::Clean {
                        // Should the rest fail, it is written without our knowing from here on.
                        claim.set(claim.becomes().with_copy(Copied::Stale));
                    }
                }
                self.write_zeros(region, page, at)?;
            }
            Some(refused) => return Err(refused),
        }
        self.drop_copy(region, page, claim.was());
        claim.set(claim.becomes().with_copy(Copied::No));
        Ok(())
    }
}
