//! Plain LZ4 from the crates that zswap uses, the C decoder included: what a program would do that compresses pages
//! itself.

use super::pages::Page;
#[cfg(not(feature = "lz4-c"))]
use lz4_flex::block::decompress_into;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use std::hint::black_box;
use zsalloc::PAGE_SIZE;

/// Copies a page and compresses the copy.
pub struct Compressor {
    copy: Box<Page>,
    packed: Box<[u8; get_maximum_output_size(PAGE_SIZE)]>,
    table: CompressTable,
}

impl Compressor {
    /// Creates a compressor whose table is reused from page to page.
    pub fn new() -> Self {
        let packed = Box::new([0; get_maximum_output_size(PAGE_SIZE)]);
        Self { copy: Box::new([0; PAGE_SIZE]), packed, table: CompressTable::small() }
    }

    /// Compresses a page and returns the compressed bytes.
    pub fn compress(&mut self, page: &Page) -> &[u8] {
        *self.copy = *page;
        black_box(&mut self.copy);
        let length = compress_into_with_table(&*self.copy, &mut self.packed[..], &mut self.table).expect("room enough");
        &self.packed[..length]
    }
}

/// Compressed pages, one after another.
pub struct Packed {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
    decoded: Box<Page>,
}

impl Packed {
    /// Compresses all of `pages`.
    pub fn new(pages: &[Page]) -> Self {
        let mut packed = Self { bytes: Vec::new(), places: Vec::new(), decoded: Box::new([0; PAGE_SIZE]) };
        let mut compressor = Compressor::new();
        for page in pages {
            let compressed = compressor.compress(page);
            packed.places.push((packed.bytes.len(), compressed.len()));
            packed.bytes.extend_from_slice(compressed);
        }
        packed
    }

    /// Decompresses a page.
    #[inline]
    pub fn decode(&self, at: usize, page: &mut Page) {
        Self::decode_from(&self.bytes, self.places[at], page);
    }

    #[inline]
    fn decode_from(bytes: &[u8], (from, length): (usize, usize), page: &mut Page) {
        let packed = &bytes[from..from + length];
        #[cfg(feature = "lz4-c")]
        let decoded = lz4::block::decompress_to_buffer(packed, Some(PAGE_SIZE as i32), page);
        #[cfg(not(feature = "lz4-c"))]
        let decoded = decompress_into(packed, page);
        assert_eq!(decoded.ok(), Some(PAGE_SIZE), "it was compressed above");
    }

    /// Decompresses a page, and copies it to where it is wanted.
    pub fn load(&mut self, at: usize, page: &mut Page) {
        Self::decode_from(&self.bytes, self.places[at], &mut self.decoded);
        *page = *self.decoded;
        black_box(page);
    }

    /// Returns a copy for another thread, of the same compressed bytes.
    pub fn again(&self) -> Self {
        Self { bytes: self.bytes.clone(), places: self.places.clone(), decoded: Box::new([0; PAGE_SIZE]) }
    }
}
