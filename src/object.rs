//! The protocol of the handle word. Every race about an object is decided here, by one compare-and-swap on one word.
//!
//! | step | word | ordering |
//! |---|---|---|
//! | publish | FREE to LIVE | Release, pairs with map |
//! | map to read | LIVE or MOVING: pins + 1 | Acquire, pairs with publish and commit |
//! | map to write | LIVE: pins + 1; MOVING: wait for the mover | Acquire, pairs with publish, commit and give-up |
//! | unmap | LIVE, MOVING, DYING: pins - 1; DYING, one pin: to FREE | Release, pairs with begin, free; then a fence |
//! | begin move | LIVE, no pins, at this very place, to MOVING | Acquire, pairs with unmap |
//! | commit | MOVING, no pins, to LIVE at the new place | AcqRel, on failure Acquire |
//! | give up | MOVING with pins to LIVE with the same pins | Release, on failure Acquire; pairs with map to write |
//! | free | LIVE, no pins, to FREE; pinned, or MOVING, to DYING | AcqRel, pairs with unmap |
//! | freed under the copy | DYING, no pins, this generation and place, to FREE | Release |
//!
//! DYING without pins belongs to the mover, DYING with pins to the last unmap. A reader that meets MOVING adds its pin
//! and leaves the state alone. If it turned MOVING back to LIVE, a writer could come in under the mover's copy. Only a
//! writer waits, for one copy of a slot at most.

use crate::error::{Error, sentence};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Wait, fence,
};
use crate::units::Place;
use crate::word::{MAX_PINS, ObjectState, Word};

/// A word of the handle table, with the steps of its protocol.
#[derive(Clone, Copy)]
pub struct ObjectWord<'a>(pub &'a AtomicU64);

/// Which thread releases the slot and the handle of an object that was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freed {
    /// The caller releases its slot, then its handle.
    Now(Place),
    /// The last unmap releases it, or the mover.
    Later,
}

/// How a move ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The object is at the new place. The mover releases the old slot.
    Committed,
    /// The object is still at the old place, or no longer the mover's. The mover releases the new slot.
    GaveUp,
    /// The object was freed under the copy. The mover releases both slots and the handle.
    Freed,
}

/// Why a handle word refuses a call. It is one byte, so that the hot paths carry no [`Error`] of two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The object was freed, or the handle was never given out.
    Stale,
    /// The object has as many pins as a word can count.
    TooOften,
    /// The object has no pin to take away, or the handle is stale.
    NotMapped,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stale => Self::Stale(sentence(&"the handle is stale, freed, or was never given out")),
            Refused::TooOften => Self::Busy(sentence(&"the object is mapped 4,095 times already")),
            Refused::NotMapped => Self::Stale(sentence(&"the object is not mapped, or the handle is stale")),
        }
    }
}

impl ObjectWord<'_> {
    /// Returns the word as it is now. A hint, unless something keeps the word from changing.
    #[inline]
    pub fn peek(self) -> Word {
        Word(self.0.load(Relaxed))
    }

    /// Notes the place that is kept for the next object of a FREE word, which is this thread's. Relaxed: the lock under
    /// which the word comes to the next thread orders it.
    pub fn keep_for(self, place: Place) {
        self.0.store(self.peek().with_place(place).0, Relaxed);
    }

    /// Makes an object reachable. The word is FREE and this thread's. Returns the generation for the handle.
    #[inline]
    pub fn publish(self, place: Place, pins: u64) -> u16 {
        let generation = self.peek().generation();
        // Release pairs with the Acquire of map: a thread that maps the object sees the zspage that it lies in.
        self.0.store(Word::live(generation, place, pins).0, Release);
        generation
    }

    /// Undoes a publish of which nobody was told.
    pub fn withdraw(self) {
        // Relaxed: nobody else knows the word, and a lock passes its index on.
        self.0.store(self.peek().retired().0, Relaxed);
    }

    /// Pins the object to read it. Never waits, because its old bytes are right during a move.
    #[inline]
    pub fn pin_to_read(self, generation: u16) -> Result<Place, Refused> {
        let mut word = self.peek();
        loop {
            if !word.is_held_by(generation) {
                return Err(Refused::Stale);
            }
            match self.try_pin(word)? {
                Ok(place) => return Ok(place),
                Err(now) => word = now,
            }
        }
    }

    /// Pins the object to write it. Waits only for a mover that is copying it.
    #[inline]
    pub fn pin_to_write(self, generation: u16) -> Result<Place, Refused> {
        let mut word = self.peek();
        let mut wait = Wait::default();
        loop {
            if !word.is_held_by(generation) {
                return Err(Refused::Stale);
            }
            if word.state() == ObjectState::Moving {
                self.wait_for_mover(word, &mut wait);
                word = self.peek();
                continue;
            }
            match self.try_pin(word)? {
                Ok(place) => return Ok(place),
                Err(now) => word = now,
            }
        }
    }

    /// One attempt to add a pin to `word`. Returns the place, or the word that was there instead.
    #[inline]
    fn try_pin(self, word: Word) -> Result<Result<Place, Word>, Refused> {
        if word.pins() == MAX_PINS {
            return Err(Refused::TooOften);
        }
        let pinned = word.with_pins(word.pins() + 1);
        // Acquire pairs with publish, commit and give-up: this thread sees the bytes at the place, and the mover has
        // read them.
        Ok(match self.0.compare_exchange(word.0, pinned.0, Acquire, Relaxed) {
            Ok(_) => Ok(word.place()),
            Err(now) => Err(Word(now)),
        })
    }

    #[cold]
    fn wait_for_mover(self, word: Word, wait: &mut Wait) {
        #[cfg(not(loom))]
        {
            // The half of the word that has the state, because a futex sees 32 bits.
            let half = usize::from(cfg!(target_endian = "little"));
            // SAFETY: a word is two halves, each aligned for 32 bits. This program only sleeps on the half, and never
            // accesses it as an atomic of another size than the word.
            let state = unsafe { &*self.0.as_ptr().cast::<crate::sync::AtomicU32>().add(half) };
            wait.on(state, (word.0 >> 32) as u32);
        }
        #[cfg(loom)]
        {
            let _ = word;
            wait.on(&crate::sync::AtomicU32::new(0), 0);
        }
    }

    /// Takes a pin off. Returns the place if it was the last pin of a freed object: then the caller releases the slot
    /// and the handle.
    #[inline]
    pub fn unpin(self, generation: u16) -> Result<Option<Place>, Refused> {
        let mut word = self.peek();
        loop {
            let pins = word.pins();
            if pins == 0 || word.state() == ObjectState::Free || word.generation() != generation {
                return Err(Refused::NotMapped);
            }
            let last = word.state() == ObjectState::Dying && pins == 1;
            let next = if last { word.retired() } else { word.with_pins(pins - 1) };
            // Release pairs with begin move and free: the reads and writes of this mapping end before the bytes move.
            match self.0.compare_exchange(word.0, next.0, Release, Relaxed) {
                Ok(_) if last => {
                    // Pairs with the Release of the other unmaps and of the free: the next owner of the slot comes
                    // after all of them.
                    fence(Acquire);
                    return Ok(Some(word.place()));
                }
                Ok(_) => return Ok(None),
                Err(now) => word = Word(now),
            }
        }
    }

    /// Frees the object. Never waits.
    #[inline]
    pub fn free(self, generation: u16) -> Result<Freed, Refused> {
        let mut word = self.peek();
        loop {
            if !word.is_held_by(generation) {
                return Err(Refused::Stale);
            }
            let now_free = word.state() == ObjectState::Live && word.pins() == 0;
            let next = if now_free { word.retired() } else { word.with_state(ObjectState::Dying) };
            // Acquire pairs with the Release of unmap: the next owner of the slot comes after the last mapping. Release
            // pairs with the mover's failed commit, and with the fence of the last unmap.
            match self.0.compare_exchange(word.0, next.0, AcqRel, Relaxed) {
                Ok(_) if now_free => return Ok(Freed::Now(word.place())),
                Ok(_) => return Ok(Freed::Later),
                Err(now) => word = Word(now),
            }
        }
    }

    /// Frees the object if it is neither mapped nor moving. Then the caller releases its slot and handle. Makes one
    /// attempt: returns none also if the word changed meanwhile.
    #[inline]
    pub fn free_if_idle(self, generation: u16) -> Option<Place> {
        let word = self.peek();
        let idle = word.is_held_by(generation) && word.state() == ObjectState::Live && word.pins() == 0;
        // Acquire pairs with the Release of unmap, as in `free`.
        (idle && self.0.compare_exchange(word.0, word.retired().0, AcqRel, Relaxed).is_ok()).then(|| word.place())
    }

    /// Begins to move the object at `place`, if it is there, LIVE, and not mapped.
    #[inline]
    pub fn begin_move(self, place: Place) -> Option<Word> {
        let word = self.idle_at(place)?;
        let moving = word.with_state(ObjectState::Moving);
        // Acquire pairs with the Release of unmap: the copy sees what the last mapping wrote.
        self.0.compare_exchange(word.0, moving.0, Acquire, Relaxed).ok().map(|_| moving)
    }

    /// Ends a move that [`ObjectWord::begin_move`] began with `moving`, after the bytes were copied to `target`.
    pub fn settle_move(self, moving: Word, target: Place) -> Moved {
        let moved = moving.with_state(ObjectState::Live).with_place(target);
        loop {
            // AcqRel: Release pairs with map, which must see the copy. Acquire pairs with the unmaps of those who read
            // under it, because their reads come before the old slot is used again. Acquire on failure pairs with a
            // free under the copy.
            let Err(now) = self.0.compare_exchange(moving.0, moved.0, AcqRel, Acquire) else {
                return Moved::Committed;
            };
            let now = Word(now);
            if now == moving.with_state(ObjectState::Dying) {
                // Release pairs only with the next publish of this word, because the mover alone owns it here.
                self.0.store(now.retired().0, Release);
                return Moved::Freed;
            }
            if now.with_pins(0) != moving {
                return Moved::GaveUp;
            }
            // Readers came in. Release pairs with map to write: the mover's reads come before the writes of that
            // mapping.
            let back = now.with_state(ObjectState::Live);
            if now.pins() > 0 && self.0.compare_exchange(now.0, back.0, Release, Acquire).is_ok() {
                return Moved::GaveUp;
            }
        }
    }

    /// Pins the object at `place` for an evict callback, if it is there, LIVE, and not mapped. An object that was just
    /// published and is still being written is mapped. The pin keeps the handle from being used again under the
    /// callback.
    pub fn pin_to_evict(self, place: Place) -> Option<u16> {
        let word = self.idle_at(place)?;
        let pinned = word.with_pins(1);
        // Acquire pairs with publish, as that of every map does.
        self.0.compare_exchange(word.0, pinned.0, Acquire, Relaxed).ok().map(|_| word.generation())
    }

    /// Returns the word if it is LIVE, without pins, at this very place.
    #[inline]
    fn idle_at(self, place: Place) -> Option<Word> {
        let word = self.peek();
        let idle = word.state() == ObjectState::Live && word.pins() == 0 && word.place() == place;
        idle.then_some(word)
    }
}
