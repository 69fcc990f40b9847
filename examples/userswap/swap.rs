//! The pager, its tiers, and the threads lent to it.

use super::args::Args;
use super::memory::Memory;
use super::page_cache::PageCache;
use super::tiers::TierFile;
use super::{PAGE, Problem, Result};
use zsalloc::{
    Backing as PoolBacking, Duty, Error, Eviction, FaultMode, Lent, Pager, PagerOptions, Region, RegionOptions,
};

/// The pager and the files of its tiers.
pub struct Swap {
    /// The pager, which is dropped before the files.
    pub pager: Pager,
    mode: FaultMode,
    tiers: Vec<TierFile>,
}

/// Advice for users who may not use userfaultfd.
const NO_USERFAULTFD: &str = "\
the system has no userfaultfd, or not enough of it. It takes Linux 5.11 or later with CONFIG_USERFAULTFD, and a
sandbox or container that lets the system call through.";
const NO_RIGHT: &str = "\
this user may not serve page faults. Any of these helps:
  - `--mode sigbus`, the default: each thread serves its own touches, and no right is needed
  - as root: sysctl vm.unprivileged_userfaultfd=1
  - run it with CAP_SYS_PTRACE, such as by sudo
  - access to /dev/userfaultfd for this user, by its owner, group or an ACL: sudo setfacl -m u:$USER:rw /dev/userfaultfd
A container must let the system call userfaultfd through as well: its seccomp profile may refuse it.";

impl Swap {
    /// Creates the pager and the tiers that the arguments ask for.
    pub fn open(args: &Args) -> Result<Self> {
        let tiers = TierFile::open(&args.tiers, args.overwrite, args.bytes(), &[])?;
        let mut options = PagerOptions {
            resident_bytes: Some(args.limit),
            pool_bytes: Some(args.pool_limit),
            fault_mode: args.mode,
            ..PagerOptions::default()
        };
        options.eviction = if args.in_place { Eviction::InPlace } else { Eviction::MovingBesideSwap };
        // The system counts memory files separately, so that its private memory is only region and staging range.
        options.tuning.zswap.pool.backing = PoolBacking::MemoryFile;
        // Little headroom beyond the slots, so that the limit is one of memory and not only of slots.
        options.tuning.zswap.headroom_percent = Some(4);
        let pager = Pager::new("userswap", &options).map_err(|error| match error {
            Error::System { errno: libc::EPERM | libc::EACCES, .. } => Problem::Missing(NO_RIGHT.to_owned()),
            Error::System { errno: libc::ENOSYS | libc::EINVAL, .. } => Problem::Missing(NO_USERFAULTFD.to_owned()),
            error => Problem::Refused(format!("no pager: {error}")),
        })?;
        for tier in &tiers {
            let (path, (file, bytes)) = (tier.path().display().to_string(), tier.descriptor());
            let added = pager.add_file_tier(&path, file, bytes);
            added.map_err(|error| Problem::Refused(format!("the file {path} can't be a tier: {error}")))?;
        }
        Ok(Self { pager, mode: args.mode, tiers })
    }

    /// Returns what tells how much of the tiers' files the page cache has.
    pub fn page_cache(&self) -> Result<PageCache> {
        PageCache::new(self.tiers.iter().map(|tier| tier.descriptor().0))
    }

    /// Adds the memory as a region.
    pub fn add(&self, memory: &Memory) -> Result<Region> {
        let options = RegionOptions::default();
        // SAFETY: the memory is used through these addresses alone, and is unmapped after the region is removed.
        let region = unsafe { self.pager.add_region(memory.at(), memory.pages() * PAGE, &options) };
        region.map_err(|error| failed("the region", error))
    }

    /// Removes the region. Its contents are lost.
    pub fn remove(mut region: Region) -> Result<()> {
        // SAFETY: the contents were verified, and the memory is unmapped next.
        let removed = unsafe { region.remove_discarding() };
        removed.map_err(|error| failed("removing the region", error))
    }

    /// Starts the threads that are lent to the pager.
    pub fn lend(&self) -> Result<Vec<Lent>> {
        let duties: &[Duty] = match self.mode {
            FaultMode::Sigbus => &[Duty::Serve, Duty::Evict],
            FaultMode::Threads => &[Duty::Serve, Duty::Serve, Duty::Evict],
        };
        let lent = duties.iter().map(|&duty| self.pager.lend(duty)).collect::<std::result::Result<_, Error>>();
        lent.map_err(|error| failed("a lent thread", error))
    }
}

fn failed(what: &str, error: Error) -> Problem {
    Problem::Failed(format!("{what}: {error}"))
}
