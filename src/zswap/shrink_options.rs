//! What a shrink is to take: how much, how old, and in which order.

use super::tier::TierAccess;
use super::word::{MAX_AGE, PageWord};
use crate::error::{Error, Result, sentence};
use std::ops::AddAssign;

/// What [`crate::Zswap::shrink_by`] and [`crate::Area::shrink_by`] write back. [`Default`]: all pages that can go, in
/// the order in which they were used.
/// Later versions may add fields: end a literal with `..Default::default()`.
///
/// ```
/// use zsalloc::ShrinkOptions;
///
/// // A mebibyte of compressed bytes, of pages that are of age 2 or 3.
/// let options = ShrinkOptions { max_bytes: Some(1 << 20), min_age: 2, ..Default::default() };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShrinkOptions {
    /// How many pages may leave the pool. [`u64::MAX`], the default: no limit.
    pub max_pages: u64,
    /// How many bytes of slots may become free: those that [`crate::ZswapStats::used_bytes`] counts. A page that would
    /// take the sum beyond this stays. `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Only pages of this age and older, at most 3: see [`crate::Area::age`]. 0: pages of all ages, where a page that
    /// was used has a second chance as in [`crate::Zswap::shrink`]. From 1 on, pages that were used stay, and keep the
    /// mark that says so.
    pub min_age: u8,
    /// Whether pages that did not compress go first: they make the most room. The others follow, as far as more may go.
    pub incompressible_first: bool,
}

impl Default for ShrinkOptions {
    fn default() -> Self {
        Self { max_pages: u64::MAX, max_bytes: None, min_age: 0, incompressible_first: false }
    }
}

impl ShrinkOptions {
    /// The age of the pages that were longest unused.
    pub const MAX_AGE: u8 = MAX_AGE;

    /// Refuses an age that no page reaches.
    pub(super) fn check(&self) -> Result<()> {
        const AGE: Error = Error::Invalid(sentence(&"min_age is more than 3, and no page becomes older: set 0 to 3"));
        if self.min_age > MAX_AGE { Err(AGE) } else { Ok(()) }
    }

    /// Returns which pages to take, in the order in which to take them.
    pub(super) fn choices(&self) -> impl Iterator<Item = Choice> {
        let of = |raw_only| Choice { min_age: self.min_age, raw_only };
        self.incompressible_first.then(|| of(true)).into_iter().chain([of(false)])
    }

    /// Returns the error of a shrink that found no page, though there are some in the pool. `plain`: its error if it
    /// takes pages of every age and size.
    pub(super) fn why_nothing(&self, plain: Error) -> Error {
        const NONE_SUCH: Error = Error::Again(sentence(
            &"no page that is old and small enough could be written back now: age the area, or ask for more",
        ));
        if self.min_age > 0 || self.max_bytes.is_some() { NONE_SUCH } else { plain }
    }
}

/// What a shrink has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShrinkDone {
    /// How many pages left the pool.
    pub pages: u64,
    /// How many bytes of slots became free in the pool.
    pub bytes: u64,
}

impl ShrinkDone {
    /// Counts a page whose slot has so many bytes.
    pub(super) fn count(&mut self, slot_bytes: u32) {
        *self += Self { pages: 1, bytes: slot_bytes.into() };
    }
}

impl AddAssign for ShrinkDone {
    fn add_assign(&mut self, more: Self) {
        self.pages += more.pages;
        self.bytes += more.bytes;
    }
}

/// Which pages a sweep takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    min_age: u8,
    raw_only: bool,
}

impl Choice {
    /// All that were not used since the clock hand last passed.
    pub const ALL: Self = Self { min_age: 0, raw_only: false };

    /// Whether pages that were used are given a second chance, so that a second round finds them.
    pub fn gives_second_chances(self) -> bool {
        self == Self::ALL
    }

    /// Whether it takes the page of this word.
    pub fn takes(self, word: PageWord) -> bool {
        !word.is_referenced() && word.age() >= self.min_age && (word.is_raw() || !self.raw_only)
    }
}

/// What a shrink may still take, and which tiers it may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    pub pages: u64,
    pub bytes: u64,
    pub access: TierAccess,
    /// Whether it has taken something.
    has_taken: bool,
}

impl Quota {
    /// All there is.
    pub const ALL: Self = Self { pages: u64::MAX, bytes: u64::MAX, access: TierAccess::All, has_taken: false };

    /// Returns what options allow.
    pub fn of(options: &ShrinkOptions, access: TierAccess) -> Self {
        let bytes = options.max_bytes.unwrap_or(u64::MAX);
        Self { pages: options.max_pages, bytes, access, has_taken: false }
    }

    /// Whether nothing may be taken any more.
    pub fn is_spent(self) -> bool {
        self.pages == 0 || self.bytes == 0
    }

    /// Returns the same with at most so many pages.
    pub fn at_most(self, pages: u64) -> Self {
        Self { pages: self.pages.min(pages), ..self }
    }

    /// Returns what is left after `done`.
    pub fn after(self, done: ShrinkDone) -> Self {
        Self {
            pages: self.pages.saturating_sub(done.pages),
            bytes: self.bytes.saturating_sub(done.bytes),
            has_taken: self.has_taken || done.pages > 0,
            ..self
        }
    }

    /// Whether the search for a page ends at one whose slot is too large. It goes on until something was taken, and no
    /// further: what is left of the bytes is not worth a look at all other pages.
    pub fn ends_at_misfits(self) -> bool {
        self.has_taken
    }
}
