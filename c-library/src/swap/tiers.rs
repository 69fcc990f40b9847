//! Functions that add, remove and report tiers.

use super::options::convert_tier;
use super::tier_types::{zswap_tier_ops, zswap_tier_options, zswap_tier_stats};
use super::writeback::own_descriptor;
use crate::export::{Output, export, fills_statistics};
use crate::options::{RESERVED, name as name_of};
use crate::sized::Received;
use crate::system::errno;
use crate::{zswap, zswap_area};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsFd;
use zsalloc::plumbing::{Uncancelled, sentence};
use zsalloc::{Error, ExtentId, Result, Tier, TierFailure, TierResult};

fills_statistics!(zswap_tier_stats);

impl Output for u32 {}

export! {
    /// Adds a tier of the program's own behind the tiers that there are: another machine, a device, a
    /// service. Stores its number in *tier, the lowest that no other tier has. Replaces a callback of
    /// zswap_set_writeback(). The section TIERS has the rules.
    ///
    /// ops: the tier's functions. The struct is copied. All but room() must be there.
    /// context: the first argument of all of them. It must live until zswap_remove_tier() of this tier
    ///     or zswap_destroy() has returned 0, or zswap_set_backing_file() or zswap_set_writeback() has
    ///     replaced all tiers.
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: zswap, ops or tier is NULL, a function is missing, or an option is wrong.
    /// -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
    /// -ENOMEM: no memory or no addresses for the tier's tables, or the tiers together have more extents
    ///     than the library can name: set a smaller max_bytes.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_add_tier(
        zswap: *mut zswap,
        ops: *const zswap_tier_ops,
        context: *mut c_void,
        options: *const zswap_tier_options,
        tier: *mut u32,
    ) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the caller's name is NULL or a C string.
        let options = unsafe { convert_tier(&options) }?;
        let own = ForeignTier::new(&ops, context.into_pointer().cast())?;
        tier.set(zswap.add_tier(own, &options)?)
    }

    /// Adds the first `bytes` bytes of a regular file or block device as a tier, behind the tiers that
    /// there are. Stores its number in *tier. What zswap_set_backing_file() says of its file holds for
    /// this one. Replaces a callback of zswap_set_writeback().
    ///
    /// name: a name for people, in UTF-8, at most 249 bytes, which zswap_stats_json() shows. The library
    ///     copies it. "" for none.
    /// fd: see zswap_set_backing_file().
    ///
    /// Errors:
    /// -EINVAL: zswap, name or tier is NULL, the name is wrong, or fd or bytes is, as for
    ///     zswap_set_backing_file().
    /// -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: as for zswap_add_tier().
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_add_file_tier(
        zswap: *mut zswap,
        name: *const c_char,
        fd: c_int,
        bytes: u64,
        tier: *mut u32,
    ) -> c_int {
        let _whole = Uncancelled::new();
        let name = name_of(name)?;
        tier.set(zswap.add_file_tier(name, own_descriptor(fd)?.as_fd(), bytes)?)
    }

    /// Removes a tier. The pages that are on it move to the other tiers first, as far as these have room
    /// and the pages' areas may use them. After 0 no function of the tier runs, and none is called again.
    /// Extents that it could not remove because it was away are left to it.
    ///
    /// Errors:
    /// -EINVAL: zswap is NULL.
    /// -ENOENT: there is no tier of this number.
    /// -EBUSY: pages are left on the tier, or calls go on using it. It stays, and so do these pages:
    ///     invalidate or load them, or make room on other tiers, and call again. Also in a tier's own
    ///     function.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; takes as long as the pages need. Callbacks: allowed; -EBUSY in a tier's own function.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_remove_tier(zswap: *mut zswap, tier: u32) -> c_int {
        let _whole = Uncancelled::new();
        zswap.remove_tier(tier)
    }

    /// Fills *stats with the statistics of a tier. Set its struct_size first. Fields that this library
    /// does not know become 0.
    ///
    /// Errors:
    /// -EINVAL: zswap or stats is NULL, or struct_size is wrong.
    /// -ENOENT: there is no tier of this number.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_tier_stats(zswap: *mut zswap, tier: u32, stats: *mut zswap_tier_stats) -> c_int {
        stats.set(zswap.tier_stats(tier)?.into())
    }

    /// Stores in *nanoseconds how long loads of pages waited for a tier: a time that `permille` of 1000
    /// did not exceed, as zspager_latency_permille() does for touches. Pages that were read ahead count
    /// as well. 0 if no page was loaded.
    ///
    /// Errors:
    /// -EINVAL: zswap or nanoseconds is NULL, or permille is more than 1000.
    /// -ENOENT: there is no tier of this number.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_tier_latency_permille(
        zswap: *mut zswap,
        tier: u32,
        permille: u32,
        nanoseconds: *mut u64,
    ) -> c_int {
        const MUCH: Error = Error::Invalid(sentence(&"permille is more than 1000"));
        if permille > 1000 {
            return Err(MUCH);
        }
        nanoseconds.set(zswap.tier_stats(tier)?.load_latencies.permille(permille.into()))
    }

    /// Sets which tiers the area's pages may go to from now on, as zswap_area_options.tiers does: bit N
    /// stands for the tier with the number N. 0: all. Pages that are on other tiers stay there until they
    /// are moved, and are loaded from there.
    ///
    /// Errors:
    /// -EINVAL: area is NULL, or a bit of ZSWAP_MAX_TIERS or above is set.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_area_set_tiers(area: *mut zswap_area, tiers: u32) -> c_int {
        area.set_tiers(tiers.into())
    }
}

/// A tier of C's: its functions, and their first argument.
pub struct ForeignTier {
    ops: zswap_tier_ops,
    context: *mut c_void,
}

// SAFETY: the header says that the functions run in any thread; the C program guards its context.
unsafe impl Send for ForeignTier {}
// SAFETY: several threads may call the functions at once, as the header says; the C program guards its context.
unsafe impl Sync for ForeignTier {}

impl ForeignTier {
    /// Takes the functions that C passed, if none is missing.
    pub fn new(ops: &Received<zswap_tier_ops>, context: *mut c_void) -> Result<Self> {
        const NO_OPS: Error = Error::Invalid(sentence(&"ops is NULL, or ops->put is: a tier needs put()"));
        const NO_GET: Error = Error::Invalid(sentence(&"ops->get is NULL: a tier needs get()"));
        const NO_REMOVE: Error = Error::Invalid(sentence(&"ops->remove is NULL: a tier needs remove()"));
        let ops = *ops.all()?;
        if ops.reserved != [0; 4] {
            return Err(RESERVED);
        }
        ops.put.ok_or(NO_OPS)?;
        ops.get.ok_or(NO_GET)?;
        ops.remove.ok_or(NO_REMOVE)?;
        Ok(Self { ops, context })
    }
}

impl Tier for ForeignTier {
    fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult {
        let Some(put) = self.ops.put else { return Err(TierFailure::Away) };
        let _whole = Uncancelled::new();
        // SAFETY: function and context are those that the caller passed together. The bytes stay until it returns.
        outcome(unsafe { put(self.context, extent.owner, extent.number, bytes.as_ptr().cast(), bytes.len()) })
    }

    fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult {
        let Some(get) = self.ops.get else { return Err(TierFailure::Away) };
        let _whole = Uncancelled::new();
        let (to, count) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: function and context are those that the caller passed together. `count` bytes can be written.
        outcome(unsafe { get(self.context, extent.owner, extent.number, from, to, count) })
    }

    fn remove(&self, extent: ExtentId) -> TierResult {
        let Some(remove) = self.ops.remove else { return Err(TierFailure::Away) };
        let _whole = Uncancelled::new();
        // SAFETY: function and context are those that the caller passed together.
        outcome(unsafe { remove(self.context, extent.owner, extent.number) })
    }

    fn room(&self) -> u64 {
        let Some(room) = self.ops.room else { return u64::MAX };
        let _whole = Uncancelled::new();
        // SAFETY: function and context are those that the caller passed together.
        unsafe { room(self.context) }
    }
}

/// Converts the error number that a tier's function returned.
fn outcome(result: c_int) -> TierResult {
    Err(match c_int::try_from(result.unsigned_abs()).unwrap_or(c_int::MAX) {
        0 => return Ok(()),
        errno::ENOSPC => TierFailure::Full,
        errno::EIO | errno::EBADMSG | errno::ENOENT => TierFailure::Damaged,
        _ => TierFailure::Away,
    })
}
