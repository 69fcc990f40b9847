//! The lists of a class: its zspages by how full they are.

use super::ClassState;
use crate::buckets::{self, Link, Links};
use crate::memory::PoolMemory;
use crate::units::{ClassIndex, ZspageId};
use crate::zspage::{FULL, Listing, Slots};

/// How many lists there are, with that of zspages on no list.
pub const LISTS: usize = FULL as usize + 1;

/// The right to change the zspages of a class. It is a part of what the lock of the class guards: a zspage that is
/// changed is borrowed from it, one at a time, while the other parts are free to be used.
pub struct ZspagesOf(pub ClassIndex);

impl ZspagesOf {
    /// Returns the part of a zspage's record that the lock of its class guards.
    #[inline]
    pub fn slots<'s>(&'s mut self, memory: &'s PoolMemory, id: ZspageId) -> &'s mut Slots {
        debug_assert!(memory.zspage(id).is_of(self.0));
        // SAFETY: each class has one `ZspagesOf`, behind its lock, and it is borrowed here to be changed.
        unsafe { memory.zspage(id).slots() }
    }
}

/// The records of a class's zspages, for its lists.
struct Records<'a> {
    zspages: &'a mut ZspagesOf,
    memory: &'a PoolMemory,
}

impl Links for Records<'_> {
    #[inline]
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self.zspages.slots(self.memory, ZspageId(index)).link
    }
}

impl ClassState {
    /// Returns the part of a zspage's record that the lock of this class guards.
    #[inline]
    pub fn slots<'s>(&'s mut self, memory: &'s PoolMemory, id: ZspageId) -> &'s mut Slots {
        self.own.slots(memory, id)
    }

    /// Returns what [`ClassState::slots`] returns, to look at.
    #[inline]
    pub fn peek<'s>(&'s self, memory: &'s PoolMemory, id: ZspageId) -> &'s Slots {
        debug_assert!(memory.zspage(id).is_of(self.index));
        // SAFETY: the caller has borrowed this state, so it holds the lock. While it does, nobody can borrow the state
        // to change it.
        unsafe { memory.zspage(id).peek_slots() }
    }

    /// Returns the fullest zspage that has a free slot.
    #[inline]
    pub(super) fn fullest(&self) -> Option<ZspageId> {
        self.lists.highest_below(FULL as usize).map(ZspageId)
    }

    /// Puts a zspage on the list that its count asks for, unless it is there already, or isolated.
    #[inline]
    pub(super) fn relist(&mut self, memory: &PoolMemory, id: ZspageId, listing: Listing) {
        if listing.wanted != listing.list && !listing.isolated {
            self.change_list(memory, id, listing.wanted);
        }
    }

    /// Takes a zspage off its list, if it is on one, and puts it first on another.
    pub(super) fn change_list(&mut self, memory: &PoolMemory, id: ZspageId, list: u8) {
        let before = std::mem::replace(&mut self.slots(memory, id).list, list);
        let mut records = Records { zspages: &mut self.own, memory };
        if before != 0 {
            self.lists.remove(&mut records, before as usize, id.0);
        }
        self.lists.push(&mut records, list as usize, id.0);
    }

    /// Takes a zspage off its list, if it is on one.
    pub(super) fn unlist(&mut self, memory: &PoolMemory, id: ZspageId) {
        let list = std::mem::replace(&mut self.slots(memory, id).list, 0);
        if list != 0 {
            let mut records = Records { zspages: &mut self.own, memory };
            self.lists.remove(&mut records, list as usize, id.0);
        }
    }

    /// Returns the zspages on the lists, sparsest first. Isolated zspages are on none.
    pub fn iter<'r>(&self, memory: &'r PoolMemory) -> impl Iterator<Item = ZspageId> + use<'r> {
        let first: [u32; LISTS] = std::array::from_fn(|list| self.lists.first(list));
        (1..LISTS).flat_map(move |list| chain(memory, first[list]))
    }

    /// Returns the zspages on one list.
    pub(super) fn on_list<'r>(&self, memory: &'r PoolMemory, list: u8) -> impl Iterator<Item = ZspageId> + use<'r> {
        chain(memory, self.lists.first(list as usize))
    }
}

/// Returns a zspage and those after it on its list. The caller holds the lock of the class while it goes on, and
/// changes no list meanwhile.
fn chain(memory: &PoolMemory, first: u32) -> impl Iterator<Item = ZspageId> {
    let mut at = first;
    std::iter::from_fn(move || {
        if at == buckets::NONE {
            return None;
        }
        let this = ZspageId(at);
        // SAFETY: the caller holds the lock of the class, and changes nothing.
        at = unsafe { memory.zspage(this).peek_slots() }.link.next();
        Some(this)
    })
}
