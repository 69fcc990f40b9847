//! Converts the options of C to those of a [`Pager`](zsalloc::Pager) and its regions.

use super::types::{
    ZSPAGER_DISCARD, ZSPAGER_EVICT_IN_PLACE, ZSPAGER_EVICT_MOVING, ZSPAGER_EVICT_MOVING_BESIDE_SWAP,
    ZSPAGER_FAULT_SIGBUS, ZSPAGER_FAULT_THREADS, ZSPAGER_REGION_NO_WRITEBACK, ZSPAGER_REGION_SETTLED,
    ZSPAGER_REGION_SHARED, ZSPAGER_RUN_ALL, ZSPAGER_RUN_EVICT, ZSPAGER_RUN_SERVE, ZSPAGER_RUN_TIERS, zspager_options,
    zspager_region_options, zspager_tuning,
};
use crate::options::{RESERVED, name_or_none};
use crate::sized::{Received, unless_zero};
use crate::swap::options::{codec, convert_tuning};
use crate::system::duplicate;
use crate::wrong::wrong;
use std::os::fd::{BorrowedFd, OwnedFd};
use zsalloc::plumbing::sentence;
use zsalloc::{Duty, Error, Eviction, FaultMode, PagerOptions, PagerTuning, RegionOptions, Result};

/// Converts the options of a pager, if they do not contradict each other.
///
/// # Safety
/// The tuning is NULL or what the header says, and memory that the pool's options supply is for this
/// pager alone.
pub unsafe fn convert(received: &Received<zspager_options>) -> Result<PagerOptions> {
    const MODE: Error = Error::Invalid(sentence(&"fault_mode is not one of ZSPAGER_FAULT_*"));
    const EVICTION: Error = Error::Invalid(sentence(&"eviction is not one of ZSPAGER_EVICT_*"));
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    let eviction = match options.eviction {
        ZSPAGER_EVICT_IN_PLACE => Eviction::InPlace,
        ZSPAGER_EVICT_MOVING => Eviction::Moving,
        ZSPAGER_EVICT_MOVING_BESIDE_SWAP => Eviction::MovingBesideSwap,
        _ => return Err(EVICTION),
    };
    let fault_mode = match options.fault_mode {
        ZSPAGER_FAULT_SIGBUS => FaultMode::Sigbus,
        ZSPAGER_FAULT_THREADS => FaultMode::Threads,
        _ => return Err(MODE),
    };
    Ok(PagerOptions {
        resident_bytes: unless_zero(options.resident_bytes),
        pool_bytes: unless_zero(options.pool_bytes),
        codec: codec(options.codec, options.level)?,
        fault_mode,
        eviction,
        // SAFETY: the caller promises the same.
        tuning: unsafe { convert_tuning_of_pager(options.tuning) }?,
    })
}

/// Converts the tuning of a pager.
///
/// # Safety
/// The tuning is NULL or what the header says, and memory that the pool's options supply is for this
/// pager alone.
unsafe fn convert_tuning_of_pager(tuning: *const zspager_tuning) -> Result<PagerTuning> {
    // SAFETY: the caller promises that a tuning that is not NULL is as the header says.
    let received = unsafe { Received::read(tuning, wrong!("options->tuning")) }?;
    let tuning = received.all()?;
    if tuning.reserved != [0; 8] {
        return Err(RESERVED);
    }
    Ok(PagerTuning {
        // The pager refuses 255, and says why.
        staged_percent: unless_zero(tuning.staged_percent).map(|percent| percent.try_into().unwrap_or(u8::MAX)),
        max_held_bytes: unless_zero(tuning.max_held_bytes),
        max_regions: unless_zero(tuning.max_regions as usize),
        // SAFETY: the caller promises the same.
        zswap: unsafe { convert_tuning(tuning.zswap, wrong!("options->tuning->zswap")) }?,
    })
}

/// Returns the options of a region, if they do not contradict each other.
fn checked_region(received: &Received<zspager_region_options>) -> Result<&zspager_region_options> {
    const FLAG: Error = Error::Invalid(sentence(&"the region's options set an unknown flag"));
    const UNASKED: Error = Error::Invalid(sentence(&"shared_fd or shared_offset is set without ZSPAGER_REGION_SHARED"));
    let options = received.all()?;
    if options.reserved != [0; 3] {
        return Err(RESERVED);
    }
    if options.flags & !(ZSPAGER_REGION_SHARED | ZSPAGER_REGION_NO_WRITEBACK | ZSPAGER_REGION_SETTLED) != 0 {
        return Err(FLAG);
    }
    let unnamed = (options.shared_fd, options.shared_offset) == (0, 0);
    if options.flags & ZSPAGER_REGION_SHARED == 0 && !unnamed { Err(UNASKED) } else { Ok(options) }
}

/// Duplicates the descriptor of the memory file that a region's options name. Returns none if they
/// name no file.
pub fn memory_file(received: &Received<zspager_region_options>) -> Result<Option<OwnedFd>> {
    let options = checked_region(received)?;
    if options.flags & ZSPAGER_REGION_SHARED == 0 {
        return Ok(None);
    }
    duplicate(options.shared_fd).map(Some)
}

/// Converts the options of a region. `file` is what [`memory_file`] returned for them.
///
/// # Safety
/// The name is NULL, or a C string that lives for `'a`.
pub unsafe fn convert_region<'a>(
    received: &Received<zspager_region_options>,
    file: Option<BorrowedFd<'a>>,
) -> Result<RegionOptions<'a>> {
    let options = checked_region(received)?;
    Ok(RegionOptions {
        shared: file.map(|file| (file, options.shared_offset)),
        max_stored_bytes: unless_zero(options.max_stored_bytes),
        no_writeback: options.flags & ZSPAGER_REGION_NO_WRITEBACK != 0,
        settled: options.flags & ZSPAGER_REGION_SETTLED != 0,
        // SAFETY: the caller promises it.
        name: unsafe { name_or_none(options.name) }?,
    })
}

/// What happens to the pages of a region that is removed.
pub enum RemovedPages {
    /// All pages come back to memory.
    Restore,
    /// Pages that are not in memory are lost.
    Discard,
}

/// Converts the flags of zspager_remove_region().
pub fn removal(flags: u32) -> Result<RemovedPages> {
    const FLAG: Error = Error::Invalid(sentence(&"flags is neither 0 nor ZSPAGER_DISCARD"));
    match flags {
        0 => Ok(RemovedPages::Restore),
        ZSPAGER_DISCARD => Ok(RemovedPages::Discard),
        _ => Err(FLAG),
    }
}

/// Converts the duty of a lent thread.
pub fn duty(duty: u32) -> Result<Duty> {
    const NONE: Error = Error::Invalid(sentence(&"duty is not one of ZSPAGER_RUN_*"));
    match duty {
        ZSPAGER_RUN_ALL => Ok(Duty::All),
        ZSPAGER_RUN_SERVE => Ok(Duty::Serve),
        ZSPAGER_RUN_EVICT => Ok(Duty::Evict),
        ZSPAGER_RUN_TIERS => Ok(Duty::Tiers),
        _ => Err(NONE),
    }
}
