//! What a call costs from C, beside the same call from Rust: the C library, loaded as a shared library, and the crate
//! take turns in many short rounds. A ratio is the median of those of the rounds.
//!
//! The compiler inlines the crate's short calls, which no shared library allows. So the crate has two columns: inlined,
//! and behind a function that is called. The second ratio shows what the C library's checks and results cost.

mod common;

use common::c_library::{CLibrary, Loaded, succeeded};
use common::median;
use common::pages::{self, Page, Pages};
use common::peers::{Peer, Zsalloc};
use common::workloads;
use libc::{c_int, c_void};
use std::hint::black_box;
use std::ptr;
use std::time::Instant;
use zsalloc::{Area, AreaOptions, LoadFlags, PAGE_SIZE, Zswap, ZswapOptions};

/// Pages of the areas.
const PAGES: usize = 4096;
/// Operations of a round.
const OPERATIONS: usize = 2048;

/// One side's round: does so many operations.
type Round<'a> = Box<dyn FnMut(usize) + 'a>;

/// The crate inlined, the crate called, and the C library.
const SIDES: usize = 3;

/// Takes turns, and prints a line of the table.
fn compare(name: &str, rounds: usize, mut sides: [Round; SIDES]) {
    let mut times = Vec::new();
    for round in 0..rounds {
        let mut took = [0.0; SIDES];
        for turn in 0..SIDES {
            let side = (round + turn) % SIDES;
            let run = &mut sides[side];
            // The other side's round pushed some of this one's memory out of the caches.
            run(OPERATIONS / 8);
            let start = Instant::now();
            run(OPERATIONS);
            took[side] = start.elapsed().as_nanos() as f64 / OPERATIONS as f64;
        }
        times.push(took);
    }
    let of = |side: usize| median(times.iter().map(|took| took[side]).collect());
    let ratio = |to: usize| median(times.iter().map(|took| took[2] / took[to]).collect());
    let [inlined, called, c] = [of(0), of(1), of(2)];
    println!("{name:<30}{inlined:>10.2}{called:>10.2}{c:>10.2}{:>12.3}{:>12.3}", ratio(0), ratio(1));
}

/// A pool of the crate whose calls are not inlined.
struct Called(Zsalloc);

impl Peer for Called {
    const NAME: &'static str = "zsalloc, called";

    fn new() -> Self {
        Self(Zsalloc::new())
    }

    #[inline(never)]
    fn alloc(&self, size: usize) -> usize {
        self.0.alloc(size)
    }

    #[inline(never)]
    fn free(&self, token: usize) {
        self.0.free(token);
    }

    #[inline(never)]
    fn map(&self, token: usize) -> *mut u8 {
        self.0.map(token)
    }

    #[inline(never)]
    fn unmap(&self, token: usize) {
        self.0.unmap(token);
    }

    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize {
        self.0.alloc_with(size, write)
    }

    fn give_back(&self) {
        self.0.give_back();
    }
}

fn pairs<P: Peer>(peer: &P, size: usize) -> Round<'_> {
    Box::new(move |count| workloads::pairs(peer, size, count as u64))
}

fn map_one<P: Peer>(peer: &P) -> Round<'_> {
    let token = peer.alloc(1500);
    Box::new(move |count| workloads::map_one(peer, token, count as u64))
}

fn objects(rounds: usize) {
    let (inlined, called, c) = (Zsalloc::new(), Called::new(), CLibrary::new());
    for size in [64, 1500, 3000] {
        let sides = [pairs(&inlined, size), pairs(&called, size), pairs(&c, size)];
        compare(&format!("malloc+free {size} B"), rounds, sides);
    }
    compare("map+unmap", rounds, [map_one(&inlined), map_one(&called), map_one(&c)]);
}

type Create = unsafe extern "C" fn(*const c_void, *mut *mut c_void) -> c_int;
type AddArea = unsafe extern "C" fn(*mut c_void, u64, *const c_void, *mut *mut c_void) -> c_int;
type Store = unsafe extern "C" fn(*mut c_void, u64, *const c_void) -> c_int;
type Load = unsafe extern "C" fn(*mut c_void, u64, *mut c_void, u32) -> c_int;

/// An area of the C library, full of pages.
struct AreaOfC {
    area: *mut c_void,
    store: Store,
    load: Load,
}

impl AreaOfC {
    fn new(library: &Loaded) -> Self {
        let (mut zswap, mut area) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the types are those of include/zsalloc.h, and NULL options are the defaults.
        unsafe {
            let create: Create = library.function(c"zswap_create");
            succeeded(create(ptr::null(), &mut zswap));
            let add: AddArea = library.function(c"zswap_add_area");
            succeeded(add(zswap, PAGES as u64, ptr::null(), &mut area));
            Self { area, store: library.function(c"zswap_store"), load: library.function(c"zswap_load") }
        }
    }

    fn store(&self, offset: usize, page: &Page) {
        // SAFETY: an area that is never removed, and a page to read.
        succeeded(unsafe { (self.store)(self.area, offset as u64, page.as_ptr().cast()) });
    }

    fn load(&self, offset: usize, page: &mut Page) {
        // SAFETY: as in `store`, and room for a page.
        succeeded(unsafe { (self.load)(self.area, offset as u64, page.as_mut_ptr().cast(), 0) });
    }
}

/// Calls `run` with the next offsets of its side, round and round.
fn each<'a>(mut run: impl FnMut(usize) + 'a) -> Round<'a> {
    let mut next = 0;
    Box::new(move |count| {
        for _ in 0..count {
            run(next);
            next = (next + 1) % PAGES;
        }
    })
}

#[inline(never)]
fn called_store(area: &Area, offset: usize, page: &Page) {
    area.store(offset as u64, page).expect("no limit");
}

#[inline(never)]
fn called_load(area: &Area, offset: usize, page: &mut Page) {
    area.load(offset as u64, page, LoadFlags::KEEP).expect("stored above");
}

fn swapped(pages: &Pages, rounds: usize) {
    let zswap = Zswap::new("benchmark", &ZswapOptions::default()).expect("memory");
    let area = || zswap.add_area(PAGES as u64, &AreaOptions::default()).expect("memory");
    let (inlined, called, c) = (area(), area(), AreaOfC::new(&Loaded::new()));
    let page = |at: usize| &pages.pages[at % pages.pages.len()];
    for at in 0..PAGES {
        called_store(&inlined, at, page(at));
        called_store(&called, at, page(at));
        c.store(at, page(at));
    }
    let sides = [
        each(|at| inlined.store(at as u64, page(at)).expect("no limit")),
        each(|at| called_store(&called, at, page(at))),
        each(|at| c.store(at, page(at))),
    ];
    compare("store over what is there", rounds, sides);
    let mut rooms = [[0; PAGE_SIZE]; SIDES];
    let [first, second, third] = &mut rooms;
    let sides = [
        each(|at| inlined.load(at as u64, black_box(first), LoadFlags::KEEP).expect("stored above")),
        each(|at| called_load(&called, at, black_box(second))),
        each(|at| c.load(at, black_box(third))),
    ];
    compare("load", rounds, sides);
}

fn main() {
    let rounds = if common::is_trial() { 3 } else { 300 };
    println!("nanoseconds an operation, medians of {rounds} rounds");
    println!("{:<30}{:>10}{:>10}{:>10}{:>12}{:>12}", "", "inlined", "called", "C", "C/inlined", "C/called");
    objects(rounds);
    swapped(&pages::read(PAGES), rounds);
}
