//! Functions that add, remove and report tiers of a pager.

use super::zspager;
use crate::export::export;
use crate::options::name as name_of;
use crate::swap::options::convert_tier;
use crate::swap::tier_types::{zswap_tier_ops, zswap_tier_options, zswap_tier_stats};
use crate::swap::tiers::ForeignTier;
use crate::swap::writeback::own_descriptor;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsFd;
use zsalloc::plumbing::{PagerForC, Uncancelled};

export! {
    /// Adds a tier of the program's own behind the tiers that there are, as zswap_add_tier() does. Stores
    /// its number in *tier. Compressed pages go to the first tier that takes them once the pool is full.
    ///
    /// With ZSPAGER_FAULT_SIGBUS a touch is served in a signal handler, which may not call a tier: a
    /// thread in zspager_run() with ZSPAGER_RUN_TIERS or ZSPAGER_RUN_ALL serves it, and the touch waits.
    /// Such a thread has to be lent before this call, which waits up to a second for one to begin. If the
    /// last one leaves, touches of pages on the tier fail with SIGBUS after a second or so, and nothing is
    /// lost. With ZSPAGER_FAULT_THREADS the threads that bring pages back call the tier. While a tier is
    /// away, a touch is tried again for about a second, and with ZSPAGER_FAULT_THREADS until it is back.
    ///
    /// The tier's functions must not touch memory of a region of this pager, nor wait for a thread that
    /// does: the touch might wait for the very thread that is in the tier, for ever. So what they use
    /// lies elsewhere. They may call no function on this pager but zspager_stats().
    ///
    /// ops, context, options: see zswap_add_tier(). The context must live until zspager_remove_tier() of
    ///     this tier or zspager_destroy() has returned 0, or zspager_set_backing_file() has replaced all
    ///     tiers.
    ///
    /// Errors:
    /// -EINVAL: pager, ops or tier is NULL, a function is missing, an option is wrong, or no thread is
    ///     lent that may call the tier.
    /// -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
    /// -ENOMEM: as for zswap_add_tier().
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_add_tier(
        pager: *mut zspager,
        ops: *const zswap_tier_ops,
        context: *mut c_void,
        options: *const zswap_tier_options,
        tier: *mut u32,
    ) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the caller's name is NULL or a C string.
        let options = unsafe { convert_tier(&options) }?;
        let own = ForeignTier::new(&ops, context.into_pointer().cast())?;
        tier.set(pager.add_tier_of_c(own, &options)?)
    }

    /// Adds the first `bytes` bytes of a regular file or block device as a tier, behind the tiers that
    /// there are. Stores its number in *tier. A page on it is read in the thread that touches it.
    ///
    /// name: a name for people, in UTF-8, at most 249 bytes, which zspager_stats_json() shows. The library
    ///     copies it. "" for none.
    /// fd: see zspager_set_backing_file().
    ///
    /// Errors:
    /// -EINVAL: pager, name or tier is NULL, the name is wrong, or fd or bytes is, as for
    ///     zspager_set_backing_file().
    /// -EBUSY: there are ZSWAP_MAX_TIERS tiers, or this is a tier's own function.
    /// -EMFILE: the process may have no more descriptors.
    /// -ENOMEM: as for zswap_add_tier().
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_add_file_tier(
        pager: *mut zspager,
        name: *const c_char,
        fd: c_int,
        bytes: u64,
        tier: *mut u32,
    ) -> c_int {
        let _whole = Uncancelled::new();
        let name = name_of(name)?;
        tier.set(pager.add_file_tier(name, own_descriptor(fd)?.as_fd(), bytes)?)
    }

    /// Removes a tier. The pages that are on it move to the other tiers first, as far as these have room.
    /// After 0 no function of the tier runs, and none is called again.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -ENOENT: there is no tier of this number.
    /// -EBUSY: pages are left on the tier, or calls go on using it. It stays, and so do these pages: touch
    ///     or discard them, or make room on other tiers, and call again. Also in a tier's own function.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any; takes as long as the pages need. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_remove_tier(pager: *mut zspager, tier: u32) -> c_int {
        let _whole = Uncancelled::new();
        pager.remove_tier(tier)
    }

    /// Fills *stats with the statistics of a tier. Set its struct_size first. Fields that this library
    /// does not know become 0. zspager_stats_json() has those of all tiers.
    ///
    /// Errors:
    /// -EINVAL: pager or stats is NULL, or struct_size is wrong.
    /// -ENOENT: there is no tier of this number.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_tier_stats(
        pager: *mut zspager,
        tier: u32,
        stats: *mut zswap_tier_stats,
    ) -> c_int {
        stats.set(pager.tier_stats(tier)?.into())
    }
}
