//! The protocol of the state word. A thread that moves a page has claimed it, and nobody else touches the page's bytes
//! in the staging range or in zswap meanwhile.
//!
//! A claim is a compare-and-swap to BUSY. It ends with a store of what became of the page. Only the clock hand changes
//! a word without a claim: it lowers the age of a resident page by a compare-and-swap, which a claim makes fail. A
//! claim that is dropped without a new state puts the word back as it was, so that an ioctl that failed has changed
//! nothing.

use super::state::{PageKind, PageState};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    Wait,
};

/// A page's state word.
#[derive(Default)]
#[repr(transparent)]
pub struct StateWord(AtomicU32);

impl StateWord {
    /// Reads the word, which may have changed by the time that this returns.
    #[inline]
    pub fn peek(&self) -> PageState {
        PageState(self.0.load(Relaxed))
    }

    /// Claims the page if its word still is `seen`, which is not BUSY.
    #[inline]
    pub fn try_claim(&self, seen: PageState) -> Option<PageClaim<'_>> {
        debug_assert!(seen != PageState::BUSY);
        // Acquire pairs with the Release in `Claim::drop`: what the last claim did with the page's bytes is seen.
        let claimed = self.0.compare_exchange(seen.0, PageState::BUSY.0, Acquire, Relaxed);
        claimed.is_ok().then(|| PageClaim { page: self, was: seen, becomes: seen })
    }

    /// Claims the page in whatever state it is, once no other thread has it claimed.
    #[inline]
    pub fn claim(&self) -> PageClaim<'_> {
        let mut wait = Wait::default();
        loop {
            let seen = self.peek();
            if seen == PageState::BUSY {
                wait.on(&self.0, PageState::BUSY.0);
            } else if let Some(claim) = self.try_claim(seen) {
                return claim;
            }
        }
    }

    /// Claims the page if `is` accepts its state, once no other thread has it claimed.
    pub fn claim_if(&self, is: impl Fn(PageState) -> bool) -> Option<PageClaim<'_>> {
        let mut wait = Wait::default();
        loop {
            let seen = self.peek();
            if seen == PageState::BUSY {
                wait.on(&self.0, PageState::BUSY.0);
            } else if !is(seen) {
                return None;
            } else if let Some(claim) = self.try_claim(seen) {
                return Some(claim);
            }
        }
    }

    /// Lowers the age of a resident page that was used, as the clock hand passes it by.
    #[inline]
    pub fn grow_older(&self, seen: PageState) {
        debug_assert!(matches!(seen.kind(), PageKind::Resident(_)) && seen.age() > 0);
        let older = seen.with_age(seen.age() - 1);
        // Relaxed: only the age changes, and it says nothing of the page's bytes. If the word has changed, the page was
        // used, and is passed by all the same.
        let _ = self.0.compare_exchange(seen.0, older.0, Relaxed, Relaxed);
    }
}

/// A page that this thread may move, until this is dropped.
#[must_use]
pub struct PageClaim<'a> {
    page: &'a StateWord,
    was: PageState,
    becomes: PageState,
}

impl PageClaim<'_> {
    /// The state that the page had when it was claimed.
    #[inline]
    pub fn was(&self) -> PageState {
        self.was
    }

    /// The state that the page will have once the claim is dropped, as it stands.
    #[inline]
    pub fn becomes(&self) -> PageState {
        self.becomes
    }

    /// Sets the state that the page will have once the claim is dropped.
    #[inline]
    pub fn set(&mut self, state: PageState) {
        debug_assert!(state != PageState::BUSY);
        self.becomes = state;
    }
}

impl Drop for PageClaim<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `try_claim`.
        self.page.0.store(self.becomes.0, Release);
    }
}
