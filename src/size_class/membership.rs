//! Which zspages a class has: new ones, ones that compaction or a shrink isolated, and ones that are empty.

use super::{ClassState, end_warm};
use crate::memory::PoolMemory;
use crate::units::ZspageId;

/// An empty zspage that no class has any more. The caller gives it back once it let go of the lock.
#[must_use]
pub struct Emptied {
    /// The zspage.
    pub id: ZspageId,
    /// How many of its slots have memory.
    pub touched: u8,
}

impl ClassState {
    /// Adds a new zspage.
    pub fn add(&mut self, memory: &PoolMemory, id: ZspageId) {
        memory.zspage(id).set_owner(Some(self.index));
        self.zspages += 1;
        self.touched += u64::from(self.peek(memory, id).touched);
        self.put_back(memory, id);
    }

    /// Isolates a zspage. Returns false if it has left the class, or if another thread has isolated it.
    pub fn isolate(&mut self, memory: &PoolMemory, id: ZspageId) -> bool {
        if !memory.zspage(id).is_of(self.index) || self.peek(memory, id).isolated {
            return false;
        }
        self.unlist(memory, id);
        self.slots(memory, id).isolated = true;
        true
    }

    /// Ends the isolation of a zspage. Puts it on its list again, or returns it if it is empty.
    pub fn end_isolation(&mut self, memory: &PoolMemory, id: ZspageId) -> Option<Emptied> {
        let slots = self.slots(memory, id);
        slots.isolated = false;
        if slots.count == 0 {
            return Some(self.remove(memory, id));
        }
        self.put_back(memory, id);
        None
    }

    /// Puts a zspage that is on no list on the list that its count asks for.
    pub fn put_back(&mut self, memory: &PoolMemory, id: ZspageId) {
        let class = self.class;
        let slots = self.slots(memory, id);
        slots.list = 0;
        let (listing, has_room) = (slots.listing(class), slots.has_committed_room());
        self.none_in_reach &= !has_room;
        self.relist(memory, id, listing);
    }

    /// Returns whether a zspage is this class's, and empty.
    pub fn is_empty(&self, memory: &PoolMemory, id: ZspageId) -> bool {
        memory.zspage(id).is_of(self.index) && self.peek(memory, id).count == 0
    }

    /// Keeps a zspage that became empty, with its memory, if the class has no warm one and the pool may keep more.
    /// Otherwise removes and returns it. An isolated zspage stays, because the thread that isolated it removes it.
    #[cold]
    pub(super) fn keep_warm_or_remove(&mut self, memory: &PoolMemory, id: ZspageId) -> Option<Emptied> {
        let slots = self.peek(memory, id);
        if slots.warm != 0 || slots.isolated {
            return None;
        }
        let pages = self.class.pages_of_slots(slots.touched as usize);
        if !self.has_warm && memory.charge.keep_warm(pages) {
            self.has_warm = true;
            self.slots(memory, id).warm = pages as u8;
            return None;
        }
        self.unlist(memory, id);
        Some(self.remove(memory, id))
    }

    /// Removes an empty zspage that is on no list.
    fn remove(&mut self, memory: &PoolMemory, id: ZspageId) -> Emptied {
        let slots = self.peek(memory, id);
        debug_assert!(slots.count == 0 && slots.list == 0);
        let touched = slots.touched;
        if slots.warm != 0 {
            self.end_warm(memory, id);
        }
        memory.zspage(id).set_owner(None);
        self.zspages -= 1;
        self.touched -= u64::from(touched);
        Emptied { id, touched }
    }

    /// Notes that a zspage has memory for its first `touched` slots only. If the zspage counted as warm, that ends,
    /// because some of the counted pages are gone.
    pub fn set_touched(&mut self, memory: &PoolMemory, id: ZspageId, touched: u8) {
        let slots = self.own.slots(memory, id);
        self.touched = self.touched - u64::from(slots.touched) + u64::from(touched);
        slots.touched = touched;
        if slots.warm != 0 {
            self.end_warm(memory, id);
        }
    }

    fn end_warm(&mut self, memory: &PoolMemory, id: ZspageId) {
        self.has_warm = false;
        end_warm(memory, self.own.slots(memory, id));
    }
}
