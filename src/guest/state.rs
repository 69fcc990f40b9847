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
use crate::readahead::Readahead;
use crate::units::PAGE;
use crate::zswap::Area;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
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
/// A guest is served by the threads that call [`Guest::serve`], whenever [`Guest::fd`] has something to read. Several
/// threads may serve one guest, and each of them many guests: pages are decoded by all of them at once. Only a guest
/// with a memory file is served by one thread at a time. Its methods are not for callbacks or signal handlers.
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
///     let guest = Guest::new(snapshot, userfaultfd, &[range], &GuestOptions::default())?;
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
    /// The memory file, if the process handed one over.
    pub(super) file: Option<GuestFile>,
    pub(super) protect: Protect,
    /// The most pages that one touch fills.
    pub(super) at_once: usize,
    /// An address outside all ranges, by which the system is asked whether the process is still there.
    pub(super) nowhere: usize,
    /// Buffers for decoded pages that no thread has: as many as threads have served at the same time.
    buffers: Mutex<Vec<DecodedPages>>,
    /// Held while events are read and take effect, and while pages are put in place: what was read is known before any
    /// page is put there. It is not held while pages are decoded.
    state: Mutex<GuestState>,
    /// Where the guest goes through its memory in order.
    pub(super) ahead: Readahead,
    pub(super) latencies: Latencies,
}

/// Pages to decode to.
pub(super) type DecodedPages = Box<[[u8; PAGE]]>;

/// What changes while a guest is served.
pub(super) struct GuestState {
    pub(super) ranges: Ranges,
    pub(super) waiting: VecDeque<GuestTouch>,
    pub(super) ended: bool,
    /// Whether the system tells of writes to protected pages, and does not lift the protection itself.
    pub(super) is_told: bool,
    /// The error for an unknown event that was read, until a call returns it.
    pub(super) unknown: Option<Error>,
    pub(super) counts: GuestCounts,
}

/// A touch that was read and not served yet.
pub(super) struct GuestTouch {
    pub(super) at: usize,
    pub(super) write: bool,
    pub(super) why: Why,
    pub(super) since: Instant,
}

impl fmt::Debug for Guest {
    /// Prints the statistics that are short, as far as no other thread has them locked. Makes no system call.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Guest");
        let state = match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(state) = state {
            shown.field("bytes", &state.ranges.bytes());
            shown.field("waiting", &state.waiting.len()).field("ended", &state.ended);
        }
        shown.field("protect", &self.protect).finish_non_exhaustive()
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
        file.check(&os, &guest.state().ranges)?;
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
        let at_once = options.pages_at_once.unwrap_or(8);
        if !(1..=64).contains(&at_once) {
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
        let mut buffers = heap::with_capacity(1)?;
        buffers.push(heap::slice(at_once, |_| Ok([0; PAGE]))?);
        let (is_told, ended, unknown, counts) = (false, false, None, GuestCounts::default());
        Ok(Self {
            os: os.clone(),
            file: None,
            protect: options.protect,
            at_once,
            area: area.clone(),
            uffd,
            nowhere: ranges.outside(LOWEST),
            buffers: Mutex::new(buffers),
            state: Mutex::new(GuestState { ranges, waiting, ended, is_told, unknown, counts }),
            ahead: Readahead::default(),
            latencies: Latencies::new()?,
        })
    }

    /// Locks what changes.
    pub(super) fn state(&self) -> MutexGuard<'_, GuestState> {
        // A panic in another thread leaves what it had done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with a buffer that no other thread has. Allocates one if more threads serve than before.
    pub(super) fn with_buffer<R>(&self, act: impl FnOnce(&mut [[u8; PAGE]]) -> R) -> Result<R> {
        let buffers = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let free = buffers().pop();
        let mut buffer = match free {
            Some(buffer) => buffer,
            None => heap::slice(self.at_once, |_| Ok([0; PAGE]))?,
        };
        let result = act(&mut buffer);
        let mut buffers = buffers();
        // Without memory for a longer list the buffer is freed.
        if heap::reserve_one(&mut buffers).is_ok() {
            buffers.push(buffer);
        }
        Ok(result)
    }

    /// Returns the userfaultfd, to poll: when it has something to read, call [`Guest::serve`]. It stays the guest's: do
    /// not read from it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Returns the statistics. Waits no longer than another thread takes to read events or to put pages in place.
    pub fn stats(&self) -> GuestStats {
        let state = self.state();
        GuestStats {
            bytes: state.ranges.bytes(),
            waiting: state.waiting.len() as u64,
            ended: state.ended,
            counts: state.counts,
            latencies: self.latencies.read(),
        }
    }
}
