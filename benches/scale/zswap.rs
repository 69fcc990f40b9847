//! zswap beside plain LZ4 with a copy, whose threads share nothing.

use super::common;
use super::common::pages::{Page, Pages};
use super::common::plain::{Compressor, Packed};
use super::common::random::Random;
use super::table::{Plan, Side, Table, Units};
use super::team::Worker;
use std::hint::black_box;
use zsalloc::{Area, AreaOptions, LoadFlags, PAGE_SIZE, Zswap, ZswapOptions};

/// Operations per call of a worker.
const BATCH: u64 = 32;
/// Pages per thread, if there are enough.
const PLACES: usize = 8192;
/// Pages that are loaded again and again.
const HOT: usize = 64;

/// A thread's part of an area, and the pages to store there.
struct Part<'a> {
    area: Area,
    first: u64,
    pages: &'a [Page],
}

fn area(zswap: &Zswap, places: usize) -> Area {
    let area = zswap.add_area(places as u64, &AreaOptions::default());
    area.unwrap_or_else(|error| common::give_up(&error.to_string()))
}

fn zswap() -> Zswap {
    Zswap::new("bench", &ZswapOptions::default()).unwrap_or_else(|error| common::give_up(&error.to_string()))
}

/// Measures stores and loads of a zswap, and prints the table.
pub fn measure(plan: &Plan, pages: &Pages) {
    let threads = plan.most_threads();
    let places = PLACES.min(pages.pages.len() / 2);
    let of_thread = |thread: usize| &pages.pages[thread * places % (pages.pages.len() - places + 1)..][..places];
    let (one, many) = (zswap(), zswap());
    let shared = area(&one, threads * places);
    let shared: Vec<Part> = (0..threads)
        .map(|thread| Part { area: shared.clone(), first: (thread * places) as u64, pages: of_thread(thread) })
        .collect();
    let own: Vec<Part> =
        (0..threads).map(|thread| Part { area: area(&many, places), first: 0, pages: of_thread(thread) }).collect();
    for part in shared.iter().chain(&own) {
        part.pages.iter().zip(part.first..).for_each(|(page, at)| part.area.store(at, page).expect("no limit"));
    }
    const SIDES: [Side; 3] = [
        Side { name: "one area", peers: &[2] },
        Side { name: "own areas", peers: &[2] },
        Side { name: "LZ4", peers: &[] },
    ];
    let units = Units { title: "zswap: thousand operations a second", rate: 1e3, cost: ("CPU us", 1e-6) };
    let table = Table::new(plan, &SIDES, units);
    let packed = || (0..threads).map(|thread| Packed::new(of_thread(thread)));
    table.case(
        "replace a stored page",
        vec![
            shared.iter().map(store).collect(),
            own.iter().map(store).collect(),
            (0..threads).map(|thread| compress(of_thread(thread))).collect(),
        ],
    );
    for (name, count) in [("load in random order", places), ("load 1 of 64 pages", HOT.min(places))] {
        let hot = count < places;
        // In the case of few pages, all threads load the same pages of the shared area.
        let of_shared = |(thread, part)| load(if hot { &shared[0] } else { part }, count, thread);
        table.case(
            name,
            vec![
                shared.iter().enumerate().map(of_shared).collect(),
                own.iter().enumerate().map(|(thread, part)| load(part, count, thread)).collect(),
                packed().enumerate().map(|(thread, packed)| decompress(packed, count, thread)).collect(),
            ],
        );
    }
    table.end();
}

/// Stores pages in order.
fn store<'a>(part: &'a Part<'a>) -> Worker<'a> {
    let mut at = 0;
    Box::new(move || {
        for _ in 0..BATCH {
            part.area.store(part.first + at as u64, &part.pages[at]).expect("no limit");
            at = (at + 1) % part.pages.len();
        }
        BATCH
    })
}

/// Copies and compresses pages in order.
fn compress(pages: &[Page]) -> Worker<'_> {
    let (mut plain, mut at) = (Compressor::new(), 0);
    Box::new(move || {
        for _ in 0..BATCH {
            black_box(plain.compress(&pages[at]));
            at = (at + 1) % pages.len();
        }
        BATCH
    })
}

/// Loads one of the first `count` pages.
fn load<'a>(part: &'a Part<'a>, count: usize, thread: usize) -> Worker<'a> {
    let (mut page, mut random) = ([0; PAGE_SIZE], Random::new(23 + thread as u64));
    Box::new(move || {
        for _ in 0..BATCH {
            let at = part.first + random.below(count) as u64;
            part.area.load(at, &mut page, LoadFlags::KEEP).expect("stored above");
            black_box(&mut page);
        }
        BATCH
    })
}

/// Decompresses and copies one of the first `count` pages.
fn decompress<'a>(mut packed: Packed, count: usize, thread: usize) -> Worker<'a> {
    let (mut page, mut random) = ([0; PAGE_SIZE], Random::new(23 + thread as u64));
    Box::new(move || {
        (0..BATCH).for_each(|_| packed.load(random.below(count), &mut page));
        BATCH
    })
}
