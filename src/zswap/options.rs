//! Options for creating a zswap and for adding an area.

use super::codec::Codec;
use crate::pool::options::PoolOptions;

/// Options for creating a zswap. [`Default`]: LZ4, no limit but the machine's memory, as many contexts as processors.
#[derive(Clone, Debug, Default)]
pub struct ZswapOptions {
    /// Most bytes of slots that stored pages may take; 0: no limit but the pool's capacity. Can be changed later.
    pub max_bytes: u64,
    /// Once a limit was met, pages are refused until usage has fallen to this percent of it: 1 to 100; 0: 90.
    pub accept_percent: u8,
    /// By how many percent the pool's memory may exceed `max_bytes`, for tables and for gaps between objects. 0 means
    /// 12.5 %.
    pub headroom_percent: u8,
    /// The codec of new pages.
    pub codec: Codec,
    /// How many threads compress at the same time; others wait. 0: as many as processors, at most 64. A context takes
    /// 18 KiB.
    pub contexts: usize,
    /// How many claims for writeback callers may hold at the same time, at most 65,536; 0: 1,024. Each takes 64 bytes.
    pub max_claims: usize,
    /// The options of the pool, which say where its memory comes from. Its `max_bytes` is how many addresses are
    /// reserved; 0: as many as the machine has bytes of memory.
    pub pool: PoolOptions,
}

/// Options for adding an area. [`Default`]: no limit of its own, and pages that do not compress are stored as they
/// came.
#[derive(Clone, Debug, Default)]
pub struct AreaOptions {
    /// Most bytes of slots that the pages of the area may take; 0: no limit of its own. Can be changed later.
    pub max_bytes: u64,
    /// Pages that do not compress are refused with [`crate::Error::NoSpace`]. Otherwise they are stored as they came,
    /// so that pages leave in the order in which they were last used.
    pub refuse_incompressible: bool,
    /// Pages are never written back: shrinks pass the area by.
    pub no_writeback: bool,
    /// A number of the caller's own, for its callbacks: [`crate::Area::context`].
    pub context: usize,
}
