//! Loom models of the page word, on the product's own protocol: `zswap/page.rs`, over handle words by `object.rs`.
//!
//! There is one offset, and up to three threads act on it. A stand-in for the pool hands out handles whose generation
//! never changes, so that every reuse of an index is the worst case: a generation that has come round. The bytes of
//! objects are cells whose races loom finds, and freed objects are written over.
//!
//! `orders.rs` compares each execution with all sequential orders of the operations: the results, the page at the end,
//! and what callbacks wrote last. All callbacks write to one cell, so two at once are a race. Each also writes to a
//! cell of its own, which a removal that met it reads when it returns: a callback that should have been awaited is a
//! race. Every handle is freed once, no WRITEBACK stays, and a word without a page is exactly 0.

mod ages;
mod batches;
mod extents;
mod freeze;
mod limits;
mod orders;
mod pairs;
mod rounds;
mod triples;

use crate::object::{Freed, ObjectWord};
use crate::sync::{AtomicU64, Cell, Ordering::Relaxed};
use crate::units::{Place, ZspageId};
use crate::zswap::page::{Frozen, NotTaken, Objects, PageCell};
use crate::zswap::word::{PageWord, WordKind};
use extents::Extents;
use loom::sync::{Arc, Mutex};
use loom::thread;
use orders::{Outcome, Start, allowed};

/// An operation on the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Load,
    Take,
    /// Stores this value.
    Store(u64),
    /// A store that fails: the older page goes.
    FailedStore,
    Invalidate,
    /// A writeback that succeeds.
    Written,
    /// A writeback that is refused.
    Refused,
    /// The move of an entry to another extent.
    Clean,
    /// Time passes.
    Age,
}

/// Result of an operation that returns nothing. A load and a take return the value.
pub const NOTHING: u64 = 0;
/// Result of a writeback whose page went.
pub const GONE: u64 = 1;
/// Result of a writeback whose page was kept or replaced.
pub const KEPT: u64 = 2;
/// Result of a writeback that found nothing to claim.
pub const UNCLAIMED: u64 = 3;
/// The page at the start.
pub const FIRST: u64 = 100;

const OBJECTS: usize = 3;
const MOST_CLAIMS: usize = 4;
/// Freed objects are written over with this.
const SCRIBBLED: u64 = u64::MAX;

/// A stand-in for the pool: a few objects, behind the product's handle words.
pub struct Heap {
    words: [AtomicU64; OBJECTS],
    values: [Cell<u64>; OBJECTS],
    free: Mutex<Vec<usize>>,
}

impl Heap {
    fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            values: std::array::from_fn(|_| Cell::new(SCRIBBLED)),
            free: Mutex::new((0..OBJECTS).rev().collect()),
        }
    }

    fn word(&self, handle: u64) -> ObjectWord<'_> {
        ObjectWord(&self.words[handle as usize])
    }

    pub fn allocate(&self, value: u64) -> u64 {
        let at = self.free.lock().unwrap().pop().expect("room for what the models store");
        // SAFETY: the object is this thread's until it is published; loom finds a thread that looks at it before.
        self.values[at].with_mut(|cell| unsafe { *cell = value });
        // FREE, and generation 0 once more.
        self.words[at].store(0, Relaxed);
        self.word(at as u64).publish(Place { zspage: ZspageId(0), slot: at as u8 }, 0);
        at as u64
    }

    pub fn free(&self, handle: u64) {
        match self.word(handle).free(0).expect("freed once") {
            Freed::Now(_) => self.release(handle),
            Freed::Later => {}
        }
    }

    fn release(&self, handle: u64) {
        // SAFETY: nobody has the object pinned any more; loom finds out if somebody has.
        self.values[handle as usize].with_mut(|cell| unsafe { *cell = SCRIBBLED });
        self.free.lock().unwrap().push(handle as usize);
    }

    pub fn read(&self, handle: u64) -> u64 {
        // SAFETY: the object is pinned; loom finds a thread that writes it.
        let value = self.values[handle as usize].with(|cell| unsafe { *cell });
        assert_ne!(value, SCRIBBLED, "a pinned object was released");
        value
    }
}

/// A pinned object of the stand-in.
pub struct Pinned<'a> {
    heap: &'a Heap,
    handle: u64,
}

impl Pinned<'_> {
    pub fn read(&self) -> u64 {
        self.heap.read(self.handle)
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if self.heap.word(self.handle).unpin(0).expect("pinned").is_some() {
            self.heap.release(self.handle);
        }
    }
}

impl Objects for Heap {
    type Pinned<'a> = Pinned<'a>;

    fn pin(&self, handle: u64) -> Option<Pinned<'_>> {
        self.word(handle).pin_to_read(0).ok().map(|_| Pinned { heap: self, handle })
    }
}

/// The numbers that claims have in the page word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Each has its own.
    Apart,
    /// All have the same: the worst case of numbers that come round.
    Alike,
}

/// How many claims it takes until their number comes round.
pub const ROUND: u8 = 64;

/// One page of an area.
pub struct Scene {
    /// The extents on the library's own file, if it writes back itself.
    extents: Option<Extents>,
    word: AtomicU64,
    heap: Heap,
    /// The page that callbacks wrote last.
    disk: Cell<u64>,
    /// A cell for the callback of each claim.
    callbacks: [Cell<u64>; MOST_CLAIMS],
    /// How many claims there were. Not an atomic of loom's, because nothing depends on their order.
    claims: std::sync::atomic::AtomicU64,
    numbers: Numbers,
}

impl Scene {
    fn new(start: Start, own_file: bool, numbers: Numbers) -> Self {
        let heap = Heap::new();
        let word = match start {
            Start::Empty => PageWord::EMPTY,
            Start::Filled => PageWord::filled(FIRST).unwrap(),
            Start::Stored => PageWord::stored(heap.allocate(FIRST), false),
        };
        Self {
            extents: own_file.then(Extents::new),
            word: AtomicU64::new(word.0),
            heap,
            disk: Cell::new(NOTHING),
            callbacks: std::array::from_fn(|_| Cell::new(NOTHING)),
            claims: std::sync::atomic::AtomicU64::new(0),
            numbers,
        }
    }

    /// Writes to the cell of a callback.
    fn fill_callback(&self, claim: usize) {
        // SAFETY: each claim has its own cell; loom finds a removal that met the claim and did not wait.
        self.callbacks[claim].with_mut(|cell| unsafe { *cell = FIRST });
    }

    fn page(&self) -> PageCell<'_> {
        PageCell(&self.word)
    }

    /// Does an operation as the product does it. Returns its result.
    fn run(&self, op: Op) -> u64 {
        match op {
            Op::Load => self.load(),
            Op::Take => self.take(),
            Op::Store(value) => self.store(value),
            Op::FailedStore | Op::Invalidate => self.remove(),
            Op::Written => self.write_back(true),
            Op::Refused => self.write_back(false),
            Op::Clean => self.clean(),
            Op::Age => self.age(),
        }
    }

    fn load(&self) -> u64 {
        loop {
            let (seen, pinned) = self.page().find(&self.heap);
            let value = self.value(seen, pinned.as_ref());
            if seen.kind() != WordKind::Empty {
                self.page().reference(seen);
            }
            drop(pinned);
            if let Some((value, _)) = value {
                return value;
            }
            thread::yield_now();
        }
    }

    /// Returns what a word names, or none if the page was replaced. The extent that a word names stays pinned until the
    /// second value goes.
    fn value(&self, seen: PageWord, pinned: Option<&Pinned<'_>>) -> Option<(u64, Option<extents::Pinned<'_>>)> {
        match (seen.kind(), pinned) {
            (WordKind::Stored(_), Some(pinned)) => Some((pinned.read(), None)),
            (WordKind::Filled(pattern), _) => Some((pattern, None)),
            (WordKind::Backed(at), _) => {
                let pinned = self.extents.as_ref().unwrap().pin(at, self.page(), seen)?;
                Some((pinned.read(), Some(pinned)))
            }
            _ => Some((NOTHING, None)),
        }
    }

    fn take(&self) -> u64 {
        loop {
            let (seen, pinned) = self.page().find(&self.heap);
            if seen.kind() == WordKind::Empty {
                self.await_callback(seen);
                return NOTHING;
            }
            let value = self.value(seen, pinned.as_ref());
            let taken = value.as_ref().map(|_| self.page().take(seen, true));
            drop(pinned);
            let (Some((value, extent)), Some(taken)) = (value, taken) else {
                thread::yield_now();
                continue;
            };
            match taken {
                Ok(old) => {
                    drop(extent);
                    self.gone(old);
                    return value;
                }
                Err(reason) => assert_eq!(reason, NotTaken::Replaced),
            }
        }
    }

    fn store(&self, value: u64) -> u64 {
        let new = PageWord::stored(self.heap.allocate(value), false);
        match self.page().publish(new) {
            Ok(old) => self.discard(old),
            Err(Frozen) => unreachable!("nobody gives this stretch back"),
        }
        NOTHING
    }

    fn remove(&self) -> u64 {
        let old = self.page().remove();
        self.gone(old);
        NOTHING
    }

    fn gone(&self, old: PageWord) {
        self.discard(old);
        self.await_callback(old);
    }

    /// Waits until the page's place on disk is the caller's.
    fn await_callback(&self, met: PageWord) {
        if met.must_be_awaited() {
            self.page().wait_for(met);
        }
        if met.has_writeback() && self.extents.is_none() && self.numbers == Numbers::Apart {
            // SAFETY: the callback that this removal met has ended; loom finds out if it has not.
            self.callbacks[met.claim() as usize].with(|cell| assert_ne!(unsafe { *cell }, NOTHING));
        }
    }

    fn discard(&self, old: PageWord) {
        match old.kind() {
            WordKind::Stored(handle) => self.heap.free(handle),
            WordKind::Backed(at) => self.extents.as_ref().unwrap().drop_entry(at),
            _ => {}
        }
    }

    fn age(&self) -> u64 {
        self.page().age(self.page().peek());
        NOTHING
    }

    /// Returns how many claims there were, and the number of the next one.
    fn next_claim(&self) -> (usize, u8) {
        let count = self.claims.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u8;
        (count.into(), if self.numbers == Numbers::Apart { count } else { count * ROUND })
    }

    fn write_back(&self, succeeds: bool) -> u64 {
        let (count, number) = self.next_claim();
        let own = self.extents.is_some();
        let mut value = NOTHING;
        let claimed = self.page().find_and_claim(&self.heap, number, own, |_, pinned| {
            value = pinned.read();
            true
        });
        // The pin ends last, as in the product.
        let Some((claimed, _pinned)) = claimed else { return UNCLAIMED };
        if let Some(extents) = &self.extents {
            return self.write_extent(extents, succeeds, claimed, value);
        }
        for cell in [&self.disk, &self.callbacks[count]] {
            // SAFETY: one callback runs at a time, and none that a removal has met; loom finds a race.
            cell.with_mut(|cell| unsafe { *cell = value });
        }
        let gone = match succeeds {
            true => self.page().acknowledge(claimed, PageWord::EMPTY),
            false => Err(self.page().end(claimed)),
        };
        if gone.is_ok() {
            self.discard(claimed);
        }
        if gone.is_ok() { GONE } else { KEPT }
    }

    fn write_extent(&self, extents: &Extents, succeeds: bool, claimed: PageWord, value: u64) -> u64 {
        let extent = extents.write(value);
        let gone = match succeeds {
            true => self.page().acknowledge(claimed, PageWord::backed(extent.entry())),
            false => Err(self.page().end(claimed)),
        };
        match gone {
            Ok(()) => self.discard(claimed),
            Err(_) => extents.drop_entry(extent.entry()),
        }
        if gone.is_ok() { GONE } else { KEPT }
    }

    /// Moves the entry that the page has, if it has one, to another extent. The result is the same whatever happens.
    fn clean(&self) -> u64 {
        let extents = self.extents.as_ref().unwrap();
        let WordKind::Backed(at) = self.page().peek().kind() else { return NOTHING };
        let Some(pinned) = extents.try_pin(at) else { return NOTHING };
        let seen = self.page().peek();
        if seen.kind() != WordKind::Backed(at) {
            return NOTHING;
        }
        let (_, number) = self.next_claim();
        let Some(claimed) = self.page().claim_to_move(seen, number) else { return NOTHING };
        let value = pinned.read();
        drop(pinned);
        let extent = extents.write(value);
        match self.page().moved(claimed, PageWord::backed(extent.entry())) {
            true => extents.drop_entry(at),
            false => extents.drop_entry(extent.entry()),
        }
        NOTHING
    }

    /// Checks what has to hold at the end. Returns the page, and what callbacks wrote last.
    fn end(&self) -> (u64, u64) {
        let word = self.page().peek();
        assert!(!word.has_writeback() && !word.is_frozen(), "left {word:?}");
        let value = match word.kind() {
            WordKind::Empty => {
                assert_eq!(word, PageWord::EMPTY, "left {:#x}", word.0);
                NOTHING
            }
            WordKind::Stored(handle) => self.heap.read(handle),
            WordKind::Filled(pattern) => pattern,
            WordKind::Backed(at) => self.extents.as_ref().unwrap().pin(at, self.page(), word).unwrap().read(),
        };
        if let Some(extents) = &self.extents {
            extents.check_free(usize::from(matches!(word.kind(), WordKind::Backed(_))));
        }
        let stored = usize::from(matches!(word.kind(), WordKind::Stored(_)));
        assert_eq!(self.heap.free.lock().unwrap().len(), OBJECTS - stored, "every other handle was freed");
        // SAFETY: the other threads have ended.
        (value, self.disk.with(|cell| unsafe { *cell }))
    }
}

/// Runs the operations of the threads in every order, or in every order of at most `preemptions` preemptions.
pub fn race(preemptions: Option<usize>, start: Start, own_file: bool, threads: &'static [&'static [Op]]) {
    race_with(Numbers::Apart, preemptions, start, own_file, threads);
}

/// As [`race`], with claims of these numbers.
pub fn race_with(
    numbers: Numbers,
    preemptions: Option<usize>,
    start: Start,
    own_file: bool,
    threads: &'static [&'static [Op]],
) {
    let allowed = std::sync::Arc::new(allowed(start, own_file, threads));
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scene = Arc::new(Scene::new(start, own_file, numbers));
        let work = |thread: usize| {
            let scene = scene.clone();
            move || threads[thread].iter().map(|&op| scene.run(op)).collect::<Vec<_>>()
        };
        let running: Vec<_> = (1..threads.len()).map(|at| thread::spawn(work(at))).collect();
        let mut results = vec![work(0)()];
        results.extend(running.into_iter().map(|thread| thread.join().unwrap()));
        let (page, disk) = scene.end();
        let outcome = Outcome { results, page, disk };
        assert!(allowed.contains(&outcome), "{threads:?} from {start:?}: no order gives {outcome:?}");
    });
    let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
    println!("{threads:?} from {start:?}: {executions} executions");
}
