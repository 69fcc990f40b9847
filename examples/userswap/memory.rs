//! The memory: the contents of each page, and whether they are right.
//!
//! A page is a page of a file, except for a few words, its marks. Each mark holds the page's number and how often the
//! page was written. So no two pages are alike, and a page that was lost, mixed up or brought back in an older state is
//! noticed.

use super::data::Data;
use super::{PAGE, Problem, Result};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The words of a page that are marks, one in each quarter.
const MARKS: [usize; 4] = [1, 131, 300, 509];
/// Spreads a number and a count over all bits of a mark. Odd, so that it can be undone.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Flag of a page that is being written.
const LOCKED: u32 = 1 << 31;

/// The memory under the pager.
pub struct Memory<'a> {
    base: NonNull<AtomicU64>,
    data: &'a Data,
    /// How often each page was written since it was filled. The thread that writes it sets the highest bit.
    written: Vec<AtomicU32>,
}

// SAFETY: the mapping is used as atomic words alone.
unsafe impl Send for Memory<'_> {}
// SAFETY: the mapping is used as atomic words alone.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    /// Maps `pages` pages of zeros.
    pub fn new(pages: usize, data: &'a Data) -> Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let kind = kind | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the system chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, access, kind, -1, 0) };
        let base = NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED);
        let base = base.ok_or_else(|| Problem::Refused(format!("the system gives no {} MiB", pages >> 8)))?;
        let written = (0..pages).map(|_| AtomicU32::new(0)).collect();
        // The comparison is between small pages with a limit and small pages without.
        // SAFETY: the mapping is ours; the advice changes nothing that is in it.
        unsafe { libc::madvise(base.as_ptr(), pages * PAGE, libc::MADV_NOHUGEPAGE) };
        Ok(Self { base: base.cast(), data, written })
    }

    /// Returns the address of the mapping.
    pub fn at(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.written.len()
    }

    fn word(&self, page: usize, word: usize) -> &AtomicU64 {
        assert!(page < self.pages() && word < PAGE / 8);
        // SAFETY: inside the mapping, which lives as long as `self`.
        unsafe { self.base.add(page * (PAGE / 8) + word).as_ref() }
    }

    /// Fills a page. No other thread uses it meanwhile.
    pub fn fill(&self, page: usize) {
        self.written[page].store(0, Relaxed);
        for (at, &word) in self.data.page(page).iter().enumerate() {
            self.word(page, at).store(word, Relaxed);
        }
        self.mark(page, 0);
    }

    fn mark(&self, page: usize, count: u32) {
        MARKS.iter().for_each(|&word| self.word(page, word).store(mark(page, count, word), Relaxed));
    }

    /// Reads the marks of a page. Returns whether they are right.
    #[inline]
    pub fn read(&self, page: usize) -> bool {
        let before = self.written[page].load(Acquire) & !LOCKED;
        let seen = MARKS.map(|word| (word, self.word(page, word).load(Relaxed)));
        std::sync::atomic::fence(Acquire);
        // Another thread may be writing the page.
        let after = (self.written[page].load(Relaxed) & !LOCKED) + 1;
        seen.iter().all(|&(word, seen)| {
            let (number, count) = unmark(seen, word);
            number == page && (before..=after).contains(&count)
        })
    }

    /// Reads the marks of a page and writes new ones. Returns whether the old ones were right.
    #[inline]
    pub fn write(&self, page: usize) -> bool {
        let count = self.lock(page);
        let right = MARKS.iter().all(|&word| self.word(page, word).load(Relaxed) == mark(page, count, word));
        let next = (count + 1) & !LOCKED;
        self.mark(page, next);
        self.written[page].store(next, Release);
        right
    }

    /// Waits until no other thread writes a page, and locks it. Returns how often it was written.
    fn lock(&self, page: usize) -> u32 {
        loop {
            let count = self.written[page].load(Relaxed) & !LOCKED;
            if self.written[page].compare_exchange_weak(count, count | LOCKED, Acquire, Relaxed).is_ok() {
                return count;
            }
            std::thread::yield_now();
        }
    }

    /// Returns whether every byte of a page is right. No other thread writes it meanwhile.
    pub fn is_right(&self, page: usize) -> bool {
        let count = self.written[page].load(Acquire);
        let right = |(at, &word): (usize, &u64)| {
            let wanted = if MARKS.contains(&at) { mark(page, count, at) } else { word };
            self.word(page, at).load(Relaxed) == wanted
        };
        self.data.page(page).iter().enumerate().all(right)
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and nothing uses it any more.
        unsafe { libc::munmap(self.at().cast(), self.pages() * PAGE) };
    }
}

fn mark(page: usize, count: u32, word: usize) -> u64 {
    ((page as u64 | u64::from(count) << 32) ^ (word as u64) << 20).wrapping_mul(SPREAD)
}

fn unmark(mark: u64, word: usize) -> (usize, u32) {
    // Newton's method doubles the number of right bits, beginning with 5.
    const BACK: u64 = {
        let (mut inverse, mut step) = (SPREAD.wrapping_mul(3) ^ 2, 0);
        while step < 4 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(SPREAD.wrapping_mul(inverse)));
            step += 1;
        }
        inverse
    };
    let both = mark.wrapping_mul(BACK) ^ (word as u64) << 20;
    (both as u32 as usize, (both >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_what_it_was_made_of() {
        for (page, count, word) in [(0, 0, 1), (262_143, 7, 509), (u32::MAX as usize, LOCKED - 1, 300)] {
            assert_eq!(unmark(mark(page, count, word), word), (page, count));
        }
    }

    #[test]
    fn wrong_pages_are_noticed() {
        let data = Data::open(100).unwrap();
        let memory = Memory::new(100, &data).unwrap();
        (0..100).for_each(|page| memory.fill(page));
        assert!((0..100).all(|page| memory.is_right(page) && memory.read(page)));
        assert!(memory.write(3) && memory.write(3) && memory.is_right(3) && memory.read(3));
        let older = memory.written[3].swap(5, Relaxed);
        assert!(!memory.read(3) && !memory.is_right(3), "an older state");
        memory.written[3].store(older, Relaxed);
        assert!(memory.write(3));
        memory.word(3, 17).fetch_xor(1, Relaxed);
        assert!(memory.read(3) && !memory.is_right(3), "one bit");
        memory.mark(4, 9);
        assert!(!memory.write(4));
    }
}
