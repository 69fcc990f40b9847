//! The zspages of one size class, by fullness, and the free handle indices at hand. All of it is derived from the
//! handle words; one lock guards it. The lock is normally held for a few instructions. Compaction holds it for a look
//! at 2048 zspages at most, and a malloc of a pool at its limit for a look at all zspages of the class, rarely. Nobody
//! holds it while waiting, copying, or calling the system.

#[cfg(all(test, not(loom)))]
mod check;
#[cfg(not(loom))]
mod forked;

use crate::classes::{Class, class};
use crate::error::Result;
use crate::region::{Fifo, Region, Ring};
use crate::sync::{Leftovers, Lock, Locked, Rank};
use crate::units::{ClassIndex, HandleIndex, Place, ZspageId};
use crate::zspage::{FULL, Listing, Slots};

/// A class keeps this many free indices before it uses one again, so that a stale handle is refused for at least so
/// many times 65,536 allocations; it fetches as many at a time, a cache line of words.
const SPARE_HANDLES: u32 = if cfg!(loom) { 1 } else { 8 };
const LISTS: usize = FULL as usize + 1;
/// Zspages of a list that a full pool looks at for a slot that has its memory.
const MOST_LOOKS: usize = 32;

/// A size class of one pool.
pub struct SizeClass {
    index: ClassIndex,
    state: Lock<State>,
    /// Handles whose slots are yet to be released, left by frees and unmaps that found the lock taken: they never
    /// wait, also not in a signal handler.
    deferred: Leftovers,
}

/// What the lock guards.
pub struct State {
    index: ClassIndex,
    own: Own,
    class: Class,
    heads: [ZspageId; LISTS],
    /// A bit for each list that has zspages.
    filled: u16,
    /// Free handle indices at hand.
    spare: Ring,
    /// Those that found no room there.
    free: Fifo,
    /// Zspages of the class, isolated ones too.
    pub zspages: u32,
    /// Slots taken.
    pub objects: u64,
    /// Slots that have their memory, taken or not.
    touched: u64,
    /// Whether a zspage is kept empty and warm.
    has_warm: bool,
    /// Whether the class ever needed a slot that has its memory already, because the pool was at its limit. From then
    /// on a zspage that gets such a slot comes first on its list.
    was_refused: bool,
    /// Whether a look at all zspages on the lists found no such slot, and none came since.
    none_in_reach: bool,
    /// Whether an index whose generation wrapped is never used again.
    retires: bool,
    /// Zspages that were looked at for one with room that has its memory already.
    #[cfg(test)]
    pub looked: u64,
}

/// A zspage that is off the class's books and that the caller has to give back, once the lock is let go.
#[must_use]
pub struct Emptied {
    /// Which.
    pub id: ZspageId,
    /// Its slots that have memory.
    pub touched: u8,
}

impl SizeClass {
    /// An empty class. `retires`: an index whose generation wrapped is never used again.
    pub fn new(index: ClassIndex, retires: bool) -> Self {
        let state = State {
            index,
            own: Own(index),
            class: class(index),
            heads: [ZspageId::NONE; LISTS],
            filled: 0,
            spare: Ring::EMPTY,
            free: Fifo::EMPTY,
            zspages: 0,
            objects: 0,
            touched: 0,
            has_warm: false,
            was_refused: false,
            none_in_reach: false,
            retires,
            #[cfg(test)]
            looked: 0,
        };
        Self { index, state: Lock::new(Rank::Class, state), deferred: Leftovers::default() }
    }

    /// Which class it is.
    pub fn index(&self) -> ClassIndex {
        self.index
    }

    /// Takes the lock, and releases what was deferred while another had it.
    #[inline]
    pub fn lock(&self, region: &Region) -> Locked<'_, State> {
        let mut state = self.state.lock();
        if self.deferred.any() {
            self.release_deferred(&mut state, region);
        }
        state
    }

    /// Releases the slot and the handle of an object that is gone: its word is FREE, and the caller is the one who
    /// made it so. Never waits.
    #[inline]
    pub fn release(&self, region: &Region, place: Place, handle: HandleIndex) -> Option<Emptied> {
        match self.state.try_lock() {
            Some(mut state) => {
                if self.deferred.any() {
                    self.release_deferred(&mut state, region);
                }
                state.push_handle(region, handle);
                state.release(region, place)
            }
            None => {
                self.defer(region, place, handle);
                None
            }
        }
    }

    fn defer(&self, region: &Region, place: Place, handle: HandleIndex) {
        // The slot is this thread's until it is left, so its note of whose object it has is free to be the link.
        self.deferred.leave(handle.0, |next| region.zspage(place.zspage).set_handle(place.slot, HandleIndex(next)));
    }

    #[cold]
    fn release_deferred(&self, state: &mut State, region: &Region) {
        self.deferred.take(|index| {
            let handle = HandleIndex(index);
            // Not on a free list yet, so the word still has the place where the object was.
            let place = region.word(handle).peek().place();
            let next = region.zspage(place.zspage).handle_at(place.slot).0;
            state.push_handle(region, handle);
            // One that is empty now stays listed: it is used next, or compaction returns it.
            state.release_slot(region, place);
            next
        });
    }
}

impl State {
    /// What only this lock's holder may change of a zspage of this class.
    #[inline]
    pub fn slots<'s>(&'s mut self, region: &'s Region, id: ZspageId) -> &'s mut Slots {
        self.own.slots(region, id)
    }

    /// The same, to look at.
    #[inline]
    pub fn peek<'s>(&'s self, region: &'s Region, id: ZspageId) -> &'s Slots {
        debug_assert!(region.zspage(id).is_of(self.index));
        // SAFETY: as for `slots`; while this lives nobody can borrow the state to change it.
        unsafe { region.zspage(id).peek_slots() }
    }

    /// Takes a slot in the fullest zspage that has one, and a free handle index; none: the class needs another zspage.
    #[inline]
    pub fn take(&mut self, region: &Region) -> Result<Option<(Place, HandleIndex)>> {
        if self.spare.count <= SPARE_HANDLES {
            self.fetch_handles(region)?;
        }
        let Some(id) = self.fullest() else { return Ok(None) };
        let place = match self.take_in(region, id) {
            Ok(place) => place,
            Err(full) => self.take_committed(region).ok_or(full)?,
        };
        let handle = self.spare.pop().expect("spare handles were fetched");
        // The word of the next allocation may be anywhere in the handle table.
        #[cfg(not(loom))]
        crate::os::prefetch(region.word(self.spare.oldest()).0);
        region.zspage(place.zspage).set_handle(place.slot, handle);
        Ok(Some((place, handle)))
    }

    /// Fetches as many indices as the class keeps, so that it has twice as many.
    #[cold]
    fn fetch_handles(&mut self, region: &Region) -> Result<()> {
        for _ in 0..=SPARE_HANDLES {
            let own = self.free.pop(region);
            match own.map_or_else(|| region.fetch_handle(), Ok) {
                Ok(index) => _ = self.spare.push(index),
                Err(error) if self.spare.count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Takes the lowest free slot of a zspage that has one. Fails if its memory would be more than the pool may have.
    #[inline]
    pub fn take_in(&mut self, region: &Region, id: ZspageId) -> Result<Place> {
        let slots = self.own.slots(region, id);
        let slot = slots.lowest_free();
        if slot >= slots.touched {
            let touched = slots.touched;
            grow(&self.class, region, slots, slot)?;
            self.touched += u64::from(slots.touched - touched);
            self.none_in_reach = false;
        }
        slots.take(slot);
        self.objects += 1;
        if slots.warm != 0 && slots.count > 1 {
            self.has_warm = false;
            end_warm(region, slots);
        }
        let listing = slots.listing(self.class);
        self.relist(region, id, listing);
        Ok(Place { zspage: id, slot })
    }

    /// Takes a slot that has its memory already: the pool is at its limit. Ends at once if no zspage has one, and
    /// normally looks at the first zspages of each list only: one that gets such a slot comes first on its list.
    #[cold]
    fn take_committed(&mut self, region: &Region) -> Option<Place> {
        self.was_refused = true;
        if self.touched == self.objects || self.none_in_reach {
            return None;
        }
        let id = self.committed_in_front(region).or_else(|| self.bring_committed_to_front(region))?;
        self.take_in(region, id).ok()
    }

    /// The first zspage with a free slot that has its memory, of the first [`MOST_LOOKS`] of each list.
    fn committed_in_front(&mut self, region: &Region) -> Option<ZspageId> {
        (1..FULL).find_map(|list| {
            #[cfg(test)]
            (self.looked += self.on_list(region, list).take(MOST_LOOKS).count() as u64);
            self.on_list(region, list).take(MOST_LOOKS).find(|&id| self.peek(region, id).has_committed_room())
        })
    }

    /// Brings all zspages with a free slot that has its memory to the front of their lists, and returns one. Looks at
    /// every zspage that is not full. The first refusal of a class needs this, and a later one only if allocations
    /// used up what was in front: some [`MOST_LOOKS`] of them. If nothing is found, as when a shrink has the zspage, it
    /// is not repeated until something can be.
    fn bring_committed_to_front(&mut self, region: &Region) -> Option<ZspageId> {
        let mut found = None;
        for list in 1..FULL {
            let mut next = self.heads[list as usize];
            while next != ZspageId::NONE {
                let id = next;
                let slots = *self.peek(region, id);
                next = slots.next;
                #[cfg(test)]
                (self.looked += 1);
                if slots.has_committed_room() {
                    self.change_list(region, id, list);
                    found = Some(id);
                }
            }
        }
        self.none_in_reach = found.is_none();
        found
    }

    /// The fullest zspage that has a free slot.
    #[inline]
    fn fullest(&self) -> Option<ZspageId> {
        let open = self.filled & !(1 << FULL);
        (open != 0).then(|| self.heads[open.ilog2() as usize])
    }

    /// Releases a slot. Returns the zspage if that slot was its last one: then the caller gives it back.
    #[inline]
    pub fn release(&mut self, region: &Region, place: Place) -> Option<Emptied> {
        match self.release_slot(region, place) {
            0 => self.keep_warm_or_remove(region, place.zspage),
            _ => None,
        }
    }

    /// Returns how many slots of the zspage are still taken.
    #[inline]
    fn release_slot(&mut self, region: &Region, place: Place) -> u8 {
        let slots = self.own.slots(region, place.zspage);
        slots.release(place.slot);
        self.objects -= 1;
        let count = slots.count;
        let mut listing = slots.listing_with_room(self.class);
        if self.was_refused && count + 1 == slots.touched {
            // It had no free slot with memory before. It comes first on its list, also if it stays on that list.
            listing.list = 0;
            self.none_in_reach = false;
        }
        self.relist(region, place.zspage, listing);
        count
    }

    /// Releases a slot that a mover took or emptied; an emptied zspage stays where it is.
    pub fn release_moved(&mut self, region: &Region, place: Place) {
        self.release_slot(region, place);
    }

    /// Takes a free handle index back, unless it is worn out.
    #[inline]
    pub fn push_handle(&mut self, region: &Region, handle: HandleIndex) {
        if self.retires && region.word(handle).peek().generation() == 0 {
            return;
        }
        if !self.spare.push(handle) {
            self.free.push(region, handle);
        }
    }

    /// Takes an empty zspage off the books, unless it is kept warm, or isolated: then its owner sees to it.
    #[cold]
    fn keep_warm_or_remove(&mut self, region: &Region, id: ZspageId) -> Option<Emptied> {
        let slots = self.peek(region, id);
        if slots.warm != 0 || slots.isolated {
            return None;
        }
        let pages = self.class.pages_of_slots(slots.touched as usize);
        if !self.has_warm && region.charge.keep_warm(pages) {
            self.has_warm = true;
            self.slots(region, id).warm = pages as u8;
            return None;
        }
        self.unlist(region, id);
        Some(self.remove(region, id))
    }

    fn end_warm(&mut self, region: &Region, id: ZspageId) {
        self.has_warm = false;
        end_warm(region, self.own.slots(region, id));
    }

    /// Notes that a zspage has memory for this many slots only. It has fewer pages than count as warm: it is not warm
    /// any more.
    pub fn set_touched(&mut self, region: &Region, id: ZspageId, touched: u8) {
        let slots = self.own.slots(region, id);
        self.touched = self.touched - u64::from(slots.touched) + u64::from(touched);
        slots.touched = touched;
        if slots.warm != 0 {
            self.end_warm(region, id);
        }
    }

    /// Adds a new zspage.
    pub fn add(&mut self, region: &Region, id: ZspageId) {
        region.zspage(id).set_owner(Some(self.index));
        self.zspages += 1;
        self.touched += u64::from(self.peek(region, id).touched);
        self.put_back(region, id);
    }

    /// Takes an empty zspage that is on no list off the books.
    fn remove(&mut self, region: &Region, id: ZspageId) -> Emptied {
        let slots = self.peek(region, id);
        debug_assert!(slots.count == 0 && slots.list == 0);
        let touched = slots.touched;
        if slots.warm != 0 {
            self.end_warm(region, id);
        }
        region.zspage(id).set_owner(None);
        self.zspages -= 1;
        self.touched -= u64::from(touched);
        Emptied { id, touched }
    }

    /// Isolates a zspage, if it is still this class's and nobody else isolated it.
    pub fn isolate(&mut self, region: &Region, id: ZspageId) -> bool {
        if !region.zspage(id).is_of(self.index) || self.peek(region, id).isolated {
            return false;
        }
        self.unlist(region, id);
        self.slots(region, id).isolated = true;
        true
    }

    /// Whether a zspage is this class's, and empty.
    pub fn is_empty(&self, region: &Region, id: ZspageId) -> bool {
        region.zspage(id).is_of(self.index) && self.peek(region, id).count == 0
    }

    /// Ends the isolation of a zspage: off the books if it is empty, and the caller gives it back; else on its list
    /// again.
    pub fn end_isolation(&mut self, region: &Region, id: ZspageId) -> Option<Emptied> {
        let slots = self.slots(region, id);
        slots.isolated = false;
        if slots.count == 0 {
            return Some(self.remove(region, id));
        }
        self.put_back(region, id);
        None
    }

    /// Puts a zspage back on the list that it belongs on; also one that the system would not take.
    pub fn put_back(&mut self, region: &Region, id: ZspageId) {
        let class = self.class;
        let slots = self.slots(region, id);
        slots.list = 0;
        let (listing, has_room) = (slots.listing(class), slots.has_committed_room());
        self.none_in_reach &= !has_room;
        self.relist(region, id, listing);
    }

    /// Moves a zspage to the list that its count asks for.
    #[inline]
    fn relist(&mut self, region: &Region, id: ZspageId, listing: Listing) {
        if listing.wanted != listing.list && !listing.isolated {
            self.change_list(region, id, listing.wanted);
        }
    }

    fn change_list(&mut self, region: &Region, id: ZspageId, list: u8) {
        self.unlist(region, id);
        let next = self.heads[list as usize];
        if next != ZspageId::NONE {
            self.slots(region, next).prev = id;
        }
        let slots = self.slots(region, id);
        (slots.list, slots.next, slots.prev) = (list, next, ZspageId::NONE);
        self.heads[list as usize] = id;
        self.filled |= 1 << list;
    }

    fn unlist(&mut self, region: &Region, id: ZspageId) {
        let Slots { next, prev, list, .. } = *self.peek(region, id);
        if list == 0 {
            return;
        }
        match prev {
            ZspageId::NONE => self.heads[list as usize] = next,
            prev => self.slots(region, prev).next = next,
        }
        if next != ZspageId::NONE {
            self.slots(region, next).prev = prev;
        }
        if self.heads[list as usize] == ZspageId::NONE {
            self.filled &= !(1 << list);
        }
        self.slots(region, id).list = 0;
    }

    /// The zspages on the lists, sparsest first; isolated ones are on none.
    pub fn iter<'r>(&self, region: &'r Region) -> impl Iterator<Item = ZspageId> + use<'r> {
        let heads = self.heads;
        (1..LISTS).flat_map(move |list| chain(region, heads[list]))
    }

    /// The zspages on one list.
    fn on_list<'r>(&self, region: &'r Region, list: u8) -> impl Iterator<Item = ZspageId> + use<'r> {
        chain(region, self.heads[list as usize])
    }

    /// The free handle indices that are more than the class needs at hand.
    pub fn surplus_handles(&mut self) -> &mut Fifo {
        &mut self.free
    }

    /// All free handle indices of the class.
    pub fn all_handles(&mut self, region: &Region) -> &mut Fifo {
        while let Some(index) = self.spare.pop() {
            self.free.push(region, index);
        }
        &mut self.free
    }

    /// The free handle indices of the class.
    #[cfg(all(test, loom))]
    pub fn free_handles(&self, region: &Region) -> Vec<HandleIndex> {
        region.listed(self.free).into_iter().chain(self.spare.iter()).collect()
    }
}

/// A zspage and those after it on its list. The caller holds the class's lock while it goes on, and changes no list
/// meanwhile.
fn chain(region: &Region, first: ZspageId) -> impl Iterator<Item = ZspageId> {
    let mut at = first;
    std::iter::from_fn(move || {
        let this = at;
        if this == ZspageId::NONE {
            return None;
        }
        // SAFETY: the caller holds the class's lock, and changes nothing.
        at = unsafe { region.zspage(this).peek_slots() }.next;
        Some(this)
    })
}

/// The right to change the zspages of a class: a part of what its lock guards. What is borrowed of them is borrowed
/// from this, one at a time, while the other parts are free to be used.
struct Own(ClassIndex);

impl Own {
    #[inline]
    fn slots<'s>(&'s mut self, region: &'s Region, id: ZspageId) -> &'s mut Slots {
        debug_assert!(region.zspage(id).is_of(self.0));
        // SAFETY: there is one of these for each class, behind its lock, and it is borrowed to be changed.
        unsafe { region.zspage(id).slots() }
    }
}

/// Charges the memory of `slot`, and of the slots after it that lie in the same pages.
#[cold]
fn grow(class: &Class, region: &Region, slots: &mut Slots, slot: u8) -> Result<()> {
    let (had, needed) = (class.pages_of_slots(slots.touched as usize), class.pages_of_slots(slot as usize + 1));
    region.charge.take(needed - had)?;
    slots.touched = (needed * crate::units::PAGE / class.slot_bytes as usize).min(class.slots as usize) as u8;
    Ok(())
}

/// A zspage is used again, or goes: its memory does not count as warm any more.
#[cold]
fn end_warm(region: &Region, slots: &mut Slots) {
    region.charge.end_warm(slots.warm as usize);
    slots.warm = 0;
}
