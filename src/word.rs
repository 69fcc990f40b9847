//! The bits of a handle and of a handle word.

use crate::field::Field;
use crate::units::{HandleIndex, Place, ZspageId};

const SLOT: Field = Field::first(6);
const ZSPAGE: Field = SLOT.then(28);
const GENERATION: Field = ZSPAGE.then(16);
const PINS: Field = GENERATION.then(12);
const STATE: Field = PINS.then(2);
/// The next free word, in a free word on a list, where a live word has its place.
const LINK: Field = Field::first(32);

const _: () = assert!(SLOT.max() as usize + 1 == crate::units::MAX_SLOTS);
const _: () = assert!(Field::fill(&[SLOT, ZSPAGE, GENERATION, PINS, STATE], 64));
const _: () = assert!(Field::are_apart(&[LINK, GENERATION, PINS, STATE]));

/// The most mappings of one object at a time. Few under loom, so that a model gets there.
pub const MAX_PINS: u64 = if cfg!(loom) { 3 } else { PINS.max() };
/// The most zspages of a pool.
pub const MAX_ZSPAGES: usize = ZSPAGE.max() as usize + 1;

/// The state of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectState {
    /// There is no object. The generation is that of the next one.
    Free,
    /// The object is allocated.
    Live,
    /// Compaction is copying the object. It is still at its old place, and may be read there.
    Moving,
    /// The object was freed while it was mapped or moving. With pins, the last unmap releases it; without, the mover.
    Dying,
}

/// The handle word of an object: state, pins, generation and place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// The word of a live object.
    pub const fn live(generation: u16, place: Place, pins: u64) -> Self {
        Self(0).with_state(ObjectState::Live).with_generation(generation).with_place(place).with_pins(pins)
    }

    /// Returns the state of the object.
    pub const fn state(self) -> ObjectState {
        match STATE.get(self.0) {
            0 => ObjectState::Free,
            1 => ObjectState::Live,
            2 => ObjectState::Moving,
            _ => ObjectState::Dying,
        }
    }

    /// Returns how many mappings the object has.
    pub const fn pins(self) -> u64 {
        PINS.get(self.0)
    }

    /// Returns the generation, which a handle of the object must have.
    pub const fn generation(self) -> u16 {
        GENERATION.get(self.0) as u16
    }

    /// Returns where the object is. Of a free word that is on no list yet, returns where the object was.
    pub const fn place(self) -> Place {
        Place { zspage: ZspageId(ZSPAGE.get(self.0) as u32), slot: SLOT.get(self.0) as u8 }
    }

    /// Returns the next free word, of a free word on a list.
    pub const fn link(self) -> HandleIndex {
        HandleIndex(LINK.get(self.0) as u32)
    }

    /// Returns whether the object can be mapped and freed by a handle of this generation: it is LIVE or MOVING.
    #[inline]
    pub const fn is_held_by(self, generation: u16) -> bool {
        matches!(self.state(), ObjectState::Live | ObjectState::Moving) && self.generation() == generation
    }

    /// Returns the word with another state.
    pub const fn with_state(self, state: ObjectState) -> Self {
        Self(STATE.set(self.0, state as u64))
    }

    /// Returns the word with another number of pins.
    pub const fn with_pins(self, pins: u64) -> Self {
        Self(PINS.set(self.0, pins))
    }

    /// Returns the word with another place.
    pub const fn with_place(self, place: Place) -> Self {
        Self(SLOT.set(ZSPAGE.set(self.0, place.zspage.0 as u64), place.slot as u64))
    }

    const fn with_generation(self, generation: u16) -> Self {
        Self(GENERATION.set(self.0, generation as u64))
    }

    /// Returns a free word with another next one.
    pub const fn with_link(self, next: HandleIndex) -> Self {
        Self(LINK.set(ZSPAGE.set(SLOT.set(self.0, 0), 0), next.0 as u64))
    }

    /// Returns what the word becomes when its object is gone: FREE, no pins, the next generation. The place stays until
    /// the slot is released.
    pub const fn retired(self) -> Self {
        self.with_state(ObjectState::Free).with_pins(0).with_generation(self.generation().wrapping_add(1))
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} pins {} gen {} at {:?}", self.state(), self.pins(), self.generation(), self.place())
    }
}

/// How many low bits of a handle differ within a pool.
pub const HANDLE_BITS: u32 = INDEX.bits() + HANDLE_GENERATION.bits();

const INDEX: Field = Field::first(32);
const HANDLE_GENERATION: Field = INDEX.then(16);
const TAG: Field = HANDLE_GENERATION.then(16);

const _: () = assert!(Field::fill(&[INDEX, HANDLE_GENERATION, TAG], 64));

/// The parts of a handle: the index of a word, a generation, and the tag of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawHandle {
    /// The index of the word in the handle table.
    pub index: HandleIndex,
    /// The generation that the word had when the handle was given out.
    pub generation: u16,
    /// The tag of the pool. It is never 0, so no handle is 0.
    pub tag: u16,
}

impl RawHandle {
    /// Returns the handle as 64 bits.
    pub const fn pack(self) -> u64 {
        TAG.set(HANDLE_GENERATION.set(self.index.0 as u64, self.generation as u64), self.tag as u64)
    }

    /// Returns the parts of 64 bits, which may be no handle.
    pub const fn unpack(bits: u64) -> Self {
        Self {
            index: HandleIndex(INDEX.get(bits) as u32),
            generation: HANDLE_GENERATION.get(bits) as u16,
            tag: TAG.get(bits) as u16,
        }
    }
}
