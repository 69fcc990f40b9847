//! The pages that are stored: few, of every kind, and made once. Compressing them takes most of the time of a step.

use super::super::{PageBytes, noise};
use crate::tests::shared::Rng;
use crate::zswap::word::PageWord;
use crate::{Codec, PAGE_SIZE};
use std::sync::OnceLock;

/// A page that the model stores.
pub struct TestPage {
    pub bytes: PageBytes,
    /// Whether it repeats a word that fits a page word.
    pub is_filled: bool,
    /// Whether no codec makes it shorter.
    is_noise: bool,
}

/// How many pages there are. The first of them are filled.
pub const PAGES: usize = 64;
const FILLED: usize = 20;

/// The words that pages repeat. The last few do not fit a page word.
const PATTERNS: [u64; FILLED] = [
    0,
    u64::MAX,
    1,
    0x7fff_ffff_ffff,
    0xffff_8000_0000_0000,
    0xdead_beef_dead_beef,
    0x8000_0000_8000_0000,
    0x0101_0101_0101_0101,
    0xa5a5_a5a5_a5a5_a5a5,
    0x7f00_1234_5678,
    0xffff_ffff_0000_0000 >> 16,
    42,
    0xffff_ffff,
    0x1_0000_0000,
    0x0000_0001_0000_0001,
    !41,
    0x8000_0000_0000,
    0x0001_0000_0000_0000,
    0xdead_beef_dead_bee0,
    0x0123_4567_89ab_cdef,
];

fn page(number: usize) -> TestPage {
    if let Some(pattern) = PATTERNS.get(number) {
        let bytes = std::array::from_fn(|at| pattern.to_ne_bytes()[at % 8]);
        return TestPage { bytes, is_filled: PageWord::filled(*pattern).is_some(), is_noise: false };
    }
    let random = noise(number as u64);
    let is_noise = number >= PAGES - 12;
    let noisy = if is_noise { PAGE_SIZE } else { 16 + (number - FILLED) * 110 };
    let mut bytes = std::array::from_fn(|at| if at < noisy { random[at] } else { (at / 256) as u8 });
    bytes[..8].copy_from_slice(&(number as u64 | 0x5eed << 48).to_ne_bytes());
    TestPage { bytes, is_filled: false, is_noise }
}

/// Returns all pages.
pub fn pages() -> &'static [TestPage] {
    static PAGES_MADE: OnceLock<Vec<TestPage>> = OnceLock::new();
    PAGES_MADE.get_or_init(|| (0..PAGES).map(page).collect())
}

/// Returns which page this is.
#[track_caller]
pub fn index_of(bytes: &PageBytes) -> usize {
    let found = pages().iter().position(|page| page.bytes[..8] == bytes[..8]).expect("one of the test's pages");
    assert!(pages()[found].bytes == *bytes, "page {found} came back with other bytes");
    found
}

/// Draws a page, the cheapest ones most often.
pub fn draw(rng: &mut Rng) -> usize {
    match rng.below(100) {
        0..55 => rng.below(16),
        55..60 => rng.between(16, FILLED - 1),
        60..90 => rng.between(FILLED, PAGES - 13),
        _ => rng.between(PAGES - 12, PAGES - 1),
    }
}

/// Whether a page is stored as it came.
pub fn is_raw(page: usize, codec: Codec) -> bool {
    let page = &pages()[page];
    !page.is_filled && (page.is_noise || codec == Codec::Raw)
}
