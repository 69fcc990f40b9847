//! How a zswap and its areas are to be.

use super::codec::Codec;
use crate::pool::options::PoolOptions;

/// How a zswap is to be. [`Default`]: LZ4, no limit but the machine's memory, as many contexts as processors.
#[derive(Clone, Debug, Default)]
pub struct ZswapOptions {
    /// Most bytes of slots that stored pages may take; 0: no limit but the pool's capacity. Can be changed later.
    pub max_bytes: u64,
    /// Percent of a limit that usage has to fall to, once the limit was met, before pages are taken again: 1 to 100; 0:
    /// 90.
    pub accept_percent: u8,
    /// How far the pool's memory may go beyond `max_bytes`, in percent: for tables and for what lies between objects;
    /// 0: 12.5 %.
    pub headroom_percent: u8,
    /// What new pages are compressed with.
    pub codec: Codec,
    /// Threads that compress at the same time; more wait for each other. 0: as many as processors, at most 64. A
    /// context takes 18 KiB.
    pub contexts: usize,
    /// Claims for writeback that callers may hold at the same time, at most 65,536; 0: 1,024. Each takes 48 bytes.
    pub max_claims: usize,
    /// The pool: where its memory comes from. Its `max_bytes` is what addresses are reserved for, as much as the
    /// machine has memory if it is 0.
    pub pool: PoolOptions,
}

/// How an area is to be. [`Default`]: no limit of its own, pages that do not compress are stored as they came.
#[derive(Clone, Debug, Default)]
pub struct AreaOptions {
    /// Most bytes of slots that its pages may take; 0: no limit of its own. Can be changed later.
    pub max_bytes: u64,
    /// Pages that do not compress are refused with [`crate::Error::NoSpace`]. Otherwise they are stored as they came,
    /// so that the order of eviction stays true.
    pub refuse_incompressible: bool,
    /// Pages are never written back: shrinks pass the area by.
    pub no_writeback: bool,
    /// A number of the caller's own, handed to callbacks: [`crate::Area::context`].
    pub context: usize,
}
