//! Serving touches, in turns. Everything is read before any touch is served.

use super::fill::Filled;
use super::state::{Guest, PATIENCE};
use crate::error::Result;
use crate::os::{Errno, errno};
use crate::units::PAGE;

/// The most touches that one call serves: other guests may wait for the caller.
const TURN: usize = 256;

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
    /// Reads the events that are there and serves the touches among them. Never waits, whatever the guest's process
    /// does to the flags of the descriptor.
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
    pub fn serve(&mut self) -> Result<Served> {
        let (before, mut fruitless, mut left) = (self.counts.faults, 0, TURN as u64);
        let mut failed = None;
        while !self.ended && fruitless < PATIENCE && left > 0 && failed.is_none() {
            let all_read = self.read_all()?;
            if !all_read || self.waiting.is_empty() {
                break;
            }
            let served = self.counts.faults;
            failed = self.serve_waiting(left).err();
            left -= (self.counts.faults - served).min(left);
            if self.counts.faults == served {
                fruitless += 1;
                // The thread that gives memory back has to run until the system lets pages be filled again.
                std::thread::yield_now();
            }
        }
        let faults = self.counts.faults - before;
        let again = !self.ended && !self.waiting.is_empty();
        let failed = self.unknown.take().or(failed);
        failed.map_or(Ok(Served { faults, again, ended: self.ended }), Err)
    }

    /// Asks the system whether the guest's process has ended. No event tells so.
    pub fn has_ended(&mut self) -> bool {
        if !self.ended {
            let asked = self.uffd.zero(self.nowhere, PAGE);
            self.ended = asked.stopped == Some(Errno(errno::ESRCH));
        }
        self.ended
    }

    /// Serves at most `most` of the touches that wait, each once. Stops when an event has to be read first.
    fn serve_waiting(&mut self, most: u64) -> Result<()> {
        let mut result = Ok(());
        for _ in 0..(self.waiting.len() as u64).min(most) {
            let Some(touch) = self.waiting.pop_front() else { break };
            match self.answer(&touch) {
                Ok(Filled::Done) => {
                    self.counts.faults += 1;
                    self.latencies.add(touch.since.elapsed().as_nanos() as u64);
                }
                Ok(Filled::Again) => {
                    self.counts.retries += 1;
                    self.waiting.push_front(touch);
                    break;
                }
                Ok(Filled::Ended) => {
                    self.ended = true;
                    self.waiting.clear();
                }
                Ok(Filled::Stuck(error)) => result = result.and(Err(error)),
                Ok(Filled::Refused(error)) | Err(error) => {
                    self.waiting.push_back(touch);
                    result = result.and(Err(error));
                }
            }
        }
        result
    }
}
