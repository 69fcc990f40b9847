//! Removing regions.

use super::core::Core;
use super::extents::Extent;
use super::fault::{FaultOutcome, Want};
use super::late_touches;
use super::options::Removal;
use super::region::{RegionId, RegionState};
use super::state::{KeptCopy, PageKind, PageState};
use crate::error::{Error, Result, sentence};
use crate::os::{Advice, Errno, errno};
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;

const UNREADABLE: Error = Error::Again(sentence(
    &"a page can't be read from the backing file, or not be marked as damaged: the region stays",
));
const REFUSED: Error = Error::Again(sentence(&"the system refuses to bring a page back: the region stays"));

/// The error for the number of a region that is not there.
pub const NONE: Error = Error::NotFound(sentence(&"there is no such region: it was removed, or never added"));

impl Core {
    /// Takes a region away from the pager.
    pub fn remove_region(&self, region: RegionId, removal: Removal) -> Result<()> {
        self.remove_if(region.place(), removal, |there| there.serial == region.serial())
    }

    /// Takes the region that has a place away from the pager.
    pub fn remove_place(&self, place: usize, removal: Removal) -> Result<()> {
        self.remove_if(place, removal, |_| true)
    }

    pub(super) fn remove_if(&self, place: usize, removal: Removal, is_it: impl Fn(&RegionState) -> bool) -> Result<()> {
        let entered =
            self.places.get(place).and_then(|place| place.enter()).filter(|there| is_it(there)).ok_or(NONE)?;
        if entered.closing.swap(true, Relaxed) {
            return Err(NONE);
        }
        // No eviction begins from here on: a thread that takes a lane now sees that the region is closing.
        self.hand.wait_for_lanes();
        self.read_events();
        // Pages that were unmapped and are not dropped yet would be looked for below.
        self.do_all_work();
        let mut damaged = Ok(());
        if removal == Removal::Restore {
            damaged = self.restore(place, &entered);
            if let Err(Error::Again(_)) = damaged {
                entered.closing.store(false, Relaxed);
                return damaged;
            }
        }
        self.let_all_go(place, &entered)?;
        for page in 0..entered.pages() {
            self.drop_page(&entered, page);
        }
        drop(entered);
        if let Some(region) = self.places[place].clear() {
            let mut wait = Wait::default();
            // A writeback may be going through all areas right now.
            while let Err(Error::Busy(_)) = region.area.remove() {
                wait.a_moment();
            }
        }
        damaged
    }

    /// Brings all pages of a region back. It goes by their numbers, because their owner may move them meanwhile.
    fn restore(&self, place: usize, region: &RegionState) -> Result<()> {
        let mut damaged = Ok(());
        for page in 0..region.pages() {
            // No eviction begins. One that began has the page claimed, and is waited for.
            while !matches!(region.page(page).peek().kind(), PageKind::Resident(_) | PageKind::Empty) {
                let Some(at) = self.address_of(place, page) else { break };
                match self.serve(at, Want::of_call(false)) {
                    // Only a poisoned page may be left behind: any other would read as zeros.
                    FaultOutcome::Failed(error @ (Error::Damaged(_) | Error::Io(_)))
                        if region.page(page).peek() == PageState::POISONED =>
                    {
                        damaged = Err(error);
                        break;
                    }
                    FaultOutcome::Failed(Error::Damaged(_) | Error::Io(_)) => return Err(UNREADABLE),
                    FaultOutcome::Failed(_) => return Err(REFUSED),
                    FaultOutcome::Done => {}
                    // The page was moved, and its event may not have been read.
                    FaultOutcome::Unknown => self.read_events(),
                }
            }
        }
        damaged
    }

    /// The address of a page of a region, or none if its owner unmapped it.
    fn address_of(&self, place: usize, page: u64) -> Option<usize> {
        // While this thread has the lock, no page is between two addresses.
        self.extents.address_of(place, page).or_else(|| {
            let _inbox = self.events.lock();
            self.extents.address_of(place, page)
        })
    }

    /// Unregisters all parts of a region.
    fn let_all_go(&self, place: usize, region: &RegionState) -> Result<()> {
        self.do_all_work();
        let mut inbox = self.events.lock();
        let closed = self.gate.close();
        self.settle_all(&mut inbox);
        while let Some(part) = self.extents.first_of(place) {
            let Err(error) = self.let_go(&part) else { continue };
            // The parts before this one are let go, and the next attempt goes on here. The system may have let go some
            // of this part as well. That must not be evicted, because nobody would serve it.
            let again = self.uffd.register(part.start, part.end - part.start, region.faulting());
            drop((closed, inbox));
            // The system also lifted the protection of clean pages before it refused.
            (part.first..part.first + ((part.end - part.start) / PAGE) as u64).for_each(|page| {
                let mut claim = region.page(page).claim();
                if claim.was().copy() == KeptCopy::Clean {
                    claim.set(claim.was().with_copy(KeptCopy::Stale));
                }
            });
            region.closing.store(again.is_err(), Relaxed);
            return Err(error);
        }
        self.forget_loose(region);
        Ok(())
    }

    /// Unregisters a part. A thread whose touch of it is on its way to the pager looks again. The caller holds the lock
    /// of events.
    fn let_go(&self, part: &Extent) -> Result<()> {
        const STAYS: Error =
            Error::Again(sentence(&"the system refuses to unregister a region, which needs memory: it stays"));
        late_touches::note_removal(part);
        // This fails if the owner unmapped the part just now, and then there is nothing to unregister.
        if let Err(Errno(errno::ENOMEM)) = self.uffd.unregister(part.start, part.end - part.start) {
            return Err(STAYS);
        }
        let _ = self.uffd.wake(part.start, part.end - part.start);
        self.extents.cut(part.start, part.end);
        // All of the part is in memory now. Huge pages stay turned off: no advice restores the old setting.
        let _ = self.os.advise(part.start as *mut u8, part.end - part.start, Advice::Fork);
        Ok(())
    }
}
