//! A size class of a pool: its zspages by how full they are, and its free handle indices.
//!
//! All of it is derived from the handle words, and one lock guards it. The lock is normally held for a few
//! instructions. Compaction holds it while it looks at 2048 zspages at most. A malloc of a pool at its limit holds it
//! while it looks at all zspages of the class, which is rare. No object is copied with the lock held. A malloc that has
//! used up its spare handles takes the lock of the supply under it, and once in 131,072 indices commits 1 MiB of the
//! handle table.

mod at_limit;
#[cfg(not(loom))]
mod forked;
#[cfg(all(test, not(loom)))]
#[path = "../tests/invariants/size_class.rs"]
mod invariants;
mod lists;
mod membership;
mod shelf;
mod stock;

pub use membership::Emptied;
#[cfg(all(test, not(loom)))]
pub use shelf::PROCESSOR;
pub use shelf::{Shelved, Shelves, Taken, Vacated};

use crate::buckets::Buckets;
use crate::error::{Error, Result};
use crate::geometry::{self, Geometry};
use crate::memory::{Fifo, PoolMemory, Ring};
use crate::sync::{Leftovers, Lock, Locked, Rank};
use crate::units::{ClassIndex, HandleIndex, PAGE, Place, ZspageId};
use crate::zspage::Slots;
use lists::{LISTS, ZspagesOf};

/// A class keeps this many free indices before it uses one again, so that a stale handle is refused for at least this
/// many times 65,536 allocations. It fetches as many at a time: a cache line of words.
const SPARE_HANDLES: u32 = if cfg!(loom) { 1 } else { 8 };

/// A size class of one pool.
pub struct SizeClass {
    index: ClassIndex,
    state: Lock<ClassState>,
    /// Handles of freed objects whose slots are still taken. A free or unmap that finds the lock taken leaves its
    /// handle here, because it never waits, also in a signal handler.
    deferred: Leftovers,
}

// With its padding: two pairs of cache lines.
#[cfg(not(any(test, loom, debug_assertions)))]
static_assertions::const_assert!(size_of::<SizeClass>() <= 256);

/// The part of a class that its lock guards.
pub struct ClassState {
    index: ClassIndex,
    own: ZspagesOf,
    class: Geometry,
    lists: Buckets<LISTS, 1>,
    /// Free handle indices at hand.
    spare: Ring,
    /// Free handle indices for which `spare` had no room.
    free: Fifo,
    /// Zspages of the class, with those that are isolated.
    pub zspages: u32,
    /// Slots that are taken.
    pub objects: u64,
    /// Slots that have their memory, taken or not.
    touched: u64,
    /// Whether the class keeps an empty zspage with its memory.
    has_warm: bool,
    /// Whether the class ever needed a slot that has its memory already, because the pool was at its limit. From then
    /// on a zspage that gets such a slot comes first on its list.
    was_refused: bool,
    /// Whether a look at all zspages on the lists found no slot that has its memory, and none came since.
    none_in_reach: bool,
    /// Whether an index whose generation wrapped is never used again.
    retires: bool,
    /// How often a malloc found that another thread has the lock, or had it, while the class had no shelves.
    meetings: u8,
    /// How many compactions and shrinks keep the shelves of the class closed.
    pauses: u16,
    /// Whether the class has shelves, also while they are kept closed.
    has_shelves: bool,
    /// How many zspages were looked at for a free slot that has its memory.
    #[cfg(test)]
    pub looked: u64,
}

/// Why a class gives no slot.
pub enum Shortage {
    /// No handle index is free, and the pool gets no more. Other classes may have some that they do not use.
    Handles(Error),
    /// The memory of the slot would be more than the pool may have.
    Memory(Error),
}

impl Shortage {
    /// Returns the error of a call that fails because of it.
    pub fn error(self) -> Error {
        match self {
            Self::Handles(error) | Self::Memory(error) => error,
        }
    }
}

impl SizeClass {
    /// An empty class. With `retires`, an index whose generation wrapped is never used again.
    pub fn new(index: ClassIndex, retires: bool) -> Self {
        let state = ClassState {
            index,
            own: ZspagesOf(index),
            class: geometry::of(index),
            lists: Buckets::EMPTY,
            spare: Ring::EMPTY,
            free: Fifo::EMPTY,
            zspages: 0,
            objects: 0,
            touched: 0,
            has_warm: false,
            was_refused: false,
            none_in_reach: false,
            retires,
            meetings: 0,
            pauses: 0,
            has_shelves: false,
            #[cfg(test)]
            looked: 0,
        };
        Self { index, state: Lock::new(Rank::Class, state), deferred: Leftovers::default() }
    }

    /// Returns which class of the table it is.
    pub fn index(&self) -> ClassIndex {
        self.index
    }

    /// Takes the lock, and releases the slots that were deferred while another thread had it.
    #[inline]
    pub fn lock(&self, memory: &PoolMemory) -> Locked<'_, ClassState> {
        self.settled(memory, self.state.lock())
    }

    /// Takes the lock as [`SizeClass::lock`] does, for a malloc. Threads that meet here give the class shelves.
    #[inline]
    pub fn lock_to_take(&self, memory: &PoolMemory, shelves: &Shelves) -> Locked<'_, ClassState> {
        // Models open the shelves themselves.
        match if cfg!(loom) { None } else { self.state.try_lock() } {
            Some(state) if !self.deferred.any() => state,
            found => self.lock_after_meeting(memory, shelves, found),
        }
    }

    /// Locks a class whose lock another thread has, or had when an object was freed.
    #[cold]
    fn lock_after_meeting<'a>(
        &'a self,
        memory: &PoolMemory,
        shelves: &Shelves,
        found: Option<Locked<'a, ClassState>>,
    ) -> Locked<'a, ClassState> {
        let state = found.unwrap_or_else(|| self.state.lock());
        let mut state = self.settled(memory, state);
        if cfg!(not(loom)) {
            state.meet(shelves);
        }
        state
    }

    /// Takes the lock as [`SizeClass::lock`] does, if no other thread has it.
    #[inline]
    pub fn try_lock(&self, memory: &PoolMemory) -> Option<Locked<'_, ClassState>> {
        Some(self.settled(memory, self.state.try_lock()?))
    }

    /// Releases the slots that were deferred.
    #[inline]
    fn settled<'a>(&self, memory: &PoolMemory, mut state: Locked<'a, ClassState>) -> Locked<'a, ClassState> {
        if self.deferred.any() {
            self.release_deferred(&mut state, memory);
        }
        state
    }

    /// Releases the slot and the handle of an object whose word the caller made FREE. Never waits.
    #[inline]
    pub fn release(&self, memory: &PoolMemory, place: Place, handle: HandleIndex) -> Option<Emptied> {
        match self.try_lock(memory) {
            Some(mut state) => {
                state.push_handle(memory, handle);
                state.release(memory, place)
            }
            None => {
                self.defer(memory, place, handle);
                None
            }
        }
    }

    fn defer(&self, memory: &PoolMemory, place: Place, handle: HandleIndex) {
        // The slot is this thread's until it is left here, so the slot's note of its object can be the link.
        self.deferred.leave(handle.0, |next| memory.zspage(place.zspage).set_handle(place.slot, HandleIndex(next)));
    }

    #[cold]
    fn release_deferred(&self, state: &mut ClassState, memory: &PoolMemory) {
        self.deferred.take(|index| {
            let handle = HandleIndex(index);
            // The handle is not on a free list yet, so its word still has the place where the object was.
            let place = memory.word(handle).peek().place();
            let next = memory.zspage(place.zspage).handle_at(place.slot).0;
            state.push_handle(memory, handle);
            // A zspage that is empty now stays on its list: the next malloc uses it, or compaction returns it.
            state.release_slot(memory, place);
            next
        });
    }
}

impl ClassState {
    /// Takes a slot in the fullest zspage that has one, and a free handle index. Returns none if the class needs
    /// another zspage.
    // Inlined, because `cargo bench --features uffd --bench instructions` counts the instructions of a call.
    #[inline(always)]
    pub fn take(&mut self, memory: &PoolMemory) -> Taken {
        if self.spare.count <= SPARE_HANDLES {
            self.fetch_handles(memory).map_err(Shortage::Handles)?;
        }
        let Some(place) = self.take_place(memory)? else { return Ok(None) };
        let handle = self.spare.pop().expect("spare handles were fetched");
        // The word of the next allocation may be anywhere in the handle table.
        #[cfg(not(loom))]
        crate::os::prefetch(memory.word(self.spare.oldest()).0);
        memory.zspage(place.zspage).set_handle(place.slot, handle);
        Ok(Some((place, handle)))
    }

    /// Takes as [`ClassState::take`] does, where a call is no matter.
    #[inline(never)]
    pub fn take_slowly(&mut self, memory: &PoolMemory) -> Taken {
        self.take(memory)
    }

    /// Takes a slot in the fullest zspage that has one. Returns none if the class needs another zspage.
    #[inline(always)]
    fn take_place(&mut self, memory: &PoolMemory) -> std::result::Result<Option<Place>, Shortage> {
        let Some(id) = self.fullest() else { return Ok(None) };
        match self.take_in(memory, id) {
            Ok(place) => Ok(Some(place)),
            Err(full) => self.take_committed(memory).map(Some).ok_or(Shortage::Memory(full)),
        }
    }

    /// Takes the lowest free slot of a zspage that has one. Fails if its memory would be more than the pool may have.
    #[inline]
    pub fn take_in(&mut self, memory: &PoolMemory, id: ZspageId) -> Result<Place> {
        let slots = self.own.slots(memory, id);
        let slot = slots.lowest_free();
        if slot >= slots.touched {
            let touched = slots.touched;
            grow(&self.class, memory, slots, slot)?;
            self.touched += u64::from(slots.touched - touched);
            self.none_in_reach = false;
        }
        slots.take(slot);
        self.objects += 1;
        if slots.warm != 0 && slots.count > 1 {
            self.has_warm = false;
            end_warm(memory, slots);
        }
        let listing = slots.listing(self.class);
        self.relist(memory, id, listing);
        Ok(Place { zspage: id, slot })
    }

    /// Releases a slot. Returns the zspage if that was its last slot: then the caller gives it back.
    #[inline]
    pub fn release(&mut self, memory: &PoolMemory, place: Place) -> Option<Emptied> {
        match self.release_slot(memory, place) {
            0 => self.keep_warm_or_remove(memory, place.zspage),
            _ => None,
        }
    }

    /// Releases a slot. Returns how many slots of its zspage are still taken.
    #[inline]
    fn release_slot(&mut self, memory: &PoolMemory, place: Place) -> u8 {
        let slots = self.own.slots(memory, place.zspage);
        slots.release(place.slot);
        self.objects -= 1;
        let count = slots.count;
        let mut listing = slots.listing_with_room(self.class);
        if self.was_refused && count + 1 == slots.touched {
            // The zspage had no free slot with memory before. It comes first on its list, also if it stays there.
            listing.list = 0;
            self.none_in_reach = false;
        }
        self.relist(memory, place.zspage, listing);
        count
    }

    /// Releases a slot that a mover took or emptied. A zspage that is empty then stays where it is.
    pub fn release_moved(&mut self, memory: &PoolMemory, place: Place) {
        self.release_slot(memory, place);
    }

    /// Fetches as many indices as the class keeps, so that it has twice as many. Fails if it has none then.
    #[cold]
    fn fetch_handles(&mut self, memory: &PoolMemory) -> Result<()> {
        for _ in 0..=SPARE_HANDLES {
            match self.free.pop(memory).map_or_else(|| memory.fetch_handle(), Ok) {
                Ok(index) => _ = self.spare.push(index),
                Err(none) if self.spare.count == 0 => return Err(none),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Takes a free handle index back, unless its generation wrapped in a class that retires those.
    #[inline]
    pub fn push_handle(&mut self, memory: &PoolMemory, handle: HandleIndex) {
        if self.retires && memory.word(handle).peek().generation() == 0 {
            return;
        }
        if !self.spare.push(handle) {
            self.free.push(memory, handle);
        }
    }

    /// Returns the free handle indices that are more than the class needs at hand.
    pub fn surplus_handles(&mut self) -> &mut Fifo {
        &mut self.free
    }

    /// Returns all free handle indices of the class.
    pub fn all_handles(&mut self, memory: &PoolMemory) -> &mut Fifo {
        while let Some(index) = self.spare.pop() {
            self.free.push(memory, index);
        }
        &mut self.free
    }

    /// Returns all free handle indices of the class.
    #[cfg(all(test, loom))]
    pub fn free_handles(&self, memory: &PoolMemory) -> Vec<HandleIndex> {
        memory.listed(self.free).into_iter().chain(self.spare.iter()).collect()
    }
}

/// Charges the memory of `slot`, and of the slots after it that lie in the same pages.
#[cold]
fn grow(class: &Geometry, memory: &PoolMemory, slots: &mut Slots, slot: u8) -> Result<()> {
    let (had, needed) = (class.pages_of_slots(slots.touched as usize), class.pages_of_slots(slot as usize + 1));
    memory.charge.take(needed - had)?;
    slots.touched = (needed * PAGE / class.slot_bytes as usize).min(class.slots as usize) as u8;
    Ok(())
}

/// Counts no page of a zspage as warm any more, because the zspage is used again, loses pages or goes.
#[cold]
fn end_warm(memory: &PoolMemory, slots: &mut Slots) {
    memory.charge.end_warm(slots.warm as usize);
    slots.warm = 0;
}
