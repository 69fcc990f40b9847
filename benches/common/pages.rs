//! The pages that everything is measured with.

use super::give_up;
use super::random::Random;
use super::sizes;
use zsalloc::PAGE_SIZE;

/// A page.
pub type Page = [u8; PAGE_SIZE];

/// Pages of programs, without those that repeat one word, which cost neither side anything.
pub struct Pages {
    /// In the order of their files, repeated until there are enough.
    pub pages: Vec<Page>,
    /// How many of them are different ones.
    pub different: usize,
    /// A random order of them.
    pub shuffled: Vec<usize>,
}

/// At least `wanted` pages.
pub fn read(wanted: usize) -> Pages {
    let mut pages: Vec<Page> = Vec::new();
    sizes::each_page(|page| {
        if page.as_chunks::<8>().0.iter().any(|word| *word != page[..8]) {
            pages.push(*page);
        }
    });
    if pages.is_empty() {
        give_up("there is no page to measure with");
    }
    let different = pages.len();
    if different > wanted {
        // A spread over all of them.
        pages = (0..wanted).map(|at| pages[at * different / wanted]).collect();
    }
    let different = different.min(wanted);
    for at in different..wanted {
        // Another place in memory, so that no cache has seen it, and another byte, so that nobody has.
        let mut page = pages[at - different];
        page[at % PAGE_SIZE] ^= 1;
        pages.push(page);
    }
    let mut shuffled: Vec<usize> = (0..pages.len()).collect();
    Random::new(5).shuffle(&mut shuffled);
    Pages { pages, different, shuffled }
}
