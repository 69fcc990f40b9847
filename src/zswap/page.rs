//! The protocol of the page word: every race about a page is decided here, by one read-modify-write of one word.
//!
//! | step | word | ordering |
//! |---|---|---|
//! | find | read, pin what it names, **read again**; another version: unpin, again | Acquire, pairs with publish |
//! | reference | compare-and-swap of the flag, if it is not set | Relaxed |
//! | age | compare-and-swap of REFERENCED and the age; refused under WRITEBACK | Relaxed |
//! | publish | compare-and-swap loop; carries over what belongs to the offset; waits for FROZEN | AcqRel |
//! | rename | **pinned**: compare-and-swap to the same with another handle; refused under WRITEBACK | AcqRel |
//! | take | **still pinned**: compare-and-swap to EMPTY; only flags changed: again; replaced: start again | AcqRel |
//! | remove | one fetch_and that keeps what belongs to the offset | AcqRel |
//! | claim | **pinned**: compare-and-swap to the same with WRITEBACK; refused if it is set | AcqRel |
//! | move | claimed: compare-and-swap of the version that was claimed to its place in another extent | AcqRel |
//! | acknowledge | compare-and-swap of the very word that was claimed; **then** free, **then** unpin | AcqRel |
//! | end | fetch_and that clears WRITEBACK, OWN and claim; what it was tells rescued from replaced | AcqRel |
//! | wait | until WRITEBACK is clear or the claim is another | Acquire, pairs with acknowledge and end |
//! | freeze | compare-and-swap of each of a stretch's words from EMPTY; one that is not EMPTY undoes it | AcqRel |
//!
//! Release in publish pairs with the Acquire of find: a thread that sees the word sees the object. Release in take,
//! remove, acknowledge and end pairs with the Acquire of wait and of the next publish: the thread that comes after sees
//! what the writeback did. A take and a claim hold their pin until their compare-and-swap is done: the handle of a
//! pinned object can't be reused, so the same word means the same version. WRITEBACK belongs to the offset: a second
//! writeback of an offset can't begin before the first one has ended, so an old version never lands on disk after a
//! newer one.
//!
//! The models do not show every ordering to be necessary. The Release of publish is one that they do not: the handle
//! word's own publish covers it, as long as what a word names is an object. It is kept all the same.

use super::word::{KEPT_BY_END, KEPT_BY_REMOVAL, KEPT_BY_THAW, PageWord, WordKind};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Wait,
};

/// What page words name by their short handles: the pool, or a model of one.
pub trait Objects {
    /// Keeps an object where it is, and its handle from being reused, until it is dropped.
    type Pinned<'a>
    where
        Self: 'a;

    /// Pins an object, or returns none if it is gone.
    fn pin(&self, short_handle: u64) -> Option<Self::Pinned<'_>>;
}

/// One page word, and what may be done to it.
#[derive(Clone, Copy)]
pub struct PageCell<'a>(pub &'a AtomicU64);

/// Why a page was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// Another version is there, or none.
    Replaced,
    /// A writeback runs that would have to be awaited, and the caller may not wait.
    Awaited,
}

/// What became of a page whose writeback ended without removing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptAs {
    /// The same version is there.
    Same,
    /// The same version is there, and was loaded meanwhile.
    Rescued,
    /// Another version is there, or none.
    Replaced,
}

impl PageCell<'_> {
    /// Returns the word as it is now. A hint: nothing is acquired.
    #[inline]
    pub fn peek(self) -> PageWord {
        PageWord(self.0.load(Relaxed))
    }

    #[inline]
    fn look(self) -> PageWord {
        // Acquire pairs with the Release of publish: the object that the word names is seen.
        PageWord(self.0.load(Acquire))
    }

    /// Returns the word, and a pin on the object that it names, if it names one.
    #[inline]
    pub fn find<O: Objects>(self, objects: &O) -> (PageWord, Option<O::Pinned<'_>>) {
        let mut wait = Wait::default();
        loop {
            let word = self.look();
            let WordKind::Stored(handle) = word.kind() else { return (word, None) };
            if let Some(pinned) = objects.pin(handle) {
                // Before the pin, the page may have gone and its handle may have been reused. Acquire as in `look`.
                let again = self.look();
                if again.is_version_of(word) {
                    return (again, Some(pinned));
                }
            }
            // The page was replaced: there is something new to see.
            wait.a_moment();
        }
    }

    /// Whether the version that `seen` is still is there. A thread that has pinned the extent of a BACKED word asks
    /// this before it reads the entry: before the pin, the extent may have gone and its slot may have been reused.
    pub fn is_still(self, seen: PageWord) -> bool {
        // Acquire as in `look`.
        self.look().is_version_of(seen)
    }

    /// Sets REFERENCED on the version that `seen` is.
    #[inline]
    pub fn reference(self, seen: PageWord) {
        if !seen.is_referenced() {
            // One attempt is enough: a thread that changed the word meanwhile used the page, or let time pass, which is
            // seldom.
            let _ = self.exchange_relaxed(seen, seen.with_referenced(true));
        }
    }

    /// Lets time pass for the version that `seen` is, if it is in the pool, unless a writeback of the offset runs: the
    /// end of that compares the very word that was claimed.
    pub fn age(self, seen: PageWord) {
        if matches!(seen.kind(), WordKind::Stored(_)) && !seen.has_writeback() {
            // One attempt is enough, as in `reference`.
            let _ = self.exchange_relaxed(seen, seen.after_a_while());
        }
    }

    /// Changes flags that order nothing: clears REFERENCED, or sets MARK. False if the word changed.
    pub fn exchange_relaxed(self, seen: PageWord, next: PageWord) -> bool {
        debug_assert!(next.is_version_of(seen));
        self.0.compare_exchange(seen.0, next.0, Relaxed, Relaxed).is_ok()
    }

    /// Puts `new` in the place of what is there, and returns what was there. `Err`: the stretch is being given back;
    /// wait, and publish again.
    #[inline]
    pub fn publish(self, new: PageWord) -> Result<PageWord, Frozen> {
        let mut word = self.peek();
        loop {
            if word.is_frozen() {
                return Err(Frozen);
            }
            // Release pairs with the Acquire of find. Acquire pairs with the Release of the publish, removal or end
            // before this, and of the thaw of a stretch that was given back.
            match self.0.compare_exchange(word.0, word.replaced_by(new).0, AcqRel, Relaxed) {
                Ok(_) => return Ok(word),
                Err(now) => word = PageWord(now),
            }
        }
    }

    /// Waits until the stretch has been given back, or has been thawed.
    #[cold]
    pub fn wait_for_thaw(self) {
        let mut wait = Wait::default();
        while self.look().is_frozen() {
            wait.a_moment();
        }
    }

    /// Puts `new` in the place of the very version that `seen` is, unless a writeback of the offset runs. The caller
    /// has pinned the page.
    pub fn exchange(self, seen: PageWord, new: PageWord) -> bool {
        let mut word = seen;
        while word.is_version_of(seen) && !word.has_writeback() {
            // Release and Acquire as in `publish`.
            match self.0.compare_exchange(word.0, new.0, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = PageWord(now),
            }
        }
        false
    }

    /// Names the object of the very version that `seen` is by another handle, unless a writeback of the offset runs,
    /// which knows the object by the handle that it has claimed. The caller has pinned the page.
    pub fn rename(self, seen: PageWord, short_handle: u64) -> bool {
        let mut word = seen;
        while word.is_version_of(seen) && !word.has_writeback() {
            // Release and Acquire as in `publish`.
            match self.0.compare_exchange(word.0, word.renamed(short_handle).0, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = PageWord(now),
            }
        }
        false
    }

    /// Removes the version that `seen` is, and returns what was there. If the word names an object, the caller has
    /// pinned it.
    pub fn take(self, seen: PageWord, may_wait: bool) -> Result<PageWord, NotTaken> {
        let mut word = seen;
        loop {
            if word.must_be_awaited() && !may_wait {
                return Err(NotTaken::Awaited);
            }
            // Release and Acquire as in `remove`.
            match self.0.compare_exchange(word.0, word.removed().0, AcqRel, Relaxed) {
                Ok(_) => return Ok(word),
                Err(now) if PageWord(now).is_version_of(seen) => word = PageWord(now),
                Err(_) => return Err(NotTaken::Replaced),
            }
        }
    }

    /// Removes whatever is there, and returns it.
    #[inline]
    pub fn remove(self) -> PageWord {
        // Acquire pairs with the Release of publish: the object is the caller's to free. Release pairs with the Acquire
        // of the next publish and of `wait_for`.
        PageWord(self.0.fetch_and(KEPT_BY_REMOVAL, AcqRel))
    }

    /// Removes whatever is there, unless the caller would have to wait for its writeback. `Err`: what is still there.
    pub fn remove_now(self) -> Result<PageWord, PageWord> {
        let mut word = self.peek();
        loop {
            if word.must_be_awaited() {
                return Err(word);
            }
            // Release and Acquire as in `remove`.
            match self.0.compare_exchange(word.0, word.removed().0, AcqRel, Relaxed) {
                Ok(_) => return Ok(word),
                Err(now) => word = PageWord(now),
            }
        }
    }

    /// Waits until the writeback that `seen` tells of has ended, or another one has followed it. One that has the same
    /// number, which comes round, is waited for as well.
    pub fn wait_for(self, seen: PageWord) {
        let mut wait = Wait::default();
        // Acquire pairs with the Release of acknowledge and end: what the callback did is seen.
        while self.is_running(seen, self.look()) {
            wait.a_moment();
        }
    }

    fn is_running(self, seen: PageWord, now: PageWord) -> bool {
        now.has_writeback() && now.claim() == seen.claim()
    }

    /// Pins the object of a STORED word, reads it, and claims it for writeback. Returns the claimed word and the pin.
    /// None if the word is not STORED, a writeback of the offset runs already, `read` refuses the word or fails, or the
    /// page was used or replaced meanwhile.
    ///
    /// The object is read before it is claimed, so that nobody has to wait for a thread that can't go on reading.
    pub fn find_and_claim<'o, O: Objects>(
        self,
        objects: &'o O,
        claim: u8,
        own: bool,
        read: impl FnOnce(PageWord, &O::Pinned<'o>) -> bool,
    ) -> Option<(PageWord, O::Pinned<'o>)> {
        let (word, pinned) = self.find(objects);
        let pinned = pinned?;
        if word.has_writeback() || !read(word, &pinned) {
            return None;
        }
        let claimed = self.claim(word, claim, own)?;
        Some((claimed, pinned))
    }

    /// Claims the version that `seen` is, which the caller has pinned, for writeback. Returns the claimed word. None if
    /// the word changed, or a writeback runs.
    fn claim(self, seen: PageWord, claim: u8, own: bool) -> Option<PageWord> {
        let claimed = seen.with_referenced(false).claimed(claim, own);
        // Acquire pairs with the end of the writeback before: what that did comes first. Release as in `take`.
        let exchanged = !seen.has_writeback() && self.0.compare_exchange(seen.0, claimed.0, AcqRel, Relaxed).is_ok();
        exchanged.then_some(claimed)
    }

    /// Ends a writeback that succeeded: the version that was claimed becomes `to`, EMPTY or BACKED, if nobody touched
    /// it. `Ok`: the object is the caller's to free, and then to unpin.
    pub fn acknowledge(self, claimed: PageWord, to: PageWord) -> Result<(), KeptAs> {
        // Release pairs with the Acquire of `wait_for` and of the next publish: the callback's work comes before
        // theirs. Acquire: the object is the caller's to free.
        match self.0.compare_exchange(claimed.0, to.0, AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.end(claimed)),
        }
    }

    /// Claims the BACKED version that `seen` is, whose extent the caller has pinned, to move it to another extent.
    /// Nobody waits for such a claim. Returns the claimed word. None if the word changed, or a writeback runs.
    pub fn claim_to_move(self, seen: PageWord, claim: u8) -> Option<PageWord> {
        debug_assert!(matches!(seen.kind(), WordKind::Backed(_)));
        self.claim(seen, claim, true)
    }

    /// Ends the move of a BACKED version: `to` takes its place, unless it was replaced or removed. A load meanwhile is
    /// no hindrance. True: the entry that was claimed is the caller's to drop.
    pub fn moved(self, claimed: PageWord, to: PageWord) -> bool {
        let mut word = claimed;
        while word.is_version_of(claimed) {
            let next = PageWord(to.with_referenced(word.is_referenced()).0);
            // Release and Acquire as in `acknowledge`.
            match self.0.compare_exchange(word.0, next.0, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = PageWord(now),
            }
        }
        self.end(claimed);
        false
    }

    /// Ends a writeback and keeps what is there.
    pub fn end(self, claimed: PageWord) -> KeptAs {
        // Release and Acquire as in `acknowledge`.
        let was = PageWord(self.0.fetch_and(KEPT_BY_END, AcqRel));
        debug_assert!(was.has_writeback() && was.claim() == claimed.claim());
        match (was.is_version_of(claimed), was.is_referenced()) {
            (false, _) => KeptAs::Replaced,
            (true, true) => KeptAs::Rescued,
            (true, false) => KeptAs::Same,
        }
    }
}

/// A store met a stretch that is being given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frozen;

/// Freezes the words of a stretch if all of them are EMPTY and no writeback runs. Nobody changes them until they are
/// [`thaw`]ed, or until their memory is given back, which makes them EMPTY.
pub fn freeze(words: &[AtomicU64]) -> bool {
    for (index, word) in words.iter().enumerate() {
        // Acquire pairs with the Release of the removals: what they did comes before the memory goes. Release pairs
        // with the Acquire of the publish that waited.
        if word.compare_exchange(PageWord::EMPTY.0, PageWord::FROZEN.0, AcqRel, Relaxed).is_err() {
            thaw(&words[..index]);
            return false;
        }
    }
    true
}

/// Makes frozen words EMPTY again.
pub fn thaw(words: &[AtomicU64]) {
    for word in words {
        // Release pairs with the Acquire of the publish that waited.
        word.fetch_and(KEPT_BY_THAW, Release);
    }
}
