//! Options for creating a pager, for adding a region, and for lending a thread.

use crate::zswap::{Codec, ZswapTuning};
use std::os::fd::BorrowedFd;

/// Which thread serves a touch of a page that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FaultMode {
    /// The thread that touches, in a handler of SIGBUS. This is the fastest, and needs no privileges. A system call on
    /// such a page fails with `EFAULT`: see [`PagedMemory::hold`](crate::PagedMemory::hold) and
    /// [`Pager::hold`](crate::Pager::hold). A thread that waits for a mutex, a condition
    /// variable or a semaphore makes a system call as well: if one lies in a region that is not held, the C library may
    /// end the process. A thread that blocks SIGBUS is killed by its touch. A SIGBUS that is no such touch goes to the
    /// handler that was there before the process's first pager. A handler that is installed later has to call the one
    /// that was there, or touches are not served.
    ///
    /// The handler runs on the stack that is in use, and takes up to 12 KiB of it, or 20 if AMX is in use: the
    /// processor's state that the system saves is a part of that. So a stack on which regions are touched, a thread's
    /// or one of sigaltstack, should have 32 KiB more than the program needs itself, and no stack that is in use may
    /// lie in a region. Fibers with smaller stacks, and goroutines, need [`FaultMode::Threads`].
    #[default]
    Sigbus,
    /// Threads that are lent: [`Pager::lend`](crate::Pager::lend), before the first touch. Memory can't be mapped or
    /// added before. A touch while no thread is lent sleeps until one is. The thread that touches sleeps meanwhile, in
    /// a system call as well, and so do the processors of a virtual machine. It needs the right to serve faults of the
    /// kernel: CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1, or a /dev/userfaultfd that may be opened.
    Threads,
}

/// How private pages leave memory.
///
/// In place is the default, because it is the faster way where two or more threads touch pages at random. Each page
/// that moves interrupts the other processors that run the process. In place, one interrupt serves several pages.
///
/// With one thread, and none lent, no other processor is interrupted. Then moving takes less processor time: 0.59 to
/// 0.64 times the kernel's for each evicted page, where in place takes 0.70 to 0.80. This table has operations per
/// second without lent threads, as ratios to those of the kernel's swap. `docs/benchmarks.md` tells what they do, has
/// the figures with lent threads, and names the commands that print them.
///
/// | threads on two processors | touches | in place | moving |
/// |---|---|---|---|
/// | 1 | Zipf | 1.21 | 1.26 |
/// | 1 | scan | 1.71 | 1.86 |
/// | 2 | Zipf | 1.15 | 0.66 |
/// | 2 | scan | 1.43 | 1.49 |
/// | 8 | random | 1.29 | 0.80 |
///
/// [`PagerStats::eviction`](crate::PagerStats::eviction) says which way a pager uses. If this is not the way that the
/// options ask for, it says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// Where they are: each page is protected from writes, copied, compressed and dropped.
    ///
    /// What this gives up concerns memory that the program adds itself, by [`Pager::add_region`]: the pager is not told
    /// of madvise. Only [`Pager::discard`] gives pages of a region back. After madvise, private pages in memory read as
    /// zeros, but a page that was evicted has its old bytes, and one that was only read since it came back may have
    /// them. [`PagedMemory::discard`] always gives memory back.
    ///
    /// And for all memory: bytes that direct I/O, io_uring or a device writes to a page that is **not held** may be
    /// lost, because the pager does not see pins. Hold it: [`PagedMemory::hold_mut`], [`Pager::hold`].
    ///
    /// [`Pager::add_region`]: crate::Pager::add_region
    /// [`Pager::discard`]: crate::Pager::discard
    /// [`Pager::hold`]: crate::Pager::hold
    /// [`PagedMemory::discard`]: crate::PagedMemory::discard
    /// [`PagedMemory::hold_mut`]: crate::PagedMemory::hold_mut
    #[default]
    InPlace,
    /// By moving them to a staging range, where they wait, uncompressed, to be touched again or compressed. The pager
    /// is told of madvise, if a thread is lent that reads its events, and a page that the system has pinned stays.
    ///
    /// Pages are evicted in place nevertheless before Linux 6.8, which can't move them, and before 6.16 if there is
    /// swap when the pager is created: UFFDIO_MOVE had bugs there beside swap, by which a page could be mixed up, or
    /// the kernel could crash.
    Moving,
    /// By moving, also on a Linux before 6.16 that swaps. The bugs were fixed in 6.16, and by the middle of 2025 in the
    /// stable series, which a release's number does not show: choose this if the kernel has the fixes.
    MovingBesideSwap,
}

/// How a pager evicts private pages, and why so: see [`PagerStats::eviction`](crate::PagerStats::eviction).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum EvictionInUse {
    /// Where they are, as [`Eviction::InPlace`] says. In JSON "in-place".
    InPlace,
    /// By moving, as [`Eviction::Moving`] or [`Eviction::MovingBesideSwap`] says. In JSON "moving".
    Moving,
    /// Where they are, although moving was asked for: this Linux can't move pages. In JSON "in-place-without-move".
    InPlaceWithoutMove,
    /// Where they are, although [`Eviction::Moving`] was asked for: there is swap, and Linux is older than 6.16. In
    /// JSON "in-place-beside-swap".
    InPlaceBesideSwap,
}

/// Options for creating a pager. The [`Default`] has no limit: set `resident_bytes`.
/// Later versions may add fields: end a literal with `..Default::default()`.
///
/// The pages that left memory are compressed in a pool, whose memory comes on top of `resident_bytes`. Set `pool_bytes`
/// as well if the program has to keep to a limit as a whole.
#[derive(Clone, Debug, Default)]
pub struct PagerOptions {
    /// The most bytes of pages of regions and of the staging range that are in memory, at least 64 KiB. The pool, in
    /// which the other pages lie compressed, comes on top, and has no limit by default: see `pool_bytes`. `None`: no
    /// limit, and no page leaves memory unless it is asked to. [`crate::Pager::set_resident_limit`] changes it.
    pub resident_bytes: Option<u64>,
    /// The most bytes that compressed pages may take, at least 4112, which one page may take. Once it is reached, pages
    /// go to the backing file, or stay in memory if there is none. `None`: no limit but the machine's memory.
    /// [`crate::Pager::set_pool_limit`] changes it.
    pub pool_bytes: Option<u64>,
    /// The codec that compresses pages. [`crate::Pager::set_codec`] changes it.
    pub codec: Codec,
    /// Which threads serve touches.
    pub fault_mode: FaultMode,
    /// How private pages leave memory. Pages of memory files are always evicted in place.
    pub eviction: Eviction,
    /// What few programs change.
    pub tuning: PagerTuning,
}

/// The options of a pager that few programs change. [`Default`] suits most.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct PagerTuning {
    /// Percent of [`PagerOptions::resident_bytes`] that the staging range may have, 1 to 90. `None`: 10.
    pub staged_percent: Option<u8>,
    /// The most bytes that may be held at the same time, at least a page of 4096 bytes. `None`: an eighth of
    /// [`PagerOptions::resident_bytes`].
    pub max_held_bytes: Option<u64>,
    /// The most regions, 1 to 65,536. `None`: 1024. A region takes five or six of the mappings that vm.max_map_count
    /// allows a process, its own included.
    pub max_regions: Option<usize>,
    /// The zswap that pages go to, and its pool. Without `accept_percent` it is 98 here, and forked children do not get
    /// the pool, unless its memory is lent.
    pub zswap: ZswapTuning,
}

impl PagerOptions {
    /// How private pages are evicted. `can`: the system can move pages. `release`: the first two numbers of its
    /// release.
    pub(super) fn eviction_in_use(&self, can: bool, release: Option<(u32, u32)>, has_swap: bool) -> EvictionInUse {
        /// UFFDIO_MOVE is right from this release on also for pages that the system has swapped out.
        const MENDED: (u32, u32) = (6, 16);
        let is_right = !has_swap || release >= Some(MENDED);
        match self.eviction {
            Eviction::InPlace => EvictionInUse::InPlace,
            _ if !can => EvictionInUse::InPlaceWithoutMove,
            Eviction::Moving if !is_right => EvictionInUse::InPlaceBesideSwap,
            Eviction::Moving | Eviction::MovingBesideSwap => EvictionInUse::Moving,
        }
    }
}

/// Options for adding a region. The [`Default`] is private anonymous memory without limits of its own.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct RegionOptions<'a> {
    /// The memory file that the range is a shared mapping of, open for reading and writing, and the offset in it that
    /// the range begins at. The descriptor is duplicated. While the region is there, pages that are not in memory are
    /// holes in the file: other mappings of it read zeros there. [`Region::remove`](crate::Region::remove) fills them;
    /// unmapping the range without it loses them. The pages are evicted in place: hold those that direct I/O or a
    /// device writes.
    ///
    /// Give memory back by [`crate::Pager::discard`]. Of madvise the pager is told only with [`Eviction::Moving`].
    /// There MADV_DONTNEED acts as MADV_REMOVE does: the file has zeros then, while without a pager the file is left as
    /// it is. Otherwise pages that are not in memory come back with their old bytes.
    ///
    /// fallocate(2) with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE, and ftruncate(2), are forbidden for a part of
    /// the file that is in a region. The system does not tell the pager of these: pages that are not in memory come
    /// back with their old bytes. [`crate::Pager::discard`] gives memory back.
    ///
    /// A page that is a part of a huge page leaves memory only if the system can split the huge page. It can't while
    /// somebody has a pin on any part of it: then the page stays, stays charged, and counts as pinned.
    pub shared: Option<(BorrowedFd<'a>, u64)>,
    /// The most bytes that its pages may take compressed, at least 4112, which one page may take. `None`: no limit of
    /// its own.
    pub max_stored_bytes: Option<u64>,
    /// Never writes its pages to the backing file.
    pub no_writeback: bool,
    /// The owner leaves the memory where it is: as long as the range is a region, nobody moves or unmaps a part of it,
    /// and memory is given back by [`crate::Pager::discard`] alone, not by madvise. Lent threads that serve touches
    /// wait neither for each other then nor for a thread that evicts, which several of them need to be faster than
    /// one. It takes effect while all regions of the pager are such. If the promise is broken, a page that was given
    /// back may have its old bytes, and memory that was mapped where a part of the region was unmapped may lose what
    /// is in it.
    ///
    /// Memory that the pager maps itself counts as such with [`Eviction::InPlace`].
    pub settled: bool,
    /// A name for people, of the area that has its pages: see [`AreaOptions::name`](crate::AreaOptions::name). Empty:
    /// none.
    pub name: &'a str,
}

/// What becomes of the pages of a region that is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Removal {
    /// All pages are brought back to memory, whatever the limit says: the memory is as if there had been no pager.
    #[default]
    Restore,
    /// Pages that are not in memory are lost, and read as zero.
    Discard,
}

/// What a lent thread does for the pager: see [`Pager::lend`](crate::Pager::lend).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duty {
    /// All of the other duties in turn.
    #[default]
    All,
    /// Reads events, and serves touches in [`FaultMode::Threads`].
    Serve,
    /// Evicts before touches have to, writes to the backing file after the pool was full, and compacts the pool when it
    /// has much more memory than slots. Without such a thread, touches that evict compact such a pool, some 0.1 ms at a
    /// time.
    Evict,
    /// Calls tiers of the program's own ([`Pager::add_tier`](crate::Pager::add_tier)): reads pages from them for
    /// touches in [`FaultMode::Sigbus`], where a signal handler may not, and writes pages to tiers after the pool was
    /// full. A touch waits while the thread reads from a tier, so lend as many as the tier should serve at a time.
    Tiers,
}

impl Duty {
    /// Whether a thread with this duty reads events, and serves touches.
    pub(super) fn serves(self) -> bool {
        matches!(self, Self::All | Self::Serve)
    }

    /// Whether a thread with this duty evicts.
    pub(super) fn evicts(self) -> bool {
        matches!(self, Self::All | Self::Evict)
    }

    /// Whether a thread with this duty calls tiers of the program's own on behalf of signal handlers.
    pub(super) fn calls_tiers(self) -> bool {
        matches!(self, Self::All | Self::Tiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_moved_if_that_is_safe_or_was_asked_for() {
        let evicting = |eviction| PagerOptions { eviction, ..PagerOptions::default() };
        let [in_place, careful, moving] =
            [Eviction::InPlace, Eviction::Moving, Eviction::MovingBesideSwap].map(evicting);
        assert_eq!(PagerOptions::default().eviction, Eviction::InPlace);
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
            let used = |options: &PagerOptions, can| options.eviction_in_use(can, release, has_swap);
            let carefully = if is_safe { EvictionInUse::Moving } else { EvictionInUse::InPlaceBesideSwap };
            assert_eq!(used(&careful, true), carefully, "{release:?}, swap: {has_swap}");
            assert_eq!(used(&moving, true), EvictionInUse::Moving);
            assert_eq!([used(&careful, false), used(&moving, false)], [EvictionInUse::InPlaceWithoutMove; 2]);
            assert_eq!([used(&in_place, true), used(&in_place, false)], [EvictionInUse::InPlace; 2]);
        }
    }
}
