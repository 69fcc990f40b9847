//! What touches ask of lent threads that may call tiers of the program's own: a signal handler may not.
//!
//! There is a fixed number of slots, so a request allocates nothing. A slot's word says whose the slot is:
//!
//! ```text
//! FREE ──► TAKEN ──► ASKED ──► SERVED ──► ANSWERED ──► FREE
//!                      └─────────── withdrawn ───────────▲
//! ```
//!
//! From TAKEN to ASKED it is the asking thread's, in SERVED it is the lent thread's. The asking thread sleeps on the
//! word. Lent threads sleep on a word of their own, the bell, which each request changes.

use crate::parking::Futex;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many requests there may be at a time.
const SLOTS: usize = if cfg!(loom) { 1 } else { 32 };

/// Nobody uses the slot.
const FREE: u32 = 0;
/// A thread writes its request there.
const TAKEN: u32 = 1;
/// The request waits for a lent thread.
const ASKED: u32 = 2;
/// A lent thread serves the request.
const SERVED: u32 = 3;
/// The answer is there.
const ANSWERED: u32 = 4;

/// A place for one request and its answer.
#[derive(Default)]
struct RequestSlot {
    word: Futex,
    request: AtomicU64,
    answer: AtomicU32,
}

/// The requests of touches to threads that may call tiers.
#[derive(Default)]
pub struct TierRequests {
    slots: [RequestSlot; SLOTS],
    /// Where the look for a request begins, so that each has its turn.
    turn: AtomicU32,
    /// Changes with each request. Lent threads sleep on it.
    bell: Futex,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestEnd {
    /// A lent thread gave this answer.
    Answer(u32),
    /// No thread began to serve it, and none will.
    Withdrawn,
    /// All slots are taken, and nothing was asked.
    NoSlot,
}

/// A request that the calling thread serves. Dropping it gives the answer, and wakes the thread that asked.
pub struct TakenRequest<'a> {
    slot: &'a RequestSlot,
    answer: u32,
}

impl TierRequests {
    /// Asks a lent thread for something, and waits for the answer. `wake` is called once the request can be found.
    /// While no thread serves it, `waits` is asked now and then whether one may come.
    pub fn ask(&self, request: u64, wake: impl FnOnce(), waits: impl Fn() -> bool) -> RequestEnd {
        // Acquire pairs with the Release of the thread that let the slot go: its answer was read before.
        let is_taken = |slot: &&RequestSlot| slot.word.compare_exchange(FREE, TAKEN, Acquire, Relaxed).is_ok();
        let Some(slot) = self.slots.iter().find(is_taken) else { return RequestEnd::NoSlot };
        slot.request.store(request, Relaxed);
        // The slot is this thread's. Release pairs with the Acquire in `take`: the lent thread sees the request.
        slot.word.store(ASKED, Release);
        self.ring();
        wake();
        slot.wait(waits)
    }

    /// Wakes a lent thread that sleeps, and lets one that is about to sleep look again.
    pub fn ring(&self) {
        // Release pairs with the Acquire in `listen`: who hears it sees what there is to do.
        self.bell.fetch_add(1, Release);
        self.bell.wake_one();
    }

    /// Wakes all lent threads that sleep here, so that they look whether they are to go.
    #[cfg(not(loom))]
    pub fn ring_all(&self) {
        self.bell.fetch_add(1, Release);
        self.bell.wake_all();
    }

    /// Begins a look at what there is to do. What it returns goes to [`TierRequests::sleep`].
    pub fn listen(&self) -> u32 {
        // Acquire pairs with the Release in `ring`.
        self.bell.load(Acquire)
    }

    /// Sleeps, if nobody has rung since this was heard. May return early, and does so after a while.
    pub fn sleep(&self, heard: u32) {
        self.bell.sleep(heard);
    }

    /// Whether a request waits for a lent thread. A hint, unless what woke the thread ordered it.
    #[cfg(not(loom))]
    pub fn any(&self) -> bool {
        self.slots.iter().any(|slot| slot.word.load(Relaxed) == ASKED)
    }

    /// Takes a request that waits.
    pub fn take(&self) -> Option<TakenRequest<'_>> {
        let first = self.turn.fetch_add(1, Relaxed) as usize;
        let slots = (0..SLOTS).map(|at| &self.slots[first.wrapping_add(at) % SLOTS]);
        // Acquire pairs with the Release in `ask`.
        let is_taken = |slot: &&RequestSlot| {
            slot.word.load(Relaxed) == ASKED && slot.word.compare_exchange(ASKED, SERVED, Acquire, Relaxed).is_ok()
        };
        let slot = { slots }.find(is_taken)?;
        Some(TakenRequest { slot, answer: 0 })
    }
}

impl RequestSlot {
    /// Waits for the answer, and lets the slot go.
    fn wait(&self, waits: impl Fn() -> bool) -> RequestEnd {
        loop {
            // Acquire pairs with the Release in the drop of the taken request: the answer is seen, and what was done.
            match self.word.load(Acquire) {
                ANSWERED => {
                    let answer = self.answer.load(Relaxed);
                    // The slot is this thread's. Release pairs with the Acquire in `ask`.
                    self.word.store(FREE, Release);
                    return RequestEnd::Answer(answer);
                }
                // Release pairs with the Acquire in `ask`. It fails if a thread has just taken the request.
                ASKED if !waits() => {
                    if self.word.compare_exchange(ASKED, FREE, Release, Relaxed).is_ok() {
                        return RequestEnd::Withdrawn;
                    }
                }
                seen => self.word.sleep(seen),
            }
        }
    }
}

impl TakenRequest<'_> {
    /// What is asked for.
    pub fn request(&self) -> u64 {
        self.slot.request.load(Relaxed)
    }

    /// Sets the answer, which is 0 before.
    pub fn answer(&mut self, answer: u32) {
        self.answer = answer;
    }
}

impl Drop for TakenRequest<'_> {
    fn drop(&mut self) {
        self.slot.answer.store(self.answer, Relaxed);
        // The slot is this thread's. Release pairs with the Acquire in `wait`.
        self.slot.word.store(ANSWERED, Release);
        self.slot.word.wake_all();
    }
}
