//! The staging range: the inactive list. Pages that were moved out of their regions wait here uncompressed, to be
//! touched again or compressed.
//!
//! It is cut into blocks of slots. A block is free, is filled by one thread, waits in the queue of full ones, or is
//! drained by one thread from its front on. A touch takes a page out of the middle of a block by its state word alone,
//! and leaves a hole. So slots are used again only when their whole block is drained.

use super::page::PageClaim;
use super::region::MAX_REGIONS;
use super::state::MAX_PAYLOAD;
use crate::error::{Error, Result, not_given, sentence};
use crate::field::Field;
use crate::heap;
use crate::os::userfault::{Faulting, Progress, Userfault};
use crate::os::{Advice, Backed, Errno, Mapping, Os, errno};
use crate::sync::{
    AtomicU32, AtomicU64, Lock,
    Ordering::{Acquire, Relaxed, Release},
    Rank, fence,
};
use crate::units::{PAGE, pages_of};
use crate::zswap::MAX_AREA_PAGES;

/// Slots of a block, which is how many pages one call takes at most.
pub const BLOCK: usize = 32;

/// Names a page independently of its address: the region's place, and the page's number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageId {
    /// The place of the region.
    pub region: usize,
    /// The number of the page.
    pub page: u64,
}

const PAGE_FIELD: Field = Field::first(40);
const REGION_FIELD: Field = PAGE_FIELD.then(16);

const _: () = assert!(MAX_AREA_PAGES - 1 <= PAGE_FIELD.max() && MAX_REGIONS as u64 - 1 == REGION_FIELD.max());
/// The progress of a block is kept in bytes.
const _: () = assert!(BLOCK <= u8::MAX as usize);

impl PageId {
    fn pack(self) -> u64 {
        REGION_FIELD.set(PAGE_FIELD.set(0, self.page), self.region as u64)
    }

    fn unpack(id: u64) -> Self {
        Self { region: REGION_FIELD.get(id) as usize, page: PAGE_FIELD.get(id) }
    }
}

/// Bytes of the table for each block.
const TABLE_BYTES: usize = BLOCK * size_of::<AtomicU64>() + size_of::<AtomicU32>();

/// The owner of a slot whose page nobody needs, and whose memory the system did not take.
const LEFT: u64 = u64::MAX;

/// A block that is this thread's.
pub struct Block {
    index: u32,
    /// Slots whose memory was given back, from the front on.
    pub given: usize,
    /// The first slot that was not looked at.
    pub next: usize,
    /// How many slots were filled.
    pub filled: usize,
    /// Pages between `given` and `next` that are charged until their memory is given back.
    pub owed: u64,
}

impl Block {
    /// The number of one of the block's slots.
    pub fn slot(&self, at: usize) -> u32 {
        self.index * BLOCK as u32 + at as u32
    }
}

struct Lists {
    /// Blocks that were used, and are free again.
    free: Vec<u32>,
    /// Blocks from this one on were never used.
    fresh: u32,
    /// A ring of full blocks, oldest first.
    queue: Box<[u32]>,
    first: usize,
    waiting: usize,
    /// Blocks that threads are draining. Some of their pages have left memory and are still charged.
    draining: usize,
}

/// The range, and which pages are in it.
pub struct Staging {
    mapping: Mapping,
    /// The range's own userfaultfd: the pager's discards make no events there.
    uffd: Userfault,
    /// The number of blocks.
    blocks: usize,
    /// The owner of each slot, then the progress of each block. It is zeros at first, and takes memory as far as blocks
    /// were used.
    table: Mapping,
    /// Percent of the pages in memory that wait here, at most.
    percent: u64,
    lists: Lock<Lists>,
    pages: AtomicU64,
    os: Os,
}

// SAFETY: the range is only addresses: claims decide where the bytes there are. The table is shared as atomics alone.
unsafe impl Sync for Staging {}
// SAFETY: the mappings belong to this value, and go where it goes.
unsafe impl Send for Staging {}

impl Staging {
    /// Makes a range with room for `pages` pages and the holes between them.
    pub fn new(os: &Os, uffd: Userfault, pages: usize, percent: u64) -> Result<Self> {
        const NO_ADDRESSES: Error = Error::NoMemory(not_given!("the system gives no addresses for the staging range"));
        const NO_TABLE: Error =
            Error::NoMemory(not_given!("the system gives no addresses for the staging range's table"));
        const NO_REGISTER: Error =
            Error::NoMemory(not_given!("the system does not register the staging range with userfaultfd"));
        // A state word has bits for no more slots.
        let blocks = (pages.div_ceil(BLOCK) * 2 + 64).min((MAX_PAYLOAD as usize + 1) / BLOCK);
        let bytes = blocks * BLOCK * PAGE;
        let table_bytes = pages_of(blocks * TABLE_BYTES) * PAGE;
        let table = os.sparse_memory(table_bytes).map_err(|_| NO_TABLE)?;
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_ADDRESSES)?;
        let base = mapping.base().as_ptr();
        os.commit(base, bytes).map_err(|_| NO_ADDRESSES)?;
        // In a process that locks what it maps (mlockall) there is memory now, and no page can be moved to where one
        // is.
        // SAFETY: nothing was ever there.
        let _ = unsafe { os.release(base, bytes, Backed::Anonymous) };
        // Only single pages are moved here. Children do not get the range: pages that are shared with a child can't be
        // moved.
        let advised =
            [Advice::NotHuge, Advice::DontFork, Advice::DontDump].map(|advice| os.advise(base, bytes, advice));
        advised[1].map_err(|errno| Error::advice(errno, sentence(&"madvise(MADV_DONTFORK) of the staging range")))?;
        let registered = uffd.register(base as usize, bytes, Faulting::default());
        registered.map_err(|errno| match errno.0 {
            errno::ENOMEM => NO_REGISTER,
            _ => Error::system(errno, sentence(&"UFFDIO_REGISTER of the staging range")),
        })?;
        let lists = Lists {
            free: heap::with_capacity(blocks)?,
            fresh: 0,
            queue: heap::slice(blocks, |_| Ok(0))?,
            first: 0,
            waiting: 0,
            draining: 0,
        };
        Ok(Self {
            mapping,
            uffd,
            blocks,
            table,
            percent,
            lists: Lock::new(Rank::Staging, lists),
            pages: AtomicU64::new(0),
            os: os.clone(),
        })
    }

    /// Lets go of the range without unmapping it, in a child that never got it.
    pub fn forget(&mut self) {
        self.mapping.forget();
    }

    /// Pages that wait here.
    #[inline]
    pub fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    /// Counts pages that were moved here.
    pub fn came(&self, pages: u64) {
        self.pages.fetch_add(pages, Relaxed);
    }

    /// Counts pages that left.
    pub fn went(&self, pages: u64) {
        self.pages.fetch_sub(pages, Relaxed);
    }

    /// The address of a slot.
    #[inline]
    pub fn address(&self, slot: u32) -> usize {
        self.mapping.base().as_ptr() as usize + slot as usize * PAGE
    }

    /// The most pages that should wait here. As many slots again may be holes.
    fn room(&self) -> u64 {
        (self.blocks * BLOCK / 2) as u64
    }

    /// How many of `resident` pages should wait here, at most.
    pub fn target(&self, resident: u64) -> u64 {
        (resident * self.percent / 100).clamp(1, self.room())
    }

    /// The start of the range, and its bytes.
    pub fn range(&self) -> (usize, usize) {
        (self.mapping.base().as_ptr() as usize, self.blocks * BLOCK * PAGE)
    }

    /// Bytes of memory that the tables take. They grow as blocks are used for the first time.
    pub fn table_bytes(&self) -> u64 {
        (self.lists.lock().fresh as usize * (TABLE_BYTES + 2 * size_of::<u32>())) as u64
    }

    /// The word that names the owner of a slot.
    fn id(&self, slot: u32) -> &AtomicU64 {
        assert!((slot as usize) < self.blocks * BLOCK);
        // SAFETY: the table begins with a word for each slot, lives as long as this does, and is used as atomics alone.
        unsafe { self.table.base().cast::<AtomicU64>().add(slot as usize).as_ref() }
    }

    /// The progress of a block while no thread has it: a byte for each of its numbers.
    fn progress(&self, block: u32) -> &AtomicU32 {
        assert!((block as usize) < self.blocks);
        // SAFETY: these words follow the owners of all slots, live as long as this does, and are used as atomics alone.
        unsafe {
            self.table
                .base()
                .cast::<AtomicU64>()
                .add(self.blocks * BLOCK)
                .cast::<AtomicU32>()
                .add(block as usize)
                .as_ref()
        }
    }

    /// Takes a free block, to fill it.
    pub fn take_free(&self) -> Option<Block> {
        let mut lists = self.lists.lock();
        let fresh = lists.fresh;
        let index = lists.free.pop().or_else(|| {
            lists.fresh += u32::from((fresh as usize) < self.blocks);
            ((fresh as usize) < self.blocks).then_some(fresh)
        })?;
        Some(Block { index, given: 0, next: 0, filled: 0, owed: 0 })
    }

    /// Notes the owner of a slot, before its page is moved there.
    pub fn note(&self, slot: u32, id: PageId) {
        // Relaxed: the block goes through the queue, and its lock, before any other thread reads this.
        self.id(slot).store(id.pack(), Relaxed);
    }

    /// The owner of a slot, or none if nobody needs its page any more and the memory was left there.
    pub fn owner(&self, slot: u32) -> Option<PageId> {
        let id = self.id(slot).load(Relaxed);
        (id != LEFT).then(|| PageId::unpack(id))
    }

    /// Notes that nobody needs the page in a slot, but that the system did not take its memory. It stays charged until
    /// the block is drained. The caller has the page claimed, or the block.
    fn leave(&self, slot: u32) {
        self.id(slot).store(LEFT, Relaxed);
    }

    /// Whether a slot's memory was left there. The caller saw that the page's word no longer names the slot.
    pub fn was_left(&self, slot: u32) -> bool {
        // Acquire pairs with the Release at the end of the claim under which the memory was left. The caller saw that
        // claim end.
        fence(Acquire);
        self.owner(slot).is_none()
    }

    /// Puts a block that was filled behind all others in the queue, or makes it free again if nothing is in it.
    pub fn queue(&self, block: Block) {
        let mut lists = self.lists.lock();
        if block.filled == 0 {
            lists.free.push(block.index);
            return;
        }
        self.mark(&block);
        let size = lists.queue.len();
        let place = (lists.first + lists.waiting) % size;
        lists.queue[place] = block.index;
        lists.waiting += 1;
    }

    /// Takes the block that waited longest, to drain it.
    pub fn take_oldest(&self) -> Option<Block> {
        let mut lists = self.lists.lock();
        if lists.waiting == 0 {
            return None;
        }
        let index = lists.queue[lists.first];
        lists.first = (lists.first + 1) % lists.queue.len();
        lists.waiting -= 1;
        lists.draining += 1;
        let [given, next, filled, owed] = self.progress(index).load(Acquire).to_ne_bytes();
        Some(Block { index, given: given.into(), next: next.into(), filled: filled.into(), owed: owed.into() })
    }

    /// Whether a block waits to be drained.
    pub fn has_waiting(&self) -> bool {
        self.lists.lock().waiting > 0
    }

    /// Whether pages are staged, or left a block that a thread is draining, and are still charged.
    pub fn is_in_use(&self) -> bool {
        self.pages() > 0 || self.lists.lock().draining > 0
    }

    /// Puts a block back that was drained up to `next`: it is free, or waits before all others, or `behind` them.
    pub fn put_back(&self, block: Block, behind: bool) {
        let mut lists = self.lists.lock();
        lists.draining -= 1;
        if block.given == block.filled {
            lists.free.push(block.index);
            return;
        }
        self.mark(&block);
        let size = lists.queue.len();
        if !behind {
            lists.first = (lists.first + size - 1) % size;
        }
        let place = if behind { (lists.first + lists.waiting) % size } else { lists.first };
        lists.queue[place] = block.index;
        lists.waiting += 1;
    }

    fn mark(&self, block: &Block) {
        // Release pairs with the Acquire in `take_oldest`. The lock orders as much.
        let mark = [block.given as u8, block.next as u8, block.filled as u8, block.owed as u8];
        self.progress(block.index).store(u32::from_ne_bytes(mark), Release);
    }

    /// Moves pages from their region to slots, as [`Userfault::move_pages`] does.
    ///
    /// # Safety
    /// The pages are claimed by this thread, and so are the slots' block.
    #[inline]
    pub unsafe fn move_in(&self, slot: u32, from: usize, pages: usize) -> Progress {
        // SAFETY: the caller vouches that it has the pages and the block.
        unsafe { self.uffd.move_pages(self.address(slot), from, pages * PAGE) }
    }

    /// Moves the page in a slot to the missing page at an address, as [`Userfault::move_pages`] of `uffd` does.
    /// `_claim` is of the page that the slot has.
    #[inline]
    pub fn move_out(&self, slot: u32, uffd: &Userfault, at: usize, _claim: &PageClaim<'_>) -> Progress {
        // SAFETY: the claim makes the slot's page this thread's, and the one that is missing as well.
        unsafe { uffd.move_pages(at, self.address(slot), PAGE) }
    }

    /// Gives the memory of a slot back to the system, whose page nobody needs. `_claim` is of that page, and no word
    /// names the slot from its end on. Returns false if the system did not take it: then it is left there until the
    /// block is drained.
    pub fn empty(&self, slot: u32, _claim: &PageClaim<'_>) -> bool {
        // SAFETY: the claim makes the slot's page this thread's, and nobody needs it.
        let taken = unsafe { self.give_back(slot, 1) }.is_ok();
        if !taken {
            self.leave(slot);
        }
        taken
    }

    /// Gives the memory of slots back to the system.
    ///
    /// Nobody needs the bytes there: no state word names these slots.
    pub unsafe fn give_back(&self, slot: u32, slots: usize) -> std::result::Result<(), Errno> {
        // SAFETY: the caller vouches that nobody needs the bytes.
        unsafe { self.os.release(self.address(slot) as *mut u8, slots * PAGE, Backed::Anonymous) }.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_ids_reach_the_last_page_of_the_last_region() {
        for region in [0, 1, MAX_REGIONS - 1] {
            for page in [0, 1, u64::from(u32::MAX), 1 << 32, MAX_AREA_PAGES - 1] {
                let id = PageId { region, page };
                assert_eq!(PageId::unpack(id.pack()), id);
                assert_ne!(id.pack(), LEFT);
            }
        }
    }

    #[test]
    fn table_of_a_large_range_takes_memory_as_blocks_are_used() {
        let os = Os::default();
        let uffd = Userfault::new(&os, 0, true).unwrap();
        let staging = Staging::new(&os, uffd, 1 << 22, 10).unwrap();
        let resident = || {
            let mut seen = vec![0; pages_of(staging.blocks * TABLE_BYTES)];
            os.in_memory(staging.table.base().as_ptr() as usize, &mut seen).unwrap();
            seen.iter().filter(|&&seen| seen & 1 == 1).count()
        };
        assert_eq!((resident(), staging.table_bytes()), (0, 0));
        let mut taken = Vec::new();
        for number in 0..100 {
            let block = staging.take_free().unwrap();
            assert_eq!(block.index, number);
            staging.note(block.slot(BLOCK - 1), PageId { region: 1, page: number.into() });
            taken.push(Block { filled: BLOCK, ..block });
        }
        let first = taken.pop().unwrap();
        staging.queue(Block { filled: 0, ..first });
        assert_eq!(staging.take_free().unwrap().index, 99, "one that is free again comes before fresh ones");
        taken.into_iter().for_each(|block| staging.queue(block));
        assert_eq!(staging.take_oldest().unwrap().filled, BLOCK);
        assert!(resident() < 20 && staging.table_bytes() < 20 * PAGE as u64);
        assert_eq!(staging.owner(99 * BLOCK as u32 + 31), Some(PageId { region: 1, page: 99 }));
    }

    #[test]
    fn every_block_can_be_taken_and_no_more() {
        let os = Os::default();
        let staging = Staging::new(&os, Userfault::new(&os, 0, true).unwrap(), BLOCK, 10).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| staging.take_free()).map(|block| block.index as usize).collect();
        assert!(all.into_iter().eq(0..staging.blocks) && staging.take_free().is_none());
    }
}
