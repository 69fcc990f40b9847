//! What a program's own tier has to do: [`Tier`].

use crate::error::{Error, Result, sentence};
use crate::heap;

/// The most tiers that a zswap has at a time.
pub const MAX_TIERS: usize = 8;

/// Which tiers the pages of an area may go to. 0: all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TierMask(pub u64);

impl TierMask {
    /// All tiers.
    pub const ALL: Self = Self(0);

    /// Whether the mask has the tier of this number.
    pub fn has(self, tier: u32) -> bool {
        self == Self::ALL || self.0 >> tier & 1 == 1
    }
}

/// Which tiers a call may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TierAccess {
    /// All of them.
    All,
    /// Those that may be used in a signal handler: files.
    #[cfg_attr(not(feature = "uffd"), allow(dead_code))]
    SignalSafe,
}

impl TierAccess {
    /// Whether the call may use a tier, given whether that may be used in a signal handler.
    pub fn includes(self, is_signal_safe: bool) -> bool {
        self == Self::All || is_signal_safe
    }
}

/// Checks the numbers of tiers that an area is given.
pub fn check_mask(tiers: u64) -> Result<()> {
    const UNKNOWN: Error =
        Error::Invalid(sentence(&"tiers has bits for the numbers 0 to 7: set those of the tiers, or 0 for all"));
    if tiers >> MAX_TIERS == 0 { Ok(()) } else { Err(UNKNOWN) }
}

/// Names an extent: no two extents ever have the same name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExtentId {
    /// A number that was drawn at random when the tier was added: [`crate::TierStats::owner`]. Extents of other tiers,
    /// of this or another zswap, have other numbers.
    pub owner: u64,
    /// Counts the extents of the owner, from 1 on.
    pub number: u64,
}

/// Why a tier did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TierFailure {
    /// `ENOSPC`: the tier has no room for the extent. It goes to the next tier.
    Full,
    /// `EAGAIN`: the tier can't be reached now. An extent that was to be put goes to the next tier; a load of a page
    /// fails with [`crate::Error::Again`], and the page stays where it is.
    Away,
    /// `EIO`: the extent is damaged or gone. A load of a page fails with [`crate::Error::Io`].
    Damaged,
}

impl std::fmt::Display for TierFailure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Full => "the tier has no room",
            Self::Away => "the tier can't be reached now",
            Self::Damaged => "the extent is damaged or gone",
        })
    }
}

impl std::error::Error for TierFailure {}

/// How a call of a tier ended.
pub type TierResult = std::result::Result<(), TierFailure>;

/// A place of the program's own for extents: another machine, a device, a service. [`crate::Zswap::add_tier`] adds it.
///
/// An extent is up to 64 compressed pages in 1 KiB to 132 KiB of bytes. It is put once, as a whole, under a name that
/// is never used again, read by ranges, and removed. The tier need not know what is in it. Each page has a check that
/// is bound to the extent's name: a tier that returns other bytes than it was given, or those of another extent, makes
/// loads fail, and never yields a wrong page.
///
/// The methods are called in the threads that shrink, load, compact and remove tiers, several at once, with no lock of
/// the library held. They should end within a bound of the tier's own: the caller's call takes as long. They may store
/// pages, invalidate pages, and load pages that are in the pool. Calls that would use a tier or wait for one fail with
/// [`crate::Error::Busy`] in them. A panic counts as [`TierFailure::Away`].
///
/// # Examples
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use zsalloc::{AreaOptions, ExtentId, LoadFlags, PAGE_SIZE, Tier, TierFailure, TierOptions, TierResult, Zswap};
///
/// /// In a real program, a connection to where the extents are.
/// #[derive(Default)]
/// struct Elsewhere(Mutex<HashMap<ExtentId, Vec<u8>>>);
///
/// impl Tier for Elsewhere {
///     fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult {
///         self.0.lock().map_err(|_| TierFailure::Away)?.insert(extent, bytes.to_vec());
///         Ok(())
///     }
///
///     fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult {
///         let extents = self.0.lock().map_err(|_| TierFailure::Away)?;
///         let found = extents.get(&extent).and_then(|all| all.get(from..from + bytes.len()));
///         bytes.copy_from_slice(found.ok_or(TierFailure::Damaged)?);
///         Ok(())
///     }
///
///     fn remove(&self, extent: ExtentId) -> TierResult {
///         self.0.lock().map_err(|_| TierFailure::Away)?.remove(&extent);
///         Ok(())
///     }
/// }
///
/// # fn main() -> zsalloc::Result<()> {
/// let zswap = Zswap::new("example", &Default::default())?;
/// let tier = zswap.add_tier(Elsewhere::default(), &TierOptions::default())?;
/// let area = zswap.add_area(1024, &AreaOptions::default())?;
/// area.store(64, &std::array::from_fn(|at| at as u8))?;
/// assert_eq!(zswap.shrink(1)?, 1);
/// assert_eq!(zswap.tier_stats(tier)?.pages, 1);
/// let mut page = [0; PAGE_SIZE];
/// area.load(64, &mut page, LoadFlags::KEEP)?;
/// assert_eq!(page[..3], [0, 1, 2]);
/// # Ok(())
/// # }
/// ```
pub trait Tier: Send + Sync {
    /// Keeps all bytes of an extent. After `Ok` the tier may have the only copy of these pages. After any failure the
    /// pages stay where they are, the name is not used again, and [`Tier::remove`] is called with it, because a part
    /// may have arrived.
    ///
    /// # Errors
    /// [`TierFailure`]: the extent goes to the next tier.
    fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult;

    /// Reads bytes of an extent, from byte `from` on. The range is within the extent.
    ///
    /// # Errors
    /// [`TierFailure::Away`] if the bytes may be had later, [`TierFailure::Damaged`] if they are lost.
    fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult;

    /// Forgets an extent, which no page needs any more. Removing one that is not there is no failure.
    ///
    /// # Errors
    /// [`TierFailure::Away`]: the call is made again later. Others end the matter.
    fn remove(&self, extent: ExtentId) -> TierResult;

    /// Returns how many more bytes the tier has room for, as far as it knows. An extent that has more is not offered.
    fn room(&self) -> u64 {
        u64::MAX
    }
}

/// Options for adding a tier. [`Default`]: no name, and room for 1 TiB.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug)]
pub struct TierOptions {
    /// A name for people, which is in the statistics. Several tiers may have the same. Empty: none.
    pub name: String,
    /// The most bytes that the extents of the tier may have, in units of 4096 bytes for each, at least 4096 and at most
    /// 16 TiB. The library reserves addresses for a table in proportion, and takes memory as extents are put.
    pub max_bytes: u64,
}

impl Default for TierOptions {
    fn default() -> Self {
        Self { name: String::new(), max_bytes: 1 << 40 }
    }
}

impl TierOptions {
    /// Makes a copy of the name. Without memory it fails, where `clone` aborts.
    pub(super) fn copy_name(&self) -> Result<String> {
        heap::text(&self.name)
    }
}
