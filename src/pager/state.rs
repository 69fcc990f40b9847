//! The bits of a page's state word.
//!
//! ```text
//!  31                     7 6   5    4      3    2    0
//! ┌────────────────────────┬─────┬───────┬──────┬──────┐
//! │ holds, slot, departure │ age │ clean │ copy │ kind │
//! └────────────────────────┴─────┴───────┴──────┴──────┘
//! ```
//!
//! Bit 31 of a resident page's word is a mark: the page could not leave when it was tried last.
//!
//! A page that is resident or staged may have a kept copy in zswap. A clean copy equals the page, which was protected
//! from writes when it was put in place: such a page is evicted by dropping it. Any other copy is stale. Stale copies
//! are dropped later, so that no touch has to wait for the pool to give memory back.

use crate::field::Field;

const KIND: Field = Field::first(3);
const COPY: Field = KIND.then(2);
const AGE: Field = COPY.then(2);
const PAYLOAD: Field = AGE.then(25);
/// The part of the payload that counts the holds of a resident page.
const HOLDS: Field = AGE.then(24);
/// The bit of a resident page's payload that marks it as immovable.
const MARK: Field = HOLDS.then(1);

const _: () = assert!(Field::fill(&[KIND, COPY, AGE, PAYLOAD], u32::BITS));
const _: () = assert!(Field::fill(&[KIND, COPY, AGE, HOLDS, MARK], u32::BITS));

/// The highest number of a staging slot.
pub const MAX_PAYLOAD: u32 = PAYLOAD.max() as u32;
/// The most holds that a word has room for.
pub const MAX_HOLDS: u32 = HOLDS.max() as u32;
/// The highest age. The clock hand passes a page by as often as its age says.
pub const MAX_AGE: u32 = AGE.max() as u32;

/// Where a page's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Nowhere: the page reads as zero.
    Empty,
    /// In the page's place, which is held this many times.
    Resident(u32),
    /// In this slot of the staging range.
    Staged(u32),
    /// Compressed in zswap, and nowhere else.
    Stored,
    /// A thread has claimed the page, and is moving it.
    Busy,
    /// Lost: the stored copy is damaged, and a thread that touches the page gets a signal.
    Poisoned,
}

/// The copy in zswap of a page that is resident or staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptCopy {
    /// zswap has no copy.
    No,
    /// It has bytes that the page had once.
    Stale,
    /// It equals the page.
    Clean,
}

/// The value of a state word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageState(pub u32);

impl PageState {
    /// A page that reads as zero.
    pub const EMPTY: Self = Self::of(0);
    /// A claimed page.
    pub const BUSY: Self = Self::of(4);
    /// A claimed page whose claim ends with a wake-up: other threads wait for that.
    pub const AWAITED: Self = Self::BUSY.with(PAYLOAD, 1);
    /// A page whose stored copy was found to be damaged.
    pub const POISONED: Self = Self::of(5);

    const fn of(kind: u64) -> Self {
        Self(0).with(KIND, kind)
    }

    const fn get(self, field: Field) -> u32 {
        field.get(self.0 as u64) as u32
    }

    const fn with(self, field: Field, value: u64) -> Self {
        Self(field.set(self.0 as u64, value) as u32)
    }

    /// A page in its place, of this age, and not held.
    pub const fn resident(age: u32) -> Self {
        Self::of(1).with_age(age)
    }

    /// A page in zswap. The word keeps the age that the page had, and how many pages had left memory before it, as far
    /// as there are bits for that.
    pub const fn stored(age: u32, departures: u32) -> Self {
        Self::of(3).with_age(age).with(PAYLOAD, (departures & MAX_PAYLOAD) as u64)
    }

    /// How many pages left memory after a stored one, as far as there are bits for that, if `departures` have by now.
    pub const fn departures_since(self, departures: u32) -> u32 {
        departures.wrapping_sub(self.get(PAYLOAD)) & MAX_PAYLOAD
    }

    /// A page in a slot of the staging range. The word keeps its age and copy from when it was resident.
    pub const fn staged(slot: u32, resident: Self) -> Self {
        let copy = resident.get(COPY) as u64;
        Self::of(2).with_age(resident.age()).with(COPY, copy).with(PAYLOAD, slot as u64)
    }

    /// Where the page's bytes are.
    pub const fn kind(self) -> PageKind {
        match self.get(KIND) {
            0 => PageKind::Empty,
            1 => PageKind::Resident(self.get(HOLDS)),
            2 => PageKind::Staged(self.get(PAYLOAD)),
            3 => PageKind::Stored,
            4 => PageKind::Busy,
            _ => PageKind::Poisoned,
        }
    }

    /// Whether a touch of the page brings one more page to memory.
    pub const fn needs_room(self) -> bool {
        matches!(self.kind(), PageKind::Empty | PageKind::Stored)
    }

    /// How often the clock hand passes the page by.
    pub const fn age(self) -> u32 {
        self.get(AGE)
    }

    /// This state with another age.
    pub const fn with_age(self, age: u32) -> Self {
        self.with(AGE, age as u64)
    }

    /// The copy that zswap has of a page that is resident or staged.
    pub const fn copy(self) -> KeptCopy {
        match self.get(COPY) {
            0 => KeptCopy::No,
            1 => KeptCopy::Stale,
            _ => KeptCopy::Clean,
        }
    }

    /// This state with another copy, or without one.
    pub const fn with_copy(self, copy: KeptCopy) -> Self {
        let bits = match copy {
            KeptCopy::No => 0,
            KeptCopy::Stale => 1,
            KeptCopy::Clean => 3,
        };
        self.with(COPY, bits)
    }

    /// Whether this is a resident page that could not leave when it was tried last.
    pub const fn is_immovable(self) -> bool {
        self.get(KIND) == 1 && self.get(MARK) != 0
    }

    /// The state of a resident page with the mark that it could not leave, or without.
    pub const fn with_mark(self, on: bool) -> Self {
        self.with(MARK, on as u64)
    }

    /// The state of a resident page with this many holds, and without the mark that it could not leave.
    pub const fn with_holds(self, holds: u32) -> Self {
        self.with(PAYLOAD, holds as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let staged =
            PageState::staged(MAX_PAYLOAD, PageState::resident(2).with_copy(KeptCopy::Clean)).with_age(MAX_AGE);
        assert_eq!(
            (staged.kind(), staged.age(), staged.copy()),
            (PageKind::Staged(MAX_PAYLOAD), MAX_AGE, KeptCopy::Clean)
        );
        let held = PageState::resident(1).with_holds(MAX_HOLDS).with_copy(KeptCopy::No);
        assert_eq!((held.kind(), held.age(), held.copy()), (PageKind::Resident(MAX_HOLDS), 1, KeptCopy::No));
        assert_eq!(held.with_copy(KeptCopy::Stale).copy(), KeptCopy::Stale);
        assert_eq!(held.with_holds(0), PageState::resident(1));
        let marked = PageState::resident(2).with_copy(KeptCopy::Clean).with_mark(true);
        assert_eq!((marked.kind(), marked.age(), marked.copy()), (PageKind::Resident(0), 2, KeptCopy::Clean));
        assert!(marked.is_immovable() && marked.with_age(0).is_immovable() && !marked.with_mark(false).is_immovable());
        assert!(
            !PageState::staged(MAX_PAYLOAD, marked).is_immovable() && !PageState::stored(1, u32::MAX).is_immovable()
        );
        assert!(!marked.with_holds(MAX_HOLDS).is_immovable());
        let kinds = [PageState::EMPTY, PageState::stored(2, u32::MAX), PageState::BUSY, PageState::POISONED]
            .map(PageState::kind);
        assert!(PageState::AWAITED.kind() == PageKind::Busy && PageState::AWAITED != PageState::BUSY);
        assert_eq!(
            (PageState::stored(3, 7).departures_since(10), PageState::stored(3, u32::MAX).departures_since(4)),
            (3, 5)
        );
        assert_eq!(PageState::stored(3, u32::MAX).age(), 3);
        assert_eq!(kinds, [PageKind::Empty, PageKind::Stored, PageKind::Busy, PageKind::Poisoned]);
    }
}
