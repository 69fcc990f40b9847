//! When cleaning of a tier is due, how much it may move, and which extents come first: those with the fewest live bytes
//! a block.

use super::super::word::MAX_ENTRIES;
use super::extent_table::{ExtentAtAGlance, ExtentTable};
use super::format::{self, BLOCK, FIRST_ENTRY};
use super::medium::Medium;
use crate::pool::{Allowance, CompactBudget};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// A tier may have this many bytes more than in proportion to the live ones before anything is moved: 1 MiB.
const SLACK: u64 = 1 << 20;

/// How many hundredths of the live bytes the blocks may have before some are moved.
#[derive(Clone, Copy)]
pub struct Density(u64);

impl Density {
    /// For what a shrink moves: a little more than a compaction leaves, so that a shrink after it moves nothing.
    pub const OF_SHRINK: Self = Self(127);
    /// For what a shrink moves when the file has no room for another extent.
    pub const OF_FULL_FILE: Self = Self(110);
    /// For what a compaction moves, which the program asks for. With the slack, a tier of 50 MiB is at 1.25 then.
    pub const OF_COMPACTION: Self = Self(123);
}

/// An extent is left alone if the live bytes are at least this many hundredths of its blocks.
const DENSE: usize = 80;
/// How many extents are chosen at once.
pub const VICTIMS: usize = 32;
/// How many slots are looked at for them: extents of some 5 GiB.
pub const LOOKS: usize = 1 << 16;
/// Most bytes that cleaning may move for what was written while the file was not sparse.
const MOST_CREDIT: u64 = 4 * format::MAX_BYTES as u64;

/// What cleaning remembers from one call to the next.
#[derive(Default)]
pub struct Cleaning {
    /// The slot that is looked at next.
    hand: AtomicU64,
    /// Bytes that shrinks have written, and that cleaning has not answered yet.
    credit: AtomicU64,
    /// What `changes` was when cleaning gained nothing. It is not tried again while that stays the same.
    vain: AtomicU64,
    /// Tests of few pages clean without any slack.
    #[cfg(test)]
    pub no_slack: std::sync::atomic::AtomicBool,
}

impl Cleaning {
    /// Whether the blocks have more of them for the live bytes than `density` says.
    pub fn is_sparser_than(&self, table: &ExtentTable, medium: &Medium, Density(hundredths): Density) -> bool {
        let slack = if medium.is_nearly_full() { 0 } else { self.slack() };
        table.live_blocks() * BLOCK as u64 * 100 > table.live_bytes() * hundredths + slack * 100
    }

    fn slack(&self) -> u64 {
        #[cfg(test)]
        if self.no_slack.load(Relaxed) {
            return 0;
        }
        SLACK
    }

    /// Returns a number that changes when an extent is made or an entry goes.
    fn changes(table: &ExtentTable) -> u64 {
        table.live_entries() << 32 ^ table.live_blocks()
    }

    /// Whether anything has changed since cleaning gained nothing.
    pub fn is_worth_a_try(&self, table: &ExtentTable) -> bool {
        self.vain.load(Relaxed) != Self::changes(table)
    }

    /// Notes that cleaning gained nothing.
    pub fn note_vain(&self, table: &ExtentTable) {
        self.vain.store(Self::changes(table), Relaxed);
    }

    /// Notes that a shrink has written `bytes` bytes.
    pub fn note_written(&self, bytes: usize) {
        // Under uniform replacement, cleaning the emptiest of extents that are 0.8 live moves 1.6 bytes for each new
        // one.
        let more = |credit: u64| Some((credit + 2 * bytes as u64).min(MOST_CREDIT));
        // Never an error: `more` always returns a value.
        let _ = self.credit.fetch_update(Relaxed, Relaxed, more);
    }

    /// Returns how dense a shrink should make the file before it writes, and how much it may move for that: something
    /// for what was written before, or a few extents if the file is full. None: it is not time to move anything.
    pub fn due(&self, table: &ExtentTable, medium: &Medium) -> Option<(Density, Allowance)> {
        let of = |bytes| CompactBudget { max_bytes_moved: Some(bytes), max_time: None }.begin();
        if medium.is_nearly_full() && self.is_sparser_than(table, medium, Density::OF_FULL_FILE) {
            return Some((Density::OF_FULL_FILE, of(MOST_CREDIT)));
        }
        let enough = self.credit.load(Relaxed) >= format::MAX_BYTES as u64;
        (enough && self.is_sparser_than(table, medium, Density::OF_SHRINK))
            .then(|| (Density::OF_SHRINK, of(self.credit.swap(0, Relaxed))))
    }

    /// Chooses the extents that have the fewest live bytes a block. Returns how many. `all`: also those that are dense.
    pub fn choose(&self, table: &ExtentTable, all: bool, victims: &mut [Option<ExtentAtAGlance>; VICTIMS]) -> usize {
        let density = |seen: &ExtentAtAGlance| {
            let of_table = FIRST_ENTRY * seen.left / MAX_ENTRIES;
            (seen.bytes_left + of_table) * 100 / (seen.blocks.max(1) * BLOCK)
        };
        let mut count = 0;
        let hand = table.look_at(self.hand.load(Relaxed) as usize, LOOKS, |seen| {
            let is_whole = seen.left == seen.count && seen.count > MAX_ENTRIES / 2;
            if seen.left == 0 || !all && (is_whole || density(&seen) >= DENSE) {
                return;
            }
            let at = if count < VICTIMS { count } else { VICTIMS - 1 };
            if count == VICTIMS && victims[at].is_some_and(|worst| density(&worst) <= density(&seen)) {
                return;
            }
            victims[at] = Some(seen);
            count = (at + 1).max(count);
            let mut at = at;
            while at > 0 && victims[at - 1].is_some_and(|before| density(&before) > density(&seen)) {
                victims.swap(at - 1, at);
                at -= 1;
            }
        });
        self.hand.store(hand as u64, Relaxed);
        count
    }
}
