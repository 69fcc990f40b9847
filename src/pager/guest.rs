//! The memory of another process, filled from a snapshot that an area holds compressed.
//!
//! The kernel hands out touches before all other events, so a touch may be read before the removal that came first.
//! That is why everything that is there is read before any touch is served. A removal that begins after that makes the
//! calls that fill pages fail with EAGAIN, and then everything is read again. So no page that its owner had given back,
//! when it was touched, is filled from the snapshot.
//!
//! A page that was filled once, or given back, is the guest's own: if it is missing later, it was dropped, and reads as
//! zero.

mod dirty;
mod file;
mod fill;
pub(crate) mod ranges;
mod stats;
mod unknown;

pub use self::{
    file::GuestFile,
    ranges::GuestRange,
    stats::{GuestCounts, GuestStats},
};

use self::fill::Filled;
use self::ranges::Ranges;
use super::counts::Latencies;
use crate::error::{Error, Result};
use crate::heap;
use crate::os::userfault::{Event, Message, Userfault, Why};
use crate::os::{Errno, Os, errno};
use crate::units::PAGE;
use crate::zswap::Area;
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
    /// Which pages are put in place protected from writes.
    pub protect: Protect,
}

/// Which pages of a guest are put in place protected from writes, so that its owner learns which were written.
///
/// Where the guest's process made its userfaultfd with `UFFD_FEATURE_WP_ASYNC`, the system lifts the protection itself,
/// and `PAGEMAP_SCAN` tells that process what was written. Elsewhere [`Guest::serve`] lifts it, and
/// [`Guest::take_dirty`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Protect {
    /// All pages of ranges that the guest's process registered for write protection (`UFFDIO_REGISTER_MODE_WP`). The
    /// system is asked when the first page of a range is filled: register before the userfaultfd is handed over.
    #[default]
    IfRegistered,
    /// All pages: the touches of a range that is not registered for write protection wait, and [`Guest::serve`] fails
    /// with what the system says. So nothing is written unseen.
    Always,
    /// None: the guest's process protects what it wants to see written. That protection is lifted as well.
    Never,
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
///
/// # Jails
/// A guest that was made makes these system calls: `close`, `fcntl`, `futex`, `ioctl`, `poll`, `preadv2`, `read`,
/// `sched_yield`. One with a memory file also `pread64`, `pwrite64`. And `pread64` where the area's zswap has a backing
/// file.
pub struct Guest {
    os: Os,
    area: Area,
    uffd: Userfault,
    ranges: Ranges,
    /// The memory file, if it was handed over.
    file: Option<GuestFile>,
    protect: Protect,
    /// Pages are decoded to here.
    pages: Box<[[u8; PAGE]]>,
    waiting: VecDeque<Waiting>,
    /// The address that a touch would go to next if the guest went on in order, and how many pages it gets then.
    next: (usize, usize),
    ended: bool,
    /// The system tells of writes to protected pages, and does not lift the protection itself.
    is_told: bool,
    /// An event that was read and that nobody was told of yet: why it is refused.
    unknown: Option<Error>,
    /// An address outside of all ranges, for asking if the process is there.
    nowhere: usize,
    counts: GuestCounts,
    latencies: Latencies,
}

/// A touch that was read and not served yet.
struct Waiting {
    at: usize,
    write: bool,
    why: Why,
    since: Instant,
}

impl Guest {
    /// Takes over the memory of the process that made the userfaultfd `fd`, and has put `ranges` under it for missing
    /// pages. `area` holds the snapshot, and has to keep it: page 0 of it is the first page of the snapshot. The
    /// descriptor becomes one whose reads don't wait.
    ///
    /// The process may have registered the ranges for write protection as well ([`Protect`]), and, in memory files, for
    /// minor faults: then a page that the file has is mapped as it is. A memory file's ranges that are registered for
    /// minor faults and not for missing pages read zeros where the file has no page, and nobody is told.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a table that makes no sense or does not fit the snapshot, for pages of another size than
    /// 4 KiB, for options that are wrong, and if the descriptor is no userfaultfd.
    pub fn new(area: &Area, fd: OwnedFd, ranges: &[GuestRange], options: &GuestOptions) -> Result<Self> {
        Self::with_os(&Os::default(), area, fd, ranges, options)
    }

    /// The same, for a process that handed its memory file over as well, as Firecracker does for memory that KVM keeps
    /// from it. A minor fault of a page that was not filled yet writes the page to the file before it is mapped.
    ///
    /// # Errors
    /// As [`Guest::new`]; and [`Error::Invalid`] if the descriptors are not the files that they have to be, are too
    /// short for the ranges, or not open for reading and writing, and if two ranges are at the same offset.
    pub fn with_file(
        area: &Area,
        fd: OwnedFd,
        file: GuestFile,
        ranges: &[GuestRange],
        options: &GuestOptions,
    ) -> Result<Self> {
        let os = Os::default();
        let mut guest = Self::with_os(&os, area, fd, ranges, options)?;
        file.check(&os, &guest.ranges)?;
        guest.file = Some(file);
        Ok(guest)
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
        // Room for all that may wait, so that serving allocates nothing.
        let mut waiting = VecDeque::new();
        waiting.try_reserve_exact(MOST_WAITING).map_err(|_| heap::NO_MEMORY)?;
        Ok(Self {
            os: os.clone(),
            file: None,
            protect: options.protect,
            is_told: false,
            unknown: None,
            area: area.clone(),
            uffd,
            nowhere: ranges.outside(LOWEST),
            ranges,
            pages: heap::slice(pages, |_| Ok([0; PAGE]))?,
            waiting,
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
    /// the system is too old to poison pages: whoever touches it waits for ever. [`Error::Invalid`], once, for an event
    /// or a touch of a kind that this version does not know: a thread that made such a touch waits for ever, and all
    /// else is served. Otherwise as [`Area::load`].
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

    /// Notes what an event says.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Fault { at, write, why } if self.waiting.len() < MOST_WAITING => {
                self.waiting.push_back(Waiting { at: at & !(PAGE - 1), write, why, since: Instant::now() });
                return;
            }
            Event::Fault { at, .. } => {
                let _ = self.uffd.wake(at & !(PAGE - 1), PAGE);
                return;
            }
            Event::Remove { start, end } | Event::Unmap { start, end } => {
                self.counts.removed += self.ranges.give_back(start, end);
            }
            // Where it was, there is nothing; where it is, is not in the table.
            Event::Remap { from, bytes, .. } => _ = self.ranges.give_back(from, from.saturating_add(bytes)),
            // A child is no part of the guest.
            Event::Fork => {}
            Event::Unknown(unknown) => {
                self.counts.unknown += 1;
                self.unknown = Some(unknown::refusal(unknown));
            }
        }
        self.counts.events += 1;
    }

    /// Serves touches that wait, each once, at most so many, until one finds that an event has to be read first.
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
