//! The public calls of a pager on its tiers.

use super::core::Core;
use super::options::FaultMode;
use super::pager_calls::Pager;
use crate::error::{Error, Result, sentence};
use crate::zswap::{Tier, TierOptions, TierStats};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How long a promised thread may take to begin.
const BEGINS: Duration = Duration::from_secs(5);
/// How long a thread that nobody promised may take to begin.
const MAY_BEGIN: Duration = Duration::from_secs(1);

impl Core {
    /// Adds a tier of the program's own. `promised`: threads that call tiers are known before they begin.
    pub(super) fn add_own_tier(&self, tier: impl Tier + 'static, options: &TierOptions, promised: bool) -> Result<u32> {
        const NO_THREAD: Error = Error::Invalid(sentence(
            &"no thread is lent that may call the tier, which a signal handler may not: lend one with the duty Tiers",
        ));
        if self.mode == FaultMode::Sigbus {
            let limit = if promised { BEGINS } else { MAY_BEGIN };
            if !self.lending.await_tier_thread(limit, !promised) {
                return Err(NO_THREAD);
            }
        }
        // Before the first page goes there.
        self.upkeep.note_own_tier();
        self.zswap.add_tier(tier, options)
    }
}

impl Pager {
    /// Adds a tier of the program's own behind those that there are, as [`Zswap::add_tier`] does. Returns its number.
    /// Compressed pages go to the first tier that takes them once the pool is full, or by [`Pager::write_back`].
    ///
    /// In [`FaultMode::Sigbus`] a touch is served in a signal handler, where the tier can't be called. A lent thread
    /// with [`Duty::Tiers`] or [`Duty::All`] reads the page then, and the touch waits for it. If the last such thread
    /// is given back, touches of pages on the tier fail with SIGBUS after a second or so, and nothing is lost. In
    /// [`FaultMode::Threads`] the threads that serve touches call the tier themselves. If the tier is away, a touch is
    /// tried again for about a second, and by the lent threads of [`FaultMode::Threads`] for as long as that takes.
    ///
    /// **The tier's functions must not touch memory of a region of this pager**, nor wait for a thread that does: the
    /// touch might wait for the very thread that is in the tier, for ever. So what they use, such as buffers and
    /// tables, lies elsewhere. They may call no method of this pager but [`Pager::stats`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong, and in [`FaultMode::Sigbus`] if no thread is lent that may call
    /// the tier; one from [`Pager::lend_own`] has up to 5 seconds to begin. [`Error::Busy`] if there are 8 tiers, or in
    /// a call of a tier. [`Error::NoMemory`] if there is none for its tables. [`Error::Forked`] in a child.
    ///
    /// [`Zswap::add_tier`]: crate::Zswap::add_tier
    /// [`FaultMode::Sigbus`]: crate::FaultMode::Sigbus
    /// [`FaultMode::Threads`]: crate::FaultMode::Threads
    /// [`Duty::Tiers`]: crate::Duty::Tiers
    /// [`Duty::All`]: crate::Duty::All
    pub fn add_tier(&self, tier: impl Tier + 'static, options: &TierOptions) -> Result<u32> {
        self.call()?.add_own_tier(tier, options, true)
    }

    /// Adds the first `bytes` bytes of a file or a block device as a tier, behind the tiers that there are. Returns its
    /// number. `name` is for people. A page on it is read in the thread that touches it. The rest is as
    /// [`Pager::set_backing_file`] says, which replaces all tiers by one file.
    ///
    /// # Errors
    /// Those of [`Pager::set_backing_file`], and [`Error::Busy`] if there are 8 tiers, or in a call of a tier.
    pub fn add_file_tier(&self, name: &str, file: BorrowedFd<'_>, bytes: u64) -> Result<u32> {
        self.call()?.zswap.add_file_tier(name, file, bytes)
    }

    /// Removes a tier. Moves the pages that are on it to the others first, as far as these have room, and takes as long
    /// as that. A tier of the program's own is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] if pages are left on the tier, or calls go on using it, or in a call of a tier: it stays, with
    /// the pages that could not be moved. [`Error::NotFound`] if there is no such tier, [`Error::Forked`] in a child.
    pub fn remove_tier(&self, tier: u32) -> Result<()> {
        self.call()?.zswap.remove_tier(tier)
    }

    /// Returns what a tier has, and what happened on it. [`Pager::snapshot`] has all tiers.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tier, [`Error::Forked`] in a child.
    pub fn tier_stats(&self, tier: u32) -> Result<TierStats> {
        self.call()?.zswap.tier_stats(tier)
    }
}
