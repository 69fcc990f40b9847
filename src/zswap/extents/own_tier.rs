//! A tier of the program's own: calls of it, and how much of it is taken.
//!
//! The calls are not inlined: they have thread-local variables, which the compiler would look up in the callers before
//! it knows which kind of tier it is. In a library loaded by dlopen the first access allocates, and touches are not to.

use super::super::patience::InTier;
use super::super::tier::{ExtentId, Tier, TierFailure};
use super::blocks::BlockRun;
use super::format::{BLOCK, MAX_BLOCKS};
use crate::os;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Blocks that are set aside for cleaning, as on a file. Tiers of less than eight extents have none.
const SET_ASIDE: u64 = MAX_BLOCKS as u64;

/// A tier of the program's own. Its extents count in blocks, as if each had a run of them.
pub struct OwnTier {
    tier: Box<dyn Tier>,
    owner: u64,
    blocks: u64,
    taken: AtomicU64,
    /// The process that added the tier. A forked child has copies of its connections and must not use them.
    process: i32,
}

impl OwnTier {
    /// Takes a tier of `blocks` blocks.
    pub fn new(tier: Box<dyn Tier>, owner: u64, blocks: u64) -> Self {
        Self { tier, owner, blocks, taken: AtomicU64::new(0), process: os::this_process() }
    }

    /// Calls the tier with no lock that counts. A thread in a tier waits for no buffer of extents, so the order of the
    /// locks that it takes there is its own.
    fn call<R>(&self, act: impl FnOnce(&dyn Tier) -> Result<R, TierFailure>) -> Result<R, TierFailure> {
        if self.process != os::this_process() {
            return Err(TierFailure::Away);
        }
        #[cfg(debug_assertions)]
        let _ranks = crate::sync::ranks::SetAside::new();
        let _inside = InTier::enter();
        catch_unwind(AssertUnwindSafe(|| act(&*self.tier))).unwrap_or(Err(TierFailure::Away))
    }

    fn id(&self, number: u64) -> ExtentId {
        ExtentId { owner: self.owner, number }
    }

    fn set_aside(&self) -> u64 {
        if self.blocks < 8 * SET_ASIDE { 0 } else { SET_ASIDE }
    }

    /// Whether there may be no room for a whole extent besides what is set aside.
    pub fn is_nearly_full(&self) -> bool {
        self.taken.load(Relaxed) + MAX_BLOCKS as u64 + self.set_aside() > self.blocks
    }

    /// Takes room for an extent of this many blocks. `cleans`: what is set aside may be taken.
    #[inline(never)]
    pub fn take(&self, wanted: usize, cleans: bool) -> Option<BlockRun> {
        let blocks = self.blocks - if cleans { 0 } else { self.set_aside() };
        let more = |taken: u64| Some(taken + wanted as u64).filter(|&taken| taken <= blocks);
        self.taken.fetch_update(Relaxed, Relaxed, more).ok()?;
        let run = BlockRun { first: 0, count: wanted };
        let has_room = self.call(|tier| Ok(tier.room() >= (wanted * BLOCK) as u64));
        if has_room != Ok(true) {
            self.give_back(run);
            return None;
        }
        Some(run)
    }

    /// Gives back the room of an extent.
    pub fn give_back(&self, run: BlockRun) {
        self.taken.fetch_sub(run.count as u64, Relaxed);
    }

    /// Puts an extent.
    #[inline(never)]
    pub fn put(&self, number: u64, bytes: &[u8]) -> Result<(), TierFailure> {
        self.call(|tier| tier.put(self.id(number), bytes))
    }

    /// Reads a range of an extent.
    #[inline(never)]
    pub fn get(&self, number: u64, from: usize, bytes: &mut [u8]) -> Result<(), TierFailure> {
        self.call(|tier| tier.get(self.id(number), from, bytes))
    }

    /// Removes an extent.
    #[inline(never)]
    pub fn remove(&self, number: u64) -> Result<(), TierFailure> {
        self.call(|tier| tier.remove(self.id(number)))
    }
}
