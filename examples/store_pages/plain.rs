//! The comparison: LZ4 of the crates that zswap uses, the C decoder included, a copy of 4 KiB, and nothing else.
//!
//! Compressed pages lie one after another in memory that the system provides as it is used, as for a zswap. No page can
//! be replaced, removed or found to be damaged, no memory goes back, and one thread has all of it.

use super::{PAGE, Problem, Result};
#[cfg(not(feature = "lz4-c"))]
use lz4_flex::block::decompress_into;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

/// Compressed pages, and a compressor.
pub struct Plain {
    table: CompressTable,
    copy: Box<[u8; PAGE]>,
    memory: Vec<u8>,
    filled: usize,
    /// Offset and compressed size of each page.
    places: Vec<(usize, u16)>,
}

impl Plain {
    /// Makes room for `pages` pages.
    pub fn new(pages: usize) -> Result<Self> {
        let no_memory = |_| {
            Problem::Refused("out of memory for the pages as plain LZ4 leaves them; --max-mib takes fewer".to_owned())
        };
        let bytes = pages * PAGE + get_maximum_output_size(PAGE);
        // An allocation of zeros, which the system provides at first use, would abort on failure. So try an ordinary
        // allocation first.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(no_memory)?;
        let mut places = Vec::new();
        places.try_reserve_exact(pages).map_err(no_memory)?;
        places.resize(pages, (usize::MAX, 1));
        let table = CompressTable::small();
        Ok(Self { table, copy: Box::new([0; PAGE]), memory: vec![0; bytes], filled: 0, places })
    }

    /// Returns the bytes of its memory.
    pub fn bytes(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Touches the rest of its memory, so that all [`Plain::bytes`] are resident, and starts over.
    pub fn touch_rest(&mut self) {
        self.memory[self.filled..].fill(1);
        self.filled = 0;
    }

    /// Copies a page, and compresses the copy.
    pub fn store(&mut self, at: usize, page: &[u8; PAGE]) {
        *self.copy = *page;
        let room = &mut self.memory[self.filled..];
        let bytes = match compress_into_with_table(&*self.copy, room, &mut self.table) {
            Ok(bytes) if bytes < PAGE => bytes,
            _ => {
                room[..PAGE].copy_from_slice(&*self.copy);
                PAGE
            }
        };
        self.places[at] = (self.filled, bytes as u16);
        self.filled += bytes;
    }

    /// Decompresses a page, and copies it to where it is wanted. Returns whether that succeeded.
    pub fn load(&mut self, at: usize, page: &mut [u8; PAGE]) -> bool {
        let (start, bytes) = self.places[at];
        let Some(stored) = self.memory.get(start..).and_then(|memory| memory.get(..bytes.into())) else { return false };
        let decoded = match <&[u8; PAGE]>::try_from(stored) {
            Ok(whole) => {
                *self.copy = *whole;
                true
            }
            Err(_) => decode(stored, &mut self.copy) == Some(PAGE),
        };
        *page = *self.copy;
        decoded
    }
}

/// Decompresses a page as zswap does. Returns how many bytes it has, or none if what is stored is damaged.
fn decode(stored: &[u8], page: &mut [u8; PAGE]) -> Option<usize> {
    #[cfg(feature = "lz4-c")]
    let decoded = lz4::block::decompress_to_buffer(stored, Some(PAGE as i32), page);
    #[cfg(not(feature = "lz4-c"))]
    let decoded = decompress_into(stored, page);
    decoded.ok()
}

#[cfg(test)]
mod tests {
    use super::super::random::pages;
    use super::*;

    #[test]
    fn pages_come_back() {
        let pages = pages(100);
        let mut plain = Plain::new(pages.len()).unwrap();
        let mut page = [0; PAGE];
        assert!(!plain.load(0, &mut page), "it was not stored yet");
        (0..100).rev().for_each(|at| plain.store(at, &pages[at]));
        for (at, wanted) in pages.iter().enumerate() {
            assert!(plain.load(at, &mut page) && page == *wanted, "{at}");
        }
    }
}
