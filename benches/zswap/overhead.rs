//! One thread: stores, loads in random order, takes, invalidates and batches.

use super::common::pages::{Page, Pages};
use super::common::plain::{Compressor, Packed};
use super::zswap;
use std::hint::black_box;
use std::time::Instant;
use zsalloc::{Area, Codec, LoadFlags, PAGE_SIZE, Patience, ZswapOptions};

/// Pages of a turn.
const TURN: usize = 512;
/// Pages of a batch.
const BATCH: usize = 64;
/// Passes over all pages.
const ROUNDS: usize = 3;

/// The times of two sides that take turns.
#[derive(Default)]
struct Turns {
    ours: f64,
    theirs: f64,
    pages: f64,
}

impl Turns {
    fn add(&mut self, pages: usize, ours: impl FnOnce(), theirs: impl FnOnce()) {
        self.ours += seconds(ours);
        self.theirs += seconds(theirs);
        self.pages += pages as f64;
    }

    fn print(&self, name: &str, target: &str) {
        let per_page = |seconds: f64| seconds * 1e6 / self.pages;
        let ratio = self.ours / self.theirs;
        println!("{name:<46}{:>8.3}{:>12.3}{ratio:>9.3}  {target}", per_page(self.ours), per_page(self.theirs));
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Returns pairs of ranges of one turn each: ours, and the other side's, half the pages further on.
fn turns(pages: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = pages / TURN;
    (0..ROUNDS * count).map(move |turn| (turn % count * TURN, (turn + count / 2) % count * TURN))
}

/// Measures both sides, and prints a table.
pub fn compare(pages: &Pages) {
    println!("\n{:<46}{:>8}{:>12}{:>9}", "microseconds per page, one thread", "zswap", "peer", "ratio");
    stores(pages);
    loads(pages);
    batches(pages);
    others(pages);
    codecs(pages);
}

fn stores(pages: &Pages) {
    let (_zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    let mut plain = Compressor::new();
    for first in [true, false] {
        let mut times = Turns::default();
        let rounds = turns(pages.pages.len()).take(if first { pages.pages.len() / TURN } else { usize::MAX });
        for (ours, theirs) in rounds {
            times.add(
                TURN,
                || (ours..ours + TURN).for_each(|at| area.store(at as u64, &pages.pages[at]).expect("no limit")),
                || {
                    (theirs..theirs + TURN).for_each(|at| {
                        black_box(plain.compress(&pages.pages[at]));
                    })
                },
            );
        }
        match first {
            true => times.print("store, memory new from the system / LZ4", ""),
            false => times.print("replace a stored page / LZ4 and copy", "at most 1.08"),
        }
    }
}

fn fill(area: &Area, pages: &Pages) {
    pages.pages.iter().enumerate().for_each(|(at, page)| area.store(at as u64, page).expect("no limit"));
}

fn loads(pages: &Pages) {
    let (_zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    fill(&area, pages);
    let mut plain = Packed::new(&pages.pages);
    let (mut page, mut times) = ([0; PAGE_SIZE], Turns::default());
    let mut other = [0; PAGE_SIZE];
    for (ours, theirs) in turns(pages.pages.len()) {
        times.add(
            TURN,
            || {
                for &at in &pages.shuffled[ours..ours + TURN] {
                    area.load(at as u64, &mut page, LoadFlags::KEEP).expect("stored above");
                    black_box(&mut page);
                }
            },
            || pages.shuffled[theirs..theirs + TURN].iter().for_each(|&at| plain.load(at, &mut other)),
        );
    }
    times.print("load in random order / LZ4 and copy", "at most 1.20");
}

fn batches(pages: &Pages) {
    let (_zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    fill(&area, pages);
    let (mut loads, mut stores) = (Turns::default(), Turns::default());
    let mut room = vec![[0; PAGE_SIZE]; TURN];
    let mut other = vec![[0; PAGE_SIZE]; TURN];
    for (ours, theirs) in turns(pages.pages.len()) {
        let offsets = |from: usize| pages.shuffled[from..from + TURN].iter().map(|&at| at as u64);
        let scattered: Vec<u64> = offsets(ours).collect();
        let load = |area: &Area, offsets: &[u64], room: &mut [Page]| {
            area.load_scattered(offsets, room, LoadFlags::KEEP, |_, done| done.expect("stored above")).expect("stored");
        };
        loads.add(
            TURN,
            || scattered.chunks(BATCH).zip(room.chunks_mut(BATCH)).for_each(|(at, room)| load(&area, at, room)),
            || {
                for (at, page) in offsets(theirs).zip(&mut other) {
                    area.load(at, page, LoadFlags::KEEP).expect("stored above");
                }
            },
        );
    }
    for (ours, theirs) in turns(pages.pages.len()) {
        let of = |from: usize| pages.pages[from..from + TURN].chunks(BATCH).enumerate();
        stores.add(
            TURN,
            || of(ours).for_each(|(at, some)| area.store_pages((ours + at * BATCH) as u64, some).expect("no limit")),
            || (theirs..theirs + TURN).for_each(|at| area.store(at as u64, &pages.pages[at]).expect("no limit")),
        );
    }
    loads.print("load 64 in random order / one by one", "below 1");
    stores.print("store 64 / one by one", "");
}

fn others(pages: &Pages) {
    let (_zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    fill(&area, pages);
    let mut page = [0; PAGE_SIZE];
    let half = pages.pages.len() / 2;
    let mut times = Turns { pages: half as f64, ..Turns::default() };
    times.ours = seconds(|| {
        for &at in &pages.shuffled[..half] {
            area.load(at as u64, &mut page, LoadFlags::TAKE).expect("stored above");
        }
    });
    times.theirs = seconds(|| {
        for &at in &pages.shuffled[half..half * 2] {
            area.load(at as u64, &mut page, LoadFlags::KEEP).expect("stored above");
        }
    });
    times.print("take in random order / load", "");
    times.ours = seconds(|| {
        for &at in &pages.shuffled[half..half * 2] {
            area.invalidate(at as u64, 1, Patience::Wait).expect("stored above");
        }
    });
    fill(&area, pages);
    times.theirs = seconds(|| area.invalidate(0, half as u64, Patience::Wait).expect("stored above"));
    times.print("invalidate in random order / as one range", "");
}

fn codecs(pages: &Pages) {
    let some = Pages { pages: pages.pages[..pages.pages.len() / 16].to_vec(), different: 0, shuffled: Vec::new() };
    println!("\n{:<46}{:>8}{:>12}{:>9}", "codec, microseconds per page", "store", "load", "ratio");
    for (name, codec) in [("LZ4", Codec::Lz4), ("Zstandard 1", Codec::Zstd(1)), ("Zstandard 3", Codec::Zstd(3))] {
        let (zswap, area) = zswap(some.pages.len(), &ZswapOptions { codec, ..ZswapOptions::default() });
        let stores = seconds(|| fill(&area, &some));
        let mut page = [0; PAGE_SIZE];
        let loads = seconds(|| {
            (0..some.pages.len()).for_each(|at| area.load(at as u64, &mut page, LoadFlags::KEEP).expect("stored"));
        });
        let count = some.pages.len() as f64;
        let ratio = count * PAGE_SIZE as f64 / zswap.stats().expect("statistics").used_bytes as f64;
        println!("{name:<46}{:>8.2}{:>12.2}{ratio:>9.2}", stores * 1e6 / count, loads * 1e6 / count);
    }
}
