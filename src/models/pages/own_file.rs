//! The library's own file: each writeback owns its place, nobody waits, a place is given back once, and a reader never
//! takes the bytes of the next page at a place for its own.

use super::orders::Start;
use super::{Op, race};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::zswap::page::{PageCell, read_before_word};
use crate::zswap::word::{FileSlot, PageWord};
use loom::sync::Mutex;

const PLACES: usize = 3;
const FREED: u64 = u64::MAX;

/// A stand-in for the file: bytes that change under readers, and their checks. Generations never change, so that every
/// reuse of a place is the worst case: a generation that has come round.
pub struct File {
    bytes: [AtomicU64; PLACES],
    checks: [AtomicU64; PLACES],
    free: Mutex<Vec<u32>>,
}

impl File {
    pub fn new() -> Self {
        Self {
            bytes: std::array::from_fn(|_| AtomicU64::new(FREED)),
            checks: std::array::from_fn(|_| AtomicU64::new(FREED)),
            free: Mutex::new((0..PLACES as u32).collect()),
        }
    }

    pub fn write(&self, value: u64) -> FileSlot {
        let index = self.free.lock().unwrap().pop().expect("room for what the models write");
        self.checks[index as usize].store(value, Release);
        self.bytes[index as usize].store(value, Relaxed);
        FileSlot { index, generation: 0 }
    }

    pub fn release(&self, slot: FileSlot) {
        let mut free = self.free.lock().unwrap();
        assert!(!free.contains(&slot.index), "a place is given back once");
        free.push(slot.index);
    }

    /// Reads as the product does. Returns none if the page was replaced.
    pub fn read(&self, slot: FileSlot, page: PageCell<'_>, seen: PageWord) -> Option<u64> {
        let check = self.checks[slot.index as usize].load(Acquire);
        let bytes = self.bytes[slot.index as usize].load(Relaxed);
        read_before_word();
        let same = page.peek().is_version_of(seen);
        (same && bytes == check).then_some(bytes)
    }

    /// Returns what was written to a place that is this thread's.
    pub fn check_of(&self, slot: FileSlot) -> u64 {
        let bytes = self.bytes[slot.index as usize].load(Relaxed);
        assert_eq!(bytes, self.checks[slot.index as usize].load(Acquire));
        bytes
    }

    pub fn check_free(&self, taken: usize) {
        assert_eq!(self.free.lock().unwrap().len(), PLACES - taken, "every other place was given back");
    }
}

macro_rules! programs {
    ($($name:ident, $most:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race(Some($most), Start::Stored, true, &[$(&$thread),*]);
        }
    )*};
}

programs! {
    load_vs_writeback, 3: [Op::Load, Op::Load], [Op::Written];
    take_vs_writeback, 3: [Op::Take], [Op::Written];
    store_vs_writeback, 3: [Op::Store(201)], [Op::Written];
    invalidate_vs_writeback, 3: [Op::Invalidate], [Op::Written];
    writeback_vs_writeback, 3: [Op::Written], [Op::Written];
    load_of_a_page_that_is_written_then_replaced, 3: [Op::Load], [Op::Written, Op::Store(201), Op::Written];
    take_of_a_page_that_is_written_then_replaced, 3: [Op::Take], [Op::Written, Op::Store(201), Op::Written];
    load_vs_failed_writeback, 3: [Op::Load], [Op::Refused, Op::Written];
    two_removals_of_a_written_page, 3: [Op::Written, Op::Invalidate], [Op::Store(201)];
    writeback_take_store, 2: [Op::Written, Op::Take], [Op::Load], [Op::Store(201)];
}
