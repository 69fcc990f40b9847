//! Creating a pager: what the system is asked for, and the parts that are made of it.

use super::account::Account;
use super::add_region::no_reading;
use super::backlog::Backlog;
use super::core::Core;
use super::counts::Counters;
use super::extents::Extents;
use super::free_reading::FreeReading;
use super::hand::Hand;
use super::hold_count::Holds;
use super::immovable::Immovable;
use super::inbox::EventLock;
use super::kept_copies::KeptCopies;
use super::lent_count::Lending;
use super::open_pager::OpenPager;
use super::options::{EvictionInUse, FaultMode, PagerOptions};
use super::pager_calls::{Pager, limit_of};
use super::region::{MAX_REGIONS, Serials};
use super::removable::Removable;
use super::scratch::Scratch;
use super::sigbus_pagers;
use super::staging::Staging;
use super::time;
use super::upkeep::Upkeep;
use crate::error::{Error, Result, Sentence, not_given, sentence};
use crate::heap::{self, Counted};
use crate::latency::Latencies;
use crate::os::blocked::Blocked;
use crate::os::event_fd::EventFd;
use crate::os::kernel;
use crate::os::own_memory::OwnMemory;
use crate::os::userfault::{Userfault, feature};
use crate::os::{self, Errno, Os, errno};
use crate::parking::LongLock;
use crate::pool::options::Backing;
use crate::sync::{AtomicU64, Rank};
use crate::units::PAGE;
use crate::zswap::{Zswap, ZswapOptions};

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
        check(options)?;
        let _signals = Blocked::new();
        let core = Counted::new(core(os, name, options)?)?;
        // Made first: if the handler can't be registered, dropping it closes what was opened.
        let open = OpenPager::new(core)?;
        if options.fault_mode == FaultMode::Sigbus {
            sigbus_pagers::register(open.core())?;
        }
        Ok(Self(open))
    }
}

fn check(options: &PagerOptions) -> Result<()> {
    const REGIONS: Error = Error::Invalid(sentence(&"max_regions is 1 to 65536: leave it out for 1024"));
    const STAGED: Error = Error::Invalid(sentence(&"staged_percent is 1 to 90: leave it out for 10"));
    const HELD: Error = Error::Invalid(sentence(
        &"max_held_bytes is less than a page of 4096 bytes: set more, or leave it out for an eighth of resident_bytes",
    ));
    let tuning = &options.tuning;
    match tuning {
        _ if !(1..=MAX_REGIONS).contains(&tuning.max_regions.unwrap_or(MAX_REGIONS)) => Err(REGIONS),
        _ if !(1..=90).contains(&tuning.staged_percent.unwrap_or(90)) => Err(STAGED),
        _ if tuning.max_held_bytes.is_some_and(|bytes| bytes < PAGE as u64) => Err(HELD),
        _ => limit_of(options.resident_bytes).map(|_| ()),
    }
}

/// Makes the parts of a pager.
fn core(os: Os, name: &str, options: &PagerOptions) -> Result<Core> {
    let tuning = &options.tuning;
    let limit = limit_of(options.resident_bytes)?;
    let staged_percent = tuning.staged_percent.unwrap_or(10).into();
    let max_held = tuning.max_held_bytes.map_or(limit / 8, |bytes| bytes / PAGE as u64);
    let max_regions = tuning.max_regions.unwrap_or(1024);
    let (uffd, eviction) = open(&os, options)?;
    let moves = eviction == EvictionInUse::Moving;
    let staging = Staging::new(&os, own_uffd(&os, moves)?, staged_room(limit, staged_percent), staged_percent)?;
    let zswap = Zswap::with_os(os.clone(), name, &zswap_options(options))?;
    let scratch = Scratch::new(&os)?;
    let event_fd = EventFd::new(&os).map_err(|errno| Error::system(errno, sentence(&"eventfd")))?;
    let guard = os.fork_guard().map_err(|errno| Error::system(errno, NO_GUARD))?;
    let own = OwnMemory::new(&os, options.fault_mode == FaultMode::Threads);
    let own = own.map_err(|errno| Error::system(errno, sentence(&"opening /proc/self/mem")))?;
    if !moves {
        own.check().map_err(no_reading)?;
    }
    time::start();
    Ok(Core {
        os,
        zswap,
        mode: options.fault_mode,
        eviction,
        moves,
        uffd,
        own,
        guard,
        extents: Extents::new(max_regions)?,
        places: heap::slice(max_regions, |_| Ok(Removable::default()))?,
        serials: Serials::default(),
        account: Account::new(limit),
        holds: Holds::new(max_held),
        kept: KeptCopies::default(),
        immovable: Immovable::default(),
        most_at_once: Core::most_at_once(os::processors()),
        hand: Hand::new((2 * os::processors()).clamp(8, 64))?,
        evicting: AtomicU64::new(0),
        moving: LongLock::of(Rank::Moving, ()),
        staging,
        scratch,
        gate: apart()?,
        reading: FreeReading::default(),
        events: EventLock::new()?,
        backlog: Backlog::default(),
        lending: Lending::new(event_fd),
        upkeep: Upkeep::default(),
        counters: Counters::new()?,
        latencies: Latencies::new()?,
    })
}

/// Makes a value in memory of its own. Not inlined: its caller has no need of the stack that this takes.
#[inline(never)]
fn apart<T: Default>() -> Result<Box<T>> {
    heap::boxed(T::default())
}

/// Opens the userfaultfd of the regions. Returns it, and how private pages are evicted.
fn open(os: &Os, options: &PagerOptions) -> Result<(Userfault, EvictionInUse)> {
    let user_only = options.fault_mode == FaultMode::Sigbus;
    let refused = |errno: Errno| match errno.0 {
        errno::EPERM => Error::System { errno: errno.0, step: sentence(&NO_RIGHT) },
        errno::ENOSYS => Error::System { errno: errno.0, step: sentence(&"the system has no userfaultfd") },
        _ => Error::system(errno, sentence(&"userfaultfd")),
    };
    let there = Userfault::features_of_the_system(os, user_only).map_err(refused)?;
    let eviction = options.eviction_in_use(there & feature::MOVE != 0, kernel::release(), kernel::has_swap());
    let mut wanted = feature::EVENT_REMAP | feature::EVENT_UNMAP | feature::MISSING_SHMEM | feature::WP;
    wanted |= feature::WP_SHMEM | feature::MINOR_SHMEM | feature::POISON;
    wanted &= there;
    if eviction == EvictionInUse::Moving {
        // If pages were dropped in their places, each drop would be an event of its own that somebody has to read.
        wanted |= feature::EVENT_REMOVE & there | feature::MOVE;
    }
    if user_only {
        wanted |= feature::SIGBUS;
    }
    let uffd = Userfault::new(os, wanted, user_only).map_err(refused)?;
    Ok((uffd, eviction))
}

const NO_GUARD: Sentence = not_given!("the system gives no page that tells forked children");
const NO_RIGHT: &str = "no right to userfaultfd: a sandbox may forbid the call; and for lent threads to serve touches \
                        takes CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1 or access to /dev/userfaultfd";

/// A second userfaultfd for the staging range, without events: the pager's own MADV_DONTNEED must not queue any.
fn own_uffd(os: &Os, moves: bool) -> Result<Userfault> {
    let features = feature::SIGBUS | if moves { feature::MOVE } else { 0 };
    Userfault::new(os, features, true)
        .map_err(|errno| Error::system(errno, sentence(&"userfaultfd of the staging range")))
}

/// The pages that the staging range has room for. The limit may grow later.
fn staged_room(limit: u64, percent: u64) -> usize {
    let memory = os::physical_memory().unwrap_or(1 << 33) / PAGE as u64;
    ((limit.min(memory) * percent / 100) as usize).max(16 << 10)
}

/// The options of the pager's zswap.
fn zswap_options(options: &PagerOptions) -> ZswapOptions {
    let mut tuning = options.tuning.zswap.clone();
    // Children can't use the pool, and their copy would take memory as soon as either process changes it. Memory that
    // was lent stays as its owner wants it.
    tuning.pool.tuning.dont_fork |= !matches!(tuning.pool.backing, Backing::Lent(_));
    // A pager writes pages back from a full pool at once, and does not store to it until there is room.
    tuning.accept_percent = tuning.accept_percent.or(Some(98));
    ZswapOptions { max_bytes: options.pool_bytes, codec: options.codec, tuning }
}
