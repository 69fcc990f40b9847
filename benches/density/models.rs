//! Models of the kernel's allocators for compressed pages: their rules of placement, without the objects' bytes. Each
//! counts the pages of 4096 bytes that it would take, and what it keeps beside them.
//!
//! zbud and z3fold share a page among two and three objects; Linux had both up to 6.14. An object that they have no
//! room for, because it hardly compresses, counts as a page of its own: such a page stays uncompressed. zsmalloc has
//! size classes, as the pool of this crate does; zram measures the real one.

use super::lists::Lists;
use crate::common::peers::Peer;
use std::sync::{Mutex, PoisonError};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// zbud and z3fold count in chunks of this many bytes.
pub const CHUNK: usize = 64;
/// Chunks of a page.
pub const CHUNKS: usize = PAGE / CHUNK;

/// An allocator that only counts.
pub trait Model: Send {
    /// Name in tables.
    const NAME: &'static str;

    /// A model without objects.
    fn new() -> Self;
    /// Places an object, and returns its token.
    fn place(&mut self, size: usize) -> usize;
    /// Removes an object.
    fn remove(&mut self, token: usize);
    /// Moves objects together, if the allocator can.
    fn compact(&mut self) {}
    /// Returns the bytes of memory that it would take.
    fn bytes(&self) -> u64;
}

/// Measures a model as if it were an allocator.
pub struct Modelled<M>(Mutex<M>);

impl<M: Model> Modelled<M> {
    fn with<R>(&self, act: impl FnOnce(&mut M) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<M: Model> Peer for Modelled<M> {
    const NAME: &'static str = M::NAME;

    fn new() -> Self {
        Self(Mutex::new(M::new()))
    }

    fn alloc(&self, size: usize) -> usize {
        self.with(|model| model.place(size))
    }

    fn free(&self, token: usize) {
        self.with(|model| model.remove(token));
    }

    fn map(&self, _: usize) -> *mut u8 {
        unreachable!("a model has no bytes")
    }

    fn unmap(&self, _: usize) {}

    fn alloc_with(&self, size: usize, _: impl FnOnce(*mut u8)) -> usize {
        self.alloc(size)
    }

    fn give_back(&self) {
        self.with(M::compact);
    }

    fn counted_memory(&self) -> Option<u64> {
        Some(self.with(|model| model.bytes()))
    }
}

/// Numbers that are used again once they are free.
#[derive(Default)]
pub struct Numbers {
    free: Vec<usize>,
    next: usize,
}

impl Numbers {
    /// Returns a number that is not in use.
    pub fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Takes a number back.
    pub fn give_back(&mut self, number: usize) {
        self.free.push(number);
    }

    /// Returns how many numbers are in use.
    pub fn taken(&self) -> u64 {
        (self.next - self.free.len()) as u64
    }
}

/// zbud: a header of one chunk, one object at the front of a page and one at its end. Objects never move.
pub struct Zbud {
    /// Chunks of the first and of the last object of each page.
    pages: Vec<[usize; 2]>,
    numbers: Numbers,
    /// The pages with one object, by how many chunks are free.
    unbuddied: Lists,
}

impl Zbud {
    const FREE: usize = CHUNKS - 1;

    fn list(&mut self, page: usize) {
        let [first, last] = self.pages[page];
        if first == 0 || last == 0 {
            self.unbuddied.put(Self::FREE - first - last, page);
        }
    }
}

impl Model for Zbud {
    const NAME: &'static str = "zbud";

    fn new() -> Self {
        Self { pages: Vec::new(), numbers: Numbers::default(), unbuddied: Lists::new(CHUNKS) }
    }

    fn place(&mut self, size: usize) -> usize {
        let chunks = size.div_ceil(CHUNK);
        // A page that is full keeps to itself.
        let found = (chunks..Self::FREE).find_map(|free| self.unbuddied.first(free));
        let page = found.filter(|_| size <= PAGE - 2 * CHUNK).unwrap_or_else(|| self.numbers.take());
        self.unbuddied.take(page);
        if self.pages.len() <= page {
            self.pages.push([0; 2]);
        }
        let half = usize::from(self.pages[page][0] != 0);
        self.pages[page][half] = chunks.min(Self::FREE);
        self.list(page);
        page * 2 + half
    }

    fn remove(&mut self, token: usize) {
        let (page, half) = (token / 2, token % 2);
        self.unbuddied.take(page);
        self.pages[page][half] = 0;
        match self.pages[page] {
            [0, 0] => self.numbers.give_back(page),
            _ => self.list(page),
        }
    }

    fn bytes(&self) -> u64 {
        self.numbers.taken() * PAGE as u64
    }
}
