//! Giving parts of regions back by a call on the pager, which makes no events.

use super::core::Core;
use super::counts::add;
use super::fault::{MOVING, TRIES};
use super::file_pages::Punched;
use super::page::PageClaim;
use super::region::{Memory, RegionState};
use super::state::{KeptCopy, MAX_AGE, PageKind, PageState};
use crate::error::{Error, Result, sentence};
use crate::os::{Backed, Errno, errno};
use crate::sync::Wait;
use crate::units::PAGE;

type Tried = std::result::Result<(), Errno>;

impl Core {
    /// Gives a range back: it reads as zeros from then on.
    pub fn discard(&self, at: usize, bytes: usize) -> Result<()> {
        const NOT_PAGES: Error = Error::Invalid(sentence(&"address and length have to be multiples of 4096"));
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
                // The owner is giving the page back by madvise as well.
                Err(Errno(errno::EAGAIN)) if self.gate.is_shut(at, at + PAGE) => self.do_all_work(),
                Err(Errno(errno::EAGAIN)) => {}
                Err(errno) => return Err(Error::system(errno, sentence(&"giving back a page of a region"))),
            }
            self.read_events();
            wait.a_moment();
        }
        Err(MOVING)
    }

    fn try_to_give_back(&self, at: usize) -> Tried {
        let version = self.extents.version();
        // The owner may have unmapped the page, or removed the region, by now. Then there is nothing to give back.
        let Some(extent) = self.extents.find(at) else { return Ok(()) };
        let Some(region) = self.places[extent.region].enter() else { return Err(Errno(errno::EAGAIN)) };
        let page = extent.page_at(at);
        if page >= region.pages() {
            // Another region has the place.
            return Err(Errno(errno::EAGAIN));
        }
        if region.page(page).peek() == PageState::EMPTY {
            return Ok(());
        }
        let mut claim = region.page(page).claim();
        let Some(_inside) = self.enter(version, at, at + PAGE) else { return Err(Errno(errno::EAGAIN)) };
        self.give_back_claimed(&region, page, &mut claim, at)
    }

    fn give_back_claimed(&self, region: &RegionState, page: u64, claim: &mut PageClaim<'_>, at: usize) -> Tried {
        let taken = match claim.was().kind() {
            PageKind::Resident(0) => self.take_out(region, page, claim, at),
            // The page stays where it is, because the system may be writing there.
            PageKind::Resident(_) => Err(Errno(errno::EBUSY)),
            PageKind::Poisoned => {
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

    /// Takes a resident page out of its place. Private memory is moved away first where pages are moved: giving it back
    /// in its place would make an event.
    fn take_out(&self, region: &RegionState, page: u64, claim: &mut PageClaim<'_>, at: usize) -> Tried {
        match &region.memory {
            Memory::Shared(..) => {
                if self.discard_from_file(region, page, at)? == Punched::Stays {
                    self.drop_copy(region, page, claim.was());
                    claim.set(self.immovable.marked(claim.becomes().with_copy(KeptCopy::No).with_age(MAX_AGE)));
                    return Ok(());
                }
            }
            Memory::Private if self.moves => self.move_away(at, claim)?,
            // SAFETY: the caller does not need the bytes. Where pages are not moved, the system is asked for no events.
            Memory::Private => unsafe { self.os.release(at as *mut u8, PAGE, Backed::LentReleasable).map(|_| ())? },
        }
        // A poisoned page was healed before, and is resident by now.
        let was = claim.becomes();
        self.drop_copy(region, page, claim.was());
        self.immovable.unmarked(was);
        self.account.uncharge(1);
        add(&self.counters.discarded, 1);
        claim.set(PageState::EMPTY);
        Ok(())
    }

    fn move_away(&self, at: usize, claim: &PageClaim<'_>) -> Tried {
        let mut block = self.staging.take_free().ok_or(Errno(errno::ENOMEM))?;
        let slot = block.slot(0);
        // SAFETY: the page is claimed, and the block is this thread's.
        let moved = unsafe { self.staging.move_in(slot, at, 1) };
        if moved.stopped.is_none() && !self.staging.empty(slot, claim) {
            // The page is charged in the staging range now, until the block is drained.
            self.account.charge_above(1);
            block.filled = 1;
        }
        self.staging.queue(block);
        match moved.stopped {
            None => Ok(()),
            Some(Errno(errno::ENOENT)) => {
                // The owner gave the page back before it was touched last: then it reads as zero, and gets a page of
                // zeros here. Or the owner moved it, and this call is refused. The next attempt tells which.
                let _ = self.uffd.zero(at, PAGE);
                Err(Errno(errno::EAGAIN))
            }
            Some(refused) => Err(refused),
        }
    }

    /// Puts zeros over the mark of a poisoned page. Only UFFDIO_COPY can, because the mark is in the place of the page.
    fn heal(&self, region: &RegionState, page: u64, claim: &mut PageClaim<'_>, at: usize) -> Tried {
        let mut buffer = self.scratch.take();
        buffer.page(0).fill(0);
        let copied = buffer.copy_in(&self.uffd, at, 1, false, claim);
        match copied.stopped {
            None => {}
            // The file has a page there, but the mark hides it.
            Some(Errno(errno::EEXIST)) if !region.is_private() => {
                self.put_into_file(region, page, buffer.page(0))?;
                self.show(at)?;
            }
            Some(Errno(errno::EEXIST)) => {}
            Some(refused) => return Err(refused),
        }
        self.forget(region, page);
        self.account.charge_above(1);
        claim.set(PageState::resident(0));
        Ok(())
    }

    /// Overwrites a page with zeros that stays in its place because it is held, or because the system has it pinned.
    fn zero_in_place(&self, region: &RegionState, page: u64, claim: &mut PageClaim<'_>, at: usize) -> Tried {
        match self.uffd.zero(at, PAGE).stopped {
            // The page was missing, and is zeros now.
            None => {}
            Some(Errno(errno::EEXIST)) => {
                if region.protects {
                    self.uffd.protect(at, PAGE, false)?;
                    if claim.was().copy() == KeptCopy::Clean {
                        // The page may be written unseen from here on, also if the rest fails.
                        claim.set(claim.becomes().with_copy(KeptCopy::Stale));
                    }
                }
                self.write_zeros(region, page, at)?;
            }
            Some(refused) => return Err(refused),
        }
        self.drop_copy(region, page, claim.was());
        claim.set(claim.becomes().with_copy(KeptCopy::No));
        Ok(())
    }
}
