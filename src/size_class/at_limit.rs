//! Slots of a class whose pool is at its limit: only those that have their memory already can be taken.

use super::ClassState;
use crate::buckets;
use crate::memory::PoolMemory;
use crate::units::{Place, ZspageId};
use crate::zspage::FULL;

/// How many zspages of a list are looked at for a slot that has its memory.
const MOST_LOOKS: usize = 32;

impl ClassState {
    /// Takes a slot that has its memory already. Returns at once if no zspage has one. Normally it looks at the first
    /// zspages of each list only, because a zspage that gets such a slot comes first on its list.
    #[cold]
    pub(super) fn take_committed(&mut self, memory: &PoolMemory) -> Option<Place> {
        self.was_refused = true;
        if self.touched == self.objects || self.none_in_reach {
            return None;
        }
        let id = self.committed_in_front(memory).or_else(|| self.bring_committed_to_front(memory))?;
        self.take_in(memory, id).ok()
    }

    /// Returns a zspage with a free slot that has its memory, of the first [`MOST_LOOKS`] of each list.
    fn committed_in_front(&mut self, memory: &PoolMemory) -> Option<ZspageId> {
        (1..FULL).find_map(|list| {
            #[cfg(test)]
            (self.looked += self.on_list(memory, list).take(MOST_LOOKS).count() as u64);
            self.on_list(memory, list).take(MOST_LOOKS).find(|&id| self.peek(memory, id).has_committed_room())
        })
    }

    /// Brings all zspages with a free slot that has its memory to the front of their lists, and returns one of them.
    ///
    /// This looks at every zspage that is not full. The first refusal of a class needs it. A later one needs it only if
    /// some [`MOST_LOOKS`] allocations used up what was in front. If it finds nothing (a shrink may have isolated the
    /// only such zspage), `none_in_reach` keeps it from being repeated until a slot with memory is listed or freed.
    fn bring_committed_to_front(&mut self, memory: &PoolMemory) -> Option<ZspageId> {
        let mut found = None;
        for list in 1..FULL {
            let mut next = self.lists.first(list as usize);
            while next != buckets::NONE {
                let id = ZspageId(next);
                let slots = *self.peek(memory, id);
                next = slots.link.next();
                #[cfg(test)]
                (self.looked += 1);
                if slots.has_committed_room() {
                    self.change_list(memory, id, list);
                    found = Some(id);
                }
            }
        }
        self.none_in_reach = found.is_none();
        found
    }
}
