//! Invariants of a size class.

use super::ClassState;
use super::lists::LISTS;
use crate::buckets;
use crate::memory::PoolMemory;
use crate::units::{HandleIndex, ZspageId};

impl ClassState {
    /// Panics if the lists disagree with each other or with their zspages, which it adds to `found`.
    pub fn check(&self, memory: &PoolMemory, found: &mut Vec<ZspageId>) {
        let (class, before, mut warm, mut touched) = (self.index, found.len(), 0, 0);
        for list in 1..LISTS {
            for at in self.lists.check(list, |at| self.peek(memory, ZspageId(at)).link) {
                let id = ZspageId(at);
                assert!(memory.zspage(id).is_of(class), "{class:?}: {id:?} is on its list, and not of it");
                let slots = self.peek(memory, id);
                assert_eq!(slots.list as usize, list, "{class:?}: {id:?} is listed wrongly");
                assert_eq!(slots.list, slots.list_for(self.class), "{class:?}: {id:?} belongs on another list");
                assert!(!slots.isolated, "{class:?}: {id:?} was left isolated");
                warm += u32::from(slots.warm != 0);
                touched += u64::from(slots.touched);
                let missed = self.none_in_reach && slots.has_committed_room();
                assert!(!missed, "{class:?}: {id:?} has a free slot with memory, and none is said to be in reach");
                found.push(id);
            }
        }
        assert_eq!(found.len() - before, self.zspages as usize, "{class:?}: a zspage is on no list");
        assert_eq!(touched, self.touched, "{class:?}: slots that have their memory");
        assert_eq!(warm, u32::from(self.has_warm), "{class:?}: zspages that are warm");
        assert_eq!(self.lists.first(0), buckets::NONE, "{class:?}: list 0 is for those on no list");
    }

    /// Calls `each` with every free handle index of the class.
    pub fn each_free(&self, memory: &PoolMemory, mut each: impl FnMut(HandleIndex)) {
        self.spare.iter().for_each(&mut each);
        memory.each_listed(self.free, each);
    }
}
