//! Options for creating a zswap and for adding an area.

use super::codec::Codec;
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::pool::options::PoolOptions;

/// Options for creating a zswap. [`Default`]: LZ4, no limit but the machine's memory.
/// Later versions may add fields: end a literal with `..Default::default()`.
///
/// ```
/// use zsalloc::{Zswap, ZswapOptions};
///
/// let options = ZswapOptions { max_bytes: Some(64 << 20), ..Default::default() };
/// let zswap = Zswap::new("example", &options)?;
/// # Ok::<(), zsalloc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ZswapOptions {
    /// The most bytes that stored pages may take in the pool, compressed, at least 4112, which one page may take. The
    /// memory of the pool may exceed this by some percent: see [`ZswapTuning::headroom_percent`]. `None`: no limit but
    /// the pool's capacity. [`crate::Zswap::set_limit`] changes it.
    pub max_bytes: Option<u64>,
    /// The codec of new pages. [`crate::Zswap::set_codec`] changes it.
    pub codec: Codec,
    /// What few programs change.
    pub tuning: ZswapTuning,
}

/// The options of a zswap that few programs change. [`Default`] suits most.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct ZswapTuning {
    /// Once a limit was met, pages are refused until usage has fallen to this percent of it: 1 to 100. It holds for the
    /// limit of each area as well. `None`: 90, and 98 in a pager.
    pub accept_percent: Option<u8>,
    /// By how many percent the pool's memory may exceed [`ZswapOptions::max_bytes`], for tables and for gaps between
    /// objects: 1 to 255. `None`: 12.5 percent.
    pub headroom_percent: Option<u8>,
    /// How many threads compress at the same time, 1 to [`crate::MAX_CONTEXTS`]; others wait. `None`: eight more
    /// than the machine has processors, at most 64, because a thread that loses its processor keeps its context. A
    /// context takes 18 KiB.
    pub contexts: Option<usize>,
    /// How many claims for writeback callers may hold at the same time, 1 to [`crate::MAX_CLAIMS`]. `None`: 1,024. Each
    /// takes 64 bytes.
    pub max_claims: Option<usize>,
    /// The options of the pool, which say where its memory comes from. Its `max_bytes` is how many addresses are
    /// reserved; `None`: as many as the machine has bytes of memory. Children of a pager's process do not get the pool,
    /// unless its memory is lent.
    pub pool: PoolOptions,
}

/// Options for adding an area. [`Default`]: no limit of its own, and pages that do not compress are stored as they
/// came.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Debug, Default)]
pub struct AreaOptions {
    /// A name for people, which is in [`crate::Zswap::snapshot`] and in its JSON: [`crate::Area::name`]. Several areas
    /// may have the same. Empty: none.
    pub name: String,
    /// The most bytes that the pages of the area may take in the pool, compressed, at least 4112, which one page may
    /// take. `None`: no limit of its own. [`crate::Area::set_limit`] changes it.
    pub max_bytes: Option<u64>,
    /// Whether pages that do not compress are refused with [`crate::Error::TooLarge`]. If not, they are stored as they
    /// came, so that pages are written back in the order in which they were last used.
    pub refuse_incompressible: bool,
    /// Whether a store that fails leaves the older page where it is. If not, the older page is removed, so that it
    /// can't be taken for the new one. For programs that tell their own callers that a write failed, as disks do.
    pub keep_old: bool,
    /// Which tiers the area's pages may go to: bit N stands for tier N. 0: all. [`crate::Area::set_tiers`] changes it.
    pub tiers: u64,
    /// Whether the area's pages are never written back. Then shrinks and claims pass the area by.
    pub no_writeback: bool,
    /// A number of the caller's own, for its callbacks: [`crate::Area::context`].
    pub context: usize,
}

impl AreaOptions {
    /// Makes a copy. Without memory it fails, where `clone` aborts.
    pub(super) fn copy(&self) -> Result<Self> {
        Ok(Self { name: heap::text(&self.name)?, ..*self })
    }
}

/// Checks the limit that a zswap or an area is created with.
pub fn check_limit(max_bytes: Option<u64>) -> Result<()> {
    const SMALL: Error = Error::Invalid(sentence(
        &"max_bytes is less than 4112, which one page may take: set more, or leave it out for no limit",
    ));
    if max_bytes.is_some_and(|bytes| bytes < crate::MAX_ALLOC_SIZE as u64) { Err(SMALL) } else { Ok(()) }
}

/// Checks a limit that is changed.
pub fn check_new_limit(max_bytes: Option<u64>) -> Result<()> {
    const SMALL: Error = Error::Invalid(sentence(
        &"the limit is less than 4112 bytes, which one page may take: set more, or none (None, 0 in C)",
    ));
    check_limit(max_bytes).map_err(|_| SMALL)
}
