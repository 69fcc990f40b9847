//! Options for creating a pool.

use crate::error::{Error, Result, sentence};
use crate::geometry::MAX_ZSPAGE_PAGES;
use crate::heap;
use crate::memory::layout::Layout;
use crate::memory::{Policy, Source};
use crate::os;
use crate::sync::{Raw, RawLock};
use crate::units::{CHUNK, PAGE};
use std::sync::Arc;

/// The least that [`PoolOptions::max_bytes`] may be, and the least memory that a pool can be lent, in bytes. It
/// suffices for the pool's tables and objects of a few sizes.
pub const MIN_BYTES: u64 = 1 << 20;

/// Chunks from this one on have huge pages unless the options say otherwise. In a pool of 4 GiB the zspages that are
/// partly empty hardly count, and a huge page saves 511 page faults of 1.2 us each. In a smaller pool huge pages cost
/// density, as `cargo bench --bench density` shows.
const HUGE_FROM: usize = (4 << 30) / CHUNK;

/// Where a pool's memory comes from.
#[derive(Clone, Debug, Default)]
pub enum Backing {
    /// Private anonymous memory.
    #[default]
    Anonymous,
    /// A memory file (memfd) with the pool's name. [`crate::Pool::fd`] returns its descriptor. Forked children do not
    /// get the pool.
    MemoryFile,
    /// Huge pages of 2 MiB from the system's pool (`vm.nr_hugepages`), taken a chunk at a time. Forked children do not
    /// get the pool.
    HugePages,
    /// Memory that the caller supplies.
    Lent(LentMemory),
}

/// Memory that the caller supplies, for tables and objects both. One pool at a time has it: a clone is the same memory.
#[derive(Clone, Debug)]
pub struct LentMemory {
    address: *mut u8,
    bytes: usize,
    releasable: bool,
    /// A lock that the pool with the memory holds. None if there is one pool only.
    owner: Option<Arc<RawLock>>,
}

// SAFETY: it is an address, and the contract of `LentMemory::new` says who may use the memory.
unsafe impl Send for LentMemory {}
// SAFETY: `take` gives the memory to one pool at a time, whichever threads ask, or the contract of `for_one_pool` does.
unsafe impl Sync for LentMemory {}

impl LentMemory {
    /// The `bytes` bytes at `address`, which is a multiple of 4096. With `releasable` the pool may give pages back with
    /// `MADV_DONTNEED`, and reads zeros there afterwards.
    ///
    /// # Safety
    /// The memory is readable and writable, and outlives every pool that is created with this or a clone of it. Until
    /// the last of these pools is dropped nobody else uses it: no other `LentMemory` names a part of it. Releasable
    /// memory is private and anonymous.
    pub unsafe fn new(address: *mut u8, bytes: usize, releasable: bool) -> Self {
        Self { address, bytes, releasable, owner: Some(Arc::default()) }
    }

    /// The memory of a single pool, otherwise as [`LentMemory::new`] has it. Allocates nothing.
    ///
    /// # Safety
    /// As [`LentMemory::new`]. At most one pool is ever created with this or a clone of it.
    pub unsafe fn for_one_pool(address: *mut u8, bytes: usize, releasable: bool) -> Self {
        Self { address, bytes, releasable, owner: None }
    }

    /// Takes the memory for a pool, unless another pool has it.
    fn take(&self) -> Result<Loan> {
        const TAKEN: Error = Error::Busy(sentence(&"another pool has the memory supplied"));
        match &self.owner {
            Some(owner) if !owner.try_lock() => Err(TAKEN),
            owner => Ok(Loan(owner.clone())),
        }
    }
}

/// The right of a pool to memory that the caller supplied. Dropping it gives the memory back.
pub struct Loan(Option<Arc<RawLock>>);

impl Drop for Loan {
    fn drop(&mut self) {
        // The lock makes sure that the next pool sees what this one did to the memory.
        if let Some(owner) = &self.0 {
            owner.unlock();
        }
    }
}

/// Which part of a pool has huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// The part of a pool beyond 4 GiB has huge pages.
    #[default]
    WhenLarge,
    /// No part has huge pages.
    Never,
    /// Every chunk of 2 MiB has a huge page. It is committed, charged and given back whole.
    Always,
}

/// Options for creating a pool. [`Default`] is private anonymous memory, as much as the machine has.
/// Later versions may add fields: end a literal with `..Default::default()`.
///
/// ```
/// use zsalloc::{Pool, PoolOptions};
///
/// let options = PoolOptions { max_bytes: Some(64 << 20), ..Default::default() };
/// let pool = Pool::new("example", &options)?;
/// # Ok::<(), zsalloc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// The most bytes of memory that the pool may have, with its tables: at least [`MIN_BYTES`], at most about 800 GiB.
    /// `None` is the physical memory of the machine, or less if the process can't have as many addresses; for
    /// [`Backing::Lent`] it is all of the memory that is lent. [`crate::Pool::set_max_bytes`] changes it.
    pub max_bytes: Option<u64>,
    /// Where the memory of the pool comes from.
    pub backing: Backing,
    /// Whether freed objects are overwritten with zeros, and a handle index whose generation wraps is never used again,
    /// so that a stale handle is refused for ever.
    pub hardened: bool,
    /// What few programs change.
    pub tuning: PoolTuning,
}

/// The options of a pool that few programs change. [`Default`] suits most.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct PoolTuning {
    /// Which part of the pool has huge pages.
    pub huge_pages: HugePages,
    /// Whether forked children do not get the pool: a call there returns [`Error::Forked`]. Always so unless the memory
    /// is anonymous.
    pub dont_fork: bool,
    /// Whether the system is given no advice after the pool's creation, and none to leave the pool out of core dumps.
    /// For jails. The pool refuses huge pages when it is created, if the system takes that advice. Memory goes back by
    /// `madvise` range by range, and not by `process_madvise`.
    pub no_advice: bool,
    /// Whether each object keeps 8 bytes of the program's beside its own, such as the hash of a cache's key:
    /// [`crate::Pool::malloc_tagged`] stores them, and [`crate::Victim::tag`] returns them in the evict callback. Each
    /// object takes 8 bytes more, and has at most [`crate::MAX_TAGGED_SIZE`]. Not for the pool of a zswap.
    pub tags: bool,
}

/// A way to create a pool: where its memory comes from, how it is laid out, and how much it may have.
pub struct Plan<'a> {
    pub source: Source<'a>,
    pub layout: Layout,
    pub policy: Policy,
    pub limit_pages: u64,
}

/// The most bytes of memory that can be supplied, so that each zspage in it has an id.
const MAX_LENT_BYTES: usize = 4 << 40;

const TOO_LARGE: Error = Error::Invalid(sentence(&"max_bytes is more than a pool can have, which is about 800 GiB"));

impl PoolOptions {
    /// Returns the plans to try in turn. If no capacity is given, each is half as large as the one before.
    pub(crate) fn plans<'a>(&self, name: &'a str) -> Result<Vec<Plan<'a>>> {
        const SMALL: Error = Error::Invalid(sentence(
            &"max_bytes is less than 1 MiB, the least a pool can have: set more, or leave it out for all memory",
        ));
        const PAGES: Error =
            Error::Invalid(sentence(&"the system's page size is not 4096 bytes, and no other is supported yet"));
        if os::page_size() != PAGE {
            return Err(PAGES);
        }
        if self.max_bytes.is_some_and(|bytes| bytes < MIN_BYTES) {
            return Err(SMALL);
        }
        // A number of bytes can be halved 64 times.
        let mut plans = heap::with_capacity(64)?;
        if let Backing::Lent(memory) = &self.backing {
            plans.push(self.lent_plan(memory)?);
            return Ok(plans);
        }
        if let Some(bytes) = self.max_bytes {
            let layout = Layout::for_capacity(bytes).ok_or(TOO_LARGE)?;
            plans.push(self.plan(name, layout, bytes));
            return Ok(plans);
        }
        let mut capacity = os::physical_memory().unwrap_or(1 << 30).max(MIN_BYTES);
        while capacity >= MIN_BYTES.max(16 << 20) {
            plans.extend(Layout::for_capacity(capacity).map(|layout| self.plan(name, layout, capacity)));
            capacity /= 2;
        }
        if plans.is_empty() { Err(TOO_LARGE) } else { Ok(plans) }
    }

    fn plan<'a>(&self, name: &'a str, layout: Layout, capacity: u64) -> Plan<'a> {
        let source = match self.backing {
            Backing::MemoryFile => Source::File(name),
            Backing::HugePages => Source::HugeFile(name),
            _ => Source::Anonymous,
        };
        Plan { source, layout, policy: self.policy(), limit_pages: capacity / PAGE as u64 }
    }

    /// Takes the memory that the caller supplied, if there is any.
    pub(super) fn borrow(&self) -> Result<Option<Loan>> {
        if let Backing::Lent(memory) = &self.backing { memory.take().map(Some) } else { Ok(None) }
    }

    fn lent_plan(&self, memory: &LentMemory) -> Result<Plan<'static>> {
        const UNALIGNED: Error =
            Error::Invalid(sentence(&"the memory supplied is NULL, or its address is not a multiple of 4096"));
        const TINY: Error = Error::Invalid(sentence(&"the memory supplied is less than 1 MiB"));
        const LARGE: Error =
            Error::Invalid(sentence(&"the memory supplied is more than a pool can have, which is 4 TiB"));
        if memory.address.is_null() || !(memory.address as usize).is_multiple_of(PAGE) {
            return Err(UNALIGNED);
        }
        if (memory.bytes as u64) < MIN_BYTES {
            return Err(TINY);
        }
        if memory.bytes > MAX_LENT_BYTES {
            return Err(LARGE);
        }
        let limit = self.max_bytes.unwrap_or(memory.bytes as u64);
        let layout = Layout::within(memory.bytes).ok_or(TINY)?;
        debug_assert!(layout.arena_pages > MAX_ZSPAGE_PAGES);
        let source = Source::Lent(memory.address, memory.releasable);
        let policy = Policy { whole_from: usize::MAX, advise: false, ..self.policy() };
        Ok(Plan { source, layout, policy, limit_pages: limit / PAGE as u64 })
    }

    fn policy(&self) -> Policy {
        let whole_from = match (&self.backing, self.tuning.huge_pages) {
            (Backing::HugePages, _) | (_, HugePages::Always) => 0,
            (_, HugePages::Never) => usize::MAX,
            _ if self.tuning.no_advice => usize::MAX,
            // On most systems memory files get no huge pages, also not by advice.
            (Backing::MemoryFile, HugePages::WhenLarge) => usize::MAX,
            _ => HUGE_FROM,
        };
        let shared = matches!(self.backing, Backing::MemoryFile | Backing::HugePages);
        Policy { whole_from, advise: !self.tuning.no_advice, dont_fork: self.tuning.dont_fork || shared }
    }
}
