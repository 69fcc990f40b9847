//! What zswap costs beyond plain LZ4, and what batches save. With `--zram`, as root, also what the kernel's zram does
//! with the same pages.
//!
//! Both sides take turns in short rounds, over different pages, so that neither finds in a cache what the other
//! fetched. A ratio is of the sums over all rounds.

#[path = "../common/mod.rs"]
mod common;
mod memory;
mod overhead;
mod threads;
mod zram;

use common::pages;
use zsalloc::{Area, AreaOptions, Zswap, ZswapOptions};

/// Creates a zswap with one area of `pages` pages.
pub fn zswap(pages: usize, options: &ZswapOptions) -> (Zswap, Area) {
    let zswap = Zswap::new("bench", options).unwrap_or_else(|error| common::give_up(&error.to_string()));
    let area = zswap.add_area(pages as u64, &AreaOptions::default());
    (zswap, area.unwrap_or_else(|error| common::give_up(&error.to_string())))
}

fn main() {
    let wanted = if common::is_trial() { 2048 } else { 200_000 };
    let pages = pages::read(wanted);
    println!("{} pages, {} of them different, none of one repeated word", pages.pages.len(), pages.different);
    if std::env::args().any(|argument| argument == "--zram") {
        zram::compare(&pages);
        return;
    }
    overhead::compare(&pages);
    threads::compare(&pages);
    memory::tell(&pages);
}
