//! The public calls of a pager on its limits, its pool, and its threads. Those on regions are in `region_calls`.

use super::counts::PagerStats;
use super::evict::Evicted;
use super::open_pager::{OpenPager, PagerCall};
use crate::error::{Error, Limit, Result, sentence};
use crate::heap::Counted;
use crate::os::blocked::Blocked;
use crate::pool::CompactBudget;
use crate::units::PAGE;
use crate::zswap::Codec;
use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// Keeps memory to a limit: pages that were not used lately are compressed, and come back when they are touched.
///
/// [`Pager::map`] makes memory that is under the pager; [`Pager::add_region`] takes memory that the program has mapped
/// itself. [`Pager::lend`] gives the pager a thread that works ahead. A pager without one works as well, in the threads
/// that touch its memory, unless its mode is [`FaultMode::Threads`].
///
/// Methods may be called from any thread, but not from a signal handler, and not by a thread that holds a lock which a
/// touch of a region might need. While one runs, the handlers of asynchronous signals wait, and so does cancellation of
/// the thread. Writeback callbacks may call what only reads: [`Pager::stats`], and what prints.
///
/// # Dropping
/// The pager, its [`Region`]s, its [`PagedMemory`], its holds and its lent threads may be dropped in any order.
/// Dropping the pager keeps all memory as it is: regions go on being paged until they are dropped themselves. The last
/// of them closes the pager, and lent threads end then.
///
/// # Core dumps
/// A core dump has zeros for the pages that are not in memory. Before a dump that is planned, bring them in: lift the
/// resident limit and read a byte of each page. With [`FaultMode::Sigbus`] a handler of SIGSEGV may read regions,
/// on a stack that has room, and write them to a file itself; with [`FaultMode::Threads`] another process may read them
/// by process_vm_readv.
///
/// # Forks
/// A forked child gets neither the regions nor the pool, unless its memory was supplied. Its calls fail with
/// [`Error::Forked`]; the calls that only read tell how the pager was at the fork. Dropping the pager, a region,
/// memory, a hold or a lent thread in the child closes the child's duplicates of the descriptors at most, waits for
/// nothing, and does nothing to the parent.
///
/// # Examples
/// ```
/// use zsalloc::{Duty, Pager, PagerOptions};
///
/// # fn main() -> zsalloc::Result<()> {
/// let pager = Pager::new("example", &PagerOptions { resident_bytes: Some(1 << 20), ..PagerOptions::default() })?;
/// // A thread of the pager's that evicts before a touch has to.
/// let _lent = pager.lend(Duty::All)?;
/// // 8 MiB, of which 1 MiB is in memory at a time.
/// let mut memory = pager.map(8 << 20)?;
/// memory.iter_mut().step_by(4096).enumerate().for_each(|(page, byte)| *byte = page as u8);
/// assert!(memory.iter().step_by(4096).enumerate().all(|(page, byte)| *byte == page as u8));
/// assert!(pager.stats().resident_bytes <= 1 << 20);
/// # Ok(())
/// # }
/// ```
///
/// [`FaultMode::Sigbus`]: crate::FaultMode::Sigbus
/// [`FaultMode::Threads`]: crate::FaultMode::Threads
/// [`Region`]: crate::Region
/// [`PagedMemory`]: crate::PagedMemory
pub struct Pager(pub(crate) Counted<OpenPager>);

/// The pages that stand for no limit.
const UNLIMITED: u64 = u64::MAX / 2 / PAGE as u64;

/// Returns the pages of a limit in bytes. The least limit is 16 pages: an instruction may need several pages at once,
/// and the system may need more to read it.
pub(super) fn limit_of(bytes: Option<u64>) -> Result<u64> {
    const LEAST: u64 = 16;
    const SMALL: Error = Error::Invalid(sentence(
        &"the resident limit is less than 64 KiB, the least a pager can work with: set more, or leave it out for none",
    ));
    match bytes.map_or(UNLIMITED, |bytes| bytes / PAGE as u64) {
        pages if pages < LEAST => Err(SMALL),
        pages => Ok(pages.min(UNLIMITED)),
    }
}

const POOL_FULL: Error = Error::Limit(Limit::Zswap);

impl Pager {
    /// Begins a call, unless this is a forked child.
    pub(super) fn call(&self) -> Result<PagerCall<'_>> {
        self.0.call()
    }

    /// Sets how many bytes of pages of regions and of the staging range may be in memory, at least 64 KiB. `None`: no
    /// limit. Evicts what is above the limit before it returns, which takes as long as compressing those pages.
    ///
    /// The pool, where evicted pages lie, comes on top: [`Pager::set_pool_limit`]. Any thread may call this that may
    /// wait for others' evictions; callbacks and signal handlers may not.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than 64 KiB: nothing has changed. [`Error::Limit`] if the pool is full and nothing
    /// can be written back, [`Error::Again`] if too much is held or pinned: in both cases the new limit holds from then
    /// on, and what is above it leaves as soon as it can. [`Error::Forked`] in a child.
    pub fn set_resident_limit(&self, bytes: Option<u64>) -> Result<()> {
        const HELD: Error =
            Error::Again(sentence(&"too many pages are held, or pinned by the system: release some of them"));
        let core = self.call()?;
        let pages = limit_of(bytes)?;
        core.account.set_limit(pages);
        loop {
            match core.evict_to(pages, u64::MAX) {
                _ if core.account.resident() <= pages => return Ok(()),
                // The next attempt tells what stopped this one.
                Evicted::Pages(1..) => {}
                Evicted::Full => return Err(POOL_FULL),
                _ => return Err(HELD),
            }
        }
    }

    /// Evicts up to `pages` pages of 4096 bytes now, of those that were not used lately, and whatever the limit is.
    /// Returns how many left memory, which may be fewer or a few more: 0 if none was there. Takes as long as
    /// compressing them. Any thread may call it; callbacks and signal handlers may not.
    ///
    /// # Errors
    /// [`Error::Limit`] if none left because the pool is full, [`Error::Again`] if none could leave now,
    /// [`Error::Forked`] in a child.
    pub fn evict(&self, pages: u64) -> Result<u64> {
        const NONE: Error = Error::Again(sentence(&"no page could be evicted now"));
        let core = self.call()?;
        match core.evict_to(core.account.resident().saturating_sub(pages), pages) {
            Evicted::Pages(gone) => Ok(gone),
            Evicted::Busy | Evicted::None => Err(NONE),
            Evicted::Full => Err(POOL_FULL),
        }
    }

    /// Sets how many bytes of slots compressed pages may take in the pool, at least 4112. `None`: no limit but the
    /// machine's memory. The pool's memory, tables and gaps included, may be an eighth of the limit and 2 MiB more.
    ///
    /// Once the limit is reached, pages that were not used lately go to the backing file. Without one, pages stay in
    /// memory, above the resident limit if need be, and [`PagerCounts::over_limit`](crate::PagerCounts::over_limit)
    /// counts them. The limit may be less than what is stored: nothing is stored then until enough has gone. Returns at
    /// once. Any thread may call it; signal handlers may not.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than 4112 bytes. [`Error::Forked`] in a child.
    pub fn set_pool_limit(&self, bytes: Option<u64>) -> Result<()> {
        self.call()?.zswap.set_limit(bytes)
    }

    /// Sets for how many pages in memory zswap may keep a copy, in percent of the resident limit, from 0 to 100; the
    /// default is 10. A page that was only read since it was loaded is evicted by dropping it, if its copy was kept.
    /// The copy takes memory of the pool meanwhile. It goes when the pool is full, or when its page is written. A lower
    /// percentage keeps no new copies, and drops none at once. Any thread may call it, callbacks as well.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is more than 100. [`Error::Forked`] in a child.
    pub fn set_kept_copies(&self, percent: u8) -> Result<()> {
        const MORE: Error = Error::Invalid(sentence(&"copies can be kept for at most 100 percent of the limit"));
        self.check_usable()?;
        if percent > 100 {
            return Err(MORE);
        }
        self.0.kept.set_percent(percent);
        Ok(())
    }

    /// Sets the codec that compresses pages from now on. Pages that are compressed already stay as they are, and are
    /// decoded by the codec that they were compressed with. Any thread may call it; signal handlers may not.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such level, [`Error::NoMemory`] if there is no memory for the codec's
    /// contexts. [`Error::Forked`] in a child.
    pub fn set_codec(&self, codec: Codec) -> Result<()> {
        self.call()?.zswap.set_codec(codec)
    }

    /// Sets the file that compressed pages are written to when the pool is full, each as 4096 bytes, and how many bytes
    /// of it are used from its beginning. `None`: no file any more.
    ///
    /// The file is a regular file or a block device, open for reading and writing (`O_RDWR`), and not for appending
    /// (`O_APPEND`). The descriptor is duplicated. What the file has means nothing to another run. A page on it is read
    /// again when it is touched, which takes as long as the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is none of these or is opened otherwise, or if the bytes are less than 4096 or
    /// more than 16 TiB. [`Error::System`] if the descriptor can't be duplicated, [`Error::Busy`] while pages are on
    /// the file that was set before, [`Error::NoMemory`] if there is none for its table, of 8 bytes a page.
    /// [`Error::Forked`] in a child.
    pub fn set_backing_file(&self, file: Option<(BorrowedFd<'_>, u64)>) -> Result<()> {
        self.call()?.zswap.set_backing_file(file)
    }

    /// Writes compressed pages that were not used lately to the backing file, until `pages` pages of 4096 bytes have
    /// left the pool. Returns how many did, which may be fewer. A lent thread that evicts does this after the pool was
    /// full. Several threads may call it at once; signal handlers may not.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a backing file. [`Error::NotFound`] if no page is in the pool. [`Error::Again`] if
    /// none could go now: the file is full or fails, or pages are in use. [`Error::Io`] if the pager's descriptor of
    /// the file was closed or is another file's now: nothing was written. [`Error::Forked`] in a child.
    pub fn write_back(&self, pages: u64) -> Result<u64> {
        self.call()?.zswap.shrink(pages)
    }

    /// Moves compressed pages together, and gives the memory that this empties back to the system. Returns how many
    /// pages of 4096 bytes that were. `budget` bounds what the call does. Pages that come back to memory leave holes in
    /// the pool, so a program without a lent thread that evicts calls this from time to time. It does nothing while
    /// another thread compacts. Signal handlers may not call it.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child.
    pub fn compact(&self, budget: &CompactBudget) -> Result<u64> {
        self.call()?.zswap.compact(budget)
    }

    /// The userfaultfd of the regions: to recognise it in `/proc/self/fdinfo`, and to let another process keep it open.
    /// It stays the pager's: a program that reads from it takes events and touches away from the pager.
    ///
    /// A pager has more descriptors: another userfaultfd, an eventfd, /proc/self/mem with
    /// [`FaultMode::Threads`](crate::FaultMode::Threads), one for each memory file of a region, and those of its zswap:
    /// the backing file's, and the pool's if that is in a memory file. All of them are closed on exec. A program that
    /// closes descriptors that it does not know has to do so before it creates pagers, or in a forked child: without
    /// this one, pages that are not in memory read as zeros.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.uffd.as_fd()
    }

    /// The addresses of the staging range, where pages wait that were moved out of their regions: to tell it apart in
    /// `/proc/self/maps`. It stays the same for the life of the pager, and has addresses also if no page is moved.
    pub fn staging_range(&self) -> Range<usize> {
        let (start, bytes) = self.0.staging.range();
        start..start + bytes
    }

    /// Reads the pager's statistics. Waits for no lock and allocates nothing. Any thread may call it, callbacks too; a
    /// signal handler may not. In a forked child it tells how the pager was at the fork.
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
            resident_limit_bytes: Some(core.account.limit()).filter(|&pages| pages != UNLIMITED).map(bytes),
            resident_bytes: bytes(core.account.resident()),
            staged_bytes: bytes(core.staging.pages()),
            held_bytes: bytes(core.holds.pages()),
            region_bytes: bytes(pages),
            regions,
            table_bytes: core.staging.table_bytes() + pages * 4 + core.extents.bytes(),
            lent_threads: core.lending.threads().into(),
            immovable_bytes: bytes(core.immovable.pages()),
            eviction: core.eviction,
            counts: core.counters.read(),
            latencies: core.latencies.read(),
        }
    }

    /// Checks that this process can use the pager, as most calls do: forked children can't. Costs a load. Any thread,
    /// callback or signal handler may call it.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child.
    pub fn check_usable(&self) -> Result<()> {
        self.0.check_usable()
    }
}

impl fmt::Debug for Pager {
    /// Prints the limit and what is in memory now. Takes no lock, and may be called anywhere.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |pages: u64| pages.saturating_mul(PAGE as u64);
        formatter
            .debug_struct("Pager")
            .field("fault_mode", &self.0.mode)
            .field("resident_limit_bytes", &Some(self.0.account.limit()).filter(|&pages| pages != UNLIMITED).map(bytes))
            .field("resident_bytes", &bytes(self.0.account.resident()))
            .finish_non_exhaustive()
    }
}
