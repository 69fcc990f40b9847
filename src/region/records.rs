//! Which zspage records of a group are taken. They are given out lowest first, so that they lie in few pages.

use crate::units::CHUNK_PAGES;

use super::layout::GROUP_CHUNKS;

const WORDS: usize = GROUP_CHUNKS * CHUNK_PAGES / 64;

/// The records of the zspages of one group of chunks. All zero is an unused group.
#[repr(C)]
pub struct Group {
    taken: [u64; WORDS],
    /// Pages of the zspage table that hold its records and are charged.
    pub pages: u32,
    /// Whether its stretch of the zspage table was committed.
    pub committed: bool,
}

impl Group {
    /// The lowest free record below `limit`.
    pub fn lowest_free(&self, limit: usize) -> Option<usize> {
        let word = self.taken.iter().position(|&word| word != u64::MAX)?;
        let local = word * 64 + self.taken[word].trailing_ones() as usize;
        (local < limit).then_some(local)
    }

    /// Takes a free record.
    pub fn take(&mut self, local: usize) {
        debug_assert!(!self.is_taken(local));
        self.taken[local / 64] |= 1 << (local % 64);
    }

    /// Frees a taken record.
    pub fn release(&mut self, local: usize) {
        debug_assert!(self.is_taken(local));
        self.taken[local / 64] &= !(1 << (local % 64));
    }

    /// Whether this record is taken.
    pub fn is_taken(&self, local: usize) -> bool {
        self.taken[local / 64] >> (local % 64) & 1 == 1
    }

    /// A bit for each taken record of the sixteen from `local` on, which is a multiple of sixteen.
    pub fn taken_from(&self, local: usize) -> u16 {
        (self.taken[local / 64] >> (local % 64)) as u16
    }

    /// One more than the highest record taken.
    pub fn end(&self) -> usize {
        let last = self.taken.iter().rposition(|&word| word != 0);
        last.map_or(0, |word| word * 64 + 64 - self.taken[word].leading_zeros() as usize)
    }

    /// How many records are taken.
    #[cfg(test)]
    pub fn taken(&self) -> u32 {
        self.taken.iter().map(|word| word.count_ones()).sum()
    }
}
