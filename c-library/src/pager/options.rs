//! From the options that C passes to those of a [`Pager`](zsalloc::Pager) and its regions.

use super::types::{
    ZSPAGER_DISCARD, ZSPAGER_EVICT_BY_MOVING, ZSPAGER_EVICT_IN_PLACE, ZSPAGER_FAULT_SIGBUS, ZSPAGER_FAULT_THREADS,
    ZSPAGER_REGION_NO_WRITEBACK, ZSPAGER_REGION_SHARED, ZSPAGER_RUN_ALL, ZSPAGER_RUN_EVICT, ZSPAGER_RUN_SERVE,
    zspager_options, zspager_region_options,
};
use crate::options::RESERVED;
use crate::sized::Received;
use crate::swap::options::convert_unnamed;
use crate::system::duplicate;
use std::os::fd::{BorrowedFd, OwnedFd};
use zsalloc::{Duty, Error, FaultMode, PagerOptions, RegionOptions, Result};

/// The options, if they agree with each other.
///
/// # Safety
/// The options of the zswap are NULL or as the header says, and the memory that they supply is the pager's alone.
pub unsafe fn convert(received: &Received<zspager_options>) -> Result<PagerOptions> {
    const MODE: Error = Error::Invalid(&"there is no such fault_mode");
    const FLAG: Error = Error::Invalid(&"the pager's options have a flag that does not exist");
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    if options.flags & !(ZSPAGER_EVICT_IN_PLACE | ZSPAGER_EVICT_BY_MOVING) != 0 {
        return Err(FLAG);
    }
    let fault_mode = match options.fault_mode {
        ZSPAGER_FAULT_SIGBUS => FaultMode::Sigbus,
        ZSPAGER_FAULT_THREADS => FaultMode::Threads,
        _ => return Err(MODE),
    };
    // SAFETY: the caller vouches for the zswap's options.
    let zswap = unsafe { Received::read(options.zswap).and_then(|zswap| convert_unnamed(&zswap)) }?;
    Ok(PagerOptions {
        resident_bytes: options.resident_bytes,
        fault_mode,
        // The pager refuses 255, and says why.
        staged_percent: options.staged_percent.try_into().unwrap_or(u8::MAX),
        max_held_bytes: options.max_held_bytes,
        max_regions: options.max_regions as usize,
        evict_in_place: options.flags & ZSPAGER_EVICT_IN_PLACE != 0,
        evict_by_moving: options.flags & ZSPAGER_EVICT_BY_MOVING != 0,
        zswap,
    })
}

/// The options of a region, if they agree with each other.
fn checked_region(received: &Received<zspager_region_options>) -> Result<&zspager_region_options> {
    const FLAG: Error = Error::Invalid(&"the region's options have a flag that does not exist");
    const UNASKED: Error = Error::Invalid(&"shared_fd and shared_offset are for ZSPAGER_REGION_SHARED");
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    if options.flags & !(ZSPAGER_REGION_SHARED | ZSPAGER_REGION_NO_WRITEBACK) != 0 {
        return Err(FLAG);
    }
    let unnamed = (options.shared_fd, options.shared_offset) == (0, 0);
    if options.flags & ZSPAGER_REGION_SHARED == 0 && !unnamed { Err(UNASKED) } else { Ok(options) }
}

/// A descriptor of the library's own for the memory file that a region's options name, if they name one.
pub fn memory_file(received: &Received<zspager_region_options>) -> Result<Option<OwnedFd>> {
    let options = checked_region(received)?;
    if options.flags & ZSPAGER_REGION_SHARED == 0 {
        return Ok(None);
    }
    duplicate(options.shared_fd).map(Some)
}

/// The options of a region, if they agree with each other; `file` is its [`memory_file`].
pub fn convert_region<'a>(
    received: &Received<zspager_region_options>,
    file: Option<BorrowedFd<'a>>,
) -> Result<RegionOptions<'a>> {
    let options = checked_region(received)?;
    Ok(RegionOptions {
        shared: file.map(|file| (file, options.shared_offset)),
        max_stored_bytes: options.max_stored_bytes,
        no_writeback: options.flags & ZSPAGER_REGION_NO_WRITEBACK != 0,
    })
}

/// What becomes of the pages of a region that is removed.
pub enum RemovedPages {
    /// They come back to memory.
    Restore,
    /// Those that are not in memory are lost.
    Discard,
}

/// What flags say of a region that is removed.
pub fn removal(flags: u32) -> Result<RemovedPages> {
    const FLAG: Error = Error::Invalid(&"there is no such flag for removing a region");
    match flags {
        0 => Ok(RemovedPages::Restore),
        ZSPAGER_DISCARD => Ok(RemovedPages::Discard),
        _ => Err(FLAG),
    }
}

/// What a lent thread is to do.
pub fn duty(duty: u32) -> Result<Duty> {
    const NONE: Error = Error::Invalid(&"there is no such duty");
    match duty {
        ZSPAGER_RUN_ALL => Ok(Duty::All),
        ZSPAGER_RUN_SERVE => Ok(Duty::Serve),
        ZSPAGER_RUN_EVICT => Ok(Duty::Evict),
        _ => Err(NONE),
    }
}
