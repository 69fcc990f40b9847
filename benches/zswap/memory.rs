//! The memory that holding pages costs beyond the pages' own bytes.

use super::common::pages::Pages;
use super::zswap;
use zsalloc::{PAGE_SIZE, ZswapOptions};

/// Bytes of an entry's header.
const HEADER: f64 = 5.0;

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
    // 28 bytes for what grows with the pages, and 0.2 for the contexts, which include the codec's tables.
    println!("{:<46}{:>8.2} bytes a page  at most 28.2", "together", all / count + HEADER);
    let total = stats.pool_bytes as f64 + all - tables;
    println!("{:<46}{:>8.3}", "pages held / all memory", count * PAGE_SIZE as f64 / total);
}
