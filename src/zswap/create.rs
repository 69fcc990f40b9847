//! Creating a zswap.

use super::claims::{Claims, MAX_CLAIMS};
use super::codec::{CodecCell, Contexts, MAX_CONTEXTS};
use super::compaction_backoff::CompactedInVain;
use super::fork::ForkState;
use super::lanes::Lanes;
use super::limit::Limit;
use super::options::ZswapOptions;
use super::reservation::Batches;
use super::running_calls::{MAX_SHARDS, Shards};
use super::shared::{Areas, Shared, WritebackTarget};
use super::zswap::Zswap;
use crate::error::{Error, Result};
use crate::heap::Counted;
use crate::os::{self, Os};
use crate::pool::Pool;
use crate::pool::options::PoolOptions;
use crate::sync::{AtomicU64, Lock, Rank};
use std::sync::RwLock;

impl Zswap {
    /// Creates a zswap without areas. `name` is for people: it shows as the name of a pool in a memory file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong, [`Error::NoMemory`] or [`Error::System`] when the system gives no
    /// addresses or memory; the sentence says which.
    pub fn new(name: &str, options: &ZswapOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &ZswapOptions) -> Result<Self> {
        check(options)?;
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let processors = os::processors();
        let count = or(options.contexts, processors.min(MAX_CONTEXTS));
        let contexts = Contexts::new(count)?;
        contexts.prepare(options.codec)?;
        let pool = Pool::with_os(os.clone(), name, &pool_options(options))?;
        let accept_percent = or(options.accept_percent.into(), 90) as u64;
        let shared = Shared {
            pool,
            contexts,
            lanes: Lanes::new(&os, count)?,
            limit: Limit::new(u64::MAX, accept_percent),
            batches: Batches::default(),
            claims: Claims::new(or(options.max_claims, 1024))?,
            target: RwLock::new(WritebackTarget::None),
            walk: Lock::new(Rank::Walk, ()),
            areas: Lock::new(Rank::Areas, Areas::default()),
            shards: processors.min(MAX_SHARDS),
            capacity_hits: AtomicU64::new(0),
            accept_percent,
            headroom_percent: options.headroom_percent.into(),
            os,
            calls: Shards::new(1)?,
            codec: CodecCell::default(),
            compacted_in_vain: CompactedInVain::never(),
            next_claim: AtomicU64::new(0),
        };
        shared.codec.set(options.codec);
        let zswap = Self { shared: Counted::new(shared)?, fork: ForkState::default() };
        zswap.set_limit(options.max_bytes)?;
        Ok(zswap)
    }
}

fn check(options: &ZswapOptions) -> Result<()> {
    const PERCENT: Error = Error::Invalid(&"accept_percent is 1 to 100, or 0 for 90");
    const CONTEXTS: Error = Error::Invalid(&"there are 1 to 64 contexts, or 0 for as many as processors");
    const CLAIMS: Error = Error::Invalid(&"there may be 1 to 65536 claims, or 0 for 1024");
    if options.accept_percent > 100 {
        return Err(PERCENT);
    }
    if options.contexts > MAX_CONTEXTS {
        return Err(CONTEXTS);
    }
    if options.max_claims > MAX_CLAIMS { Err(CLAIMS) } else { Ok(()) }
}

fn pool_options(options: &ZswapOptions) -> PoolOptions {
    let mut pool = options.pool.clone();
    let enough = options.max_bytes.saturating_add(options.max_bytes / 4);
    if pool.max_bytes == 0 && os::physical_memory().is_some_and(|memory| memory < enough) {
        // The limit is above the machine's memory, as it may be with swap, or with a pool in a memory file.
        pool.max_bytes = enough;
    }
    pool
}
