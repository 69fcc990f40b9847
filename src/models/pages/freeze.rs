//! A stretch of page words is given back while pages come and go in it: no store is lost, and the bit of the stretch
//! hides none.

use super::heap::Heap;
use crate::bitmap::SharedBits;
use crate::sync::{AtomicU64, Ordering::AcqRel};
use crate::zswap::index::{note, unnote};
use crate::zswap::page::{Frozen, PageCell, freeze, thaw};
use crate::zswap::word::{PageWord, WordKind};
use loom::sync::Arc;
use loom::thread;
use std::slice::from_ref;

struct Stretch {
    bits: AtomicU64,
    words: [AtomicU64; 2],
    heap: Heap,
}

impl Stretch {
    fn store(&self, at: usize, value: u64) {
        let page = PageCell(&self.words[at]);
        let new = PageWord::stored(self.heap.allocate(value), false);
        let old = loop {
            match page.publish(new) {
                Ok(old) => break old,
                Err(Frozen) => page.wait_for_thaw(),
            }
        };
        note(SharedBits(from_ref(&self.bits)), 0);
        self.discard(old);
    }

    fn invalidate(&self, at: usize) {
        self.discard(PageCell(&self.words[at]).remove());
    }

    fn discard(&self, old: PageWord) {
        if let WordKind::Stored(handle) = old.kind() {
            self.heap.free(handle);
        }
    }

    fn load(&self, at: usize) -> Option<u64> {
        let (_, pinned) = PageCell(&self.words[at]).find(&self.heap);
        pinned.map(|pinned| pinned.read())
    }

    /// Gives the stretch back as the index does. The system takes the memory, or refuses.
    fn give_back(&self, system_gives: bool) {
        if !freeze(&self.words) {
            return;
        }
        unnote(SharedBits(from_ref(&self.bits)), 0);
        if system_gives {
            // All threads see what the system does: the words are zero.
            self.words.iter().for_each(|word| _ = word.swap(0, AcqRel));
        } else {
            thaw(&self.words);
        }
    }

    /// Returns the value at the end, and checks that a stretch with a page has its bit set.
    fn end(&self, at: usize) -> Option<u64> {
        let value = self.load(at);
        let word = PageCell(&self.words[at]).peek();
        assert!(!word.is_frozen());
        assert!(value.is_some() || word == PageWord::EMPTY, "left {word:?}");
        assert!(value.is_none() || self.bits.load(crate::sync::Ordering::Relaxed) & 1 == 1, "a page without its bit");
        value
    }
}

fn race(threads: &'static [fn(&Stretch)], end: fn(&Stretch)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let stretch = Arc::new(Stretch {
            bits: AtomicU64::new(1),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            heap: Heap::new(),
        });
        let run = |work: fn(&Stretch)| {
            let stretch = stretch.clone();
            thread::spawn(move || work(&stretch))
        };
        let running: Vec<_> = threads[1..].iter().map(|&work| run(work)).collect();
        threads[0](&stretch);
        running.into_iter().for_each(|thread| thread.join().unwrap());
        end(&stretch);
    });
}

#[test]
fn a_store_is_never_lost() {
    race(&[|s| s.store(1, 201), |s| s.give_back(true)], |s| assert_eq!(s.end(1), Some(201)));
}

#[test]
fn a_store_is_never_lost_when_the_system_refuses() {
    race(&[|s| s.store(0, 201), |s| s.give_back(false)], |s| assert_eq!(s.end(0), Some(201)));
}

#[test]
fn two_stores_and_two_who_give_back() {
    race(
        &[
            |s| {
                s.give_back(true);
                s.store(0, 201);
            },
            |s| {
                s.store(1, 202);
                s.give_back(true);
            },
        ],
        |s| assert_eq!((s.end(0), s.end(1)), (Some(201), Some(202))),
    );
}

#[test]
fn a_removal_does_not_thaw() {
    race(
        &[
            |s| s.give_back(true),
            |s| {
                s.invalidate(0);
                s.store(0, 201);
            },
        ],
        |s| assert_eq!(s.end(0), Some(201)),
    );
}

#[test]
fn a_load_sees_the_page_or_none() {
    race(&[|s| s.give_back(true), |s| s.store(0, 201), |s| assert!(matches!(s.load(0), None | Some(201)))], |s| {
        assert_eq!(s.end(0), Some(201))
    });
}

#[test]
fn a_store_then_a_removal_then_nothing() {
    race(
        &[
            |s| {
                s.store(0, 201);
                s.invalidate(0);
            },
            |s| s.give_back(true),
        ],
        |s| assert_eq!(s.end(0), None),
    );
}
