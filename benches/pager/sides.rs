//! The two sides: the pager, and the kernel's swap.

use super::child::Order;
use super::common::lent::Lent;
use super::common::region::{Region, resident_and_swapped};
use super::common::zram;
use zsalloc::{Duty, Eviction, FaultMode, HugePages, PAGE_SIZE, Pager, PagerOptions};

/// The side that pages a region.
pub enum Side {
    /// The measured pager.
    Ours(Lent),
    /// The kernel, to the zram device with this number and this many places.
    Kernel(u32, usize),
}

/// Creates the side that an order names: `pager`, with faults served in the touching thread; `in-place`, a pager that
/// evicts in place; `huge`, a pager whose pool is in huge pages; `threads`, a pager whose faults lent threads serve; or
/// `kernel`.
pub fn side(order: &Order, region: &Region, limit: usize, duties: &[Duty]) -> Result<Side, String> {
    let side: String = order.get("side")?;
    if side == "kernel" {
        return Ok(Side::Kernel(order.get("zram")?, order.get("places")?));
    }
    let mut options = PagerOptions {
        resident_bytes: Some((limit * PAGE_SIZE) as u64),
        fault_mode: if side == "threads" { FaultMode::Threads } else { FaultMode::Sigbus },
        ..PagerOptions::default()
    };
    options.eviction = if side == "in-place" { Eviction::InPlace } else { Eviction::MovingBesideSwap };
    let tuning = &mut options.tuning;
    tuning.staged_percent = order.get("staged").ok().filter(|&percent| percent > 0);
    if side == "huge" {
        tuning.zswap.pool.tuning.huge_pages = HugePages::Always;
    }
    let lent = Lent::new(region, &options, duties)?;
    if let Ok(percent) = order.get("kept") {
        lent.pager.set_kept_copies(percent).map_err(|error| error.to_string())?;
    }
    Ok(Side::Ours(lent))
}

impl Side {
    /// Evicts all pages of a region.
    pub fn evict_all(&self, region: &Region) -> Result<(), String> {
        match self {
            Self::Ours(lent) => evict_all(&lent.pager, region.pages() as u64),
            Self::Kernel(..) => {
                // SAFETY: the range is the region's, and its bytes come back when they are touched.
                let result = unsafe { libc::madvise(region.base().cast(), region.bytes(), libc::MADV_PAGEOUT) };
                match result {
                    0 => Ok(()),
                    _ => Err(format!("MADV_PAGEOUT: {}", std::io::Error::last_os_error())),
                }
            }
        }
    }

    /// Returns the number of pages compressed so far; 0 if that is not counted.
    pub fn stored(&self) -> f64 {
        match self {
            Self::Ours(lent) => lent.pager.stats().counts.stored as f64,
            Self::Kernel(..) => f64::NAN,
        }
    }

    /// Returns the bytes of slots of the evicted pages; 0 if they are not counted.
    pub fn slots(&self) -> f64 {
        match self {
            Self::Ours(lent) => lent.snapshot().zswap.zswap.used_bytes as f64,
            Self::Kernel(..) => f64::NAN,
        }
    }

    /// Returns the bytes of memory that evicted pages take, tables included.
    pub fn pool(&self) -> f64 {
        match self {
            Self::Ours(lent) => {
                let snapshot = lent.snapshot();
                let indexes: u64 = snapshot.zswap.areas.iter().map(|area| area.stats.metadata_bytes).sum();
                (snapshot.zswap.zswap.pool_bytes + indexes + snapshot.pager.table_bytes) as f64
            }
            Self::Kernel(number, places) => zram::memory(*number, *places),
        }
    }

    /// Returns the bytes of the region and the staging range that are in memory, as the system reports them.
    pub fn resident(&self, region: &Region) -> f64 {
        let resident = |start, bytes| resident_and_swapped(start, bytes).0;
        let staged = match self {
            Self::Ours(lent) => {
                let range = lent.pager.staging_range();
                resident(range.start, range.len())
            }
            Self::Kernel(..) => 0.0,
        };
        resident(region.base() as usize, region.bytes()) + staged
    }
}

fn evict_all(pager: &Pager, pages: u64) -> Result<(), String> {
    let mut refused = 0;
    while pager.stats().resident_bytes > 0 {
        match pager.evict(pages) {
            Ok(_) => refused = 0,
            Err(error) if refused > 100 => return Err(error.to_string()),
            Err(_) => refused += 1,
        }
    }
    Ok(())
}
