//! How a pager and its regions are to be.

use crate::zswap::ZswapOptions;
use std::os::fd::BorrowedFd;

/// Who serves a touch of a page that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FaultMode {
    /// The thread that touches, in a handler of SIGBUS. The fastest, and needs no privileges. A system call on such a
    /// page fails with `EFAULT`: see [`crate::Pager::hold`]. A thread that waits for a mutex, a condition variable or a
    /// semaphore makes a system call as well: where one lies in a region that is not held, the C library may end the
    /// process. A thread that blocks SIGBUS is killed by its touch. A
    /// SIGBUS that is no such touch goes to the handler that was there before the process's first pager; one that is
    /// installed later has to call the one that was there, or touches are not served.
    ///
    /// The handler runs on the stack that is in use, and takes up to 12 KiB of it, or 20 where AMX is in use: what the
    /// system saves of the processor's state is a part of it. So a stack on which regions are touched, a thread's or
    /// one of sigaltstack, should have 32 KiB more than the program needs itself; and none that is in use may lie in a
    /// region. Fibers with smaller stacks, and goroutines, need [`FaultMode::Threads`].
    #[default]
    Sigbus,
    /// Threads that the caller lends: [`crate::Pager::run`]. The thread that touches sleeps meanwhile, in a system call
    /// as well, and so do the processors of a virtual machine. Needs the right to serve faults of the kernel:
    /// CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that may be opened.
    Threads,
}

/// How a pager is to be. [`Default`] has no limit: set `resident_bytes`.
#[derive(Clone, Debug, Default)]
pub struct PagerOptions {
    /// Most bytes of pages of regions and of the staging range that are in memory, at least 64 KiB; 0: no limit. Can
    /// be changed later.
    pub resident_bytes: u64,
    /// Who serves touches.
    pub fault_mode: FaultMode,
    /// Percent of `resident_bytes` that the staging range may have, 1 to 90; 0: 10.
    pub staged_percent: u8,
    /// Most bytes that may be held at the same time; 0: an eighth of `resident_bytes`.
    pub max_held_bytes: u64,
    /// Most regions, up to 65,536; 0: 1024. A region takes five or six of the mappings that vm.max_map_count allows a
    /// process, its own included.
    pub max_regions: usize,
    /// Private pages are not moved to a staging range but evicted where they are: protected, copied, and dropped, as is
    /// done on systems before Linux 6.8 anyhow, and before 6.16 where there is swap when the pager is created: see
    /// `evict_by_moving`. It is faster where several threads run at once, for moving single pages
    /// interrupts every processor that runs the process. But the pager is not told of madvise then: only
    /// [`crate::Pager::discard`] gives pages of a region back. After madvise private ones in memory read as zeros, but
    /// one that was evicted has its old bytes, and one that was only read since it came back may have them. And what
    /// direct I/O, io_uring or a device writes to a page that is not held may be lost, for pins are not seen.
    pub evict_in_place: bool,
    /// Private pages are moved also on a Linux before 6.16 that swaps. UFFDIO_MOVE had bugs there beside swap: a page
    /// could be mixed up, or the kernel could crash. They were mended in 6.16 and by the middle of 2025 in the stable
    /// series, which a release's number does not show; so pages are evicted in place there unless this says that it is
    /// mended. Before 6.8, where the system can't move pages, this changes nothing. Not with `evict_in_place`.
    pub evict_by_moving: bool,
    /// Where pages go: their limit, and codec. `accept_percent` 0 is 98 here, and forked children do not get the pool,
    /// unless its memory is supplied.
    pub zswap: ZswapOptions,
}

impl PagerOptions {
    /// Whether private pages are moved, on a system that can, whose release begins with these numbers.
    pub(super) fn moves(&self, can: bool, release: Option<(u32, u32)>, has_swap: bool) -> bool {
        /// UFFDIO_MOVE is right from here on also for pages that the system has swapped out.
        const MENDED: (u32, u32) = (6, 16);
        let is_right = !has_swap || release >= Some(MENDED);
        can && !self.evict_in_place && (is_right || self.evict_by_moving)
    }
}

/// How a region is to be. [`Default`]: private anonymous memory, no limits of its own.
#[derive(Clone, Debug, Default)]
pub struct RegionOptions<'a> {
    /// A memory file that the range is a shared mapping of, open for reading and writing, and the offset in it that the
    /// range begins at. The descriptor is duplicated. While the region is there, pages that are not in memory are holes
    /// in the file: other mappings of it read zeros there. [`crate::Pager::remove_region`] fills them; unmapping the
    /// range without it loses them. Its pages are evicted in place: hold what direct I/O or a device writes.
    /// MADV_DONTNEED is as MADV_REMOVE: the file has zeros then, while without a pager it is left as it is.
    ///
    /// fallocate(2) with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, and ftruncate(2), are forbidden for a part of
    /// the file that is in a region. The system does not tell the pager of these: pages that are not in memory come
    /// back with their old bytes. [`crate::Pager::discard`] gives memory back.
    ///
    /// A page that is a part of a huge page leaves memory only if the system can split the huge page. It can't while
    /// somebody has a pin on any part of it: then the page stays, stays charged, and counts as pinned.
    pub shared: Option<(BorrowedFd<'a>, u64)>,
    /// Most bytes that its pages may take compressed; 0: no limit of its own.
    pub max_stored_bytes: u64,
    /// Its pages are never written to the backing file.
    pub no_writeback: bool,
}

/// What becomes of the pages of a region that is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Removal {
    /// All of them are brought back to memory, whatever the limit says: the memory is as if there had been no pager.
    #[default]
    Restore,
    /// Those that are not in memory are lost, and read as zero.
    Discard,
}

/// What a thread that is lent to a pager does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duty {
    /// Both of the others in turn.
    #[default]
    All,
    /// Reads events, and serves touches in [`FaultMode::Threads`].
    Serve,
    /// Evicts before faults have to, writes to the backing file when the pool was full, and compacts the pool when it
    /// has much more memory than slots. Else only [`crate::Pager::compact`] does, and a store that finds no memory.
    Evict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_moved_where_that_is_safe_or_was_asked_for() {
        let by_default = PagerOptions::default();
        let moving = PagerOptions { evict_by_moving: true, ..PagerOptions::default() };
        let in_place = PagerOptions { evict_in_place: true, ..PagerOptions::default() };
        let (old, new) = (Some((6, 15)), Some((6, 16)));
        for (release, has_swap, is_safe) in [
            (old, false, true),
            (old, true, false),
            (new, false, true),
            (new, true, true),
            (Some((6, 8)), true, false),
            (Some((7, 0)), true, true),
            (None, true, false),
            (None, false, true),
        ] {
            assert_eq!(by_default.moves(true, release, has_swap), is_safe, "{release:?}, swap: {has_swap}");
            assert!(moving.moves(true, release, has_swap) && !in_place.moves(true, release, has_swap));
            assert!(![&by_default, &moving, &in_place].iter().any(|options| options.moves(false, release, has_swap)));
        }
    }
}
