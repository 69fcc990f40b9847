//! Invariants of a size class, for tests.

use super::State;
use crate::region::Region;
use crate::units::{HandleIndex, ZspageId};

impl State {
    /// Panics if the lists disagree with each other or with their zspages, which it adds to `found`.
    pub fn check(&self, region: &Region, found: &mut Vec<ZspageId>) {
        let (class, before, mut warm, mut touched) = (self.index, found.len(), 0, 0);
        for (list, &head) in self.heads.iter().enumerate() {
            assert_eq!(head != ZspageId::NONE, self.filled >> list & 1 == 1, "{class:?}: list {list}'s bit is wrong");
            let (mut at, mut prev) = (head, ZspageId::NONE);
            while at != ZspageId::NONE {
                assert!(region.zspage(at).is_of(class), "{class:?}: {at:?} is on its list, and not of it");
                let slots = self.peek(region, at);
                assert_eq!((slots.list as usize, slots.prev), (list, prev), "{class:?}: {at:?} is listed wrongly");
                assert_eq!(slots.list, slots.list_for(self.class), "{class:?}: {at:?} belongs on another list");
                assert!(!slots.isolated, "{class:?}: {at:?} was left isolated");
                warm += u32::from(slots.warm != 0);
                touched += u64::from(slots.touched);
                let missed = self.none_in_reach && slots.has_committed_room();
                assert!(!missed, "{class:?}: {at:?} has a free slot with memory, and none is said to be in reach");
                found.push(at);
                assert!(found.len() - before <= self.zspages as usize, "{class:?}: more on the lists than counted");
                (prev, at) = (at, slots.next);
            }
        }
        assert_eq!(found.len() - before, self.zspages as usize, "{class:?}: a zspage is on no list");
        assert_eq!(touched, self.touched, "{class:?}: slots that have their memory");
        assert_eq!(warm, u32::from(self.has_warm), "{class:?}: zspages that are warm");
        assert_eq!(self.heads[0], ZspageId::NONE, "{class:?}: list 0 is for those on no list");
    }

    /// Calls `each` with every free handle index of the class.
    pub fn each_free(&self, region: &Region, mut each: impl FnMut(HandleIndex)) {
        self.spare.iter().for_each(&mut each);
        region.each_listed(self.free, each);
    }
}
