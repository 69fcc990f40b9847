//! A stand-in for the pool. Generations never change, so that every reuse of a handle is the worst case: a generation
//! that has come round. The bytes are cells, whose races loom finds.

use crate::object::{Freed, ObjectWord};
use crate::sync::{AtomicU64, Cell, Ordering::Relaxed};
use crate::units::{Place, ZspageId};
use crate::zswap::page::Objects;
use loom::sync::Mutex;

const OBJECTS: usize = 3;
/// Freed objects are written over with this.
const SCRIBBLED: u64 = u64::MAX;

/// A stand-in for the pool: a few objects, behind the product's handle words.
pub struct Heap {
    words: [AtomicU64; OBJECTS],
    values: [Cell<u64>; OBJECTS],
    free: Mutex<Vec<usize>>,
}

impl Heap {
    pub fn new() -> Self {
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

    /// Returns how many objects there are.
    pub fn count(&self) -> usize {
        OBJECTS - self.free.lock().unwrap().len()
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
