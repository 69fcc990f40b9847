//! A sample of the zspages that are in use, spread over the whole pool.

use super::PoolMemory;
use crate::units::{GROUP_CHUNKS, ZspageId};

/// How many records that lie beside each other are visited together.
const TILE: usize = 16;
/// The most tiles that one sample visits.
const VISITS: usize = 4096;

impl PoolMemory {
    /// Writes ids of zspages that are in use to `found`, and returns how many. `walk` is where the last sample ended.
    ///
    /// A sample visits tiles that are spread evenly over the zspage table, and the samples after it visit the others.
    /// It ends when `found` has no room for another tile, when it was everywhere, or after [`VISITS`] tiles. So it
    /// finds all zspages of a small pool, and may find none of a large one that is almost empty. When it returns, a
    /// zspage that it found may be gone, or in no class yet.
    pub fn sample(&self, walk: &mut usize, found: &mut [ZspageId]) -> usize {
        let mut arena = self.lock_arena();
        let tiles_each = self.layout.group_records.div_ceil(TILE);
        let tiles = arena.end.div_ceil(GROUP_CHUNKS) * tiles_each;
        // In a table whose size is a power of two, odd steps reach every place before they reach one again. Steps of
        // the golden section spread any number of places evenly.
        let round = tiles.next_power_of_two();
        let step = ((round as u64 * 40503) >> 16) as usize | 1;
        let mut count = 0;
        for _ in 0..round.min(VISITS) {
            if found.len() - count < TILE {
                break;
            }
            *walk = walk.wrapping_add(step) % round;
            if *walk >= tiles {
                continue;
            }
            let (group, first) = (*walk / tiles_each, *walk % tiles_each * TILE);
            let mut taken = self.group(&mut arena, group).taken.rest_of_word(first) as u16;
            while taken != 0 {
                let local = first + taken.trailing_zeros() as usize;
                found[count] = ZspageId((group * self.layout.group_records + local) as u32);
                count += 1;
                taken &= taken - 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backing, Pool, PoolOptions};
    use std::collections::HashSet;

    #[test]
    fn samples_find_every_zspage_and_a_small_pool_at_once() {
        for (objects, samples) in [(64, 1), (64 * 200, 1), (64 * 5000, 30)] {
            let options =
                PoolOptions { max_bytes: Some(64 << 20), backing: Backing::Anonymous, ..PoolOptions::default() };
            let pool = Pool::new("sample", &options).unwrap();
            (0..objects).for_each(|_| _ = pool.malloc_raw(64).unwrap());
            let (mut walk, mut all) = (usize::MAX - 3, HashSet::new());
            for _ in 0..samples {
                let mut found = [ZspageId::NONE; 256];
                let count = pool.memory.sample(&mut walk, &mut found);
                let ids: HashSet<_> = found[..count].iter().map(|id| id.0).collect();
                assert_eq!(ids.len(), count, "one is there twice");
                all.extend(ids);
            }
            assert_eq!(all.len(), objects / 64, "after {samples} samples");
        }
    }
}
