//! The bits of a page's state word.
//!
//! ```text
//!  31                     7 6   5    4      3    2    0
//! ┌────────────────────────┬─────┬───────┬──────┬──────┐
//! │ holds, slot, departure │ age │ clean │ copy │ kind │
//! └────────────────────────┴─────┴───────┴──────┴──────┘
//! ```
//!
//! In a resident page's word bit 31 is a mark: the page could not leave when it was tried last.
//!
//! A page that is resident or staged may have a copy in zswap all the same. A clean one equals the page, which was
//! protected from writes when it was put in place: to evict such a page is to drop it. Another one is stale: it goes by
//! and by, so that no touch has to wait for the pool to give memory back.

/// Most staging slots.
pub const MAX_PAYLOAD: u32 = (1 << 25) - 1;
/// Most holds of a page.
pub const MAX_HOLDS: u32 = MAX_PAYLOAD >> 1;
/// The highest age: so many times the clock hand passes a page by.
pub const MAX_AGE: u32 = 3;

const KIND: u32 = 0b111;
const COPY: u32 = 1 << 3;
const CLEAN: u32 = 1 << 4;
const AGE_AT: u32 = 5;
const PAYLOAD_AT: u32 = 7;
const MARK: u32 = 1 << 31;

/// Where a page's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nowhere: it reads as zero.
    Empty,
    /// In its place, held so many times.
    Resident(u32),
    /// In a slot of the staging range.
    Staged(u32),
    /// In zswap.
    Stored,
    /// A thread has claimed it, and is moving it.
    Busy,
    /// Nowhere any more: its stored copy is damaged, and whoever touches it gets a signal.
    Poisoned,
}

/// What zswap has of a page that is resident or staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copied {
    /// Nothing.
    No,
    /// What it was once.
    Stale,
    /// What it is.
    Clean,
}

/// A state word's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(pub u32);

impl State {
    /// Reads as zero.
    pub const EMPTY: Self = Self(0);
    /// Claimed.
    pub const BUSY: Self = Self(4);
    /// Lost, and known to be.
    pub const POISONED: Self = Self(5);

    /// In its place, of this age, not held.
    pub const fn resident(age: u32) -> Self {
        Self(1 | age << AGE_AT)
    }

    /// In zswap; of what age it was, and how many pages had left memory before it, as far as there is room for that.
    pub const fn stored(age: u32, departures: u32) -> Self {
        Self(3 | age << AGE_AT | departures << PAYLOAD_AT)
    }

    /// How many pages left memory since a stored one did, as far as there is room for that.
    pub const fn departures_since(self, departures: u32) -> u32 {
        departures.wrapping_sub(self.0 >> PAYLOAD_AT) & MAX_PAYLOAD
    }

    /// In a slot of the staging range; remembers its age and copy from when it was resident.
    pub const fn staged(slot: u32, resident: Self) -> Self {
        Self(2 | resident.0 & (MAX_AGE << AGE_AT | COPY | CLEAN) | slot << PAYLOAD_AT)
    }

    /// Where the bytes are.
    pub const fn kind(self) -> Kind {
        match self.0 & KIND {
            0 => Kind::Empty,
            1 => Kind::Resident(self.0 >> PAYLOAD_AT & MAX_HOLDS),
            2 => Kind::Staged(self.0 >> PAYLOAD_AT),
            3 => Kind::Stored,
            4 => Kind::Busy,
            _ => Kind::Poisoned,
        }
    }

    /// How many times the clock hand passes it by.
    pub const fn age(self) -> u32 {
        self.0 >> AGE_AT & MAX_AGE
    }

    /// The same with another age.
    pub const fn with_age(self, age: u32) -> Self {
        Self(self.0 & !(MAX_AGE << AGE_AT) | age << AGE_AT)
    }

    /// Whether zswap has a copy, clean or stale, of a page that is resident or staged.
    pub const fn copy(self) -> Copied {
        match self.0 & (COPY | CLEAN) {
            0 => Copied::No,
            COPY => Copied::Stale,
            _ => Copied::Clean,
        }
    }

    /// The same with a copy, or without.
    pub const fn with_copy(self, copy: Copied) -> Self {
        let bits = match copy {
            Copied::No => 0,
            Copied::Stale => COPY,
            Copied::Clean => COPY | CLEAN,
        };
        Self(self.0 & !(COPY | CLEAN) | bits)
    }

    /// Whether it is a resident page that could not leave when it was tried last.
    pub const fn is_immovable(self) -> bool {
        self.0 & KIND == 1 && self.0 & MARK != 0
    }

    /// A resident page's, with that mark or without.
    pub const fn with_mark(self, on: bool) -> Self {
        Self(self.0 & !MARK | if on { MARK } else { 0 })
    }

    /// A resident page's, with so many holds, and without the mark that it could not leave.
    pub const fn with_holds(self, holds: u32) -> Self {
        Self(self.0 & ((1 << PAYLOAD_AT) - 1) | holds << PAYLOAD_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let staged = State::staged(MAX_PAYLOAD, State::resident(2).with_copy(Copied::Clean)).with_age(MAX_AGE);
        assert_eq!((staged.kind(), staged.age(), staged.copy()), (Kind::Staged(MAX_PAYLOAD), MAX_AGE, Copied::Clean));
        let held = State::resident(1).with_holds(MAX_HOLDS).with_copy(Copied::No);
        assert_eq!((held.kind(), held.age(), held.copy()), (Kind::Resident(MAX_HOLDS), 1, Copied::No));
        assert_eq!(held.with_copy(Copied::Stale).copy(), Copied::Stale);
        assert_eq!(held.with_holds(0), State::resident(1));
        let marked = State::resident(2).with_copy(Copied::Clean).with_mark(true);
        assert_eq!((marked.kind(), marked.age(), marked.copy()), (Kind::Resident(0), 2, Copied::Clean));
        assert!(marked.is_immovable() && marked.with_age(0).is_immovable() && !marked.with_mark(false).is_immovable());
        assert!(!State::staged(MAX_PAYLOAD, marked).is_immovable() && !State::stored(1, u32::MAX).is_immovable());
        assert!(!marked.with_holds(MAX_HOLDS).is_immovable());
        let kinds = [State::EMPTY, State::stored(2, u32::MAX), State::BUSY, State::POISONED].map(State::kind);
        assert_eq!((State::stored(3, 7).departures_since(10), State::stored(3, u32::MAX).departures_since(4)), (3, 5));
        assert_eq!(State::stored(3, u32::MAX).age(), 3);
        assert_eq!(kinds, [Kind::Empty, Kind::Stored, Kind::Busy, Kind::Poisoned]);
    }
}
