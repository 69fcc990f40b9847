//! A pager: creation, limits, and what is told of it.

use super::core::{Core, Evicted};
use super::counts::PagerStats;
use super::options::{Duty, FaultMode, PagerOptions, RegionOptions, Removal};
use super::region::{MAX_REGIONS, RegionId};
use super::regions::no_reading;
use super::registry;
use super::scratch::Scratch;
use super::staging::Staging;
use crate::error::{Error, Result, Sentence, not_given};
use crate::heap::Counted;
use crate::os::bell::Bell;
use crate::os::blocked::Blocked;
use crate::os::kernel;
use crate::os::own_memory::OwnMemory;
use crate::os::userfault::{Userfault, feature};
use crate::os::{self, Errno, Os, errno};
use crate::pool::options::Backing;
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;
use crate::zswap::{Codec, Zswap, ZswapOptions};
use std::os::fd::BorrowedFd;

/// Keeps memory to a limit: what was not used lately is compressed, and comes back when it is touched.
///
/// Methods may be called from any thread, but not from a signal handler, and not by a thread that holds a lock which a
/// touch of a region might need. While one runs, the handlers of asynchronous signals wait, and so does cancellation of
/// the thread.
///
/// Dropping it brings all pages back to memory, and regions go one after the other. Should a page not come back, since
/// it can't be read from the backing file or the system refuses, nobody can be told: the pager and the regions that are
/// left stay until the process ends. Touches of what is not in memory are served as before where threads serve their
/// own; where lent threads do, they wait for ever, for nobody can lend one any more. So remove the regions first, by
/// [`Pager::remove_region`], whose errors tell: such a region stays, and may be tried again, or removed by
/// [`Pager::remove_region_discarding`], which loses all that is not in memory. Or end the process.
///
/// A core dump has zeros for the pages that are not in memory. Before a dump that is planned, bring them in: set the
/// resident limit to 0 and read a byte of each page. With [`FaultMode::Sigbus`] a handler of SIGSEGV may read regions,
/// on a stack that has room, and write them to a file itself; with [`FaultMode::Threads`] another process may read them
/// by process_vm_readv.
///
/// A forked child gets neither the regions nor the pool, unless its memory was supplied. Its calls are
/// [`Error::Forked`]; what tells of the pager tells how it was at the fork, and dropping it there closes the child's
/// duplicates of the descriptors, and does nothing to the parent.
pub struct Pager(pub(crate) Counted<Core>);

/// Pages of a limit in bytes. An instruction may need several pages at once, and so may the system to read it.
fn limit_of(bytes: u64) -> u64 {
    const LEAST: u64 = 16;
    if bytes == 0 { u64::MAX / 2 / PAGE as u64 } else { (bytes / PAGE as u64).max(LEAST) }
}

const FULL: Error = Error::NoMemory(&"the pool is full, and nothing can be written back");

impl Pager {
    /// Creates a pager without regions. `name` is for people: it shows as the name of the pool.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong. [`Error::System`] with `EPERM` without the right to userfaultfd,
    /// with `ENOSYS` if the system has none. [`Error::NoMemory`] if it gives no addresses or memory.
    pub fn new(name: &str, options: &PagerOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &PagerOptions) -> Result<Self> {
        const REGIONS: Error = Error::Invalid(&"there are at most 65536 regions");
        const BOTH: Error =
            Error::Invalid(&"pages are evicted in place or by moving, not both: set one of the two at most");
        const STAGED: Error = Error::Invalid(&"staged_percent is 1 to 90, or 0 for 10");
        if options.max_regions > MAX_REGIONS {
            return Err(REGIONS);
        }
        if options.staged_percent > 90 {
            return Err(STAGED);
        }
        if options.evict_in_place && options.evict_by_moving {
            return Err(BOTH);
        }
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let limit = limit_of(options.resident_bytes);
        let staged_percent = or(options.staged_percent.into(), 10);
        let max_held = or(options.max_held_bytes, limit.saturating_mul(PAGE as u64) / 8) / PAGE as u64;
        let _signals = Blocked::new();
        let (uffd, moves) = open(&os, options)?;
        let staging = Staging::new(&os, own_uffd(&os, moves)?, staged_room(limit, staged_percent))?;
        let zswap = Zswap::with_os(os.clone(), name, &zswap_options(options))?;
        let scratch = Scratch::new(&os)?;
        let bell = Bell::new(&os).map_err(|errno| Error::system(errno, &"eventfd"))?;
        let guard = os.fork_guard().map_err(|errno| Error::system(errno, NO_GUARD))?;
        let own = OwnMemory::new(&os, options.fault_mode == FaultMode::Threads);
        let own = own.map_err(|errno| Error::system(errno, &"opening /proc/self/mem"))?;
        if !moves {
            own.check().map_err(no_reading)?;
        }
        let numbers = (limit, staged_percent, max_held, or(options.max_regions as u64, 1024) as usize);
        let mode = (options.fault_mode, moves);
        let core = Core::new(os, zswap, mode, uffd, staging, scratch, (bell, guard, own), numbers)?;
        let core = Counted::new(core)?;
        if options.fault_mode == FaultMode::Sigbus {
            registry::register(&core)?;
        }
        Ok(Self(core))
    }

    /// Sets how many bytes of pages of regions and the staging range may be in memory; 0: no limit, less than 64 KiB:
    /// 64 KiB. Evicts what is above it before it returns.
    ///
    /// # Errors
    /// [`Error::NoMemory`] if the pool is full and nothing can be written back: the limit holds from then on, and what
    /// is above it goes as soon as it can. [`Error::Again`] if too much is held. [`Error::Forked`] in a child.
    pub fn set_resident_limit(&self, bytes: u64) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        let pages = limit_of(bytes);
        self.0.set_limit(pages);
        self.down_to(pages)
    }

    fn down_to(&self, pages: u64) -> Result<()> {
        const HELD: Error = Error::Again(&"too many pages are held, or pinned by the system");
        loop {
            match self.0.evict_to(pages, u64::MAX) {
                _ if self.0.resident() <= pages => return Ok(()),
                // The next attempt tells what stopped this one.
                Evicted::Pages(1..) => {}
                Evicted::Full => return Err(FULL),
                _ => return Err(HELD),
            }
        }
    }

    /// Evicts so many pages now, of those that were not used lately. Returns how many went: none, if there is none in
    /// memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`] if none went for the pool is full, [`Error::Again`] if none could go now, [`Error::Forked`]
    /// in a child.
    pub fn evict(&self, pages: u64) -> Result<u64> {
        const NONE: Error = Error::Again(&"no page could be evicted now");
        self.check()?;
        let _signals = Blocked::new();
        match self.0.evict_to(self.0.resident().saturating_sub(pages), pages) {
            Evicted::Pages(gone) => Ok(gone),
            Evicted::Busy | Evicted::None => Err(NONE),
            Evicted::Full => Err(FULL),
        }
    }

    /// Sets how many bytes compressed pages may take: as [`Zswap::set_limit`].
    ///
    /// # Errors
    /// As there.
    pub fn set_pool_limit(&self, bytes: u64) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.zswap.set_limit(bytes)
    }

    /// Sets for how many pages that are in memory zswap may keep a copy, in percent of the resident limit, 0 to 100; 10
    /// at first. To evict a page that was only read since it was loaded is to drop it, if its copy was kept; the copy
    /// takes memory of the pool meanwhile. Copies that are kept go when the pool is full, or their pages are written.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is more than 100. [`Error::Forked`] in a child.
    pub fn set_kept_copies(&self, percent: u8) -> Result<()> {
        const MORE: Error = Error::Invalid(&"copies of at most 100 percent are kept");
        self.check()?;
        if percent > 100 {
            return Err(MORE);
        }
        self.0.kept_percent.store(percent.into(), Relaxed);
        Ok(())
    }

    /// Sets what pages are compressed with: as [`Zswap::set_codec`].
    ///
    /// # Errors
    /// As there.
    pub fn set_codec(&self, codec: Codec) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.zswap.set_codec(codec)
    }

    /// Sets the file that pages are written to when the pool is full: as [`Zswap::set_backing_file`].
    ///
    /// # Errors
    /// As there.
    pub fn set_backing_file(&self, file: Option<(BorrowedFd<'_>, u64)>) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.zswap.set_backing_file(file)
    }

    /// Writes compressed pages that were not used lately to the backing file, until `pages` pages have left the pool.
    ///
    /// # Errors
    /// As [`Zswap::shrink`].
    pub fn write_back(&self, pages: u64) -> Result<u64> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.zswap.shrink(pages)
    }

    /// Compacts the pool: as [`Zswap::compact`].
    ///
    /// # Errors
    /// As there.
    pub fn compact(&self, budget: &crate::pool::CompactBudget) -> Result<u64> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.zswap.compact(budget)
    }

    /// Adds a region: `bytes` bytes of memory at `at`, whole pages, mapped readable and writable, and already filled or
    /// not. Huge pages are turned off for the range, and forked children do not get it.
    ///
    /// Pages that are in memory already are charged 2 MiB at a time, and what is above the limit then is evicted before
    /// the next 2 MiB. Pages that can't leave, as when the pool is full, stay above the limit, and go when they can.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not whole pages, is not memory of the kind that the options say, is in a
    /// region already, or is refused as the safety section says. [`Error::NoSpace`] if there are as many regions as
    /// there may be. [`Error::NoMemory`], [`Error::System`]: the system refuses. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// From here to the end of the region, all of this process's use of the memory goes through this range. No other
    /// thread maps or moves anything to its addresses while it is unmapped or moved, for the system tells of both in
    /// any order: hold a lock around all calls that map, move or unmap, or remove the region first. The range does not
    /// grow, by mremap or by itself (MAP_GROWSDOWN), and does not stay mapped where it was (MREMAP_DONTUNMAP). It has
    /// nothing that is needed to bring a page back: no memory that malloc uses or returned, no stack that is in use,
    /// and no memory of the pager. The heap (brk), mappings that grow, the caller's stack and most of the pager's
    /// memory are refused; with the rest, such as malloc's other arenas, the process may hang. Private memory is not
    /// given to KSM again (MADV_MERGEABLE): a page that the system merges loses the protection by which writes are
    /// noticed.
    pub unsafe fn add_region(&self, at: *mut u8, bytes: usize, options: &RegionOptions<'_>) -> Result<RegionId> {
        self.check()?;
        let _signals = Blocked::new();
        let id = self.0.add_region(at as usize, bytes, options)?;
        // What can't go now goes as soon as it can.
        let _ = self.0.evict_to(self.0.limit(), u64::MAX);
        Ok(id)
    }

    /// Removes a region, and brings all of its pages back to memory before, whatever the limit says. Its memory is the
    /// program's alone from then on, as if there had been no pager. Forked children get it again, whatever the program
    /// had advised before. Huge pages stay turned off for it, until the program advises them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region: it may have been removed before. [`Error::Io`] if a page's copy
    /// is damaged: the region is removed nevertheless, and that page fails when it is touched. [`Error::Again`] if the
    /// system refused, or a page can't be read from the backing file: the region is still there. [`Error::Forked`] in a
    /// child.
    pub fn remove_region(&self, region: RegionId) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.remove_region(region, Removal::Restore)
    }

    /// Removes a region as [`Pager::remove_region`] does, but brings no page back: those that are not in memory are
    /// lost, and read as zeros.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such region: it may have been removed before. [`Error::Again`] if the system
    /// refused: the region is still there. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// The bytes of the region are no longer needed: any page of it may read as zeros from here on.
    pub unsafe fn remove_region_discarding(&self, region: RegionId) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.remove_region(region, Removal::Discard)
    }

    /// Removes all regions as [`Pager::remove_region`] does, whatever is damaged: the memory is as if there had been no
    /// pager.
    ///
    /// # Errors
    /// [`Error::Again`] if the system refused to bring a page back, or a page can't be read from the backing file: that
    /// region is still there, and so may be others. [`Error::Io`] if a page's copy is damaged: all regions are removed
    /// nevertheless, and that page fails when it is touched. [`Error::Forked`] in a child.
    pub fn remove_all_regions(&self) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        let mut damaged = Ok(());
        for place in 0..self.0.places.len() {
            match self.0.remove_place(place, Removal::Restore) {
                Err(refused @ Error::Again(_)) => return Err(refused),
                Err(lost @ Error::Io(_)) => damaged = Err(lost),
                _ => {}
            }
        }
        damaged
    }

    /// Brings the pages of a range of regions to memory, and keeps them there until [`Pager::release`]: for system
    /// calls in [`FaultMode::Sigbus`]. Holds of a page are counted. The pages that the range touches are held whole; no
    /// bytes touch none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region. [`Error::NoSpace`] if more would be held than may be,
    /// or a page of it is held 33 million times already. [`Error::Io`] if a page's copy is damaged, or can't be read
    /// from the backing file. [`Error::Again`] if the system refused for a second to put a page in place. Nothing is
    /// held then that was not before.
    pub fn hold(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.hold(at as usize, bytes)
    }

    /// Ends a hold of the same range.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region: it may have been unmapped since it was held. The hold
    /// of the other parts has ended.
    pub fn release(&self, at: *const u8, bytes: usize) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.release(at as usize, bytes)
    }

    /// Gives the whole pages of a range of regions back: they read as zero, and cost nothing. As madvise with
    /// MADV_DONTNEED or MADV_REMOVE, which need a lent thread to read their event. Pages that are
    /// held, or that the system has pinned, stay where they are, and are zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region, [`Error::System`] if the system refuses.
    ///
    /// # Safety
    /// The range's bytes are no longer needed.
    pub unsafe fn discard(&self, at: *mut u8, bytes: usize) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.discard(at as usize, bytes)
    }

    /// Lends the calling thread to the pager until [`Pager::stop`]. With [`Duty::All`] or [`Duty::Serve`] it reads the
    /// events of what owners do with their memory, who wait for that, and serves touches in [`FaultMode::Threads`]; at
    /// least one such thread should always be there. It must not touch memory of a region itself.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child.
    pub fn run(&self, duty: Duty) -> Result<()> {
        self.check()?;
        let _signals = Blocked::new();
        self.0.run(duty);
        Ok(())
    }

    /// Gives all lent threads back, and any that are lent from then on at once, until [`Pager::resume`]. It does not
    /// wait for them, but none of them stays, even if that comes before they have returned. Does nothing in a forked
    /// child.
    pub fn stop(&self) {
        // The descriptor that wakes them is the parent's as well.
        if self.check().is_ok() {
            let _signals = Blocked::new();
            self.0.stop();
        }
    }

    /// Lets threads be lent again. A thread that calls [`Pager::run`] while [`Pager::stop`] and this are called may be
    /// found to come after both, and stays: who is about to wait for its threads waits first. Does nothing in a forked
    /// child.
    pub fn resume(&self) {
        if self.check().is_ok() {
            let _signals = Blocked::new();
            self.0.resume();
        }
    }

    /// The userfaultfd of the regions: to be recognised in `/proc/self/fdinfo`, and to have it kept open by another
    /// process. It stays the pager's: whoever reads from it takes events and touches away from the pager.
    ///
    /// It is not the only descriptor of a pager, which has another userfaultfd, an eventfd, /proc/self/mem with
    /// [`FaultMode::Threads`], one for each memory file of a region, and those of its zswap: the backing file's, and
    /// the pool's if that is in a memory file. All of them are closed on exec. A program that closes descriptors that
    /// it does not know has to do so before it creates pagers, or in a forked child: without this one, pages that are
    /// not in memory read as zeros.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.uffd.as_fd()
    }

    /// The addresses of the staging range: where it begins, and its bytes.
    pub fn staging_range(&self) -> (usize, usize) {
        self.0.staging.range()
    }

    /// What it has and did.
    pub fn stats(&self) -> PagerStats {
        let _signals = Blocked::new();
        let core = &self.0;
        let bytes = |pages: u64| pages.saturating_mul(PAGE as u64);
        let (mut regions, mut pages) = (0, 0);
        for region in core.places.iter().filter_map(|place| place.enter()) {
            regions += 1;
            pages += region.pages();
        }
        PagerStats {
            resident_limit_bytes: core.limit().saturating_mul(PAGE as u64),
            resident_bytes: bytes(core.resident()),
            staged_bytes: bytes(core.staging.pages()),
            held_bytes: bytes(core.held()),
            region_bytes: bytes(pages),
            regions,
            table_bytes: core.staging.table_bytes() + pages * 4 + core.extents.bytes(),
            lent_threads: core.lent.load(Relaxed).into(),
            immovable_bytes: bytes(core.immovable()),
            counts: core.counters.read(),
            latencies: core.latencies.read(),
        }
    }

    /// Checks that this process can use the pager, as most calls do: forked children can't.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child.
    pub fn check_usable(&self) -> Result<()> {
        self.check()
    }

    /// What [`Pager::check_usable`] does.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.guard.in_child() { Err(Error::Forked) } else { Ok(()) }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if self.check().is_err() {
            // A forked child keeps a little of it: handlers that were running in the parent would never leave it here.
            std::mem::forget(self.0.clone());
            // SAFETY: this is a child, the pager is used no more, and what is left of it is not dropped.
            unsafe { self.0.abandon() };
            return;
        }
        let _signals = Blocked::new();
        for place in 0..self.0.places.len() {
            // A page that is damaged stays poisoned. If the system refuses, pages would read as zeros: the descriptor
            // stays open then, and touches of missing pages never go on.
            if let Err(Error::Again(_)) = self.0.remove_place(place, Removal::Restore) {
                std::mem::forget(self.0.clone());
                return;
            }
        }
        self.stop();
        registry::unregister(&self.0);
    }
}

/// What a userfaultfd of this mode is asked for, and whether private pages can be moved.
fn open(os: &Os, options: &PagerOptions) -> Result<(Userfault, bool)> {
    let user_only = options.fault_mode == FaultMode::Sigbus;
    let refused = |errno: Errno| match errno.0 {
        errno::EPERM => Error::System { errno: errno.0, step: &NO_RIGHT },
        errno::ENOSYS => Error::System { errno: errno.0, step: &"the system has no userfaultfd" },
        _ => Error::system(errno, &"userfaultfd"),
    };
    let there = Userfault::features_of_the_system(os, user_only).map_err(refused)?;
    let moves = options.moves(there & feature::MOVE != 0, kernel::release(), kernel::has_swap());
    let mut wanted = feature::EVENT_REMAP | feature::EVENT_UNMAP | feature::MISSING_SHMEM | feature::WP;
    wanted |= feature::WP_SHMEM | feature::MINOR_SHMEM | feature::POISON;
    wanted &= there;
    if moves {
        // Where pages are dropped in their place, the drops themselves would be events that somebody has to read.
        wanted |= feature::EVENT_REMOVE & there | feature::MOVE;
    }
    if user_only {
        wanted |= feature::SIGBUS;
    }
    let uffd = Userfault::new(os, wanted, user_only).map_err(refused)?;
    Ok((uffd, moves))
}

const NO_GUARD: Sentence = not_given!("the system gives no page that tells forked children");
const NO_RIGHT: &str = "no right to userfaultfd: a sandbox may forbid the call; and for lent threads to serve touches \
                        takes CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1 or access to /dev/userfaultfd";

/// The userfaultfd of the staging range, which is asked for no events: what the pager gives back itself is none.
fn own_uffd(os: &Os, moves: bool) -> Result<Userfault> {
    let features = feature::SIGBUS | if moves { feature::MOVE } else { 0 };
    Userfault::new(os, features, true).map_err(|errno| Error::system(errno, &"userfaultfd of the staging range"))
}

/// Pages that the staging range has room for. The limit may grow later.
fn staged_room(limit: u64, percent: u64) -> usize {
    let memory = os::physical_memory().unwrap_or(1 << 33) / PAGE as u64;
    ((limit.min(memory) * percent / 100) as usize).max(16 << 10)
}

fn zswap_options(options: &PagerOptions) -> ZswapOptions {
    let mut zswap = options.zswap.clone();
    // Children can't use it, and their copy would take memory as soon as it changes in either. Memory that was supplied
    // stays as its owner wants it.
    zswap.pool.dont_fork |= !matches!(zswap.pool.backing, Backing::Lent(_));
    if zswap.accept_percent == 0 {
        // Here a full pool is written back at once, and not stored to until there is room.
        zswap.accept_percent = 98;
    }
    zswap
}
