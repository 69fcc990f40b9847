//! The guest's work in plain Rust: another program for the same job, to compare with.

use super::super::PAGE;
use super::program::{MULTIPLIER, Orders, STEP};

/// A page as words.
pub type Words = [u64; PAGE / 8];

/// Does to `pages` what a processor with these orders does to its pages. Returns the checksum after each pass.
pub fn run(pages: &mut [Words], orders: &Orders) -> Vec<u64> {
    let mut checksum = orders.checksum;
    let mut after = Vec::new();
    for pass in 0..orders.passes {
        for number in order(pages.len() as u64, pass) {
            let page = &mut pages[number as usize];
            checksum = page.iter().fold(checksum ^ number, |hash, word| {
                let mixed = (hash ^ word).wrapping_mul(MULTIPLIER);
                mixed ^ mixed >> 29
            });
            if checksum % 2 == 1 {
                page[pass as usize % page.len()] = checksum;
            }
        }
        after.push(checksum);
        if orders.balloon > 0 {
            let first = ((checksum >> 32) * (orders.pages - orders.balloon)) >> 32;
            pages[first as usize..(first + orders.balloon) as usize].fill([0; PAGE / 8]);
        }
    }
    after
}

/// Returns the page numbers in the order of a pass: ascending if the pass is odd, random if it is even.
pub fn order(pages: u64, pass: u64) -> Vec<u64> {
    if pass % 2 == 1 {
        return (0..pages).collect();
    }
    let numbers = pages.max(2).next_power_of_two();
    let half = numbers.ilog2().div_ceil(2);
    let mut last = 0;
    let next = |_| {
        let this = last;
        last = (last * STEP + 1 + 2 * pass) % numbers;
        this ^ this >> half
    };
    (0..numbers).map(next).filter(|number| *number < pages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_comes_once_in_each_pass() {
        for (pages, pass) in (1..70).flat_map(|pages| (0..5).map(move |pass| (pages, pass))) {
            let mut numbers = order(pages, pass);
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(0..pages), "{pages} pages, pass {pass}");
        }
        assert_ne!(order(1000, 0), order(1000, 2));
    }

    #[test]
    fn the_checksum_depends_on_every_page() {
        let orders = Orders { first: 0, pages: 9, passes: 3, balloon: 2, checksum: 1, device: 0 };
        let checksums = |changed: usize| {
            let mut pages = [[7; PAGE / 8]; 9];
            pages[changed][511] = 8;
            run(&mut pages, &orders)
        };
        let all: std::collections::HashSet<_> = (0..9).map(checksums).collect();
        assert_eq!(all.len(), 9);
        assert!(all.iter().all(|checksums| checksums.len() == 3));
    }
}
