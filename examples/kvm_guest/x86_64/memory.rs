//! The guest's memory: its contents, and whether they are right at the end.

use super::super::{Args, PAGE, Problem, Result};
use super::data::Data;
use super::layout::{CODE, Layout, TABLES};
use super::model::{self, Words};
use super::program::{self, CHECKSUM_WORD, Orders};
use std::thread;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Bytes of a page, as a number of the guest's.
const PAGE64: u64 = PAGE as u64;

/// The memory, and the data for it.
pub struct Memory {
    mapping: GuestMemoryMmap,
    layout: Layout,
    data: Data,
    orders: Vec<Orders>,
}

/// What was not right.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// The processor and the pass of each wrong checksum.
    pub checksums: Vec<(usize, usize)>,
    /// Number of wrong pages.
    pub pages: u64,
}

impl Memory {
    /// Maps memory of zeros.
    pub fn new(args: &Args) -> Result<Self> {
        let layout = Layout::new(args.memory);
        let mapping = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), args.memory as usize)]);
        let mapping = mapping.map_err(|error| Problem::Refused(format!("no memory for the guest: {error}")))?;
        let orders = |processor| layout.orders(processor, args.processors, args.passes);
        let orders = (0..args.processors).map(orders).collect();
        Ok(Self { mapping, layout, data: Data::open(layout.work_pages() as usize / 2)?, orders })
    }

    /// Returns the mapping.
    pub fn mapping(&self) -> &GuestMemoryMmap {
        &self.mapping
    }

    /// Returns the address in this process, and the size in bytes.
    pub fn range(&self) -> (usize, usize) {
        let at = self.mapping.get_host_address(GuestAddress(0)).map_or(0, |at| at as usize);
        (at, self.mapping.last_addr().0 as usize + 1)
    }

    /// Returns the number of pages that the guest works on, of different ones among them, and of files they came from.
    pub fn source(&self) -> (u64, usize, usize) {
        (self.layout.work_pages(), self.data.pages(), self.data.files())
    }

    /// Returns the initial contents of a page: a page of the data, with a small change from its second use on.
    fn page(&self, number: u64) -> Words {
        let mut words = *self.data.page(number as usize);
        words[number as usize % words.len()] ^= number / self.data.pages() as u64;
        words
    }

    /// Writes code, orders, page tables and pages.
    pub fn fill(&self) -> Result<()> {
        let code = program::code();
        if code.len() > PAGE {
            return Err(Problem::Failed(format!("the guest's code has {} bytes, and one page", code.len())));
        }
        self.write(CODE, code)?;
        for (processor, orders) in self.orders.iter().enumerate() {
            self.write(self.layout.orders_at(processor), &bytes_of(&orders.words()))?;
        }
        for (table, entries) in self.layout.tables().chunks(PAGE / 8).enumerate() {
            self.write(TABLES + table as u64 * PAGE64, &bytes_of(entries))?;
        }
        for number in 0..self.layout.work_pages() {
            self.write(self.layout.first() + number * PAGE64, &bytes_of(&self.page(number)))?;
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.mapping.write_slice(bytes, GuestAddress(at)).map_err(|error| outside(at, &error))
    }

    /// Returns a processor's current checksum.
    pub fn checksum(&self, processor: usize) -> Result<u64> {
        let at = self.layout.orders_at(processor) + CHECKSUM_WORD * 8;
        self.mapping.read_obj(GuestAddress(at)).map_err(|error| outside(at, &error))
    }

    /// Returns the range that a processor gives back, from page `first` of its own on: its address in this process, and
    /// its size in bytes.
    pub fn balloon(&self, processor: usize, first: u64) -> Result<(usize, usize)> {
        let orders = &self.orders[processor];
        if first + orders.balloon > orders.pages {
            return Err(Problem::Failed(format!("processor {processor} gives page {first} back, which it has not")));
        }
        let at = self.mapping.get_host_address(GuestAddress(orders.first + first * PAGE64));
        let at = at.map_err(|error| outside(orders.first, &error))?;
        Ok((at as usize, (orders.balloon * PAGE64) as usize))
    }

    /// Does the guest's work on memory of the host's own, and compares the checksums of each processor after each pass,
    /// and all pages.
    pub fn compare(&self, said: &[Vec<u64>]) -> Result<Wrong> {
        thread::scope(|scope| {
            let begin = |orders| scope.spawn(move || self.compare_share(orders));
            let threads: Vec<_> = self.orders.iter().map(begin).collect();
            let mut wrong = Wrong::default();
            for (processor, (thread, said)) in threads.into_iter().zip(said).enumerate() {
                let (right, pages) = thread.join().map_err(|_| Problem::Failed("the model panicked".to_owned()))??;
                let passes = (0..right.len().max(said.len())).filter(|&pass| right.get(pass) != said.get(pass));
                wrong.checksums.extend(passes.map(|pass| (processor, pass)));
                wrong.pages += pages;
            }
            Ok(wrong)
        })
    }

    /// Returns the right checksums of one processor, and the number of its pages that are wrong.
    fn compare_share(&self, orders: &Orders) -> Result<(Vec<u64>, u64)> {
        let first = (orders.first - self.layout.first()) / PAGE64;
        let mut pages: Vec<Words> = (first..first + orders.pages).map(|number| self.page(number)).collect();
        let checksums = model::run(&mut pages, orders);
        let (mut wrong, mut seen) = (0, [0; PAGE]);
        for (page, right) in pages.iter().enumerate() {
            let at = orders.first + page as u64 * PAGE64;
            self.mapping.read_slice(&mut seen, GuestAddress(at)).map_err(|error| outside(at, &error))?;
            wrong += u64::from(seen != *bytes_of(right));
        }
        Ok((checksums, wrong))
    }
}

/// Returns the bytes of words as they lie in memory, on this machine and on the guest.
fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn outside(at: u64, error: &vm_memory::GuestMemoryError) -> Problem {
    Problem::Failed(format!("the guest's memory at {at:#x}: {error}"))
}
