//! What a guest consists of, and how its memory is handed over.

use super::file::GuestFile;
use super::options::{GuestOptions, Protect};
use super::ranges::{GuestRange, Ranges};
use super::stats::{GuestCounts, GuestStats};
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::latency::Latencies;
use crate::os::Os;
use crate::os::userfault::{Userfault, Why};
use crate::units::PAGE;
use crate::zswap::Area;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// The most touches that wait. The threads of further ones are woken, and touch again.
pub(super) const MOST_WAITING: usize = 4096;
/// How often everything is read again while no page can be filled, before the call returns.
pub(super) const PATIENCE: usize = 64;
/// The lowest address that the system accepts. No process has memory there by chance.
const LOWEST: usize = 64 << 10;

/// The memory of another process that handed its userfaultfd over, such as a microVM that was resumed from a snapshot.
/// Many guests can be filled from one [`Area`].
///
/// A guest is served by the thread that calls [`Guest::serve`], whenever [`Guest::fd`] has something to read. It may be
/// sent to another thread. Its methods are not for callbacks or signal handlers.
///
/// A child that the process forks is not part of the guest. It reads zeros where pages are missing, whether or not the
/// userfaultfd tells of forks.
///
/// Dropping a guest closes the descriptor. If nobody else has it open, the process reads zeros from then on where pages
/// are missing. So keep a guest until its process has ended.
///
/// # Examples
/// ```
/// use std::os::fd::{BorrowedFd, OwnedFd};
/// use zsalloc::{Area, Guest, GuestOptions, GuestRange, PAGE_SIZE};
///
/// # fn wait_until_readable(fd: BorrowedFd<'_>) {}
/// /// Serves a process that has all of the snapshot in one range at the address `at`, until it ends.
/// fn serve(snapshot: &Area, userfaultfd: OwnedFd, at: u64) -> zsalloc::Result<()> {
///     let page_bytes = PAGE_SIZE as u64;
///     let range = GuestRange { at, bytes: snapshot.pages() * page_bytes, offset: 0, page_bytes };
///     let mut guest = Guest::new(snapshot, userfaultfd, &[range], &GuestOptions::default())?;
///     loop {
///         let served = guest.serve()?;
///         if served.ended {
///             return Ok(());
///         }
///         if !served.again {
///             wait_until_readable(guest.fd()); // poll(2), or an event loop
///         }
///     }
/// }
/// ```
///
/// # Jails
/// Once it is made, a guest makes these system calls: `close`, `fcntl`, `futex`, `ioctl`, `poll`, `preadv2`, `read`,
/// `sched_yield`. One with a memory file also `pread64`, `pwrite64`. And `pread64` where the area's zswap has a backing
/// file.
pub struct Guest {
    pub(super) os: Os,
    pub(super) area: Area,
    pub(super) uffd: Userfault,
    pub(super) ranges: Ranges,
    /// The memory file, if the process handed one over.
    pub(super) file: Option<GuestFile>,
    pub(super) protect: Protect,
    /// A buffer for decoded pages.
    pub(super) pages: Box<[[u8; PAGE]]>,
    pub(super) waiting: VecDeque<GuestTouch>,
    /// The address of the next touch if the guest goes on in order, and how many pages that touch gets.
    pub(super) next: (usize, usize),
    pub(super) ended: bool,
    /// Whether the system tells of writes to protected pages, and does not lift the protection itself.
    pub(super) is_told: bool,
    /// The error for an unknown event that was read, until a call returns it.
    pub(super) unknown: Option<Error>,
    /// An address outside all ranges, by which the system is asked whether the process is still there.
    pub(super) nowhere: usize,
    pub(super) counts: GuestCounts,
    pub(super) latencies: Latencies,
}

/// A touch that was read and not served yet.
pub(super) struct GuestTouch {
    pub(super) at: usize,
    pub(super) write: bool,
    pub(super) why: Why,
    pub(super) since: Instant,
}

impl fmt::Debug for Guest {
    /// Prints the statistics that are short. Makes no system call.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Guest")
            .field("bytes", &self.ranges.bytes())
            .field("waiting", &self.waiting.len())
            .field("ended", &self.ended)
            .field("protect", &self.protect)
            .finish_non_exhaustive()
    }
}

impl Guest {
    /// Takes over the memory of the process that made the userfaultfd `fd` and registered `ranges` with it for missing
    /// pages. `area` holds the snapshot, from page 0 on, and has to keep it. The descriptor becomes non-blocking.
    ///
    /// The process may have registered the ranges for write protection as well ([`Protect`]), and, in memory files, for
    /// minor faults: then a page that the file has is mapped as it is. If a range of a memory file is registered for
    /// minor faults but not for missing pages, the guest reads zeros where the file has no page, and nobody is told.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the table makes no sense or does not fit the snapshot, if pages have another size than 4
    /// KiB, if an option is wrong, and if the descriptor is no userfaultfd.
    pub fn new(area: &Area, fd: OwnedFd, ranges: &[GuestRange], options: &GuestOptions) -> Result<Self> {
        Self::with_os(&Os::default(), area, fd, ranges, options)
    }

    /// Takes over the memory of a process as [`Guest::new`] does, with the memory file that it handed over as well.
    /// Firecracker does so for memory that KVM keeps from it. On a minor fault of a page that was not filled yet, the
    /// page is written to the file before it is mapped.
    ///
    /// # Errors
    /// The errors of [`Guest::new`], and [`Error::Invalid`] if a descriptor is not of such a file, if a file is too
    /// short for the ranges or not open for reading and writing, and if two ranges have the same offset.
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
        const AT_ONCE: Error = Error::Invalid(sentence(&"pages_at_once is 1 to 64: leave it out for 8"));
        const NO_UFFD: Error = Error::Invalid(sentence(
            &"the descriptor is no userfaultfd, or was not enabled: pass one that UFFDIO_API was called on",
        ));
        let pages = options.pages_at_once.unwrap_or(8);
        if !(1..=64).contains(&pages) {
            return Err(AT_ONCE);
        }
        let ranges = Ranges::new(ranges, area.pages())?;
        let uffd =
            Userfault::received(os, fd).map_err(|errno| Error::system(errno, sentence(&"fcntl of the descriptor")))?;
        for (at, bytes) in ranges.each() {
            // A test of the descriptor: UFFDIO_WAKE fails on anything but an enabled userfaultfd. A thread that it
            // wakes only touches again.
            uffd.wake(at, bytes).map_err(|_| NO_UFFD)?;
        }
        // Reserves room for all touches that may wait, so that serving allocates nothing.
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

    /// Returns the userfaultfd, to poll: when it has something to read, call [`Guest::serve`]. It stays the guest's: do
    /// not read from it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Returns the statistics. Makes no system call, and waits for nothing.
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
