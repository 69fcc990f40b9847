//! The memory that holding pages costs beyond the pages' own bytes.

use super::common::pages::Pages;
use super::zswap;
use zsalloc::{Area, CompactBudget, PAGE_SIZE, Patience, Zswap, ZswapOptions};

/// Bytes of an entry's header.
const HEADER: f64 = 5.0;

/// Bytes of a handle word, and of a page word.
const WORD: f64 = 8.0;
/// One page of so many stays.
const ONE_IN: usize = 10;

/// Fills an area, and prints the memory that it takes.
pub fn tell(pages: &Pages) {
    let (zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    pages.pages.iter().enumerate().for_each(|(at, page)| area.store(at as u64, page).expect("no limit"));
    let (stats, pool) = (zswap.stats().expect("statistics"), zswap.pool_stats().expect("statistics"));
    let count = pages.pages.len() as f64;
    let index = area.stats().expect("statistics").metadata_bytes as f64;
    let tables = (pool.metadata_pages * PAGE_SIZE as u64) as f64;
    let all = stats.metadata_bytes as f64;
    println!(
        "\nmemory of a full area of {} pages that take {:.0} bytes on average",
        count,
        stats.used_bytes as f64 / count
    );
    let lines = [
        ("index and counts of the area", index),
        ("tables of the pool", tables),
        ("contexts, claims", all - index - tables),
        ("headers of entries", HEADER * count),
    ];
    lines.iter().for_each(|(name, bytes)| println!("{name:<46}{:>8.2} bytes a page", bytes / count));
    // What grows with the pages. The contexts, which include the codec's tables, grow with the processors.
    let growing = (index + tables) / count + HEADER;
    println!("{:<46}{growing:>8.2} bytes a page  at most 28", "together without contexts and claims");
    let total = stats.pool_bytes as f64 + all - tables;
    println!("{:<46}{:>8.3}", "pages held / all memory", count * PAGE_SIZE as f64 / total);
    thin_out(pages, &zswap, &area);
}

/// Removes nine pages of ten at random, and prints how dense the memory is before and after compaction.
fn thin_out(pages: &Pages, zswap: &Zswap, area: &Area) {
    let count = pages.pages.len();
    for &at in &pages.shuffled[count / ONE_IN..] {
        area.invalidate(at as u64, 1, Patience::Wait).expect("stored above");
    }
    // What one 8-byte word for each page that there was would allow, and both of a handle and of a page word.
    let used = zswap.stats().expect("statistics").used_bytes as f64;
    let bound = |words: f64| used / (used + words * WORD * count as f64);
    println!("\n{:<46}{:>8}{:>12}{:>12}", "90 % of the pages removed at random", "before", "compacted", "bound");
    let densities = || {
        let (stats, pool) = (zswap.stats().expect("statistics"), zswap.pool_stats().expect("statistics"));
        let index = area.stats().expect("statistics").metadata_bytes as f64;
        let outside = stats.metadata_bytes as f64 - (pool.metadata_pages * PAGE_SIZE as u64) as f64;
        let pool = stats.pool_bytes as f64;
        [used / pool, used / (pool + index), used / (pool + outside)]
    };
    let before = densities();
    zswap.compact(&CompactBudget::default()).expect("this process's pool");
    let after = densities();
    let lines = [
        ("slots of pages / memory of the pool", bound(1.0)),
        ("slots of pages / pool and index of the area", bound(2.0)),
        ("slots of pages / all memory", bound(2.0)),
    ];
    for (at, (name, bound)) in lines.into_iter().enumerate() {
        println!("{name:<46}{:>8.3}{:>12.3}{bound:>12.3}", before[at], after[at]);
    }
    println!("bound: what a handle word, or a handle word and a page word, of each page that there was would allow");
}
