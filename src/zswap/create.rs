//! Creating a zswap.

use super::claims::{Claims, MAX_CLAIMS};
use super::codec::{CodecCell, Contexts, MAX_CONTEXTS};
use super::compaction_backoff::CompactedInVain;
use super::fork::ForkState;
use super::lanes::Lanes;
use super::limit::ByteLimit;
use super::options::{ZswapOptions, check_limit};
use super::reservation::Batches;
use super::running_calls::{MAX_SHARDS, Shards};
use super::shared::{Areas, PackingHand, Shared, WritebackTarget};
use super::zswap::Zswap;
use crate::error::{Error, Result, sentence};
use crate::heap::{self, Counted};
use crate::os::{self, Os};
use crate::pool::Pool;
use crate::pool::options::PoolOptions;
use crate::sync::{AtomicU64, Lock, Rank};
use std::sync::{Mutex, RwLock};

impl Zswap {
    /// Creates a zswap without areas. `name` is for people: it is in [`Zswap::snapshot`], and is the name of a pool in
    /// a memory file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that are wrong, [`Error::NoMemory`] or [`Error::System`] when the system gives no
    /// addresses or memory; the sentence says which.
    pub fn new(name: &str, options: &ZswapOptions) -> Result<Self> {
        Self::with_os(Os::default(), name, options)
    }

    pub(crate) fn with_os(os: Os, name: &str, options: &ZswapOptions) -> Result<Self> {
        check(options)?;
        let tuning = &options.tuning;
        let processors = os::processors();
        let lanes = tuning.contexts.unwrap_or(processors.min(MAX_CONTEXTS));
        let contexts = Contexts::new(tuning.contexts.unwrap_or((processors + SPARE_CONTEXTS).min(MAX_CONTEXTS)))?;
        contexts.prepare(options.codec)?;
        let pool = Pool::with_os(os.clone(), name, &pool_options(options))?;
        let accept_percent = tuning.accept_percent.unwrap_or(90).into();
        let shared = Shared {
            name: heap::text(name)?,
            pool,
            contexts,
            lanes: Lanes::new(&os, lanes)?,
            limit: ByteLimit::new(None, accept_percent, processors.min(MAX_SHARDS))?,
            batches: Batches::default(),
            claims: Claims::new(tuning.max_claims.unwrap_or(1024))?,
            target: RwLock::new(WritebackTarget::None),
            adding: Mutex::new(()),
            walk: Lock::new(Rank::Walk, ()),
            areas: Lock::new(Rank::Areas, Areas::default()),
            shards: processors.min(MAX_SHARDS),
            capacity_hits: AtomicU64::new(0),
            accept_percent,
            headroom_percent: tuning.headroom_percent,
            os,
            calls: Shards::new(1)?,
            codec: CodecCell::default(),
            packing: PackingHand::default(),
            compacted_in_vain: CompactedInVain::never(),
            next_claim: AtomicU64::new(0),
        };
        shared.codec.set(options.codec);
        let zswap = Self { shared: Counted::new(shared)?, fork: ForkState::default() };
        zswap.set_limit(options.max_bytes)?;
        Ok(zswap)
    }
}

/// How many more contexts than processors there are. A store has a context for most of its time, so a thread that loses
/// its processor nearly always keeps one. Without spare ones the threads that run instead wait for it in turns.
const SPARE_CONTEXTS: usize = 8;

fn check(options: &ZswapOptions) -> Result<()> {
    const PERCENT: Error = Error::Invalid(sentence(&"accept_percent is 1 to 100: leave it out for 90"));
    const HEADROOM: Error = Error::Invalid(sentence(&"headroom_percent is 1 to 255: leave it out for 12.5"));
    const CONTEXTS: Error =
        Error::Invalid(sentence(&"there are 1 to 64 contexts: leave the number out for eight more than processors"));
    const CLAIMS: Error = Error::Invalid(sentence(&"there may be 1 to 65536 claims: leave the number out for 1024"));
    const TAGS: Error = Error::Invalid(sentence(&"the pool of a zswap has no tags: leave them out of its options"));
    let tuning = &options.tuning;
    if tuning.pool.tuning.tags {
        return Err(TAGS);
    }
    check_limit(options.max_bytes)?;
    if tuning.accept_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        return Err(PERCENT);
    }
    if tuning.headroom_percent == Some(0) {
        return Err(HEADROOM);
    }
    if tuning.contexts.is_some_and(|contexts| !(1..=MAX_CONTEXTS).contains(&contexts)) {
        return Err(CONTEXTS);
    }
    let claims = tuning.max_claims.unwrap_or(MAX_CLAIMS);
    if (1..=MAX_CLAIMS).contains(&claims) { Ok(()) } else { Err(CLAIMS) }
}

fn pool_options(options: &ZswapOptions) -> PoolOptions {
    let mut pool = options.tuning.pool.clone();
    let enough = options.max_bytes.map_or(0, |bytes| bytes.saturating_add(bytes / 4));
    if pool.max_bytes.is_none() && os::physical_memory().is_some_and(|memory| memory < enough) {
        // The limit is above the machine's memory, as it may be with swap, or with a pool in a memory file.
        pool.max_bytes = Some(enough);
    }
    pool
}
