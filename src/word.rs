//! The bits of a handle and of a handle word. No shift by a field's position stands anywhere else.

use crate::units::{HandleIndex, Place, ZspageId};

/// A field of a 64-bit word.
#[derive(Clone, Copy)]
pub struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    /// A field of so many bits, from this one on.
    pub const fn new(shift: u32, bits: u32) -> Self {
        Self { shift, bits }
    }

    /// Its bits.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.bits)) << self.shift
    }

    /// Its value in a word.
    pub const fn get(self, word: u64) -> u64 {
        (word & self.mask()) >> self.shift
    }

    /// A word with this value in it.
    pub const fn set(self, word: u64, value: u64) -> u64 {
        debug_assert!(value >> self.bits == 0);
        (word & !self.mask()) | value << self.shift
    }
}

const SLOT: Field = Field::new(0, 6);
const ZSPAGE: Field = Field::new(6, 28);
const GENERATION: Field = Field::new(34, 16);
const PINS: Field = Field::new(50, 12);
const STATE: Field = Field::new(62, 2);
/// A free word that is on a free list names the next one where a live word has its place.
const LINK: Field = Field::new(0, 32);

const _: () = assert!(1 << SLOT.bits == crate::units::MAX_SLOTS);
const _: () = assert!(SLOT.mask() | ZSPAGE.mask() | GENERATION.mask() | PINS.mask() | STATE.mask() == u64::MAX);

/// Most mappings of one object at a time; few under loom, so that a model gets there.
pub const MAX_PINS: u64 = if cfg!(loom) { 3 } else { (1 << PINS.bits) - 1 };
/// Most zspages of a pool.
pub const MAX_ZSPAGES: usize = 1 << ZSPAGE.bits;

/// What is going on with the object of a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is none; the generation is that of the next.
    Free,
    /// It is there.
    Live,
    /// A compactor is copying it; it is still at its old place, and may be read there.
    Moving,
    /// It was freed while mapped. With pins it is the last unmap's to release, without it is the mover's.
    Dying,
}

/// The one word of an object: state, pins, generation and place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// A live object.
    pub const fn live(generation: u16, place: Place, pins: u64) -> Self {
        Self(0).with_state(State::Live).with_generation(generation).with_place(place).with_pins(pins)
    }

    /// Its state.
    pub const fn state(self) -> State {
        match STATE.get(self.0) {
            0 => State::Free,
            1 => State::Live,
            2 => State::Moving,
            _ => State::Dying,
        }
    }

    /// How many mappings hold it.
    pub const fn pins(self) -> u64 {
        PINS.get(self.0)
    }

    /// What the caller's handle must say.
    pub const fn generation(self) -> u16 {
        GENERATION.get(self.0) as u16
    }

    /// Where the object is; of a free word that is on no list yet, where it was.
    pub const fn place(self) -> Place {
        Place { zspage: ZspageId(ZSPAGE.get(self.0) as u32), slot: SLOT.get(self.0) as u8 }
    }

    /// The next free word, of a free word on a list.
    pub const fn link(self) -> HandleIndex {
        HandleIndex(LINK.get(self.0) as u32)
    }

    /// Whether a mapping may be taken or a free begin: LIVE or MOVING, of this generation.
    #[inline]
    pub const fn is_held_by(self, generation: u16) -> bool {
        matches!(self.state(), State::Live | State::Moving) && self.generation() == generation
    }

    /// The same in another state.
    pub const fn with_state(self, state: State) -> Self {
        Self(STATE.set(self.0, state as u64))
    }

    /// The same with so many pins.
    pub const fn with_pins(self, pins: u64) -> Self {
        Self(PINS.set(self.0, pins))
    }

    /// The same elsewhere.
    pub const fn with_place(self, place: Place) -> Self {
        Self(SLOT.set(ZSPAGE.set(self.0, place.zspage.0 as u64), place.slot as u64))
    }

    const fn with_generation(self, generation: u16) -> Self {
        Self(GENERATION.set(self.0, generation as u64))
    }

    /// A free word that names the next one.
    pub const fn with_link(self, next: HandleIndex) -> Self {
        Self(LINK.set(ZSPAGE.set(SLOT.set(self.0, 0), 0), next.0 as u64))
    }

    /// What it becomes when its object is gone: FREE, no pins, next generation. The place stays until the slot is
    /// released.
    pub const fn retired(self) -> Self {
        self.with_state(State::Free).with_pins(0).with_generation(self.generation().wrapping_add(1))
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} pins {} gen {} at {:?}", self.state(), self.pins(), self.generation(), self.place())
    }
}

/// The low bits of a handle, which alone differ within a pool.
pub const HANDLE_BITS: u32 = INDEX.bits + HANDLE_GENERATION.bits;

const INDEX: Field = Field::new(0, 32);
const HANDLE_GENERATION: Field = Field::new(32, 16);
const TAG: Field = Field::new(48, 16);

/// What a handle says: which word, which generation, which pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawHandle {
    /// The word in the handle table.
    pub index: HandleIndex,
    /// The generation it was given out with.
    pub generation: u16,
    /// The pool; never 0, so no handle is 0.
    pub tag: u16,
}

impl RawHandle {
    /// As 64 bits.
    pub const fn pack(self) -> u64 {
        TAG.set(HANDLE_GENERATION.set(self.index.0 as u64, self.generation as u64), self.tag as u64)
    }

    /// From 64 bits, whatever they are.
    pub const fn unpack(bits: u64) -> Self {
        Self {
            index: HandleIndex(INDEX.get(bits) as u32),
            generation: HANDLE_GENERATION.get(bits) as u16,
            tag: TAG.get(bits) as u16,
        }
    }
}
