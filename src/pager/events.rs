//! Events: what owners do to their memory, which takes effect here before they go on; and touches that wait for a
//! thread of the caller's.
//!
//! One thread at a time reads. A message of a touch may be read before that of what caused it, so a touch whose page
//! can't be put in place waits until all that is there was read, and looks again.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::file_pages::Left;
use super::gate::Closed;
use super::page::Claim;
use super::region::Region;
use super::word::{Copied, Kind, MAX_AGE, State};
use super::work::{WORKS, Work};
use crate::error::Result;
use crate::heap;
use crate::os::userfault::{Event, Message};
use crate::sync::{Lock, Locked, Ordering::Relaxed, Rank, Wait};
use crate::units::PAGE;
use crate::zswap::Patience;

/// Messages that are read at once.
const AT_ONCE: usize = 16;
/// Touches that may wait to be served; the threads of more are woken, and touch again.
const WAITING: usize = 1024;

/// How long a thread gives way to those that wait for the lock of events, at most: some milliseconds.
pub const GIVES_WAY: u32 = 16;

/// Moves whose unmapping may not have been told yet; as many owners may move something at once.
const MOVED: usize = 64;

/// A touch that waits.
#[derive(Clone, Copy)]
pub struct Waiting {
    pub at: usize,
    pub write: bool,
}

/// What was read and not served yet.
pub struct Inbox {
    touches: Box<[Waiting]>,
    first: usize,
    count: usize,
    /// Ranges that were moved away, start and end, whose unmapping the system tells as well, and a little later. By
    /// then others may be there.
    moved: [(usize, usize); MOVED],
    /// Where the next one is noted: in the place of the oldest.
    next_move: usize,
    /// Large events whose pages have not all been seen to.
    pub works: [Option<Work>; WORKS],
}

impl Inbox {
    /// Nothing.
    pub fn locked() -> Result<Lock<Self>> {
        let touches = heap::slice(WAITING, |_| Ok(Waiting { at: 0, write: false }))?;
        let (moved, works) = ([(0, 0); MOVED], [None; WORKS]);
        Ok(Lock::new(Rank::Inbox, Self { touches, first: 0, count: 0, moved, next_move: 0, works }))
    }

    fn push(&mut self, touch: Waiting) -> bool {
        if self.count == WAITING {
            return false;
        }
        self.touches[(self.first + self.count) % WAITING] = touch;
        self.count += 1;
        true
    }

    /// A range was moved away.
    fn note_moved(&mut self, start: usize, end: usize) {
        self.moved[self.next_move] = (start, end);
        self.next_move = (self.next_move + 1) % MOVED;
    }

    /// Others are there now: what is unmapped from here on is theirs. A move that left its range mapped tells of no
    /// unmapping.
    pub fn forget_moved(&mut self, start: usize, end: usize) {
        self.moved.iter_mut().filter(|moved| moved.0 < end && start < moved.1).for_each(|moved| *moved = (0, 0));
    }

    /// Whether an unmapping is that of a range that was moved away, of which this is told once.
    fn was_moved(&mut self, start: usize, end: usize) -> bool {
        let known = self.moved.iter_mut().find(|moved| **moved == (start, end));
        known.map(|moved| *moved = (0, 0)).is_some()
    }

    fn pop(&mut self) -> Option<Waiting> {
        if self.count == 0 {
            return None;
        }
        let touch = self.touches[self.first];
        self.first = (self.first + 1) % WAITING;
        self.count -= 1;
        Some(touch)
    }
}

impl Core {
    /// Takes the lock of events.
    pub fn lock_events(&self) -> Locked<'_, Inbox> {
        self.inbox.check_rank();
        self.inbox.try_lock().unwrap_or_else(|| {
            // Relaxed: it is a hint, for `let_others_read`.
            self.readers.fetch_add(1, Relaxed);
            let locked = self.inbox.lock();
            self.readers.fetch_sub(1, Relaxed);
            locked
        })
    }

    /// Between two parts of long work, for which this thread takes the lock of events again and again: lets those have
    /// it that wait for it. They look for themselves whether it is free, and would not find it so.
    pub fn let_others_read(&self) {
        let mut wait = Wait::default();
        for _ in 0..GIVES_WAY {
            if self.readers.load(Relaxed) == 0 {
                return;
            }
            #[cfg(test)]
            self.gave_way.fetch_add(u32::from(self.inbox.try_lock().is_some()), Relaxed);
            wait.a_moment();
        }
    }

    /// Reads all events that are there, and lets them take effect. The caller has no page claimed.
    pub fn read_events(&self) {
        let mut inbox = self.lock_events();
        let before = inbox.count;
        let works = self.works.load(Relaxed);
        let closed = self.gate.close();
        self.read_into(&mut inbox, &closed);
        drop(closed);
        let came = inbox.count > before;
        let left = self.works.load(Relaxed) > works;
        drop(inbox);
        if came {
            // For the threads that serve: there is nothing for them to read any more.
            self.bell.ring();
        }
        if left { self.see_to_work() } else { _ = self.do_some_work() }
    }

    /// The next touch that waits to be served.
    pub fn next_touch(&self) -> Option<Waiting> {
        let mut inbox = self.lock_events();
        if inbox.count == 0 {
            let closed = self.gate.close();
            self.read_into(&mut inbox, &closed);
        }
        let touch = inbox.pop();
        if inbox.count > 0 {
            self.bell.ring();
        }
        touch
    }

    /// A touch of a page that can't be served for a while waits once more, behind the others. False: there is no room.
    pub fn wait_again(&self, touch: Waiting) -> bool {
        self.lock_events().push(touch)
    }

    fn read_into(&self, inbox: &mut Inbox, closed: &Closed<'_>) {
        let mut messages = [Message::NONE; AT_ONCE];
        loop {
            let count = self.uffd.read(&mut messages).unwrap_or(0);
            messages[..count].iter().for_each(|message| self.take_effect(message.event(), inbox, closed));
            if count < AT_ONCE {
                return;
            }
        }
    }

    /// Does what an event asks for. An owner goes on as soon as its event was read, and so before this.
    pub fn take_effect(&self, event: Event, inbox: &mut Inbox, closed: &Closed<'_>) {
        match event {
            // Whether the page is missing, protected or not mapped is what its state word and the system say when it is
            // served: that may have changed since the touch.
            Event::Fault { at, write, .. } => {
                if !inbox.push(Waiting { at, write }) {
                    let _ = self.uffd.wake(at & !(PAGE - 1), PAGE);
                }
                return;
            }
            Event::Remove { start, end } => self.begin_discard(inbox, closed, start, end),
            Event::Unmap { start, end } if inbox.was_moved(start, end) => {}
            Event::Unmap { start, end } => {
                self.settle(inbox, (start, end), true);
                self.extents.within(start, end).for_each(|part| self.begin_drop(inbox, &part));
                self.extents.cut(start, end);
            }
            Event::Remap { from, to, bytes } => {
                self.settle(inbox, (from, from + bytes), false);
                // What was there is unmapped.
                self.settle(inbox, (to, to + bytes), false);
                inbox.note_moved(from, from + bytes);
                self.remap(from, to, bytes);
            }
            // Children don't get regions.
            Event::Fork => {}
            // Nothing that a pager asks the system for. The touch, if it is one, waits: to wake it would make it touch
            // again, and again.
            Event::Unknown(_) => add(&self.counters.failed, 1),
        }
        add(&self.counters.events, 1);
    }

    /// A range moved: its extents do.
    fn remap(&self, from: usize, to: usize, bytes: usize) {
        while let Some(part) = self.extents.within(from, from + bytes).next() {
            self.extents.cut(part.start, part.end);
            let start = to + (part.start - from);
            let moved = Extent { start, end: start + (part.end - part.start), ..part };
            // What was there is unmapped; its own event may come later.
            self.extents.cut(moved.start, moved.end);
            let added = self.extents.add_moved(moved);
            debug_assert!(added.is_ok());
        }
    }

    /// The pages of a part read as zero from now on.
    pub fn discard_part(&self, part: &Extent) {
        if let Some(region) = self.places[part.region].enter() {
            for at in (part.start..part.end).step_by(PAGE) {
                self.discard_page(&region, part.page_at(at), at);
            }
        }
    }

    /// A page that its owner gives back, and that reads as zero from now on.
    fn discard_page(&self, region: &Region, page: u64, at: usize) {
        if region.page(page).peek() == State::EMPTY {
            return;
        }
        let mut claim = region.page(page).claim();
        self.discard_claimed_page(region, page, at, &mut claim);
    }

    /// The same with a page that this thread has claimed.
    pub fn discard_claimed_page(&self, region: &Region, page: u64, at: usize, claim: &mut Claim<'_>) {
        if matches!(claim.was().kind(), Kind::Resident(1..)) {
            // The system takes it out of its place a little later, and leaves it in a memory file. It may be released
            // and evicted before that, and must not come back as it was.
            let _ = self.write_zeros(region, page, at);
        }
        self.discard_claimed(region, page, at, claim);
    }

    /// The same with a page whose bytes need no care. One that is held stays in its place, as far as the system
    /// lets it, and one that is damaged stays so.
    pub fn discard_claimed(&self, region: &Region, page: u64, at: usize, claim: &mut Claim<'_>) {
        let was = claim.was();
        match was.kind() {
            // It is missing in a moment, and what it reads as is decided when it is touched.
            Kind::Resident(1..) => {
                self.drop_copy(region, page, was);
                claim.set(was.with_copy(Copied::No));
                return;
            }
            Kind::Resident(_) => {
                // The event does not tell a hole in a memory file from a discard, which would leave the page in the
                // file for now. It must be gone before an eviction could store it.
                let left = match region.is_private() {
                    true => Ok(Left::Gone),
                    false => self.discard_from_file(region, page, at),
                };
                let Ok(left) = left else { return };
                self.drop_copy(region, page, was);
                if left == Left::Stays {
                    claim.set(self.marked(was.with_copy(Copied::No).with_age(MAX_AGE)));
                    return;
                }
                self.unmarked(was);
                self.uncharge(1);
            }
            // The slot's memory is given back when its block is drained, and with it the charge.
            Kind::Staged(slot) => {
                self.drop_copy(region, page, was);
                self.unstage(slot);
            }
            Kind::Stored => self.forget(region, page),
            // The system drops the mark of a damaged page with the memory, if that is private.
            Kind::Poisoned if region.is_private() => self.forget(region, page),
            Kind::Empty | Kind::Busy | Kind::Poisoned => return,
        }
        claim.set(State::EMPTY);
        add(&self.counters.discarded, 1);
    }

    /// A page whose addresses are gone.
    pub fn drop_page(&self, region: &Region, page: u64) {
        if region.page(page).peek() == State::EMPTY {
            return;
        }
        let mut claim = region.page(page).claim();
        match claim.was().kind() {
            Kind::Resident(holds) => {
                self.drop_copy(region, page, claim.was());
                self.unmarked(claim.was());
                self.uncharge(1);
                self.held.fetch_sub(u64::from(holds > 0), Relaxed);
            }
            Kind::Staged(slot) => {
                self.drop_copy(region, page, claim.was());
                self.unstage(slot);
            }
            Kind::Stored => self.forget(region, page),
            Kind::Empty | Kind::Busy | Kind::Poisoned => {}
        }
        claim.set(State::EMPTY);
        add(&self.counters.discarded, 1);
    }

    /// Removes a page's copy from zswap, if there is one.
    pub fn forget(&self, region: &Region, page: u64) {
        // Nothing of a pager's has to be waited for. To ask whether this thread may wait is to look at a variable of
        // the thread's own, which allocates the first time, in a library that was loaded by dlopen.
        let gone = region.area.invalidate(page, 1, Patience::NoWait);
        debug_assert!(gone.is_ok());
    }

    /// A staged page, which this thread has claimed, is not needed: its memory goes now, if the system takes it.
    fn unstage(&self, slot: u32) {
        self.staging.went(1);
        // SAFETY: the claim makes the slot's page this thread's, and no word will name it.
        match unsafe { self.staging.give_back(slot, 1) } {
            Ok(()) => self.uncharge(1),
            Err(_) => self.staging.leave(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_come_out_as_they_went_in_where_the_ring_goes_round() {
        let inbox = Inbox::locked().unwrap();
        let mut inbox = inbox.lock();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..5 {
            while inbox.push(Waiting { at: pushed, write: pushed % 2 == 0 }) {
                pushed += 1;
            }
            assert_eq!(pushed - popped, WAITING);
            for _ in 0..WAITING / 2 + round {
                let touch = inbox.pop().unwrap();
                assert_eq!((touch.at, touch.write), (popped, popped % 2 == 0));
                popped += 1;
            }
        }
        while inbox.pop().is_some() {
            popped += 1;
        }
        assert_eq!(popped, pushed);
    }

    #[test]
    fn as_many_moves_are_known_as_there_is_room_for_where_the_ring_goes_round() {
        let inbox = Inbox::locked().unwrap();
        let mut inbox = inbox.lock();
        for last in 0..5 * MOVED {
            inbox.note_moved(last * PAGE, (last + 1) * PAGE);
            let oldest = last.saturating_sub(MOVED - 1);
            for at in oldest.saturating_sub(2)..=last + 1 {
                let known = inbox.moved.contains(&(at * PAGE, (at + 1) * PAGE));
                assert_eq!(known, (oldest..=last).contains(&at), "{at} of {last}");
            }
        }
        let last = 5 * MOVED - 1;
        assert!(inbox.was_moved(last * PAGE, (last + 1) * PAGE) && !inbox.was_moved(last * PAGE, (last + 1) * PAGE));
        inbox.forget_moved((last - 1) * PAGE, last * PAGE);
        assert!(!inbox.was_moved((last - 1) * PAGE, last * PAGE));
    }
}
