//! Compaction that nobody waits for.
//!
//! Class by class, zspages are emptied into others, one object at a time:
//!
//! 1. Take a slot in a zspage that stays, under the lock of the class.
//! 2. With no lock held, mark the object as moving, copy it, and commit or give up.
//! 3. Release the slot that the object is not in.
//!
//! Mapped objects are passed by. A zspage is emptied only if its memory is more than its objects will take elsewhere.
//! Zspages that are much fuller than the average of their class stay, then those in full chunks and at low addresses.
//! That order is the same for every class, so that whole chunks and whole pages of zspage records empty together. A
//! second step moves the last zspages out of the emptiest chunks with huge pages.

mod allowance;
mod candidate;
mod chunks;
mod next_moves;

use super::Pool;
use crate::error::Result;
use crate::geometry::{self, CLASS_COUNT};
use crate::heap;
use crate::memory::Tail;
use crate::object::Moved;
use crate::size_class::{ClassState, Emptied, SizeClass};
use crate::sync::{Locked, Ordering::Relaxed};
use crate::units::{ClassIndex, HandleIndex, Place, ZspageId};
use crate::zspage::FULL;
pub(crate) use allowance::Allowance;
use candidate::Candidate;
use next_moves::NextMoves;
use std::time::Duration;

/// How much one call of [`Pool::compact`] may do. [`Default`] has no bound. With a budget of nothing the call does
/// little or nothing: a program may pass what is left of its own.
/// Later versions may add fields: end a literal with `..Default::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactBudget {
    /// The call stops once it has moved this many bytes of objects. It finishes a zspage that it is moving out of a
    /// chunk, which may be some 200 KiB more. `None`: no bound.
    pub max_bytes_moved: Option<u64>,
    /// The call stops after this time, at the next object, or after memory went back. `None`: no bound.
    pub max_time: Option<Duration>,
}

/// How many zspages of a class are looked at together.
const WINDOW: usize = if cfg!(loom) { 4 } else { 2048 };
/// How many tails are gathered before they go back together; there are some 190 classes. Each call interrupts every
/// processor that runs this process.
const TAILS: usize = if cfg!(loom) { 2 } else { 128 };
/// How many emptied zspages may wait to go back together: some 400 MiB.
const SET_ASIDE: u64 = 4096;
/// The state of compaction, which is made with the pool.
pub struct Compaction {
    window: Box<[Candidate]>,
    /// How many classes the last call had done when its budget ran out.
    done: usize,
}

impl Compaction {
    /// Makes the state. All of it is written, so that its memory is there when the system has none left.
    pub fn new() -> Result<Self> {
        Ok(Self { window: heap::slice(WINDOW, |_| Ok(Candidate::NONE))?, done: 0 })
    }

    /// Returns how many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.window)
    }
}

/// What one call has done, and may do.
struct Pass {
    moved_bytes: u64,
    moved_objects: u64,
    left: Allowance,
    /// How many pages the system got.
    pages: u64,
    /// How many zspages were emptied.
    emptied: u64,
    /// Whether memory that is kept warm goes too.
    everything: bool,
    /// Tails that wait to go back together. The first `tail_count` are in use. Their zspages are isolated meanwhile.
    tails: [Option<Tail>; TAILS],
    tail_count: usize,
}

impl Pass {
    fn new(left: Allowance) -> Self {
        Self {
            moved_bytes: 0,
            moved_objects: 0,
            left,
            pages: 0,
            emptied: 0,
            everything: left.is_unbounded(),
            tails: [None; TAILS],
            tail_count: 0,
        }
    }

    /// Acts without the bounds, to finish a zspage: if half of it had moved, the next call would move it back.
    fn unbounded<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let (left, before) = (std::mem::replace(&mut self.left, Allowance::UNBOUNDED), self.moved_bytes);
        let result = act(self);
        self.left = left;
        self.left.spend(self.moved_bytes - before);
        result
    }

    /// Notes that an object moved, by the bytes of its slot.
    fn note_move(&mut self, bytes: u64) {
        self.moved_bytes += bytes;
        self.moved_objects += 1;
        self.left.spend(bytes);
    }
}

/// What one call did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compacted {
    /// How many pages the system got.
    pub pages: u64,
    pub moved_objects: u64,
    pub left: Allowance,
    /// The budget ended the call before it had looked at everything.
    pub is_cut_short: bool,
}

impl Compacted {
    /// Whether the call changed nothing.
    pub fn is_idle(&self) -> bool {
        self.pages == 0 && self.moved_objects == 0
    }
}

/// The objects and free slots of all zspages of a window.
#[derive(Default)]
struct Totals {
    objects: usize,
    /// Free slots that have their memory already.
    committed_room: usize,
    room: usize,
}

/// How emptying a zspage ended.
#[derive(PartialEq, Eq)]
enum Drained {
    /// All objects were moved but those that are mapped.
    Done,
    /// No slot was left to move to, or the budget was spent.
    Stopped,
}

impl Pool {
    /// Moves objects together and gives free memory back to the system. Returns how many pages of 4096 bytes the system
    /// really got. A call without bounds also gives back memory that was kept warm. If another thread is compacting
    /// this pool, returns 0 at once. If the budget runs out, the next call goes on where this one stopped.
    ///
    /// May be called from any thread and from an evict callback, not from a signal handler. Takes no memory, so that it
    /// works when there is none.
    ///
    /// # Errors
    /// [`crate::Error::Forked`] in a child without the pool.
    pub fn compact(&self, budget: &CompactBudget) -> Result<u64> {
        self.check_alive()?;
        Ok(self.try_to_compact(budget.begin()).map_or(0, |done| done.pages))
    }

    /// Compacts as [`Pool::compact`] does, and returns also how many objects moved, and what is left of the budget.
    /// Returns none if another thread is compacting.
    pub(crate) fn try_to_compact(&self, left: Allowance) -> Option<Compacted> {
        let mut compaction = self.compaction.try_lock()?;
        let mut pass = Pass::new(left);
        self.compact_classes(&mut compaction, &mut pass);
        self.return_tails(&mut pass);
        if !pass.left.is_spent() && self.memory.has_whole_chunks() {
            self.empty_sparse_chunks(&mut pass);
        }
        pass.pages += self.memory.return_emptied() + self.memory.return_empty_chunks();
        if pass.everything {
            self.collect_handles();
            pass.pages += self.memory.trim_records();
        }
        self.counters.pages_compacted.fetch_add(pass.pages, Relaxed);
        self.counters.objects_moved.fetch_add(pass.moved_objects, Relaxed);
        Some(Compacted {
            pages: pass.pages,
            moved_objects: pass.moved_objects,
            left: pass.left,
            is_cut_short: pass.left.is_spent(),
        })
    }

    /// Acts while it looks to other threads as if this one were compacting.
    #[cfg(test)]
    pub(crate) fn while_compacting<R>(&self, act: impl FnOnce() -> R) -> R {
        let _compacting = self.compaction.lock();
        act()
    }

    /// Compacts the classes, large ones first: they give the most for a move.
    fn compact_classes(&self, compaction: &mut Compaction, pass: &mut Pass) {
        let Compaction { window, done } = compaction;
        let first = *done;
        // If the last call stopped at a class, this one begins there, and does the classes before it last.
        for turn in (first..CLASS_COUNT).chain(0..first) {
            if pass.left.is_spent() {
                *done = turn;
                return;
            }
            self.compact_class(&self.classes[CLASS_COUNT - 1 - turn], window, pass);
        }
        *done = 0;
    }

    fn compact_class(&self, class: &SizeClass, window: &mut [Candidate], pass: &mut Pass) {
        let _paused = self.pause_shelves(class);
        loop {
            let (count, mut totals) = self.collect(class, window, pass);
            window[..count].sort_unstable();
            let before = pass.emptied;
            let (mut target, mut end) = (0, count);
            while end > target {
                let source = window[end - 1].id();
                if !self.pays(class, source, &mut totals) {
                    break;
                }
                end -= 1;
                if self.drain(class, source, &window[..end], &mut target, pass) == Drained::Stopped {
                    break;
                }
            }
            for candidate in &window[..end] {
                self.pack(class, candidate.id(), pass);
            }
            if count < window.len() || pass.emptied == before || pass.left.is_spent() {
                return;
            }
        }
    }

    /// Fills the window with zspages that have free slots. Returns how many, and their objects and slots together.
    fn collect(&self, class: &SizeClass, window: &mut [Candidate], pass: &Pass) -> (usize, Totals) {
        let state = class.lock(&self.memory);
        let slots_each = geometry::of(class.index()).slots as usize;
        let average = (state.objects as usize).checked_div(state.zspages as usize).unwrap_or(0);
        let (mut count, mut totals) = (0, Totals::default());
        for id in state.iter(&self.memory) {
            let slots = state.peek(&self.memory, id);
            if slots.list == FULL || count == window.len() {
                break;
            }
            if slots.warm != 0 && !pass.everything {
                continue;
            }
            let objects = slots.count as usize;
            let outlier = match objects {
                _ if objects * 2 < average || objects == 0 => 2,
                _ if objects * 2 > average + slots_each => 0,
                _ => 1,
            };
            let chunk = self.memory.chunk_of(id);
            window[count] = Candidate::new(outlier, self.memory.emptiness(chunk), chunk, id);
            count += 1;
            totals.objects += objects;
            totals.committed_room += slots.touched as usize - objects;
            totals.room += slots_each - objects;
        }
        (count, totals)
    }

    /// Returns whether emptying `source` frees more memory than its objects take elsewhere. If so, takes it out of the
    /// totals.
    fn pays(&self, class: &SizeClass, source: ZspageId, totals: &mut Totals) -> bool {
        let geometry = geometry::of(class.index());
        let state = class.lock(&self.memory);
        if !self.memory.zspage(source).is_of(class.index()) {
            // The zspage was freed meanwhile: there is nothing to do.
            return true;
        }
        let slots = state.peek(&self.memory, source);
        let (objects, touched) = (slots.count as usize, slots.touched as usize);
        let room = totals.room.saturating_sub(geometry.slots as usize - objects);
        let committed = totals.committed_room.saturating_sub(touched - objects);
        let fresh = objects.saturating_sub(committed);
        let pays = objects <= room && geometry.pages_of_slots(fresh) < geometry.pages_of_slots(touched).max(1);
        if pays {
            totals.objects -= objects.min(totals.objects);
            totals.committed_room = committed.saturating_sub(objects);
            totals.room = room - objects;
        }
        pays
    }

    /// Moves the objects of `source` that are not mapped into the zspages of `targets`, from `target` on. Gives
    /// `source` back if it is empty then.
    fn drain(
        &self,
        class: &SizeClass,
        source: ZspageId,
        targets: &[Candidate],
        target: &mut usize,
        pass: &mut Pass,
    ) -> Drained {
        let mut state = class.lock(&self.memory);
        if !state.isolate(&self.memory, source) {
            return Drained::Done;
        }
        let (mut slot, mut drained) = (0, Drained::Done);
        while let Some(next) = state.peek(&self.memory, source).taken_from(slot) {
            if pass.left.is_spent() {
                drained = Drained::Stopped;
                break;
            }
            let Some(to) = self.slot_in(&mut state, class.index(), targets, target) else {
                drained = Drained::Stopped;
                break;
            };
            state = self.move_one(class, state, Place { zspage: source, slot: next }, to, pass);
            slot = next + 1;
        }
        let emptied = state.end_isolation(&self.memory, source);
        drop(state);
        self.set_aside(class, emptied, pass);
        drained
    }

    /// Takes a slot in the first target that has one.
    fn slot_in(
        &self,
        state: &mut ClassState,
        class: ClassIndex,
        targets: &[Candidate],
        target: &mut usize,
    ) -> Option<Place> {
        while let Some(candidate) = targets.get(*target) {
            let id = candidate.id();
            let usable = self.memory.zspage(id).is_of(class) && {
                let slots = state.peek(&self.memory, id);
                !slots.isolated && slots.list != FULL
            };
            if usable && let Ok(place) = state.take_in(&self.memory, id) {
                return Some(place);
            }
            *target += 1;
        }
        None
    }

    /// Moves the object in slot `from`, if there is one that is not mapped, to slot `to`, which was taken for it. The
    /// lock is let go for the copy.
    fn move_one<'a>(
        &self,
        class: &'a SizeClass,
        state: Locked<'a, ClassState>,
        from: Place,
        to: Place,
        pass: &mut Pass,
    ) -> Locked<'a, ClassState> {
        let bytes = geometry::of(class.index()).slot_bytes as usize;
        let source = self.memory.zspage(from.zspage);
        let index = source.handle_at(from.slot);
        self.memory.zspage(to.zspage).set_handle(to.slot, index);
        let next = NextMoves::new(&state, &self.memory, from, to);
        drop(state);
        next.fetch(&self.memory, bytes);
        let moved = self.copy_object(index, from, to, bytes);
        let mut state = class.lock(&self.memory);
        match moved {
            Moved::Committed => {
                pass.note_move(bytes as u64);
                state.release_moved(&self.memory, from);
            }
            Moved::GaveUp => state.release_moved(&self.memory, to),
            Moved::Freed => {
                state.release_moved(&self.memory, from);
                state.release_moved(&self.memory, to);
                state.push_handle(&self.memory, index);
            }
        }
        state
    }

    fn copy_object(&self, index: HandleIndex, from: Place, to: Place, bytes: usize) -> Moved {
        // A record notes a handle index for each slot. While a freed object waits on the deferred list of its class,
        // the note is that list's link instead, and may be no valid index.
        if index.0 >= self.memory.word_count() {
            return Moved::GaveUp;
        }
        let word = self.memory.word(index);
        let Some(moving) = word.begin_move(from) else { return Moved::GaveUp };
        // SAFETY: MOVING keeps writers out. Isolation keeps the slot of the source from being used again. The target is
        // this thread's.
        unsafe { self.memory.copy(from, to, bytes) };
        let moved = word.settle_move(moving, to);
        if self.hardened && moved != Moved::GaveUp {
            self.wipe(from);
        }
        if self.hardened && moved != Moved::Committed {
            self.wipe(to);
        }
        moved
    }

    /// Moves the objects of a zspage into its lowest slots, if that frees pages, and gives the pages behind them back.
    fn pack(&self, class: &SizeClass, id: ZspageId, pass: &mut Pass) {
        let geometry = geometry::of(class.index());
        let mut state = class.lock(&self.memory);
        if pass.left.is_spent() || !self.memory.zspage(id).is_of(class.index()) || self.memory.is_whole(id) {
            return;
        }
        let pages = |slots: u8| geometry.pages_of_slots(slots as usize);
        let slots = state.peek(&self.memory, id);
        if slots.count == 0 || pages(slots.count) >= pages(slots.touched) || !state.isolate(&self.memory, id) {
            return;
        }
        let mut below = state.peek(&self.memory, id).end();
        // From the highest slot down. An object that can't be moved stays where it is.
        while let Some(slot) = state.peek(&self.memory, id).taken_before(below) {
            if state.peek(&self.memory, id).lowest_free() >= slot || pass.left.is_spent() {
                break;
            }
            let Ok(to) = state.take_in(&self.memory, id) else { break };
            state = self.move_one(class, state, Place { zspage: id, slot }, to, pass);
            below = slot;
        }
        let slots = *state.peek(&self.memory, id);
        if slots.end() == 0 {
            let emptied = state.end_isolation(&self.memory, id);
            drop(state);
            return self.set_aside(class, emptied, pass);
        }
        drop(state);
        // The zspage stays isolated until its pages went, so that nobody takes a slot in them.
        pass.tails[pass.tail_count] = Some(Tail { id, class: geometry, keep: slots.end(), touched: slots.touched });
        pass.tail_count += 1;
        if pass.tail_count == TAILS {
            self.return_tails(pass);
        }
    }

    /// Gives back the tails that were gathered, and ends the isolation of their zspages.
    fn return_tails(&self, pass: &mut Pass) {
        let (tails, count) = (pass.tails, std::mem::replace(&mut pass.tail_count, 0));
        let tails = || tails[..count].iter().flatten();
        let returned = self.memory.return_tails(tails());
        for tail in tails() {
            let class = &self.classes[self.memory.zspage(tail.id).class_index().0 as usize];
            let mut state = class.lock(&self.memory);
            if let Ok(gone) = returned {
                self.memory.charge.give_back(tail.pages());
                pass.pages += if gone { tail.pages() as u64 } else { 0 };
                state.set_touched(&self.memory, tail.id, tail.keep);
            }
            let emptied = state.end_isolation(&self.memory, tail.id);
            drop(state);
            self.set_aside(class, emptied, pass);
        }
    }

    /// Notes an emptied zspage, whose memory goes back with that of its neighbours. Gives back all noted memory once it
    /// is a lot.
    fn set_aside(&self, class: &SizeClass, emptied: Option<Emptied>, pass: &mut Pass) {
        let Some(Emptied { id, touched }) = emptied else { return };
        self.memory.empty(id, geometry::of(class.index()), touched);
        pass.emptied += 1;
        if pass.emptied.is_multiple_of(SET_ASIDE) {
            pass.pages += self.memory.return_emptied();
        }
    }

    /// Takes back the free handle indices that classes have too many of, so that all classes share them.
    fn collect_handles(&self) {
        for class in &self.classes {
            let mut state = class.lock(&self.memory);
            self.memory.take_back(state.surplus_handles());
        }
        self.shelves.return_stocks(&self.memory);
    }

    /// Empties one zspage into another, as compaction does.
    #[cfg(loom)]
    pub(crate) fn drain_into(&self, class: usize, source: ZspageId, target: ZspageId) {
        let target = [Candidate::new(0, 0, 0, target)];
        self.drain(&self.classes[class], source, &target, &mut 0, &mut Pass::new(Allowance::UNBOUNDED));
    }
}
