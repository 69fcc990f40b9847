//! Why a page was not stored, or not loaded: as cases to branch on. [`Error`] is for the public calls.

use super::limit::OverLimit;
use super::stats::Counts;
use crate::error::{Error, Limit, sentence};

/// Why a page was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotStored {
    /// The limit of the zswap or of the area is met.
    Over(OverLimit),
    /// The page does not compress, and the area refuses such pages.
    Incompressible,
    /// The pool has no memory for the page, or the call itself was refused.
    Failed(Error),
}

impl NotStored {
    /// Counts `pages` pages that were refused.
    pub(super) fn count(self, counts: &mut Counts, pages: u64) {
        let cause = match self {
            Self::Over(OverLimit::Zswap) => &mut counts.refused_limit,
            Self::Over(OverLimit::Area) => &mut counts.refused_area_limit,
            Self::Incompressible => &mut counts.refused_incompressible,
            Self::Failed(_) => &mut counts.refused_memory,
        };
        *cause += pages;
    }

    /// Returns the error of a public call.
    pub fn into_error(self) -> Error {
        const FULL: Error = Error::Limit(Limit::Zswap);
        const AREA_FULL: Error = Error::Limit(Limit::Area);
        const INCOMPRESSIBLE: Error =
            Error::TooLarge(sentence(&"the page does not compress, and the area takes no such pages"));
        match self {
            Self::Over(OverLimit::Zswap) => FULL,
            Self::Over(OverLimit::Area) => AREA_FULL,
            Self::Incompressible => INCOMPRESSIBLE,
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for NotStored {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<OverLimit> for NotStored {
    fn from(limit: OverLimit) -> Self {
        Self::Over(limit)
    }
}

/// Why a page was not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotLoaded {
    /// The check of the stored page is wrong.
    Damaged,
    /// Its tier has lost the page: what it returns is damaged, or is not the page's, or it returns nothing.
    DamagedOnTier,
    /// The page is on a tier of the program's own, and this is a signal handler.
    NeedsThread,
    /// The page could not be read for another reason, or the call itself was refused.
    Failed(Error),
}

impl From<Error> for NotLoaded {
    #[inline]
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl NotLoaded {
    /// Returns the error of a public call.
    #[inline]
    pub fn into_error(self) -> Error {
        const DAMAGED: Error = Error::Damaged(sentence(&"the stored page is damaged: its check is wrong"));
        const ON_TIER: Error = Error::Io(sentence(
            &"the page's tier has lost the page, or returns damaged bytes or those of another time",
        ));
        const NEEDS_THREAD: Error = Error::Again(sentence(
            &"the page is on a tier that no signal handler may call: lend a thread with the duty Tiers",
        ));
        match self {
            Self::Damaged => DAMAGED,
            Self::DamagedOnTier => ON_TIER,
            Self::NeedsThread => NEEDS_THREAD,
            Self::Failed(error) => error,
        }
    }
}
