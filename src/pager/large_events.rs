//! The pages of large events, which are seen to in parts.
//!
//! An owner may give back or unmap many gigabytes by one call, and the pager has to see to each of those pages. If it
//! did so while it holds the lock of events, every touch that needs this lock would wait for all of them.
//!
//! So a large event takes effect in two steps. The first one is done with the gate closed, and decides what everybody
//! finds from then on: a range that reads as zero from now on is shut ([`Gate::is_shut`]), and a range that is unmapped
//! is cut out of the table of extents. In both cases no page of the range is put in its place or taken from there any
//! more. The second step sees to the pages themselves, a part at a time, with the gate open and without the lock. The
//! threads that do it are those that read events, those that are lent, and those that touch a page of the range. A
//! range that was shut opens when all its pages were seen to.
//!
//! [`Gate::is_shut`]: super::gate::Gate::is_shut

use super::core::Core;
use super::events::Inbox;
use super::extents::Extent;
use super::gate::Closed;
use super::region::Region;
use super::word::Kind;
use super::work::{LARGE, WORKS, What, Work};
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;

impl Core {
    /// An owner gives a range back, which reads as zero from now on.
    pub fn begin_discard(&self, inbox: &mut Inbox, closed: &Closed<'_>, start: usize, end: usize) {
        if ((end - start) / PAGE) as u64 > LARGE
            && let Some(free) = inbox.works.iter_mut().find(|work| work.is_none())
            && let Some(number) = closed.shut(start, end)
        {
            let (from, to) = (start as u64, end as u64);
            *free = Some(Work { what: What::Discard(number), start: from, next: from, end: to });
            self.works.fetch_add(1, Relaxed);
            // Zeros are written to the pages that are held at once: they are written by address, and the owner may move
            // the range soon. No page of the range becomes held while it is shut.
            if self.held() > 0 {
                self.extents.within(start, end).for_each(|part| self.discard_some_of(&part, true));
            }
        } else {
            self.extents.within(start, end).for_each(|part| self.discard_part(&part));
        }
    }

    /// The pages of an extent that are held, or those that are not, read as zero from now on.
    fn discard_some_of(&self, part: &Extent, held: bool) {
        let Some(region) = self.places[part.region].enter() else { return };
        for at in (part.start..part.end).step_by(PAGE) {
            self.discard_if(&region, part.page_at(at), at, held);
        }
    }

    /// The same for one page.
    fn discard_if(&self, region: &Region, page: u64, at: usize, held: bool) {
        let is_held = |kind: Kind| matches!(kind, Kind::Resident(1..));
        let seen = region.page(page).peek().kind();
        // A page that another thread has claimed may be either.
        if seen == Kind::Empty || seen != Kind::Busy && is_held(seen) != held {
            return;
        }
        let mut claim = region.page(page).claim();
        if is_held(claim.was().kind()) == held {
            self.discard_claimed_page(region, page, at, &mut claim);
        }
    }

    /// The pages of an extent, which the caller cuts out of the table, are unmapped.
    pub fn begin_drop(&self, inbox: &mut Inbox, part: &Extent) {
        let pages = ((part.end - part.start) / PAGE) as u64;
        if pages > LARGE
            && let Some(free) = inbox.works.iter_mut().find(|work| work.is_none())
        {
            let (start, end) = (part.first, part.first + pages);
            *free = Some(Work { what: What::Drop(part.region), start, next: start, end });
            self.works.fetch_add(1, Relaxed);
        } else {
            self.drop_pages(part.region, part.first, part.first + pages);
        }
    }

    /// Ends all work that counts in addresses of a range. The owner has unmapped or moved the range, so these addresses
    /// do not lead to the pages any more. `unmapped`: the range is gone as a whole, so what no thread has taken of it
    /// need not be seen to. The gate is closed.
    pub fn settle(&self, inbox: &mut Inbox, (start, end): (usize, usize), unmapped: bool) {
        let mut any = false;
        for index in 0..WORKS {
            let Some(mut work) = inbox.works[index].filter(|work| work.overlaps(start, end)) else { continue };
            any = true;
            let is_gone = unmapped && start as u64 <= work.next && work.end <= end as u64;
            while !is_gone && let Some(part) = work.take() {
                self.see_to(&part);
            }
            inbox.works[index] = Some(Work { next: work.end, ..work });
        }
        if any {
            self.working.wait_for_all();
            self.retire(inbox);
        }
    }

    /// Ends all work, before a region leaves its place.
    pub fn settle_all(&self, inbox: &mut Inbox) {
        for index in 0..WORKS {
            while let Some(part) = inbox.works[index].as_mut().and_then(Work::take) {
                self.see_to(&part);
            }
        }
        self.working.wait_for_all();
        self.retire(inbox);
    }

    /// Sees to a part of the pages that wait for it. False: there are none, or other threads are seeing to the last
    /// ones. The caller has no page claimed, and holds no lock.
    pub fn do_some_work(&self) -> bool {
        // Relaxed: a thread that needs the work done looks again until there is none.
        if self.works.load(Relaxed) == 0 {
            return false;
        }
        let mut inbox = self.lock_events();
        self.retire(&mut inbox);
        let Some(part) = inbox.works.iter_mut().flatten().find_map(Work::take) else { return false };
        // Counted while the lock is held: a thread that settles work holds the lock while it waits for this one.
        let working = self.working.enter();
        drop(inbox);
        self.see_to(&part);
        drop(working);
        self.retire(&mut self.lock_events());
        true
    }

    /// Sees to all pages that wait for it. The caller has no page claimed, and holds no lock.
    pub fn do_all_work(&self) {
        let mut wait = Wait::default();
        while self.works.load(Relaxed) != 0 {
            if self.do_some_work() {
                wait = Wait::default();
                self.let_others_read();
            } else {
                wait.a_moment();
            }
        }
    }

    /// After events were read that left work. If threads are lent to serve touches, they do it between touches;
    /// otherwise this thread does.
    pub fn see_to_work(&self) {
        if self.has_servers() {
            self.bell.ring();
        } else {
            self.do_all_work();
        }
    }

    /// Waits until no page of a range waits to be discarded, by events that were read by now.
    pub fn wait_for_discards(&self, start: usize, end: usize) {
        let mut wait = Wait::default();
        loop {
            // While the gate is closed an event may have been read that shuts the range in a moment.
            match self.gate.enter().map(|_inside| self.gate.is_shut(start, end)) {
                Some(false) => return,
                Some(true) => self.do_all_work(),
                None => wait.a_moment(),
            }
        }
    }

    /// Sees to a part that was taken.
    fn see_to(&self, part: &Work) {
        match part.what {
            What::Discard(_) => {
                let extents = self.extents.within(part.start as usize, part.end as usize);
                extents.for_each(|extent| self.discard_some_of(&extent, false));
            }
            What::Drop(place) => self.drop_pages(place, part.start, part.end),
        }
    }

    fn drop_pages(&self, place: usize, first: u64, end: u64) {
        if let Some(region) = self.places[place].enter() {
            (first..end).for_each(|page| self.drop_page(&region, page));
        }
    }

    /// Forgets the work that is done, and opens its ranges. The caller holds the lock, so no thread takes more.
    fn retire(&self, inbox: &mut Inbox) {
        if !self.working.is_empty() {
            return;
        }
        // This waits for nobody, and orders what follows behind what those threads did.
        self.working.wait_for_all();
        for place in &mut inbox.works {
            let Some(work) = place.filter(|work| work.next == work.end) else { continue };
            if let What::Discard(number) = work.what {
                self.gate.reopen(number);
            }
            *place = None;
            self.works.fetch_sub(1, Relaxed);
        }
    }
}
