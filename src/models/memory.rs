//! The stand-in for the memory of a pool under loom: a few zspages and handle words, and bytes whose races loom finds.
//!
//! A zspage that is given back is written over, so that a thread that still reads it is found. Limits, chunks and the
//! system are not modelled, because no race on a word decides anything about them.

use super::{Fifo, Ring};
use crate::error::{Error, Limit, Result, sentence};
use crate::geometry::Geometry;
use crate::object::ObjectWord;
use crate::sync::{AtomicU64, Cell, Lock, Rank};
use crate::units::{ClassIndex, HandleIndex, Place, ZspageId};
use crate::zspage::Zspage;

const ZSPAGES: usize = 4;
const SLOTS: usize = 2;
/// The value of all bytes of a zspage that was given back.
pub const SCRIBBLE: u64 = 0xdead;

/// The stand-in for the memory of a pool.
pub struct PoolMemory {
    words: Vec<AtomicU64>,
    zspages: Vec<Zspage>,
    bytes: Vec<Cell<u64>>,
    /// The zspages that no class has.
    unused: Lock<Vec<ZspageId>>,
    /// The handle indices that no class has.
    indices: Lock<Vec<HandleIndex>>,
    /// An account without a limit.
    pub charge: Charge,
}

// SAFETY: the models check who touches the cells.
unsafe impl Sync for PoolMemory {}
// SAFETY: as above.
unsafe impl Send for PoolMemory {}

/// An account without a limit.
pub struct Charge;

#[allow(clippy::unused_self)]
impl Charge {
    pub fn take(&self, _: usize) -> Result<()> {
        Ok(())
    }
    pub fn keep_warm(&self, _: usize) -> bool {
        false
    }
    pub fn give_back(&self, _: usize) {}
    pub fn end_warm(&self, _: usize) {}
    pub fn used(&self) -> u64 {
        0
    }
    pub fn limit(&self) -> u64 {
        0
    }
    pub fn warm(&self) -> u64 {
        0
    }
    pub fn set_limit(&self, _: u64) {}
}

impl PoolMemory {
    /// A memory with this many handle words, none in use.
    pub fn new(words: u32) -> Self {
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            zspages: (0..ZSPAGES).map(|_| Zspage::unused()).collect(),
            bytes: (0..ZSPAGES * SLOTS).map(|_| Cell::new(SCRIBBLE)).collect(),
            unused: Lock::new(Rank::Arena, (0..ZSPAGES as u32).rev().map(ZspageId).collect()),
            indices: Lock::new(Rank::Handles, (0..words).rev().map(HandleIndex).collect()),
            charge: Charge,
        }
    }

    pub fn word(&self, index: HandleIndex) -> ObjectWord<'_> {
        ObjectWord(&self.words[index.0 as usize])
    }

    pub fn word_count(&self) -> u32 {
        self.words.len() as u32
    }

    pub fn zspage(&self, id: ZspageId) -> &Zspage {
        &self.zspages[id.0 as usize]
    }

    /// Returns the bytes of an object. The protocol says who may look at them.
    pub fn bytes(&self, place: Place) -> &Cell<u64> {
        &self.bytes[place.zspage.0 as usize * SLOTS + place.slot as usize]
    }

    /// Returns a hint where an object's bytes were, as the product does.
    pub fn object_hint(&self, place: Place) -> Option<*const u8> {
        self.zspage(place.zspage).class_hint().map(|_| std::ptr::null())
    }

    pub fn object(&self, _: Place) -> *mut u8 {
        unreachable!("models look at `bytes`")
    }

    /// # Safety
    /// As in the product.
    pub unsafe fn copy(&self, from: Place, to: Place, _: usize) {
        // SAFETY: as in the product. Loom checks it.
        let value = self.bytes(from).with(|at| unsafe { *at });
        // SAFETY: as above.
        self.bytes(to).with_mut(|at| unsafe { *at = value });
    }

    pub fn acquire(&self, _: ClassIndex, epoch: u32, _: Option<usize>) -> Result<ZspageId> {
        let id = self.unused.lock().pop().ok_or(Error::NoMemory(sentence(&"no zspage is left in this model")))?;
        self.zspage(id).set_up(0, 0, epoch);
        Ok(id)
    }

    pub fn release(&self, id: ZspageId, _: Geometry, _: u8) -> Result<u64> {
        for slot in 0..SLOTS as u8 {
            // SAFETY: nobody else knows the zspage. Loom finds out if anybody does.
            self.bytes(Place { zspage: id, slot }).with_mut(|at| unsafe { *at = SCRIBBLE });
        }
        let mut unused = self.unused.lock();
        assert!(!unused.contains(&id), "{id:?} was given back twice");
        unused.push(id);
        Ok(1)
    }

    /// Returns the zspages that no class has.
    pub fn unused(&self) -> Vec<ZspageId> {
        self.unused.lock().clone()
    }

    pub fn fetch_handle(&self) -> Result<HandleIndex> {
        self.indices.lock().pop().ok_or(Error::Limit(Limit::Tables))
    }

    pub fn fetch_lot(&self, stock: &mut Ring) -> Result<()> {
        stock.push(self.fetch_handle()?);
        Ok(())
    }

    /// Leaves a free index for the supply.
    pub fn leave_handle(&self, index: HandleIndex) {
        self.indices.lock().push(index);
    }

    /// Returns the handle indices that no class has.
    pub fn indices(&self) -> Vec<HandleIndex> {
        self.indices.lock().clone()
    }

    /// Returns the indices on a list.
    pub fn listed(&self, list: Fifo) -> Vec<HandleIndex> {
        let mut copy = list;
        std::iter::from_fn(|| copy.pop(self)).collect()
    }

    pub fn take_back(&self, free: &mut Fifo) {
        let taken = self.listed(*free);
        self.indices.lock().extend(taken);
        *free = Fifo::EMPTY;
    }

    pub fn return_tails<'a>(&self, _: impl Iterator<Item = &'a super::Tail>) -> Result<bool> {
        Ok(true)
    }
    pub fn empty(&self, id: ZspageId, class: Geometry, touched: u8) {
        self.release(id, class, touched).unwrap();
    }
    pub fn return_emptied(&self) -> u64 {
        0
    }
    pub fn return_empty_chunks(&self) -> u64 {
        0
    }
    pub fn trim_records(&self) -> u64 {
        0
    }
    pub fn sample(&self, _: &mut usize, _: &mut [ZspageId]) -> usize {
        0
    }
    pub fn is_whole(&self, _: ZspageId) -> bool {
        false
    }
    pub fn has_whole_chunks(&self) -> bool {
        false
    }
    pub fn chunk_of(&self, _: ZspageId) -> usize {
        0
    }
    pub fn emptiness(&self, _: usize) -> u64 {
        0
    }
    pub fn sparse_chunk(&self, _: Option<(u16, usize)>) -> Option<(u16, usize)> {
        None
    }
    pub fn zspage_in(&self, _: usize, _: usize) -> Option<(ZspageId, usize)> {
        None
    }
    pub fn open_chunks(&self) -> (u64, u64) {
        (0, 0)
    }
    pub fn table_pages(&self) -> u64 {
        0
    }
    pub fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
    pub fn forget(&mut self) {}
}
