//! Events: what owners do with their memory, as the system tells it. The pager reads them, and lets each take effect
//! with the gate closed. A thread whose page can't be put in place waits until all that is there was read, and looks
//! again.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::gate::Closed;
use super::inbox::{Inbox, PendingTouch};
use crate::os::userfault::{Event, Message};
use crate::units::PAGE;

/// Messages that are read at once.
const AT_ONCE: usize = 16;

impl Core {
    /// Reads all events that are there, and lets them take effect. If another thread does so, or changes the table of
    /// extents, waits until that is done. Helps with the pages of a large event. The caller has no page claimed.
    ///
    /// Closes the gate only if there is an event: threads come here again and again while something else is in their
    /// way.
    pub fn read_events(&self) {
        let mut inbox = self.events.lock();
        if !self.uffd.has_events() {
            drop(inbox);
            _ = self.do_some_work();
            return;
        }
        let (touches, works) = (inbox.touches(), self.backlog.left());
        self.read_into(&mut inbox);
        let came = inbox.touches() > touches;
        self.events.note_touches(&inbox);
        let left = self.backlog.left() > works;
        drop(inbox);
        if came {
            // The threads that serve find nothing to read any more.
            self.lending.wake_poller();
        }
        if left { self.see_to_work() } else { _ = self.do_some_work() }
    }

    /// Takes the next touch that waits to be served. Reads events if none waits.
    pub fn next_touch(&self) -> Option<PendingTouch> {
        let mut inbox = self.events.lock();
        if inbox.touches() == 0 && self.uffd.has_events() {
            self.read_into(&mut inbox);
        }
        let touch = inbox.pop();
        let more = self.events.note_touches(&inbox);
        drop(inbox);
        if more {
            self.lending.wake_one();
        }
        touch
    }

    /// Lets a touch of a page that can't be served for a while wait once more, behind the others. Returns false if
    /// there is no room.
    pub fn wait_again(&self, touch: PendingTouch) -> bool {
        let mut inbox = self.events.lock();
        let has_room = inbox.push(touch);
        self.events.note_touches(&inbox);
        has_room
    }

    /// Reads all messages that are there with the gate closed. The caller holds the lock of events.
    fn read_into(&self, inbox: &mut Inbox) {
        let closed = self.gate.close();
        let mut messages = [Message::NONE; AT_ONCE];
        loop {
            let count = self.uffd.read(&mut messages).unwrap_or(0);
            messages[..count].iter().for_each(|message| self.take_effect(message.event(), inbox, &closed));
            if count < AT_ONCE {
                return;
            }
        }
    }

    /// Does what an event asks for. The owner goes on as soon as its event was read, and so before this.
    pub fn take_effect(&self, event: Event, inbox: &mut Inbox, closed: &Closed<'_>) {
        match event {
            // The state word and the system say, when the touch is served, whether the page is missing, protected or
            // not mapped: that may have changed since the touch.
            Event::Fault { at, write, .. } => {
                if !inbox.push(PendingTouch { at, write }) {
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
                // What was at the new addresses is unmapped.
                self.settle(inbox, (to, to + bytes), false);
                inbox.note_moved(from, from + bytes);
                self.remap(from, to, bytes);
            }
            // Children don't get regions.
            Event::Fork => {}
            // The pager asks the system for no such event. If it is a touch, its thread waits: woken, it would touch
            // again, and again.
            Event::Unknown(_) => add(&self.counters.failed, 1),
        }
        add(&self.counters.events, 1);
    }

    /// Moves the extents of a range that its owner moved.
    fn remap(&self, from: usize, to: usize, bytes: usize) {
        while let Some(part) = self.extents.within(from, from + bytes).next() {
            self.extents.cut(part.start, part.end);
            let start = to + (part.start - from);
            let moved = Extent { start, end: start + (part.end - part.start), ..part };
            // What was there is unmapped. Its own event may come later.
            self.extents.cut(moved.start, moved.end);
            let added = self.extents.add_moved(moved);
            debug_assert!(added.is_ok());
        }
    }
}
