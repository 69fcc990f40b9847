//! Two threads, each with half of the pages: the speed-up of zswap beside that of plain LZ4.

use super::common::pages::Pages;
use super::common::plain::{Compressor, Packed};
use super::zswap;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;
use zsalloc::{LoadFlags, PAGE_SIZE, ZswapOptions};

/// Pages of a turn of one thread.
const TURN: usize = 4096;
const ROUNDS: usize = 12;

/// Runs each piece of work in a thread of its own, and returns how many seconds that took.
fn together(work: Vec<Box<dyn FnMut() + Send + '_>>) -> f64 {
    let (start, end) = (Barrier::new(work.len() + 1), Barrier::new(work.len() + 1));
    std::thread::scope(|scope| {
        for mut work in work {
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                start.wait();
                work();
                end.wait();
            });
        }
        start.wait();
        let begin = Instant::now();
        end.wait();
        begin.elapsed().as_secs_f64()
    })
}

/// Sums of seconds: zswap with one thread and with two, LZ4 with one and with two.
type Times = [f64; 4];

fn print(name: &str, times: Times, target: &str) {
    let (ours, theirs) = (2.0 * times[0] / times[1], 2.0 * times[2] / times[3]);
    println!("{name:<46}{ours:>8.2}{theirs:>12.2}{:>9.3}  {target}", ours / theirs);
}

/// Measures both sides, and prints a table.
pub fn compare(pages: &Pages) {
    println!("\n{:<46}{:>8}{:>12}{:>9}", "speed-up by a second thread", "zswap", "LZ4", "ratio");
    let turn = TURN.min(pages.pages.len() / 4);
    let (_zswap, area) = zswap(pages.pages.len(), &ZswapOptions::default());
    pages.pages.iter().enumerate().for_each(|(at, page)| area.store(at as u64, page).expect("no limit"));
    let packed = Packed::new(&pages.pages);
    let mut compressors = [Compressor::new(), Compressor::new()];
    let mut decoders = [packed.again(), packed];
    let (mut stores, mut loads) = (Times::default(), Times::default());
    let half = pages.pages.len() / 2;
    for round in 0..ROUNDS {
        let from = |thread: usize| thread * half + round * turn % (half - turn + 1);
        let area = &area;
        let store = |thread: usize| -> Box<dyn FnMut() + Send + '_> {
            let range = from(thread)..from(thread) + turn;
            Box::new(move || {
                range.clone().for_each(|at| area.store(at as u64, &pages.pages[at]).expect("no limit"));
            })
        };
        let load = |thread: usize| -> Box<dyn FnMut() + Send + '_> {
            let order = &pages.shuffled[from(thread)..from(thread) + turn];
            Box::new(move || {
                let mut page = [0; PAGE_SIZE];
                order.iter().for_each(|&at| area.load(at as u64, &mut page, LoadFlags::KEEP).expect("stored"));
            })
        };
        stores[0] += together(vec![store(0)]);
        stores[1] += together(vec![store(0), store(1)]);
        loads[0] += together(vec![load(0)]);
        loads[1] += together(vec![load(0), load(1)]);
        for threads in [1, 2] {
            let work = compressors[..threads].iter_mut().enumerate();
            let work = work.map(|(thread, plain)| -> Box<dyn FnMut() + Send + '_> {
                let range = from(thread)..from(thread) + turn;
                Box::new(move || {
                    range.clone().for_each(|at| {
                        black_box(plain.compress(&pages.pages[at]));
                    })
                })
            });
            stores[1 + threads] += together(work.collect());
            let work = decoders[..threads].iter_mut().enumerate();
            let work = work.map(|(thread, plain)| -> Box<dyn FnMut() + Send + '_> {
                let order = &pages.shuffled[from(thread)..from(thread) + turn];
                Box::new(move || {
                    let mut page = [0; PAGE_SIZE];
                    order.iter().for_each(|&at| plain.load(at, &mut page));
                })
            });
            loads[1 + threads] += together(work.collect());
        }
    }
    print("store", stores, "at least 0.95");
    print("load in random order", loads, "at least 0.95");
}
