//! Shelves: free slots at hand for each processor, in the classes where processors meet.
//!
//! A class whose lock was found taken a few times gets a shelf for each processor. A free puts its object's index on
//! the shelf of its processor, and a malloc takes it from there: neither touches the class. What lies on a shelf is as
//! after a free that was deferred: the word is FREE and names the place, the slot counts as taken, and its note names
//! the index. So compaction and shrinks pass it by.
//!
//! Memory hardly pays for it:
//!
//! - A class grows only when its shelves are empty. What is on them goes back before it takes memory.
//! - A class of which a quarter is free closes its shelves, because zspages of it may become empty.
//! - Compaction and shrinks close the shelves of a class while they work on it. An allocation that is refused closes
//!   all shelves of the pool, and tries again.
//!
//! What is left: a zspage with a slot on a shelf is not empty, so a class that threads replace objects in keeps a
//! zspage now and then that it would have given back. With two threads that was 3 % of the memory of 40,000 objects in
//! 160 classes, and 0.8 % with 160,000 objects, until compaction.
//!
//! A thread that holds the lock of a class may wait for that of a shelf. A thread that holds a shelf takes no lock of a
//! class.

use super::stock::Stock;
use super::{ClassState, Emptied, Shortage, SizeClass};
use crate::error::Result;
use crate::geometry::CLASS_COUNT;
use crate::heap;
use crate::memory::{PoolMemory, Ring};
use crate::sync::{AtomicU32, Lock, Ordering::Relaxed, Rank};
use crate::units::{ClassIndex, HandleIndex, PAGE, Place};

/// How many indices a shelf has room for.
const ROOM: usize = if cfg!(loom) { 2 } else { 14 };
/// How many indices move between a shelf and its class together.
const LOT: usize = ROOM / 2;
/// A malloc finds the lock of a class taken this often before the class gets shelves.
const MEETINGS: u8 = 8;
/// The most processors that have shelves of their own. More share them.
const MOST_PROCESSORS: usize = 32;
/// The shelves may take this part of the memory of a pool.
const SHARE: usize = 256;
/// An index whose generation is a multiple of this gives its place to another one, and comes back behind others. So a
/// stale handle is refused for longer than it takes to use one index 65,536 times.
const TURN: u16 = 1 << 12;

/// The indices of free slots that are at hand for a processor, first in, first out.
pub struct Kept {
    is_open: bool,
    first: u8,
    count: u8,
    indices: [u32; ROOM],
}

impl Kept {
    const CLOSED: Self = Self { is_open: false, first: 0, count: 0, indices: [0; ROOM] };

    fn at(&self, offset: usize) -> usize {
        (self.first as usize + offset) % ROOM
    }

    /// Adds an index. Returns false if there is no room.
    fn push(&mut self, index: HandleIndex) -> bool {
        let has_room = (self.count as usize) < ROOM;
        if has_room {
            self.indices[self.at(self.count as usize)] = index.0;
            self.count += 1;
        }
        has_room
    }

    /// Takes the oldest index.
    fn pop(&mut self) -> Option<HandleIndex> {
        self.count = self.count.checked_sub(1)?;
        let index = self.indices[self.first as usize];
        self.first = self.at(1) as u8;
        Some(HandleIndex(index))
    }
}

/// The shelf of a processor for a class, on a cache line of its own.
#[repr(align(64))]
struct Shelf(Lock<Kept>);

#[cfg(not(any(loom, debug_assertions)))]
static_assertions::const_assert_eq!(size_of::<Shelf>(), 64);

/// The shelves of a pool.
pub struct Shelves {
    /// Whether the shelves of each class may be open: 1, or 0. A hint, because a shelf itself says whether it is open.
    in_use: Box<[AtomicU32]>,
    /// How many classes these are, so that a pool without any pays for one load.
    classes_in_use: AtomicU32,
    /// Those of the first processor, one for each class, then those of the next one.
    shelves: Box<[Shelf]>,
    /// The free indices of each processor.
    stocks: Box<[Stock]>,
    processors: usize,
    /// Whether an index whose generation wrapped is never used again.
    pub(super) retires: bool,
}

impl Shelves {
    /// Makes the shelves of a pool that may have `limit` pages: none if there is one processor, or if they would be
    /// more than a small part of it.
    // Not inlined: the creation of a pool has no need of its stack afterwards.
    #[inline(never)]
    pub fn new(limit: u64, retires: bool) -> Result<Self> {
        let pages_each = (CLASS_COUNT * size_of::<Shelf>()).div_ceil(PAGE);
        let affordable = usize::try_from(limit).unwrap_or(usize::MAX) / SHARE / pages_each;
        let processors = if cfg!(loom) { 1 } else { crate::os::processors().min(MOST_PROCESSORS) };
        #[cfg(all(test, not(loom)))]
        let processors = processors.max(2);
        let processors = if processors > affordable || processors == 1 && cfg!(not(loom)) { 0 } else { processors };
        let shelf = |_| Ok(Shelf(Lock::new(Rank::Shelf, Kept::CLOSED)));
        Ok(Self {
            in_use: heap::slice(CLASS_COUNT, |_| Ok(AtomicU32::new(0)))?,
            classes_in_use: AtomicU32::new(0),
            shelves: heap::slice(processors * CLASS_COUNT, shelf)?,
            stocks: heap::slice(processors, |_| Ok(Stock::new()))?,
            processors,
            retires,
        })
    }

    /// Returns how many bytes they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.shelves) + size_of_val(&*self.in_use) + size_of_val(&*self.stocks)
    }

    /// Returns whether the shelves of a class may be open. Relaxed: a thread that acts on it looks at the shelf itself,
    /// under its lock.
    #[inline]
    pub fn are_in_use(&self, class: ClassIndex) -> bool {
        // Models without shelves are spared the load, which would be one more place where threads may switch.
        (cfg!(not(loom)) || self.processors > 0)
            && self.are_any_in_use()
            && self.in_use[class.0 as usize].load(Relaxed) != 0
    }

    /// Returns whether the shelves of any class may be open.
    #[inline]
    pub fn are_any_in_use(&self) -> bool {
        self.classes_in_use.load(Relaxed) != 0
    }

    /// Says whether the shelves of a class may be open. The caller holds the lock of the class.
    fn set_in_use(&self, class: ClassIndex, are: bool) {
        if self.in_use[class.0 as usize].swap(are.into(), Relaxed) != u32::from(are) {
            // Wraps where one goes.
            self.classes_in_use.fetch_add(if are { 1 } else { u32::MAX }, Relaxed);
        }
    }

    /// Returns the number of this processor, as shelves count them.
    #[inline]
    fn processor(&self) -> usize {
        #[cfg(all(test, not(loom)))]
        if let Some(processor) = PROCESSOR.get() {
            return processor % self.processors;
        }
        if cfg!(loom) { 0 } else { crate::os::current_cpu() % self.processors }
    }

    /// Returns the shelf of a processor for a class.
    #[inline]
    fn shelf(&self, processor: usize, class: ClassIndex) -> &Lock<Kept> {
        &self.shelves[processor * CLASS_COUNT + class.0 as usize].0
    }

    /// Returns the free indices of each processor.
    pub fn stocks(&self) -> &[Stock] {
        &self.stocks
    }

    /// Returns how many processors have shelves.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// Returns all shelves.
    #[cfg(not(loom))]
    pub(super) fn all(&self) -> impl Iterator<Item = &Lock<Kept>> {
        self.shelves.iter().map(|shelf| &shelf.0)
    }

    /// Returns all shelves for a class.
    fn of(&self, class: ClassIndex) -> impl Iterator<Item = &Lock<Kept>> {
        self.shelves.iter().skip(class.0 as usize).step_by(CLASS_COUNT).map(|shelf| &shelf.0)
    }
}

/// Indices that a shelf has no room for.
#[derive(Default)]
struct Lot {
    indices: [u32; LOT],
    count: usize,
}

impl Lot {
    fn add(&mut self, index: HandleIndex) {
        self.indices[self.count] = index.0;
        self.count += 1;
    }

    fn indices(&self) -> impl Iterator<Item = HandleIndex> + '_ {
        self.indices[..self.count].iter().map(|&index| HandleIndex(index))
    }
}

/// Zspages that became empty when the indices of a few shelves went back to the class.
#[derive(Default)]
pub struct Vacated {
    zspages: [Option<Emptied>; 2 * ROOM],
    count: usize,
}

impl Vacated {
    /// Returns whether there is room for what one more shelf may empty.
    fn has_room(&self) -> bool {
        self.count + ROOM <= self.zspages.len()
    }

    fn note(&mut self, emptied: Option<Emptied>) {
        if emptied.is_some() {
            self.zspages[self.count] = emptied;
            self.count += 1;
        }
    }

    /// Returns the zspages, which the caller gives back once it holds no lock.
    pub fn into_zspages(self) -> impl Iterator<Item = Emptied> {
        self.zspages.into_iter().flatten()
    }
}

/// What became of an index that a free wanted to put on a shelf.
#[expect(clippy::large_enum_variant, reason = "a box would allocate, and the common case writes the tag alone")]
pub enum Shelved {
    /// It is on the shelf.
    Kept,
    /// It must go to the class: another thread has the shelf, or the index must not be used again so soon.
    Refused,
    /// It is on the shelf, after others went to the class, or went there itself.
    MadeRoom(Vacated),
}

/// What a malloc gets of a class: a slot and an index, or none if the class needs another zspage.
pub type Taken = std::result::Result<Option<(Place, HandleIndex)>, Shortage>;

impl SizeClass {
    /// Takes a slot and an index from this processor's shelf. If it is empty, takes them from the class, and puts a few
    /// more on the shelf if the class has some whose memory is there.
    #[inline]
    pub fn take_from_shelf(&self, memory: &PoolMemory, shelves: &Shelves) -> Taken {
        let processor = shelves.processor();
        let kept = shelves.shelf(processor, self.index).try_lock().and_then(|mut kept| kept.pop());
        match kept {
            Some(index) => Ok(Some((memory.word(index).peek().place(), index))),
            None => self.take_and_refill(memory, shelves, processor),
        }
    }

    #[inline(never)]
    fn take_and_refill(&self, memory: &PoolMemory, shelves: &Shelves, processor: usize) -> Taken {
        let mut state = self.lock(memory);
        if !state.has_slot_ready(memory) {
            for mut kept in shelves.of(self.index).filter_map(Lock::try_lock) {
                state.take_off(memory, &mut kept);
            }
        }
        let Some(mut stock) = shelves.stocks[processor].try_lock() else { return state.take_slowly(memory) };
        let taken = state.take_with(memory, &mut stock);
        if let Ok(Some(_)) = taken
            && let Some(mut kept) = shelves.shelf(processor, self.index).try_lock()
        {
            let share = (state.touched - state.objects) as usize / shelves.processors;
            state.refill(memory, &mut kept, &mut stock, share.min(LOT));
        }
        taken
    }

    /// Puts the index of an object whose word the caller made FREE on this processor's shelf. Never waits.
    #[inline]
    pub fn put_on_shelf(&self, memory: &PoolMemory, shelves: &Shelves, index: HandleIndex) -> Shelved {
        let processor = shelves.processor();
        let Some(mut kept) = shelves.shelf(processor, self.index).try_lock() else { return Shelved::Refused };
        let index = match memory.word(index).peek().generation().is_multiple_of(TURN) {
            false => index,
            true if !kept.is_open || kept.count as usize == ROOM => return Shelved::Refused,
            true => match shelves.other_index(memory, processor, index) {
                Some(other) => other,
                None => return Shelved::Refused,
            },
        };
        if kept.is_open && kept.push(index) {
            return Shelved::Kept;
        }
        let (is_open, mut lot) = (kept.is_open, Lot::default());
        if is_open {
            (0..LOT).map_while(|_| kept.pop()).for_each(|oldest| lot.add(oldest));
            kept.push(index);
        } else {
            lot.add(index);
        }
        drop(kept);
        self.put_back_lot(memory, shelves, processor, is_open, lot)
    }

    /// Puts back a lot that a shelf had no room for. If much of the class is free, closes its shelves.
    #[inline(never)]
    fn put_back_lot(
        &self,
        memory: &PoolMemory,
        shelves: &Shelves,
        processor: usize,
        was_open: bool,
        lot: Lot,
    ) -> Shelved {
        let Some(mut state) = self.try_lock(memory) else {
            lot.indices().for_each(|index| self.defer(memory, memory.word(index).peek().place(), index));
            return Shelved::Kept;
        };
        let mut vacated = Vacated::default();
        let mut stock = shelves.stocks[processor].try_lock();
        for index in lot.indices() {
            let stock = if state.has_many_zspages() { None } else { stock.as_deref_mut() };
            state.return_index(memory, index, stock, &mut vacated);
        }
        drop(stock);
        if state.has_shelves && state.pauses == 0 {
            if state.is_sparse() {
                state.try_to_close(memory, shelves, &mut vacated);
            } else if !was_open && let Some(mut kept) = shelves.shelf(processor, self.index).try_lock() {
                // It was closed for a while, or not all shelves could be closed when the class was sparse.
                kept.is_open = true;
            }
        }
        Shelved::MadeRoom(vacated)
    }
}

impl ClassState {
    /// Returns whether so much of the class is free that its zspages may become empty.
    fn is_sparse(&self) -> bool {
        let slots = u64::from(self.zspages) * u64::from(self.class.slots);
        self.has_many_zspages() && self.objects * 4 < slots * 3
    }

    /// Returns whether the class has more than a few zspages. Threads then seldom use the same lines of handle words at
    /// once, and its objects keep indices of the class, which lie together.
    pub(super) fn has_many_zspages(&self) -> bool {
        self.zspages > 2
    }

    /// Returns whether the slot that a malloc takes next has its memory.
    fn has_slot_ready(&self, memory: &PoolMemory) -> bool {
        let ready = |id| {
            let slots = self.peek(memory, id);
            slots.lowest_free() < slots.touched
        };
        self.fullest().is_some_and(ready)
    }

    /// Notes that a malloc found the lock of the class taken. Opens the shelves once that happened a few times.
    pub(super) fn meet(&mut self, shelves: &Shelves) {
        if self.has_shelves {
            return;
        }
        self.meetings += 1;
        if self.meetings == MEETINGS {
            self.open_shelves(shelves);
        }
    }

    /// Opens the shelves of the class, unless that would cost memory, or a compaction or shrink keeps them closed.
    pub fn open_shelves(&mut self, shelves: &Shelves) {
        self.meetings = 0;
        if shelves.processors > 0 && self.pauses == 0 && !self.is_sparse() {
            self.has_shelves = true;
            self.set_open(shelves);
        }
    }

    fn set_open(&self, shelves: &Shelves) {
        shelves.of(self.index).for_each(|shelf| shelf.lock().is_open = true);
        shelves.set_in_use(self.index, true);
    }

    /// Keeps the shelves of the class closed until [`ClassState::resume_shelves`]. The caller then closes those that
    /// are open. Returns whether any is.
    pub fn pause_shelves(&mut self, shelves: &Shelves) -> bool {
        self.pauses += 1;
        shelves.set_in_use(self.index, false);
        self.has_shelves
    }

    /// Opens the shelves again that were open before they were paused.
    pub fn resume_shelves(&mut self, shelves: &Shelves) {
        self.pauses -= 1;
        if self.pauses == 0 && self.has_shelves {
            self.set_open(shelves);
        }
    }

    /// Gives the shelves of the class up. The caller then closes them. Returns whether the class had any.
    pub fn give_shelves_up(&mut self, shelves: &Shelves) -> bool {
        self.meetings = 0;
        shelves.set_in_use(self.index, false);
        std::mem::replace(&mut self.has_shelves, false)
    }

    /// Closes one shelf of the class, and puts back what is on it.
    pub fn close_shelf(&mut self, memory: &PoolMemory, shelves: &Shelves, processor: usize) -> Vacated {
        let mut vacated = Vacated::default();
        let mut kept = shelves.shelf(processor, self.index).lock();
        self.close(memory, &mut kept, &mut vacated);
        vacated
    }

    /// Closes those shelves that no other thread has. If all are closed then, the class has none. Never waits.
    fn try_to_close(&mut self, memory: &PoolMemory, shelves: &Shelves, vacated: &mut Vacated) {
        let mut all = true;
        for shelf in shelves.of(self.index) {
            match shelf.try_lock() {
                Some(mut kept) if vacated.has_room() => self.close(memory, &mut kept, vacated),
                _ => all = false,
            }
        }
        if all {
            self.give_shelves_up(shelves);
        }
    }

    /// Puts an index back, and its slot. The index goes to the stock, if there is one with room.
    fn return_index(
        &mut self,
        memory: &PoolMemory,
        index: HandleIndex,
        stock: Option<&mut Ring>,
        vacated: &mut Vacated,
    ) {
        let place = memory.word(index).peek().place();
        if !stock.is_some_and(|stock| stock.push(index)) {
            self.push_handle(memory, index);
        }
        vacated.note(self.release(memory, place));
    }

    /// Closes a shelf, and puts back what is on it.
    fn close(&mut self, memory: &PoolMemory, kept: &mut Kept, vacated: &mut Vacated) {
        kept.is_open = false;
        while let Some(index) = kept.pop() {
            self.return_index(memory, index, None, vacated);
        }
    }

    /// Puts all indices of a shelf back, to be used at once: a zspage that is empty then stays on its list.
    fn take_off(&mut self, memory: &PoolMemory, kept: &mut Kept) {
        while let Some(index) = kept.pop() {
            let place = memory.word(index).peek().place();
            self.push_handle(memory, index);
            self.release_slot(memory, place);
        }
    }

    /// Puts up to `most` free slots whose memory is there on an open shelf.
    fn refill(&mut self, memory: &PoolMemory, kept: &mut Kept, stock: &mut Ring, most: usize) {
        while kept.is_open && (kept.count as usize) < most && self.has_slot_ready(memory) {
            let Ok(Some((place, index))) = self.take_with(memory, stock) else { return };
            memory.word(index).keep_for(place);
            kept.push(index);
        }
    }

    /// Returns how many objects the class has. What is on shelves counts as taken, and is none.
    pub fn live_objects(&self, shelves: &Shelves) -> u64 {
        let kept = |shelf: &Lock<Kept>| u64::from(shelf.lock().count);
        self.objects - if self.has_shelves { shelves.of(self.index).map(kept).sum() } else { 0 }
    }
}

#[cfg(all(test, not(loom)))]
thread_local! {
    /// The processor that this thread is taken to run on.
    pub static PROCESSOR: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
impl ClassState {
    /// Panics if what is on the shelves of the class is not as it must be. Returns the indices that are on them.
    pub fn check_shelves(&self, memory: &PoolMemory, shelves: &Shelves) -> Vec<HandleIndex> {
        let mut found = Vec::new();
        for shelf in shelves.of(self.index) {
            let kept = shelf.lock();
            assert!(kept.count == 0 || kept.is_open, "{:?}: {} indices are on a closed shelf", self.index, kept.count);
            assert!(!kept.is_open || self.has_shelves && self.pauses == 0, "{:?}: a shelf was left open", self.index);
            found.extend((0..kept.count as usize).map(|offset| HandleIndex(kept.indices[kept.at(offset)])));
        }
        for &index in &found {
            let word = memory.word(index).peek();
            let place = word.place();
            assert_eq!(word.state(), crate::word::ObjectState::Free, "{index:?} is on a shelf, and {word:?}");
            assert!(
                memory.zspage(place.zspage).is_of(self.index),
                "{index:?} is on a shelf of {:?}: {word:?}",
                self.index
            );
            assert!(
                self.peek(memory, place.zspage).taken.is_set(place.slot as usize),
                "{index:?}: a slot twice: {word:?}"
            );
            assert_eq!(memory.zspage(place.zspage).handle_at(place.slot), index, "{word:?}");
        }
        found
    }
}
