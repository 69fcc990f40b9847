//! Which blocks of the file are taken, which were written, and where the lowest free run of blocks is.
//!
//! There are two bits for each block, in memory that is touched as far as blocks were ever taken. Blocks lie in groups
//! of 4096, 16 MiB, and no run crosses the end of a group. For each group two numbers say how long its longest free run
//! may be, and how many blocks of it were written and are free: those still take room on the disk, until they are
//! punched out.

use crate::sync::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// Blocks of a group.
pub const GROUP: usize = 4096;
const WORD: usize = u64::BITS as usize;
const GROUP_WORDS: usize = GROUP / WORD;

/// Blocks that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRun {
    /// The first block.
    pub first: u64,
    pub count: usize,
}

/// The bits of a group, and its two numbers. A group of zeros is free, and was never written.
#[repr(C)]
pub struct BlockGroup {
    taken: [AtomicU64; GROUP_WORDS],
    written: [AtomicU64; GROUP_WORDS],
    /// Blocks that are in no free run as long as the longest: 0 says that all of them may be free.
    shortage: AtomicU16,
    /// Blocks that were written and are free.
    stale: AtomicU16,
}

/// What changes under the lock of the blocks.
#[derive(Default)]
pub struct BlockCounts {
    /// Blocks that are taken.
    pub taken: u64,
    /// Blocks that were written and are free.
    pub stale: u64,
    /// The first group that may have a free block.
    first: usize,
    /// The first group that never had a block taken.
    pub fresh: usize,
}

/// The blocks of a file. The caller has the groups, and changes them under a lock.
pub struct Blocks<'a> {
    pub groups: &'a [BlockGroup],
    pub blocks: u64,
    pub counts: &'a mut BlockCounts,
}

fn bits(words: &[AtomicU64], run: std::ops::Range<usize>, mut change: impl FnMut(&AtomicU64, u64)) {
    let mut at = run.start;
    while at < run.end {
        let count = (WORD - at % WORD).min(run.end - at);
        change(&words[at / WORD], (u64::MAX >> (WORD - count)) << (at % WORD));
        at += count;
    }
}

impl BlockGroup {
    fn is_set(words: &[AtomicU64], at: usize) -> bool {
        words[at / WORD].load(Relaxed) >> (at % WORD) & 1 == 1
    }

    /// Returns the first free run of `wanted` blocks among the first `room`, or else the longest one.
    fn find(&self, wanted: usize, room: usize) -> (usize, usize) {
        let (mut longest, mut at) = ((0, 0), 0);
        while at < room {
            let word = self.taken[at / WORD].load(Relaxed) >> (at % WORD);
            if word & 1 == 1 {
                at += word.trailing_ones() as usize;
                continue;
            }
            let start = at;
            loop {
                let left = WORD - at % WORD;
                let free = (self.taken[at / WORD].load(Relaxed) >> (at % WORD)).trailing_zeros() as usize;
                at += free.min(left);
                if free < left || at >= room || at - start >= wanted {
                    break;
                }
            }
            let count = at.min(room) - start;
            if count > longest.1 {
                longest = (start, count);
                if count >= wanted {
                    break;
                }
            }
        }
        longest
    }

    /// Counts the blocks of a run that were written.
    fn written_of(&self, run: std::ops::Range<usize>) -> usize {
        let mut count = 0;
        bits(&self.written, run, |word, mask| count += (word.load(Relaxed) & mask).count_ones() as usize);
        count
    }
}

impl Blocks<'_> {
    fn room(&self, group: usize) -> usize {
        (self.blocks - (group * GROUP) as u64).min(GROUP as u64) as usize
    }

    /// Takes the lowest free run of `wanted` blocks. If there is none, takes the longest one of at least `least`.
    pub fn take(&mut self, wanted: usize, least: usize) -> Option<BlockRun> {
        let mut best = (0, 0, 0);
        for group in self.counts.first..self.groups.len() {
            let bound = GROUP - usize::from(self.groups[group].shortage.load(Relaxed));
            if bound < wanted && bound <= best.2 {
                continue;
            }
            let (start, count) = self.groups[group].find(wanted, self.room(group));
            if count < wanted {
                // No run of the group is longer.
                self.groups[group].shortage.store((GROUP - count) as u16, Relaxed);
                if count == 0 && group == self.counts.first {
                    self.counts.first += 1;
                }
            }
            if count > best.2 {
                best = (group, start, count);
            }
            if count >= wanted || group >= self.counts.fresh {
                break;
            }
        }
        let (group, start, found) = best;
        let count = found.min(wanted);
        (count >= least.max(1)).then(|| {
            let range = start..start + count;
            let stale = self.groups[group].written_of(range.clone());
            self.groups[group].stale.fetch_sub(stale as u16, Relaxed);
            bits(&self.groups[group].taken, range, |word, mask| word.store(word.load(Relaxed) | mask, Relaxed));
            self.counts.taken += count as u64;
            self.counts.stale -= stale as u64;
            self.counts.fresh = self.counts.fresh.max(group + 1);
            BlockRun { first: (group * GROUP + start) as u64, count }
        })
    }

    fn range(run: BlockRun) -> (usize, std::ops::Range<usize>) {
        let start = run.first as usize % GROUP;
        (run.first as usize / GROUP, start..start + run.count)
    }

    /// Gives a run back. `written`: it may take room on the disk.
    pub fn give_back(&mut self, run: BlockRun, written: bool) {
        let (group, range) = Self::range(run);
        let of = &self.groups[group];
        debug_assert!(range.clone().all(|at| BlockGroup::is_set(&of.taken, at)), "a run is given back once");
        bits(&of.taken, range.clone(), |word, mask| word.store(word.load(Relaxed) & !mask, Relaxed));
        if written {
            bits(&of.written, range.clone(), |word, mask| word.store(word.load(Relaxed) | mask, Relaxed));
        }
        let stale = of.written_of(range);
        of.stale.fetch_add(stale as u16, Relaxed);
        of.shortage.store(0, Relaxed);
        self.counts.taken -= run.count as u64;
        self.counts.stale += stale as u64;
        self.counts.first = self.counts.first.min(group);
    }

    /// Takes the highest run of blocks that were written and are free, to punch it out.
    pub fn take_stale(&mut self) -> Option<BlockRun> {
        let group = (0..self.counts.fresh).rev().find(|&group| self.groups[group].stale.load(Relaxed) > 0)?;
        let of = &self.groups[group];
        let is_stale = |at: &usize| BlockGroup::is_set(&of.written, *at) && !BlockGroup::is_set(&of.taken, *at);
        let last = (0..GROUP).rev().find(is_stale)?;
        let start = (0..last).rev().take_while(is_stale).last().unwrap_or(last);
        let count = last + 1 - start;
        bits(&of.taken, start..last + 1, |word, mask| word.store(word.load(Relaxed) | mask, Relaxed));
        of.stale.fetch_sub(count as u16, Relaxed);
        self.counts.taken += count as u64;
        self.counts.stale -= count as u64;
        Some(BlockRun { first: (group * GROUP + start) as u64, count })
    }

    /// Gives a run back that was punched out, and takes no room any more.
    pub fn give_back_punched(&mut self, run: BlockRun) {
        let (group, range) = Self::range(run);
        bits(&self.groups[group].written, range, |word, mask| word.store(word.load(Relaxed) & !mask, Relaxed));
        self.give_back(run, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(count: usize) -> Vec<BlockGroup> {
        let zeros = |_| BlockGroup {
            taken: [const { AtomicU64::new(0) }; GROUP_WORDS],
            written: [const { AtomicU64::new(0) }; GROUP_WORDS],
            shortage: AtomicU16::new(0),
            stale: AtomicU16::new(0),
        };
        (0..count).map(zeros).collect()
    }

    /// The blocks as a plain list: what is taken, and what was written.
    struct Plain(Vec<(bool, bool)>);

    impl Plain {
        fn lowest(&self, wanted: usize) -> Option<usize> {
            let fits = |&start: &usize| {
                start / GROUP == (start + wanted - 1) / GROUP
                    && self.0.get(start..start + wanted).is_some_and(|run| run.iter().all(|block| !block.0))
            };
            (0..self.0.len()).find(fits)
        }

        fn set(&mut self, run: BlockRun, taken: bool) {
            self.0[run.first as usize..][..run.count].iter_mut().for_each(|block| {
                assert_ne!(block.0, taken);
                block.0 = taken;
            });
        }
    }

    #[test]
    fn the_lowest_run_is_found_whatever_was_taken_and_given_back() {
        for blocks in [1, 40, 64, GROUP, GROUP + 1, 3 * GROUP - 100] {
            let groups = groups(blocks.div_ceil(GROUP));
            let mut counts = BlockCounts::default();
            let mut space = Blocks { groups: &groups, blocks: blocks as u64, counts: &mut counts };
            let mut plain = Plain(vec![(false, false); blocks]);
            let mut runs = Vec::new();
            let mut seed = blocks as u64;
            for _ in 0..4000 {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let wanted = (seed >> 40) as usize % 33 + 1;
                let grows = seed >> 60 < if (seed >> 50) & 63 > 20 { 10 } else { 6 };
                if grows {
                    let lowest = plain.lowest(wanted);
                    let run = space.take(wanted, 1);
                    match (lowest, run) {
                        (Some(lowest), run) => assert_eq!(run, Some(BlockRun { first: lowest as u64, count: wanted })),
                        (None, Some(run)) => assert!(run.count < wanted && plain.lowest(run.count + 1).is_none()),
                        (None, None) => assert_eq!(plain.lowest(1), None),
                    }
                    if let Some(run) = run {
                        plain.set(run, true);
                        runs.push(run);
                    }
                } else if !runs.is_empty() {
                    let run = runs.swap_remove((seed >> 5) as usize % runs.len());
                    let written = seed >> 33 & 1 == 1;
                    plain.set(run, false);
                    space.give_back(run, written);
                    plain.0[run.first as usize..][..run.count].iter_mut().for_each(|block| block.1 |= written);
                }
                if seed >> 20 & 15 == 0
                    && let Some(run) = space.take_stale()
                {
                    plain.set(run, true);
                    let blocks = &mut plain.0[run.first as usize..][..run.count];
                    assert!(blocks.iter_mut().all(|block| std::mem::take(&mut block.1)));
                    space.give_back_punched(run);
                    plain.set(run, false);
                }
                let stale = plain.0.iter().filter(|block| !block.0 && block.1).count();
                let taken = plain.0.iter().filter(|block| block.0).count();
                assert_eq!((space.counts.taken, space.counts.stale), (taken as u64, stale as u64));
            }
        }
    }

    #[test]
    fn a_run_that_is_too_long_is_cut_but_not_below_the_least() {
        let groups = groups(1);
        let mut counts = BlockCounts::default();
        let mut space = Blocks { groups: &groups, blocks: 20, counts: &mut counts };
        assert_eq!(space.take(30, 25), None);
        assert_eq!(space.take(30, 2), Some(BlockRun { first: 0, count: 20 }));
        assert_eq!(space.take(1, 1), None);
    }
}
