//! The layout of the guest's memory, and its page tables.

use super::super::PAGE;
use super::program::Orders;

const PAGE64: u64 = PAGE as u64;
/// Address of the code. The page before it is mapped nowhere, so that the use of a zero address is noticed.
pub const CODE: u64 = PAGE64;
/// Address of the processors' orders.
const ORDERS: u64 = 2 * PAGE64;
/// Bytes of one processor's orders.
const ORDERS_BYTES: u64 = 64;
/// Address of the top page table.
pub const TABLES: u64 = 3 * PAGE64;
/// Entries of a page table.
const ENTRIES: u64 = 512;
/// Bits of a page-table entry: present, writable, accessible to programs.
const FOR_ALL: u64 = 7;

/// The layout of a guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pages: u64,
}

impl Layout {
    /// Lays out `bytes` bytes of memory.
    pub fn new(bytes: u64) -> Self {
        Self { pages: bytes / PAGE64 }
    }

    /// Returns the address of the device: the first one without memory. The page tables map its page.
    pub fn device(&self) -> u64 {
        self.pages * PAGE64
    }

    /// Returns the number of tables of each of the four levels, from the top.
    fn levels(&self) -> [u64; 4] {
        let last = (self.pages + 1).div_ceil(ENTRIES);
        let third = last.div_ceil(ENTRIES);
        [1, third.div_ceil(ENTRIES), third, last]
    }

    /// Returns the address of the first page that the guest works on.
    pub fn first(&self) -> u64 {
        TABLES + self.levels().iter().sum::<u64>() * PAGE64
    }

    /// Returns the number of pages that the guest works on.
    pub fn work_pages(&self) -> u64 {
        self.pages - self.first() / PAGE64
    }

    /// Returns the pages of one of `processors` processors: the number of the first one, and how many.
    pub fn share(&self, processor: usize, processors: usize) -> (u64, u64) {
        let begin = |processor: usize| self.work_pages() * processor as u64 / processors as u64;
        (begin(processor), begin(processor + 1) - begin(processor))
    }

    /// Returns the orders of a processor.
    pub fn orders(&self, processor: usize, processors: usize, passes: u64) -> Orders {
        let (first, pages) = self.share(processor, processors);
        let checksum = processor as u64 + 1;
        let first = self.first() + first * PAGE64;
        Orders { first, pages, passes, balloon: pages / 32, checksum, device: self.device() }
    }

    /// Returns the address of a processor's orders.
    pub fn orders_at(&self, processor: usize) -> u64 {
        ORDERS + processor as u64 * ORDERS_BYTES
    }

    /// Makes the page tables, one after another, which map every address to itself. They use 4 KiB pages, so that a
    /// processor's page walks go through as much memory as those of a guest with an operating system.
    pub fn tables(&self) -> Vec<u64> {
        let levels = self.levels();
        let mut entries = Vec::new();
        let mut at = TABLES;
        for (level, tables) in levels.into_iter().enumerate() {
            at += tables * PAGE64;
            let (below, begin) = match levels.get(level + 1) {
                Some(below) => (*below, at),
                None => (self.pages + 1, 0),
            };
            let entry = |number: u64| match number {
                // The page before the code is not mapped.
                0 if begin == 0 => 0,
                _ if number < below => (begin + number * PAGE64) | FOR_ALL,
                _ => 0,
            };
            entries.extend((0..tables * ENTRIES).map(entry));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translates an address as a processor would.
    fn walk(tables: &[u64], address: u64) -> Option<u64> {
        let table = |at: u64, shift: u32| {
            let entry = tables[((at - TABLES) / 8 + (address >> shift) % ENTRIES) as usize];
            (entry & FOR_ALL == FOR_ALL).then_some(entry & !(PAGE64 - 1))
        };
        [39, 30, 21, 12].into_iter().try_fold(TABLES, table)
    }

    #[test]
    fn every_address_is_the_one_in_memory() {
        for bytes in [1 << 20, 100 << 20, (1 << 30) + (2 << 20) + PAGE64, 3 << 30] {
            let layout = Layout::new(bytes);
            let tables = layout.tables();
            assert_eq!(layout.first(), TABLES + tables.len() as u64 * 8);
            for page in (1..bytes / PAGE64).step_by(if bytes > 1 << 28 { 517 } else { 1 }) {
                assert_eq!(walk(&tables, page * PAGE64), Some(page * PAGE64));
            }
            assert_eq!((walk(&tables, 0), walk(&tables, bytes + PAGE64)), (None, None));
            assert_eq!(walk(&tables, bytes - PAGE64), Some(bytes - PAGE64));
            assert_eq!(walk(&tables, layout.device()), Some(bytes));
        }
    }

    #[test]
    fn shares_cover_all_pages() {
        let layout = Layout::new(10 << 20);
        let shares: Vec<_> = (0..3).map(|processor| layout.share(processor, 3)).collect();
        assert_eq!(shares.iter().map(|(_, pages)| pages).sum::<u64>(), layout.work_pages());
        assert!(shares.windows(2).all(|two| two[0].0 + two[0].1 == two[1].0));
    }
}
