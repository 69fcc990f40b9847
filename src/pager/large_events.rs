//! The pages of large events, which are discarded or dropped in parts.
//!
//! An owner may give back or unmap many gigabytes by one call, and the pager has to discard each of those pages. If it
//! did so while it holds the lock of events, every touch that needs this lock would wait for all of them.
//!
//! So a large event takes effect in two steps. The first one is done with the gate closed, and decides what everybody
//! finds from then on: a range that reads as zero is shut ([`Gate::is_shut`]), and a range that is unmapped is cut out
//! of the table of extents. In both cases no page of the range is put in its place or taken from there any more. The
//! second step discards or drops the pages themselves, a part at a time, with the gate open and without the lock. The
//! threads that do it are those that read events, those that are lent, and those that touch a page of the range. A
//! range that was shut opens when all its pages are done.
//!
//! [`Gate::is_shut`]: super::gate::Gate::is_shut

use super::backlog::{LARGE, WORKS, Work, WorkKind};
use super::core::Core;
use super::extents::Extent;
use super::gate::Closed;
use super::inbox::Inbox;
use super::region::RegionState;
use super::state::PageKind;
use crate::sync::Wait;
use crate::units::PAGE;

impl Core {
    /// Begins to discard a range that its owner gives back, and that reads as zero from now on.
    pub fn begin_discard(&self, inbox: &mut Inbox, closed: &Closed<'_>, start: usize, end: usize) {
        if ((end - start) / PAGE) as u64 > LARGE
            && let Some(free) = inbox.works.iter_mut().find(|work| work.is_none())
            && let Some(number) = closed.shut(start, end)
        {
            let (from, to) = (start as u64, end as u64);
            *free = Some(Work { what: WorkKind::Discard(number), start: from, next: from, end: to });
            self.backlog.add_one();
            // Held pages are overwritten with zeros at once: that is done by address, and the owner may move the range
            // soon. No page of the range becomes held while it is shut.
            if self.holds.pages() > 0 {
                self.extents.within(start, end).for_each(|part| self.discard_some_of(&part, true));
            }
        } else {
            self.extents.within(start, end).for_each(|part| self.discard_part(&part));
        }
    }

    /// Discards the pages of an extent that are held, or those that are not.
    fn discard_some_of(&self, part: &Extent, held: bool) {
        let Some(region) = self.places[part.region].enter() else { return };
        for at in (part.start..part.end).step_by(PAGE) {
            self.discard_if(&region, part.page_at(at), at, held);
        }
    }

    /// Discards a page if it is held, or if it is not.
    fn discard_if(&self, region: &RegionState, page: u64, at: usize, held: bool) {
        let is_held = |kind: PageKind| matches!(kind, PageKind::Resident(1..));
        let seen = region.page(page).peek().kind();
        // A page that another thread has claimed may be either.
        if seen == PageKind::Empty || seen != PageKind::Busy && is_held(seen) != held {
            return;
        }
        let mut claim = region.page(page).claim();
        if is_held(claim.was().kind()) == held {
            self.discard_claimed_page(region, page, at, &mut claim);
        }
    }

    /// Begins to drop the pages of an extent that is unmapped. The caller cuts it out of the table.
    pub fn begin_drop(&self, inbox: &mut Inbox, part: &Extent) {
        let pages = ((part.end - part.start) / PAGE) as u64;
        if pages > LARGE
            && let Some(free) = inbox.works.iter_mut().find(|work| work.is_none())
        {
            let (start, end) = (part.first, part.first + pages);
            *free = Some(Work { what: WorkKind::Drop(part.region), start, next: start, end });
            self.backlog.add_one();
        } else {
            self.drop_pages(part.region, part.first, part.first + pages);
        }
    }

    /// Ends all work that counts in addresses of a range. The owner has unmapped or moved the range, so these addresses
    /// do not lead to the pages any more. `unmapped`: the range is gone as a whole, so the pages that no thread has
    /// taken need no work. The gate is closed.
    pub fn settle(&self, inbox: &mut Inbox, (start, end): (usize, usize), unmapped: bool) {
        let mut any = false;
        for index in 0..WORKS {
            let Some(mut work) = inbox.works[index].filter(|work| work.overlaps(start, end)) else { continue };
            any = true;
            let is_gone = unmapped && start as u64 <= work.next && work.end <= end as u64;
            while !is_gone && let Some(part) = work.take() {
                self.do_part(&part);
            }
            inbox.works[index] = Some(Work { next: work.end, ..work });
        }
        if any {
            self.backlog.wait_until_idle();
            self.retire(inbox);
        }
    }

    /// Ends all work, before a region leaves its place.
    pub fn settle_all(&self, inbox: &mut Inbox) {
        for index in 0..WORKS {
            while let Some(part) = inbox.works[index].as_mut().and_then(Work::take) {
                self.do_part(&part);
            }
        }
        self.backlog.wait_until_idle();
        self.retire(inbox);
    }

    /// Discards or drops a part of the pages that wait for it. Returns false if there are none, or other threads work
    /// on the last ones. The caller has no page claimed, and holds no lock.
    pub fn do_some_work(&self) -> bool {
        if self.backlog.left() == 0 {
            return false;
        }
        let mut inbox = self.events.lock();
        self.retire(&mut inbox);
        let Some(part) = inbox.works.iter_mut().flatten().find_map(Work::take) else { return false };
        let working = self.backlog.begin();
        drop(inbox);
        self.do_part(&part);
        drop(working);
        self.retire(&mut self.events.lock());
        true
    }

    /// Discards or drops all pages that wait for it. The caller has no page claimed, and holds no lock.
    pub fn do_all_work(&self) {
        let mut wait = Wait::default();
        while self.backlog.left() != 0 {
            if self.do_some_work() {
                wait = Wait::default();
                self.events.give_way();
            } else {
                wait.a_moment();
            }
        }
    }

    /// Makes sure that the work which newly read events left is done. Threads that are lent to serve touches do it
    /// between touches; if there are none, this thread does.
    pub fn see_to_work(&self) {
        if self.lending.has_servers() {
            self.lending.wake_poller();
        } else {
            self.do_all_work();
        }
    }

    /// Waits until no page of a range has still to be discarded because of an event that was read by now.
    pub fn wait_for_discards(&self, start: usize, end: usize) {
        let mut wait = Wait::default();
        loop {
            // While the gate is closed, an event may have been read that shuts the range in a moment.
            match self.gate.enter().map(|_inside| self.gate.is_shut(start, end)) {
                Some(false) => return,
                Some(true) => self.do_all_work(),
                None => wait.a_moment(),
            }
        }
    }

    /// Discards or drops the pages of a part that was taken.
    fn do_part(&self, part: &Work) {
        match part.what {
            WorkKind::Discard(_) => {
                let extents = self.extents.within(part.start as usize, part.end as usize);
                extents.for_each(|extent| self.discard_some_of(&extent, false));
            }
            WorkKind::Drop(place) => self.drop_pages(place, part.start, part.end),
        }
    }

    fn drop_pages(&self, place: usize, first: u64, end: u64) {
        if let Some(region) = self.places[place].enter() {
            (first..end).for_each(|page| self.drop_page(&region, page));
        }
    }

    /// Forgets the work that is done, and opens its ranges. The caller holds the lock of events, so no thread takes
    /// more.
    fn retire(&self, inbox: &mut Inbox) {
        if !self.backlog.is_idle() {
            return;
        }
        // This waits for nobody, and orders what follows behind what the working threads did.
        self.backlog.wait_until_idle();
        for place in &mut inbox.works {
            let Some(work) = place.filter(|work| work.next == work.end) else { continue };
            if let WorkKind::Discard(number) = work.what {
                self.gate.reopen(number);
            }
            *place = None;
            self.backlog.remove_one();
        }
    }
}
