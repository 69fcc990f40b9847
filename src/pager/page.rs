//! The protocol of the state word: whoever moves a page has claimed it, and nobody else touches its bytes in the
//! staging range or in zswap meanwhile.
//!
//! A claim is a compare-and-swap to BUSY; it ends with a store of what became of the page. Only the clock hand changes
//! a word without a claim: the age of a resident page, by a compare-and-swap that a claim makes fail. A claim that is
//! dropped puts the word back as it was, so that an ioctl that failed has changed nothing.

use super::word::{Kind, State};
use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    Wait,
};

/// A page's state word.
#[derive(Default)]
#[repr(transparent)]
pub struct Page(AtomicU32);

impl Page {
    /// What the word is; it may be another already.
    #[inline]
    pub fn peek(&self) -> State {
        State(self.0.load(Relaxed))
    }

    /// Claims the page if its word still is `seen`, which is not BUSY.
    #[inline]
    pub fn try_claim(&self, seen: State) -> Option<Claim<'_>> {
        debug_assert!(seen != State::BUSY);
        // Acquire pairs with the Release in `Claim::drop`: what the last claim did with the page's bytes is seen.
        let claimed = self.0.compare_exchange(seen.0, State::BUSY.0, Acquire, Relaxed);
        claimed.is_ok().then(|| Claim { page: self, was: seen, becomes: seen })
    }

    /// Claims the page, whatever its word is, and waits for who has it.
    #[inline]
    pub fn claim(&self) -> Claim<'_> {
        let mut wait = Wait::default();
        loop {
            let seen = self.peek();
            if seen == State::BUSY {
                wait.on(&self.0, State::BUSY.0);
            } else if let Some(claim) = self.try_claim(seen) {
                return claim;
            }
        }
    }

    /// Claims the page if its word is as `is` wants it, once nobody else has it.
    pub fn claim_if(&self, is: impl Fn(State) -> bool) -> Option<Claim<'_>> {
        let mut wait = Wait::default();
        loop {
            let seen = self.peek();
            if seen == State::BUSY {
                wait.on(&self.0, State::BUSY.0);
            } else if !is(seen) {
                return None;
            } else if let Some(claim) = self.try_claim(seen) {
                return Some(claim);
            }
        }
    }

    /// The clock hand passes a page by that is resident and was used: it is a little less so.
    #[inline]
    pub fn grow_older(&self, seen: State) {
        debug_assert!(matches!(seen.kind(), Kind::Resident(_)) && seen.age() > 0);
        let older = seen.with_age(seen.age() - 1);
        // Relaxed: only the age changes, and says nothing of the page's bytes. Should the word have changed, the page
        // was used, and is passed by all the same.
        let _ = self.0.compare_exchange(seen.0, older.0, Relaxed, Relaxed);
    }
}

/// A page that is this thread's to move.
#[must_use]
pub struct Claim<'a> {
    page: &'a Page,
    was: State,
    becomes: State,
}

impl Claim<'_> {
    /// What the word was.
    #[inline]
    pub fn was(&self) -> State {
        self.was
    }

    /// What it will be once the claim is dropped, as it stands.
    #[inline]
    pub fn becomes(&self) -> State {
        self.becomes
    }

    /// What it will be once the claim is dropped.
    #[inline]
    pub fn set(&mut self, state: State) {
        debug_assert!(state != State::BUSY);
        self.becomes = state;
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `try_claim`.
        self.page.0.store(self.becomes.0, Release);
    }
}
