//! The choice of the zspage that a shrink takes next: the coldest of those that it looked at lately.
//!
//! Each choice looks at a bounded number of zspages, spread over the whole pool, and remembers the coldest that it saw.
//! So the cost of a choice does not depend on the size of the pool. In a pool of up to 240 zspages the coldest one is
//! chosen. In a larger pool the coldest ones go first as soon as the samples have met them, and until then the coldest
//! of some hundred.

use super::Pool;
use crate::error::Result;
use crate::geometry::CLASS_COUNT;
use crate::heap;
use crate::sync::{Locked, Ordering::Relaxed};
use crate::units::ZspageId;

/// The most zspages that one sample looks at.
const LOOKS: usize = 256;
/// How many zspages are remembered. A sample for each of them covers a pool of 16 GiB.
const MOST: usize = 256;

/// A zspage that was looked at.
#[derive(Clone, Copy)]
struct Seen {
    /// When the zspage had been used last. If it was used since, it is no candidate any more.
    stamp: u32,
    id: ZspageId,
}

/// The coldest zspages of those that were looked at.
pub struct Victims {
    /// Where the last sample ended.
    walk: usize,
    /// The zspages that are remembered, the coldest last. The first `count` are in use. They have memory of their own,
    /// because a pool is copied on the stack when it is made.
    seen: Box<[Seen]>,
    count: usize,
    /// How many zspages were looked at.
    #[cfg(test)]
    pub looked: u64,
}

impl Victims {
    /// Nothing is remembered.
    pub fn new() -> Result<Self> {
        Ok(Self {
            walk: 0,
            seen: heap::slice(MOST, |_| Ok(Seen { stamp: 0, id: ZspageId::NONE }))?,
            count: 0,
            #[cfg(test)]
            looked: 0,
        })
    }

    /// Remembers a zspage if it is among the coldest. `epoch` is the present one.
    fn offer(&mut self, epoch: u32, new: Seen) {
        let key = |seen: Seen| (epoch.wrapping_sub(seen.stamp), seen.id.0);
        let at = self.seen[..self.count].partition_point(|&seen| key(seen) < key(new));
        if self.seen[..self.count].get(at).is_some_and(|&seen| key(seen) == key(new)) {
            return;
        }
        if self.count < MOST {
            self.count += 1;
            self.seen[at..self.count].rotate_right(1);
            self.seen[at] = new;
        } else if at > 0 {
            // The warmest one makes room.
            self.seen[..at].rotate_left(1);
            self.seen[at - 1] = new;
        }
    }

    fn pop(&mut self) -> Option<Seen> {
        self.count = self.count.checked_sub(1)?;
        Some(self.seen[self.count])
    }
}

impl Pool {
    /// Returns the class and the zspage that a shrink takes next. The zspage may be gone or isolated by the time that
    /// the caller has the lock of the class. Returns none if the pool has no zspages, or if all were used meanwhile.
    pub(super) fn next_victim(&self) -> Option<(usize, ZspageId)> {
        let mut victims = self.reclaim.victims.lock();
        // If all that is remembered was used since, the second sample finds others.
        for _ in 0..2 {
            self.look_at_some(&mut victims);
            while let Some(Seen { stamp, id }) = victims.pop() {
                let zspage = self.memory.zspage(id);
                if zspage.epoch.load(Relaxed) == stamp
                    && let Some(class) = zspage.owner()
                {
                    return Some((class.0 as usize, id));
                }
            }
        }
        None
    }

    fn look_at_some(&self, victims: &mut Locked<'_, Victims>) {
        let mut found = [ZspageId::NONE; LOOKS];
        let mut count = self.memory.sample(&mut victims.walk, &mut found);
        if count == 0 {
            count = self.first_on_lists(&mut found);
        }
        // The records of a large pool are not in the processor's caches.
        #[cfg(not(loom))]
        found[..count].iter().for_each(|&id| crate::os::prefetch(self.memory.zspage(id)));
        let epoch = self.reclaim.now();
        for &id in &found[..count] {
            let zspage = self.memory.zspage(id);
            if zspage.owner().is_some() {
                victims.offer(epoch, Seen { stamp: zspage.epoch.load(Relaxed), id });
            }
        }
        #[cfg(test)]
        (victims.looked += count as u64);
    }

    /// Finds the first zspages on the lists of the classes. For a pool that was large and is almost empty: a sample may
    /// miss its few zspages.
    #[cold]
    fn first_on_lists(&self, found: &mut [ZspageId; LOOKS]) -> usize {
        let mut count = 0;
        for class in 0..CLASS_COUNT {
            let state = self.classes[class].lock(&self.memory);
            for (place, id) in found[count..].iter_mut().zip(state.iter(&self.memory)) {
                *place = id;
                count += 1;
            }
        }
        count
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_coldest_are_remembered_once_each_whatever_their_order() {
        for (first, step) in [(0, 1), (999, 999), (500, 7)] {
            let mut victims = Victims::new().unwrap();
            // Stamps on both sides of where the count of epochs goes round.
            let stamp = |id: u32| (id / 2).wrapping_sub(100);
            for at in 0..2000 {
                let id = (first + at * step) % 1000;
                victims.offer(1000, Seen { stamp: stamp(id), id: ZspageId(id) });
            }
            let order: Vec<_> = std::iter::from_fn(|| victims.pop()).map(|seen| seen.id.0).collect();
            let coldest: Vec<_> = (0..MOST as u32).map(|at| at / 2 * 2 + 1 - at % 2).collect();
            assert_eq!(order, coldest);
        }
    }
}
