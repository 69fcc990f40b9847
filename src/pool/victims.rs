//! Which zspage a shrink takes next: the one that was longest unused of those that were looked at lately.
//!
//! Each choice looks at a bounded number of zspages, spread over the whole pool, and remembers the coldest of all that
//! were looked at since they were chosen or used. So the cost of a choice does not depend on the size of the pool. A
//! pool of up to 240 zspages gives the coldest one. In a larger pool the coldest ones go first as soon as the samples
//! have met them, and until then the coldest of some hundred.

use super::Pool;
use crate::classes::CLASS_COUNT;
use crate::sync::{Locked, Ordering::Relaxed};
use crate::units::ZspageId;

/// Zspages that one sample looks at, at most.
const LOOKS: usize = 256;
/// Zspages that are remembered. A sample for each of them covers a pool of 16 GiB.
const MOST: usize = 256;

/// A zspage that was looked at.
#[derive(Clone, Copy)]
struct Seen {
    /// When it had been used last. It is no candidate any more if it was used since.
    stamp: u32,
    id: ZspageId,
}

/// The zspages that were longest unused, of those that were looked at.
pub struct Victims {
    /// Where the last sample ended.
    walk: usize,
    /// The first `count`, the one that was longest unused last.
    seen: [Seen; MOST],
    count: usize,
    /// How many zspages were looked at.
    #[cfg(test)]
    pub looked: u64,
}

impl Victims {
    /// None.
    pub const fn new() -> Self {
        Self {
            walk: 0,
            seen: [Seen { stamp: 0, id: ZspageId::NONE }; MOST],
            count: 0,
            #[cfg(test)]
            looked: 0,
        }
    }

    /// Remembers a zspage if it is among the coldest; `epoch` is now.
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
            // The one that was used last makes room.
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
    /// The class and the zspage that a shrink takes next. It may be gone, or isolated, by the time the caller has the
    /// class's lock. None: the pool has no zspages, or all were used while this looked.
    pub(super) fn next_victim(&self) -> Option<(usize, ZspageId)> {
        let mut victims = self.reclaim.victims.lock();
        // Where all that is remembered was used since, the second sample finds others.
        for _ in 0..2 {
            self.look_at_some(&mut victims);
            while let Some(Seen { stamp, id }) = victims.pop() {
                let zspage = self.region.zspage(id);
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
        let mut count = self.region.sample(&mut victims.walk, &mut found);
        if count == 0 {
            count = self.first_on_lists(&mut found);
        }
        // The records of a large pool are not in the processor's caches.
        #[cfg(not(loom))]
        found[..count].iter().for_each(|&id| crate::os::prefetch(self.region.zspage(id)));
        let epoch = self.reclaim.now();
        for &id in &found[..count] {
            let zspage = self.region.zspage(id);
            if zspage.owner().is_some() {
                victims.offer(epoch, Seen { stamp: zspage.epoch.load(Relaxed), id });
            }
        }
        #[cfg(test)]
        (victims.looked += count as u64);
    }

    /// For a pool that is almost empty and was large, whose few zspages a sample may miss.
    #[cold]
    fn first_on_lists(&self, found: &mut [ZspageId; LOOKS]) -> usize {
        let mut count = 0;
        for class in 0..CLASS_COUNT {
            let state = self.classes[class].lock(&self.region);
            for (place, id) in found[count..].iter_mut().zip(state.iter(&self.region)) {
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
            let mut victims = Victims::new();
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
