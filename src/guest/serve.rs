//! Serving touches, in turns. Everything is read before any touch is served.

use super::fill::Filled;
use super::state::{Guest, PATIENCE};
use crate::error::{Error, Result};
use crate::os::{Errno, errno};
use crate::units::PAGE;

/// The most touches that one call serves: other guests may wait for the caller.
const TURN: u64 = 8;

/// What a call of [`Guest::serve`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Served {
    /// Touches that were served.
    pub faults: u64,
    /// Whether there is more to do: call again soon, even if the descriptor has nothing to read.
    pub again: bool,
    /// Whether the guest's process has ended.
    pub ended: bool,
}

impl Guest {
    /// Reads the events that are there and serves the touches among them, as many as one turn has: other guests may
    /// wait for the caller. Never waits for the guest's process, whatever that does to the flags of the descriptor.
    ///
    /// Several threads may do so at the same time: see [`Guest`].
    ///
    /// There is one exception before Linux 6.10: a malicious process can make this wait until the next message. It has
    /// to undo the non-blocking flag in the moment before a read, and take the message that was there itself.
    ///
    /// # Errors
    /// [`Error::System`](crate::Error::System) or [`Error::NoMemory`](crate::Error::NoMemory) if the system refuses,
    /// such as when the guest is at the limit of its memory: that touch waits, and the next call tries again.
    ///
    /// [`Error::Damaged`](crate::Error::Damaged) if a stored page is damaged, missing or can't be read, and the system
    /// is too old to poison pages: a thread that touches the page waits for ever.
    ///
    /// [`Error::Invalid`](crate::Error::Invalid), once, for an event or a touch of a kind that this version does not
    /// know: a thread that made such a touch waits for ever, and everything else is served.
    ///
    /// Otherwise the errors of [`Area::load`](crate::Area::load).
    pub fn serve(&self) -> Result<Served> {
        self.with_buffer(|pages| self.serve_a_turn(pages))?
    }

    fn serve_a_turn(&self, pages: &mut [[u8; PAGE]]) -> Result<Served> {
        let (mut faults, mut fruitless, mut failed, mut all_read) = (0, 0, None, true);
        let mut state = self.state();
        while !state.ended && fruitless < PATIENCE && faults < TURN && failed.is_none() {
            all_read = self.read_all(&mut state)?;
            if !all_read || state.waiting.is_empty() {
                break;
            }
            drop(state);
            let (served, refused) = self.serve_waiting(TURN - faults, pages);
            (faults, failed) = (faults + served, refused);
            if served == 0 {
                fruitless += 1;
                // The thread that gives memory back has to run until the system lets pages be filled again.
                std::thread::yield_now();
            }
            state = self.state();
        }
        let again = !state.ended && (!all_read || !state.waiting.is_empty());
        let failed = state.unknown.take().or(failed);
        failed.map_or(Ok(Served { faults, again, ended: state.ended }), Err)
    }

    /// Asks the system whether the guest's process has ended. No event tells so.
    pub fn has_ended(&self) -> bool {
        let mut state = self.state();
        if !state.ended {
            let asked = self.uffd.zero(self.nowhere, PAGE);
            state.ended = asked.stopped == Some(Errno(errno::ESRCH));
        }
        state.ended
    }

    /// Serves at most `most` of the touches that wait, each once. Stops when an event has to be read first. Returns how
    /// many it served, and the first error.
    fn serve_waiting(&self, most: u64, pages: &mut [[u8; PAGE]]) -> (u64, Option<Error>) {
        let mut state = self.state();
        let (mut served, mut failed) = (0, None);
        for _ in 0..(state.waiting.len() as u64).min(most) {
            let Some(touch) = state.waiting.pop_front() else { break };
            let (locked, decoded) = self.decode(state, &touch, pages);
            state = locked;
            match self.answer(&mut state, &touch, pages, decoded) {
                Ok(Filled::Done) => {
                    served += 1;
                    state.counts.faults += 1;
                    self.latencies.add(touch.since.elapsed().as_nanos() as u64);
                }
                Ok(Filled::Again) => {
                    state.counts.retries += 1;
                    state.waiting.push_front(touch);
                    break;
                }
                Ok(Filled::Ended) => {
                    state.ended = true;
                    state.waiting.clear();
                }
                Ok(Filled::Stuck(error)) => failed = failed.or(Some(error)),
                Ok(Filled::Refused(error)) | Err(error) => {
                    state.waiting.push_back(touch);
                    failed = failed.or(Some(error));
                }
            }
        }
        (served, failed)
    }
}
