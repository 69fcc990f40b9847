//! The memory of another process, filled from a snapshot that an area holds compressed.
//!
//! The kernel hands out touches before all other events, so a touch may be read before the removal that came first.
//! That is why everything that is there is read before any touch is served. A removal that begins after that makes the
//! calls that fill pages fail with EAGAIN, and then everything is read again. So no page that its owner had given back,
//! when it was touched, is filled from the snapshot.
//!
//! A page that was filled once, or given back, is the guest's own: if it is missing later, it was dropped, and reads as
//! zero.

mod ranges;
mod stats;

pub use self::{
    ranges::GuestRange,
    stats::{GuestCounts, GuestStats},
};

use self::ranges::{Place, Ranges};
use super::counts::Latencies;
use crate::error::{Error, Result, Sentence};
use crate::os::userfault::{Event, Message, Progress, Userfault};
use crate::os::{Errno, Os, errno};
use crate::units::PAGE;
use crate::zswap::{Area, LoadFlags};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// Messages that are read at once.
const AT_ONCE: usize = 16;
/// Reads, and touches served, before the caller has its turn: other guests wait.
const TURN: usize = 256;
/// Touches that may wait; the threads of more are woken, and touch again.
const MOST_WAITING: usize = 4096;
/// How often everything is read again while nothing can be filled, before the caller has its turn.
const PATIENCE: usize = 64;
/// The lowest address that the system takes: no process has memory there, unless it means to.
const LOWEST: usize = 64 << 10;

/// How a guest is to be served.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestOptions {
    /// Most pages that are filled for one touch, when the guest goes through its memory in order: at most 64; 1: no
    /// reading ahead; 0: 8.
    pub pages_at_once: usize,
}

/// What a call of [`Guest::serve`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Served {
    /// Touches that were served.
    pub faults: u64,
    /// There is more to do: call again soon, whether or not the descriptor has something to read.
    pub again: bool,
    /// The guest's process has ended.
    pub ended: bool,
}

/// The memory of another process, such as a microVM that was resumed from a snapshot, which handed its userfaultfd
/// over. Many guests can be filled from one [`Area`].
///
/// A child that the process forks is no part of the guest: where pages are missing, it reads zeros, whether or not the
/// userfaultfd tells of forks.
///
/// Dropping it closes the descriptor: if nobody else has it open, the process reads zeros from then on where pages are
/// missing. So keep a guest until its process has ended.
pub struct Guest {
    area: Area,
    uffd: Userfault,
    ranges: Ranges,
    /// Pages are decoded to here.
    pages: Box<[[u8; PAGE]]>,
    waiting: VecDeque<Waiting>,
    /// The address that a touch would go to next if the guest went on in order, and how many pages it gets then.
    next: (usize, usize),
    ended: bool,
    /// An address outside of all ranges, for asking if the process is there.
    nowhere: usize,
    counts: GuestCounts,
    latencies: Latencies,
}

/// A touch that was read and not served yet.
struct Waiting {
    at: usize,
    since: Instant,
}

/// How filling a page went.
enum Filled {
    /// The touch is served.
    Done,
    /// An event has to be read first.
    Again,
    /// There is no process any more.
    Ended,
    /// The system refuses; it may not later.
    Refused(Error),
    /// The page has no content, and the system can't poison it: whoever touched it waits for ever, and reads no zeros.
    Stuck(Error),
}

const COPY: Sentence = &"UFFDIO_COPY to a guest's memory";
const ZERO: Sentence = &"UFFDIO_ZEROPAGE of a guest's memory";
const POISON: Sentence = &"UFFDIO_POISON of a guest's memory";

impl Guest {
    /// Takes over the memory of the process that made the userfaultfd `fd`, and has put `ranges` under it for missing
    /// pages. `area` holds the snapshot, and has to keep it: page 0 of it is the first page of the snapshot. The
    /// descriptor becomes one whose reads don't wait.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a table that makes no sense or does not fit the snapshot, for pages of another size than
    /// 4 KiB, for options that are wrong, and if the descriptor is no userfaultfd.
    pub fn new(area: &Area, fd: OwnedFd, ranges: &[GuestRange], options: &GuestOptions) -> Result<Self> {
        Self::with_os(&Os::default(), area, fd, ranges, options)
    }

    pub(crate) fn with_os(
        os: &Os,
        area: &Area,
        fd: OwnedFd,
        ranges: &[GuestRange],
        options: &GuestOptions,
    ) -> Result<Self> {
        const AT_ONCE: Error = Error::Invalid(&"pages_at_once is 1 to 64, or 0 for 8");
        const NO_UFFD: Error = Error::Invalid(&"the descriptor is no userfaultfd, or was not made ready");
        if options.pages_at_once > 64 {
            return Err(AT_ONCE);
        }
        let ranges = Ranges::new(ranges, area.pages())?;
        let uffd = Userfault::received(os, fd).map_err(|errno| Error::system(errno, &"fcntl of the descriptor"))?;
        for (at, bytes) in ranges.each() {
            // Does no harm, for who waits touches again, and fails on any other descriptor.
            uffd.wake(at, bytes).map_err(|_| NO_UFFD)?;
        }
        let pages = if options.pages_at_once == 0 { 8 } else { options.pages_at_once };
        Ok(Self {
            area: area.clone(),
            uffd,
            nowhere: ranges.outside(LOWEST),
            ranges,
            pages: vec![[0; PAGE]; pages].into_boxed_slice(),
            waiting: VecDeque::new(),
            next: (0, 1),
            ended: false,
            counts: GuestCounts::default(),
            latencies: Latencies::default(),
        })
    }

    /// The userfaultfd: when it has something to read, [`Guest::serve`] is due.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Reads what there is to read and serves it, and never waits, whatever the guest's process does to the flags of
    /// the descriptor.
    ///
    /// Before Linux 6.10 a process that means ill can make it wait until the next message: it has to undo the flag that
    /// reads don't wait in the moment before one, and to take the message itself that was there.
    ///
    /// # Errors
    /// [`Error::System`] or [`Error::NoMemory`] if the system refuses, such as when the guest is at the limit of its
    /// memory: that touch waits, and is tried again by the next call. [`Error::Io`] if a stored page is damaged, and
    /// the system is too old to poison pages: whoever touches it waits for ever. Otherwise as [`Area::load`].
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
        failed.map_or(Ok(Served { faults, again, ended: self.ended }), Err)
    }

    /// Whether the guest's process has ended, which no event tells.
    pub fn has_ended(&mut self) -> bool {
        if !self.ended {
            let asked = self.uffd.zero(self.nowhere, PAGE);
            self.ended = asked.stopped == Some(Errno(errno::ESRCH));
        }
        self.ended
    }

    /// What it has, and what was done for it.
    pub fn stats(&self) -> GuestStats {
        GuestStats {
            bytes: self.ranges.bytes(),
            waiting: self.waiting.len() as u64,
            ended: self.ended,
            counts: self.counts,
            latencies: self.latencies.read(),
        }
    }

    /// Reads all that is there: removals take effect at once, touches wait. False: there may be more.
    fn read_all(&mut self) -> Result<bool> {
        let mut messages = [Message::NONE; AT_ONCE];
        for _ in 0..TURN {
            let read = self.uffd.read(&mut messages);
            let count = read.map_err(|errno| Error::system(errno, &"reading the guest's userfaultfd"))?;
            messages[..count].iter().for_each(|message| self.take(message.event()));
            if count < AT_ONCE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Fault { at, .. } if self.waiting.len() < MOST_WAITING => {
                self.waiting.push_back(Waiting { at: at & !(PAGE - 1), since: Instant::now() });
                return;
            }
            Event::Fault { at, .. } => {
                let _ = self.uffd.wake(at & !(PAGE - 1), PAGE);
                return;
            }
            Event::Remove { start, end } | Event::Unmap { start, end } => {
                self.counts.removed += self.ranges.make_own_between(start, end);
            }
            // Where it was, there is nothing; where it is, is not in the table.
            Event::Remap { from, bytes, .. } => _ = self.ranges.make_own_between(from, from.saturating_add(bytes)),
            Event::Fork | Event::Unknown(_) => {}
        }
        self.counts.events += 1;
    }

    /// Serves touches that wait, each once, at most so many, until one finds that an event has to be read first.
    fn serve_waiting(&mut self, most: u64) -> Result<()> {
        let mut result = Ok(());
        for _ in 0..(self.waiting.len() as u64).min(most) {
            let Some(touch) = self.waiting.pop_front() else { break };
            match self.fill(touch.at) {
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

    fn fill(&mut self, at: usize) -> Result<Filled> {
        match self.ranges.find(at) {
            // The table says what there is: this has no content.
            None => Ok(self.poison(at, |counts| &mut counts.strays)),
            Some(place) if self.ranges.is_own(place) => Ok(self.zero(at)),
            Some(place) => self.copy(place, at),
        }
    }

    fn zero(&mut self, at: usize) -> Filled {
        match self.uffd.zero(at, PAGE).stopped {
            None => {
                self.counts.zeroed += 1;
                Filled::Done
            }
            Some(errno) => self.refused(at, errno, ZERO),
        }
    }

    /// A page from the snapshot, and those after it if the guest seems to go through them in order.
    fn copy(&mut self, place: Place, at: usize) -> Result<Filled> {
        let wanted = if self.next.0 == at { self.next.1 } else { 1 };
        let wanted = self.ranges.fresh(place, wanted.min(self.pages.len()));
        let loaded = match self.load(self.ranges.source(place), wanted) {
            Ok(loaded) => loaded,
            Err(Error::Io(_) | Error::NotFound(_)) => return Ok(self.poison(at, |counts| &mut counts.poisoned)),
            Err(error) => return Err(error),
        };
        let mut copied = self.copy_pages(at, loaded);
        let answered = |errno: Errno| matches!(errno.0, errno::EAGAIN | errno::EEXIST | errno::ESRCH);
        if loaded > 1 && copied.bytes == 0 && copied.stopped.is_some_and(|errno| !answered(errno)) {
            // What follows may be mapped another way, and one call does not go beyond that.
            copied = self.copy_pages(at, 1);
        }
        let pages = copied.bytes / PAGE;
        if pages == 0 {
            let errno = copied.stopped.unwrap_or(Errno(errno::EAGAIN));
            let filled = self.refused(at, errno, COPY);
            if errno.0 == errno::EEXIST {
                self.ranges.make_own(place, 1);
            }
            return Ok(filled);
        }
        self.ranges.make_own(place, pages);
        self.next = (at + pages * PAGE, pages * 2);
        self.counts.copied += 1;
        self.counts.copied_ahead += pages as u64 - 1;
        Ok(Filled::Done)
    }

    /// Decodes pages of the snapshot, the first one and as many of those after it as can be. How many.
    fn load(&mut self, from: u64, most: usize) -> Result<usize> {
        for (ahead, page) in self.pages[..most].iter_mut().enumerate() {
            match self.area.load(from + ahead as u64, page, LoadFlags::KEEP) {
                Ok(()) => {}
                Err(error) if ahead == 0 => return Err(error),
                Err(_) => return Ok(ahead),
            }
        }
        Ok(most)
    }

    fn copy_pages(&self, at: usize, pages: usize) -> Progress {
        let from = self.pages[..pages].as_ptr();
        // SAFETY: so many pages can be read there. Its owner handed the missing pages over to be filled.
        unsafe { self.uffd.copy(at, from.cast(), pages * PAGE, false) }
    }

    /// A page that has no content never reads as anything: whoever touches it gets SIGBUS.
    #[cold]
    fn poison(&mut self, at: usize, counter: impl Fn(&mut GuestCounts) -> &mut u64) -> Filled {
        const NO_POISON: Error = Error::Io(&"a guest's page has no content, and the system can't poison it");
        let Some(errno) = self.uffd.poison(at, PAGE).stopped else {
            *counter(&mut self.counts) += 1;
            return Filled::Done;
        };
        match self.refused(at, errno, POISON) {
            Filled::Refused(_) => Filled::Stuck(NO_POISON),
            filled => filled,
        }
    }

    /// What it means that the system refused to fill a page.
    fn refused(&mut self, at: usize, refused: Errno, step: Sentence) -> Filled {
        match refused.0 {
            // There is a page already. Nobody is woken by a call that did nothing.
            errno::EEXIST => self.counts.present += 1,
            errno::EAGAIN => return Filled::Again,
            errno::ESRCH => return Filled::Ended,
            // The memory is gone, or is not under the userfaultfd any more: who waits finds out by touching it again.
            errno::ENOENT => self.counts.stale += 1,
            _ => return Filled::Refused(Error::system(refused, step)),
        }
        let _ = self.uffd.wake(at, PAGE);
        Filled::Done
    }
}
