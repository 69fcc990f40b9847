//! The protocol of an extent's slot word, which alone decides how long the extent lives.
//!
//! An extent lives while a page word names one of its entries, or a thread has it pinned. Both are counts in one word,
//! so that the last page word and the last pin can't miss each other.
//!
//! | step | word | ordering |
//! |---|---|---|
//! | open | FREE to LIVE, with all its entries and the pin of the thread that fills it | Release, pairs with pin |
//! | pin | LIVE of the generation that the page word names: one pin more; **then** read the page word again | Acquire |
//! | drop | entries less; no entry and no pin left: DYING | AcqRel |
//! | unpin | one pin less; no entry and no pin left: DYING | AcqRel |
//! | bury | puts a slot that this thread made DYING, or could not end, on the list | Release, pairs with exhume |
//! | exhume | takes the whole list | Acquire |
//! | end | DYING to FREE with the next generation | Release, pairs with pin |
//!
//! Entries never grow. Each of them is dropped once: by the thread whose compare-and-swap took its page word away, or
//! by the thread that filled the extent, for an entry whose page word could not be published. A thread that reads an
//! entry pins the slot and then reads the page word again. If that names the entry still, the extent is the one that
//! the word means, even if the generation has come round: the pin keeps the slot from ending.
//!
//! Release in drop and unpin pairs with the Acquire of whichever step makes the slot DYING: what readers did comes
//! before the extent's room is used again.

use crate::field::Field;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

const STATE: Field = Field::first(2);
const GENERATION: Field = STATE.then(16);
const ENTRIES: Field = GENERATION.then(8);
const PINS: Field = ENTRIES.then(38);
const _: () = assert!(Field::fill(&[STATE, GENERATION, ENTRIES, PINS], 64));

const FREE: u64 = 0;
const LIVE: u64 = 1;
const DYING: u64 = 2;

/// The word of a slot, and what may be done to it.
#[derive(Clone, Copy)]
pub struct SlotCell<'a>(pub &'a AtomicU64);

/// Whether a step made the slot DYING. The thread of that step puts it on the list of dying slots.
#[must_use = "a slot that is DYING has to be buried"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MadeDying(pub bool);

impl SlotCell<'_> {
    /// Opens a FREE slot that this thread took, with `entries` entries, pinned. Returns its generation.
    pub fn open(self, entries: usize) -> u16 {
        // Relaxed: the thread that ended the slot handed it over under the lock of the free slots.
        let word = self.0.load(Relaxed);
        debug_assert!(STATE.get(word) == FREE && entries > 0);
        // Release pairs with the Acquire of pin: a reader that pins sees the record, and that older page words are
        // gone.
        self.0.store(PINS.set(ENTRIES.set(STATE.set(word, LIVE), entries as u64), 1), Release);
        GENERATION.get(word) as u16
    }

    /// Pins the slot if it is LIVE and of this generation.
    pub fn pin(self, generation: u16) -> bool {
        // Acquire pairs with the Release of open and of end, whichever wrote the word.
        let mut word = self.0.load(Acquire);
        while STATE.get(word) == LIVE && GENERATION.get(word) == u64::from(generation) {
            match self.0.compare_exchange(word, PINS.set(word, PINS.get(word) + 1), Acquire, Acquire) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes a pin of this thread's away.
    pub fn unpin(self) -> MadeDying {
        self.lessen(|word| PINS.set(word, PINS.get(word) - 1))
    }

    /// Takes `entries` entries away that no page word names any more.
    pub fn drop_entries(self, entries: usize) -> MadeDying {
        self.lessen(|word| ENTRIES.set(word, ENTRIES.get(word) - entries as u64))
    }

    fn lessen(self, less: impl Fn(u64) -> u64) -> MadeDying {
        let mut word = self.0.load(Relaxed);
        loop {
            debug_assert_eq!(STATE.get(word), LIVE);
            let mut next = less(word);
            let dying = ENTRIES.get(next) == 0 && PINS.get(next) == 0;
            if dying {
                next = STATE.set(next, DYING);
            }
            // Release: what this thread read comes before the slot ends. Acquire, for the step that makes it DYING: so
            // does what all others read.
            match self.0.compare_exchange(word, next, AcqRel, Relaxed) {
                Ok(_) => return MadeDying(dying),
                Err(now) => word = now,
            }
        }
    }

    /// Makes a DYING slot FREE, whose extent is gone from its tier.
    pub fn end(self) {
        let word = self.0.load(Relaxed);
        debug_assert_eq!(STATE.get(word), DYING);
        let generation = (GENERATION.get(word) + 1) & GENERATION.max();
        // Release pairs with the Acquire of pin: a reader that finds the slot FREE sees that its page word is gone.
        self.0.store(GENERATION.set(STATE.set(word, FREE), generation), Release);
    }

    /// Returns the generation and how many entries are left if the slot is LIVE. A hint: nothing is acquired.
    pub fn peek(self) -> Option<(u16, usize)> {
        let word = self.0.load(Relaxed);
        (STATE.get(word) == LIVE).then(|| (GENERATION.get(word) as u16, ENTRIES.get(word) as usize))
    }
}

/// The slots that are DYING, each linked to the next by a word of its own. The list is taken as a whole, so that no
/// slot leaves it and comes again while a thread puts another one in front.
pub struct DyingSlots {
    /// 1 + the slot that was buried last; 0: none.
    first: AtomicU32,
}

impl DyingSlots {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self { first: AtomicU32::new(0) }
    }

    /// Buries a slot that this thread made DYING. `next` is the slot's link.
    pub fn bury(&self, slot: u32, next: &AtomicU32) {
        let mut first = self.first.load(Relaxed);
        loop {
            next.store(first, Relaxed);
            // Release pairs with the Acquire of exhume: the slot's link and its last readers are seen.
            match self.first.compare_exchange(first, slot + 1, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Takes the whole list. Returns the first slot; [`after`] returns those behind it.
    pub fn exhume(&self) -> Option<u32> {
        if self.first.load(Relaxed) == 0 {
            return None;
        }
        // Acquire pairs with the Release of bury.
        self.first.swap(0, Acquire).checked_sub(1)
    }
}

/// Returns the slot behind one that was exhumed, given its link.
pub fn after(next: &AtomicU32) -> Option<u32> {
    next.load(Relaxed).checked_sub(1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_dies_with_its_last_entry_or_its_last_pin() {
        for pins_last in [true, false] {
            let word = AtomicU64::new(0);
            let slot = SlotCell(&word);
            let generation = slot.open(3);
            assert!(slot.pin(generation) && !slot.pin(generation.wrapping_add(1)));
            assert_eq!(slot.unpin(), MadeDying(false));
            assert_eq!(slot.drop_entries(2), MadeDying(false));
            assert_eq!(slot.peek(), Some((generation, 1)));
            let last = match pins_last {
                true => [slot.drop_entries(1), slot.unpin()],
                false => [slot.unpin(), slot.drop_entries(1)],
            };
            assert_eq!(last, [MadeDying(false), MadeDying(true)]);
            assert!(!slot.pin(generation) && slot.peek().is_none());
            slot.end();
            assert!(!slot.pin(generation) && !slot.pin(generation + 1));
            assert_eq!(slot.open(1), generation + 1);
        }
    }

    #[test]
    fn generations_come_round() {
        let word = AtomicU64::new(0);
        let slot = SlotCell(&word);
        for round in 0..=u32::from(u16::MAX) + 1 {
            assert_eq!(slot.open(1), round as u16);
            assert_eq!((slot.unpin(), slot.drop_entries(1)), (MadeDying(false), MadeDying(true)));
            slot.end();
        }
    }

    #[test]
    fn the_list_has_each_buried_slot_once() {
        let (list, links) = (DyingSlots::new(), [const { AtomicU32::new(0) }; 5]);
        assert_eq!(list.exhume(), None);
        (0..5).for_each(|slot| list.bury(slot, &links[slot as usize]));
        let slots: Vec<u32> = std::iter::successors(list.exhume(), |&slot| after(&links[slot as usize])).collect();
        assert_eq!((slots, list.exhume()), (vec![4, 3, 2, 1, 0], None));
    }
}
