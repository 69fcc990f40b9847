//! The protocol of the state word. A thread that moves a page has claimed it, and nobody else touches the page's bytes
//! in the staging range or in zswap meanwhile.
//!
//! A claim is a compare-and-swap to BUSY. It ends with a store of what became of the page. Only the clock hand changes
//! a word without a claim: it lowers the age of a resident page by a compare-and-swap, which a claim makes fail. A
//! claim that is dropped without a new state puts the word back as it was, so that an ioctl that failed has changed
//! nothing.
//!
//! A thread that waits for the end of a claim marks the word and sleeps on it. The end of a claim takes the mark away
//! and wakes all threads that sleep: each looks by itself what became of the page.

use super::state::{PageKind, PageState};
use crate::parking::Futex;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// How often a thread looks at a claimed page before it sleeps: some 2 us in all.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 64 };

/// A page's state word.
#[derive(Default)]
#[repr(transparent)]
pub struct StateWord(Futex);

impl StateWord {
    /// Reads the word, which may have changed by the time that this returns.
    #[inline]
    pub fn peek(&self) -> PageState {
        PageState(self.0.load(Relaxed))
    }

    /// Claims the page if its word still is `seen`, which is not BUSY.
    #[inline]
    pub fn try_claim(&self, seen: PageState) -> Option<PageClaim<'_>> {
        debug_assert!(seen.kind() != PageKind::Busy);
        // Acquire pairs with the Release in `PageClaim::drop`: what the last claim did with the page's bytes is seen.
        let claimed = self.0.compare_exchange(seen.0, PageState::BUSY.0, Acquire, Relaxed);
        claimed.is_ok().then(|| PageClaim { page: self, was: seen, becomes: seen })
    }

    /// Claims the page in whatever state it is, once no other thread has it claimed.
    #[inline]
    pub fn claim(&self) -> PageClaim<'_> {
        loop {
            let seen = self.peek();
            if seen.kind() == PageKind::Busy {
                self.wait_for_end();
            } else if let Some(claim) = self.try_claim(seen) {
                return claim;
            }
        }
    }

    /// Claims the page if `is` accepts its state, once no other thread has it claimed.
    pub fn claim_if(&self, is: impl Fn(PageState) -> bool) -> Option<PageClaim<'_>> {
        loop {
            let seen = self.peek();
            if seen.kind() == PageKind::Busy {
                self.wait_for_end();
            } else if !is(seen) {
                return None;
            } else if let Some(claim) = self.try_claim(seen) {
                return Some(claim);
            }
        }
    }

    /// Waits until the claim of another thread has ended. May return early.
    #[cold]
    fn wait_for_end(&self) {
        for _ in 0..LOOKS {
            if self.peek().kind() != PageKind::Busy {
                return;
            }
            std::hint::spin_loop();
        }
        // Relaxed: the claim that this thread makes next orders what it does then.
        let marked = self.0.compare_exchange(PageState::BUSY.0, PageState::AWAITED.0, Relaxed, Relaxed);
        if marked.is_ok() || marked == Err(PageState::AWAITED.0) {
            self.0.sleep(PageState::AWAITED.0);
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
        debug_assert!(state.kind() != PageKind::Busy);
        self.becomes = state;
    }
}

impl Drop for PageClaim<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `try_claim`. A swap, to see whether threads sleep.
        if self.page.0.swap(self.becomes.0, Release) == PageState::AWAITED.0 {
            self.page.0.wake_all();
        }
    }
}
