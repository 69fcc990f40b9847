//! The pages that benchmarks store.

use super::give_up;
use super::random::Random;
use super::sizes;
use zsalloc::PAGE_SIZE;

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE];

/// Pages of real files, without those that repeat one word, which cost neither side anything.
pub struct Pages {
    /// The pages in the order of their files, repeated until there are enough.
    pub pages: Vec<Page>,
    /// How many of the pages differ.
    pub different: usize,
    /// The indices of the pages in random order.
    pub shuffled: Vec<usize>,
}

/// Reads at least `wanted` pages.
pub fn read(wanted: usize) -> Pages {
    let mut pages: Vec<Page> = Vec::new();
    sizes::each_page(|page| {
        if page.as_chunks::<8>().0.iter().any(|word| *word != page[..8]) {
            pages.push(*page);
        }
    });
    if pages.is_empty() {
        give_up("no pages to measure with were found: name files in ZSALLOC_PAGES");
    }
    let different = pages.len();
    if different > wanted {
        // Takes pages evenly from all of them.
        pages = (0..wanted).map(|at| pages[at * different / wanted]).collect();
    }
    let different = different.min(wanted);
    for at in different..wanted {
        // A copy is at another address, so it is in no cache, and one byte differs, so it is a different page.
        let mut page = pages[at - different];
        page[at % PAGE_SIZE] ^= 1;
        pages.push(page);
    }
    let mut shuffled: Vec<usize> = (0..pages.len()).collect();
    Random::new(5).shuffle(&mut shuffled);
    Pages { pages, different, shuffled }
}
