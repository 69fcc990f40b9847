//! What a guest consists of, and how its memory is handed over.

use super::file::GuestFile;
use super::options::{GuestOptions, Protect};
use super::ranges::{GuestRange, Ranges};
use super::stats::{GuestCounts, GuestStats};
use crate::error::{Error, Result};
use crate::heap;
use crate::latency::Latencies;
use crate::os::Os;
use crate::os::userfault::{Userfault, Why};
use crate::units::PAGE;
use crate::zswap::Area;
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// Touches that may wait; the threads of more are woken, and touch again.
pub(super) const MOST_WAITING: usize = 4096;
/// How often everything is read again while nothing can be filled, before the caller has its turn.
pub(super) const PATIENCE: usize = 64;
/// The lowest address that the system takes: no process has memory there, unless it means to.
const LOWEST: usize = 64 << 10;

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
    pub(super) os: Os,
    pub(super) area: Area,
    pub(super) uffd: Userfault,
    pub(super) ranges: Ranges,
    /// The memory file, if it was handed over.
    pub(super) file: Option<GuestFile>,
    pub(super) protect: Protect,
    /// Pages are decoded to here.
    pub(super) pages: Box<[[u8; PAGE]]>,
    pub(super) waiting: VecDeque<Touch>,
    /// The address that a touch would go to next if the guest went on in order, and how many pages it gets then.
    pub(super) next: (usize, usize),
    pub(super) ended: bool,
    /// The system tells of writes to protected pages, and does not lift the protection itself.
    pub(super) is_told: bool,
    /// An event that was read and that nobody was told of yet: why it is refused.
    pub(super) unknown: Option<Error>,
    /// An address outside of all ranges, for asking if the process is there.
    pub(super) nowhere: usize,
    pub(super) counts: GuestCounts,
    pub(super) latencies: Latencies,
}

/// A touch that was read and not served yet.
pub(super) struct Touch {
    pub(super) at: usize,
    pub(super) write: bool,
    pub(super) why: Why,
    pub(super) since: Instant,
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
}
