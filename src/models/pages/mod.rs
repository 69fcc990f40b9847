//! Loom models of the page word, on the product's own protocol: `zswap/page.rs`, over handle words by `object.rs`.
//!
//! There is one offset, or two whose pages may share an extent, and up to three threads act on them. A stand-in for the
//! pool hands out handles whose generation never changes, so that every reuse of an index is the worst case: a
//! generation that has come round. The bytes of objects are cells whose races loom finds, and freed objects are written
//! over.
//!
//! `orders.rs` compares each execution with all sequential orders of the operations: the results, the page at the end,
//! and what callbacks wrote last. All callbacks write to one cell, so two at once are a race. Each also writes to a
//! cell of its own, which a removal that met it reads when it returns: a callback that should have been awaited is a
//! race. Every handle is freed once, no WRITEBACK stays, and a word without a page is exactly 0.

mod ages;
mod batches;
mod extents;
mod freeze;
mod heap;
mod limits;
mod orders;
mod pairs;
mod rounds;
mod triples;

use crate::sync::{AtomicU64, Cell};
use crate::zswap::page::{Frozen, NotTaken, PageCell};
use crate::zswap::word::{PageWord, WordKind};
use extents::Extents;
use heap::{Heap, Pinned};
use loom::sync::Arc;
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
    /// The move of an entry to an extent that can't be written.
    CleanRefused,
    /// Time passes.
    Age,
}

/// An operation on one of two pages, or on both.
#[derive(Clone, Copy, Debug)]
pub enum On {
    First(Op),
    Second(Op),
    /// A writeback of both as one extent, and whether the entry of each is written.
    Both([bool; 2]),
}

impl On {
    /// Returns the operation on one of the pages, if it is one.
    fn of(self, page: usize) -> Option<Op> {
        match self {
            On::First(op) => (page == 0).then_some(op),
            On::Second(op) => (page == 1).then_some(op),
            On::Both(written) => Some(if written[page] { Op::Written } else { Op::Refused }),
        }
    }
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
/// The second page at the start.
pub const SECOND: u64 = 150;

const MOST_CLAIMS: usize = 4;

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

/// Two pages of an area. Most models have the first alone.
pub struct Scene {
    /// The extents on the library's own file, if it writes back itself.
    extents: Option<Extents>,
    words: [AtomicU64; 2],
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
    fn new(starts: [Start; 2], own_file: bool, numbers: Numbers) -> Self {
        let (heap, extents) = (Heap::new(), own_file.then(Extents::new));
        let extent = starts.contains(&Start::Backed).then(|| extents.as_ref().unwrap().write(&[FIRST, SECOND]));
        let word = |page: usize, value: u64| match starts[page] {
            Start::Empty => PageWord::EMPTY,
            Start::Filled => PageWord::filled(value).unwrap(),
            Start::Stored => PageWord::stored(heap.allocate(value), false),
            Start::Backed => PageWord::backed(extent.as_ref().unwrap().entry(page)),
        };
        let words = [word(0, FIRST), word(1, SECOND)].map(|word| AtomicU64::new(word.0));
        drop(extent);
        Self {
            extents,
            words,
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

    fn page(&self, page: usize) -> PageCell<'_> {
        PageCell(&self.words[page])
    }

    /// Returns how many claims there were, and the number of the next one.
    fn next_claim(&self) -> (usize, u8) {
        let count = self.claims.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u8;
        (count.into(), if self.numbers == Numbers::Apart { count } else { count * ROUND })
    }

    /// Does an operation on one page or both, and adds its result to those of the page.
    fn run_on(&self, on: On, results: &mut [Vec<u64>; 2]) {
        match on {
            On::First(op) => results[0].push(self.run(self.page(0), op)),
            On::Second(op) => results[1].push(self.run(self.page(1), op)),
            On::Both(written) => {
                let both = self.write_extent(&[(self.page(0), written[0]), (self.page(1), written[1])]);
                results.iter_mut().zip(both).for_each(|(results, result)| results.push(result));
            }
        }
    }

    /// Does an operation as the product does it. Returns its result.
    fn run(&self, page: PageCell<'_>, op: Op) -> u64 {
        match op {
            Op::Load => self.load(page),
            Op::Take => self.take(page),
            Op::Store(value) => self.store(page, value),
            Op::FailedStore | Op::Invalidate => self.remove(page),
            Op::Written => self.write_back(page, true),
            Op::Refused => self.write_back(page, false),
            Op::Clean => self.clean(page, true),
            Op::CleanRefused => self.clean(page, false),
            Op::Age => self.age(page),
        }
    }

    fn load(&self, page: PageCell<'_>) -> u64 {
        loop {
            let (seen, pinned) = page.find(&self.heap);
            let value = self.value(page, seen, pinned.as_ref());
            if seen.kind() != WordKind::Empty {
                page.reference(seen);
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
    fn value(
        &self,
        page: PageCell<'_>,
        seen: PageWord,
        pinned: Option<&Pinned<'_>>,
    ) -> Option<(u64, Option<extents::Pinned<'_>>)> {
        match (seen.kind(), pinned) {
            (WordKind::Stored(_), Some(pinned)) => Some((pinned.read(), None)),
            (WordKind::Filled(pattern), _) => Some((pattern, None)),
            (WordKind::Backed(at), _) => {
                let pinned = self.extents.as_ref().unwrap().pin(at, page, seen)?;
                Some((pinned.read(at), Some(pinned)))
            }
            _ => Some((NOTHING, None)),
        }
    }

    fn take(&self, page: PageCell<'_>) -> u64 {
        loop {
            let (seen, pinned) = page.find(&self.heap);
            if seen.kind() == WordKind::Empty {
                self.await_callback(page, seen);
                return NOTHING;
            }
            let value = self.value(page, seen, pinned.as_ref());
            let taken = value.as_ref().map(|_| page.take(seen, true));
            drop(pinned);
            let (Some((value, extent)), Some(taken)) = (value, taken) else {
                thread::yield_now();
                continue;
            };
            match taken {
                Ok(old) => {
                    drop(extent);
                    self.gone(page, old);
                    return value;
                }
                Err(reason) => assert_eq!(reason, NotTaken::Replaced),
            }
        }
    }

    fn store(&self, page: PageCell<'_>, value: u64) -> u64 {
        let new = PageWord::stored(self.heap.allocate(value), false);
        match page.publish(new) {
            Ok(old) => self.discard(old),
            Err(Frozen) => unreachable!("nobody gives this stretch back"),
        }
        NOTHING
    }

    fn remove(&self, page: PageCell<'_>) -> u64 {
        let old = page.remove();
        self.gone(page, old);
        NOTHING
    }

    fn gone(&self, page: PageCell<'_>, old: PageWord) {
        self.discard(old);
        self.await_callback(page, old);
    }

    /// Waits until the page's place on disk is the caller's.
    fn await_callback(&self, page: PageCell<'_>, met: PageWord) {
        if met.must_be_awaited() {
            page.wait_for(met);
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

    fn age(&self, page: PageCell<'_>) -> u64 {
        page.age(page.peek());
        NOTHING
    }

    fn write_back(&self, page: PageCell<'_>, succeeds: bool) -> u64 {
        if self.extents.is_some() {
            return self.write_extent(&[(page, succeeds)])[0];
        }
        let (count, number) = self.next_claim();
        let Some((claimed, _pinned, value)) = self.claim(page, number) else { return UNCLAIMED };
        for cell in [&self.disk, &self.callbacks[count]] {
            // SAFETY: one callback runs at a time, and none that a removal has met; loom finds a race.
            cell.with_mut(|cell| unsafe { *cell = value });
        }
        let gone = match succeeds {
            true => page.acknowledge(claimed, PageWord::EMPTY),
            false => Err(page.end(claimed)),
        };
        if gone.is_ok() {
            self.discard(claimed);
        }
        if gone.is_ok() { GONE } else { KEPT }
    }

    /// Claims a page. Returns the claimed word, the pin, which ends last, as in the product, and the page.
    fn claim(&self, page: PageCell<'_>, number: u8) -> Option<(PageWord, Pinned<'_>, u64)> {
        let mut value = NOTHING;
        let (claimed, pinned) = page.find_and_claim(&self.heap, number, self.extents.is_some(), |_, pinned| {
            value = pinned.read();
            true
        })?;
        Some((claimed, pinned, value))
    }

    /// Writes pages back as one extent, as far as they can be claimed. With each page comes whether its entry is
    /// written. Returns the result of each.
    fn write_extent(&self, pages: &[(PageCell<'_>, bool)]) -> Vec<u64> {
        let extents = self.extents.as_ref().unwrap();
        let mut claimed: Vec<_> = pages.iter().map(|&(page, _)| self.claim(page, self.next_claim().1)).collect();
        let values: Vec<u64> = claimed.iter().flatten().map(|&(_, _, value)| value).collect();
        if values.is_empty() {
            return vec![UNCLAIMED; pages.len()];
        }
        let extent = extents.write(&values);
        let mut entries = (0..).map(|number| extent.entry(number));
        let mut end = |(&(page, succeeds), claimed): (&(PageCell<'_>, bool), &mut Option<_>)| {
            let Some((claimed, _pinned, _)) = claimed.take() else { return UNCLAIMED };
            let at = entries.next().unwrap();
            let gone = match succeeds {
                true => page.acknowledge(claimed, PageWord::backed(at)),
                false => Err(page.end(claimed)),
            };
            match gone {
                Ok(()) => self.discard(claimed),
                Err(_) => extents.drop_entry(at),
            }
            if gone.is_ok() { GONE } else { KEPT }
        };
        pages.iter().zip(&mut claimed).map(&mut end).collect()
    }

    /// Moves the entry that the page has, if it has one, to another extent, if that can be written. The result is the
    /// same whatever happens.
    fn clean(&self, page: PageCell<'_>, succeeds: bool) -> u64 {
        let extents = self.extents.as_ref().unwrap();
        let WordKind::Backed(at) = page.peek().kind() else { return NOTHING };
        let Some(pinned) = extents.try_pin(at) else { return NOTHING };
        let seen = page.peek();
        if seen.kind() != WordKind::Backed(at) {
            return NOTHING;
        }
        let (_, number) = self.next_claim();
        let Some(claimed) = page.claim_to_move(seen, number) else { return NOTHING };
        let value = pinned.read(at);
        drop(pinned);
        let extent = extents.write(&[value]);
        let moved = succeeds && page.moved(claimed, PageWord::backed(extent.entry(0)));
        extents.drop_entry(if moved { at } else { extent.entry(0) });
        if !succeeds {
            // The new extent is let go first, as in the product.
            drop(extent);
            page.end(claimed);
        }
        NOTHING
    }

    /// Checks what has to hold at the end. Returns each page, and whether it is in the pool.
    fn end(&self) -> [(u64, bool); 2] {
        let words = [0, 1].map(|page| self.page(page).peek());
        let mut slots: Vec<u32> = Vec::new();
        let pages = [0, 1].map(|page| {
            let word = words[page];
            assert!(!word.has_writeback() && !word.is_frozen(), "left {word:?}");
            match word.kind() {
                WordKind::Empty => {
                    assert_eq!(word, PageWord::EMPTY, "left {:#x}", word.0);
                    (NOTHING, false)
                }
                WordKind::Stored(handle) => (self.heap.read(handle), true),
                WordKind::Filled(pattern) => (pattern, false),
                WordKind::Backed(at) => {
                    slots.push(at.slot);
                    (self.extents.as_ref().unwrap().pin(at, self.page(page), word).unwrap().read(at), false)
                }
            }
        });
        slots.dedup();
        if let Some(extents) = &self.extents {
            extents.check_free(slots.len());
        }
        let stored = pages.iter().filter(|(_, pooled)| *pooled).count();
        assert_eq!(self.heap.count(), stored, "every other handle was freed");
        pages
    }
}

/// Runs the operations of the threads on the first page in every order, or in every order of at most `preemptions`
/// preemptions.
pub fn race(preemptions: Option<usize>, start: Start, own_file: bool, threads: &[&[Op]]) {
    race_with(Numbers::Apart, preemptions, start, own_file, threads);
}

/// As [`race`], with claims of these numbers.
pub fn race_with(numbers: Numbers, preemptions: Option<usize>, start: Start, own_file: bool, threads: &[&[Op]]) {
    let threads = threads.iter().map(|ops| ops.iter().map(|&op| On::First(op)).collect()).collect();
    check(numbers, preemptions, [start, Start::Empty], own_file, threads);
}

/// Runs the operations of the threads on two pages. What happens to each page has to fit an order of its own.
fn race_on(preemptions: Option<usize>, starts: [Start; 2], own_file: bool, threads: Vec<Vec<On>>) {
    check(Numbers::Apart, preemptions, starts, own_file, threads);
}

/// Does what [`race_with`] and [`race_on`] say.
fn check(numbers: Numbers, preemptions: Option<usize>, starts: [Start; 2], own_file: bool, threads: Vec<Vec<On>>) {
    let of = |page| threads.iter().map(|all| all.iter().filter_map(|on: &On| on.of(page)).collect()).collect();
    let programs: [Vec<Vec<Op>>; 2] = [of(0), of(1)];
    let allowed_on = |page: usize| allowed(starts[page], [FIRST, SECOND][page], own_file, &programs[page]);
    let allowed = std::sync::Arc::new([allowed_on(0), allowed_on(1)]);
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (count, threads) = (executions.clone(), std::sync::Arc::new(threads));
    let shown = format!("{threads:?} from {starts:?}");
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scene = Arc::new(Scene::new(starts, own_file, numbers));
        let work = |thread: usize| {
            let (scene, threads) = (scene.clone(), threads.clone());
            move || {
                let mut results = [Vec::new(), Vec::new()];
                threads[thread].iter().for_each(|&on| scene.run_on(on, &mut results));
                results
            }
        };
        let running: Vec<_> = (1..threads.len()).map(|at| thread::spawn(work(at))).collect();
        let mut results = vec![work(0)()];
        results.extend(running.into_iter().map(|thread| thread.join().unwrap()));
        let pages = scene.end();
        // SAFETY: the other threads have ended.
        let disk = scene.disk.with(|cell| unsafe { *cell });
        for (at, (page, pooled)) in pages.into_iter().enumerate() {
            let results = results.iter_mut().map(|both| std::mem::take(&mut both[at])).collect();
            // Only the first page has callbacks.
            let outcome = Outcome { results, page, pooled, disk: if at == 0 { disk } else { NOTHING } };
            assert!(allowed[at].contains(&outcome), "{threads:?} from {starts:?}: no order gives {outcome:?}");
        }
    });
    println!("{shown}: {} executions", executions.load(std::sync::atomic::Ordering::Relaxed));
}
