//! Reading the events of a guest: touches wait, and all others take effect at once.

use super::state::{Guest, GuestState, GuestTouch, MOST_WAITING};
use super::unknown;
use crate::error::{Error, Result, sentence};
use crate::os::userfault::{Event, Message};
use crate::units::PAGE;
use std::time::Instant;

/// The most messages that one read takes.
const AT_ONCE: usize = 16;
/// The most reads that one call makes: other guests may wait for the caller.
const TURN: usize = 256;

impl Guest {
    /// Reads all events that are there: removals take effect at once, and touches wait. Returns false if there may be
    /// more.
    pub(super) fn read_all(&self, state: &mut GuestState) -> Result<bool> {
        let mut messages = [Message::NONE; AT_ONCE];
        for _ in 0..TURN {
            let read = self.uffd.read(&mut messages);
            let count = read.map_err(|errno| Error::system(errno, sentence(&"reading the guest's userfaultfd")))?;
            messages[..count].iter().for_each(|message| self.note(state, message.event()));
            if count < AT_ONCE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes an event, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn take(&self, event: Event) {
        self.note(&mut self.state(), event);
    }

    /// Notes an event.
    fn note(&self, state: &mut GuestState, event: Event) {
        match event {
            Event::Fault { at, write, why } if state.waiting.len() < MOST_WAITING => {
                state.waiting.push_back(GuestTouch { at: at & !(PAGE - 1), write, why, since: Instant::now() });
                return;
            }
            Event::Fault { at, .. } => {
                let _ = self.uffd.wake(at & !(PAGE - 1), PAGE);
                return;
            }
            Event::Remove { start, end } | Event::Unmap { start, end } => {
                state.counts.removed += state.ranges.give_back(start, end);
            }
            // The old addresses have no memory now, and the new ones are not in the table.
            Event::Remap { from, bytes, .. } => _ = state.ranges.give_back(from, from.saturating_add(bytes)),
            // A forked child is no part of the guest.
            Event::Fork => {}
            Event::Unknown(unknown) => {
                state.counts.unknown += 1;
                state.unknown = Some(unknown::refusal(unknown));
            }
        }
        state.counts.events += 1;
    }
}
