//! The pager beside the kernel: touches of memory that is four times as large as the limit.

use super::common::lent::Lent;
use super::common::pages::Pages;
use super::common::region::{Handed, Region};
use super::common::sequences::{READS, WRITE, Workload, lru_misses};
use super::kernel::{self, Way};
use super::table::{Plan, Side, Table, Units};
use super::team::Worker;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zsalloc::{Duty, Eviction, PAGE_SIZE, PagerOptions};

/// Operations per call of a worker.
const BATCH: usize = 64;
/// The memory is this many times as large as the resident limit.
const TIMES: usize = 4;

/// A region under a pager of its own.
struct Paged {
    // Dropped before the region.
    lent: Lent,
    region: Region,
    /// Number of touches that wrote.
    writes: AtomicU64,
}

impl Paged {
    /// Creates a region filled with `data`. Its pages are evicted in place or by moving them, with two lent threads or
    /// with none.
    fn new(data: &Region, in_place: bool, lends: bool) -> Result<Self, String> {
        let region = Region::new(data.pages())?;
        let resident = (data.pages() / TIMES * PAGE_SIZE) as u64;
        let mut options = PagerOptions { resident_bytes: Some(resident), ..PagerOptions::default() };
        options.eviction = if in_place { Eviction::InPlace } else { Eviction::MovingBesideSwap };
        let duties: &[Duty] = if lends { &[Duty::Serve, Duty::Evict] } else { &[] };
        let lent = Lent::new(&region, &options, duties)?;
        region.fill(data);
        Ok(Self { lent, region, writes: AtomicU64::new(0) })
    }

    /// Returns the worker of a thread that touches pages in this order.
    fn worker<'a>(&'a self, sequence: &'a [u32]) -> Worker<'a> {
        let mut touches = sequence.iter().cycle();
        Box::new(move || {
            let mut writes = 0;
            for &touch in touches.by_ref().take(BATCH) {
                let word = self.region.first((touch & !WRITE) as usize);
                if touch & WRITE != 0 {
                    word.fetch_add(1, Relaxed);
                    writes += 1;
                } else {
                    black_box(word.load(Relaxed));
                }
            }
            self.writes.fetch_add(writes, Relaxed);
            BATCH as u64
        })
    }

    /// Checks that no page and no write was lost.
    fn check(&self, data: &Region) -> Result<(), String> {
        let failed = self.lent.pager.stats().counts.failed;
        match failed {
            0 => self.region.check(data, self.writes.load(Relaxed)),
            _ => Err(format!("the pager gave {failed} touches up")),
        }
    }
}

/// The kernel's memory, for each way in which it lets go of pages. The last way, swap, is missing if there is no swap.
struct Kernels(Vec<(Way, Region)>);

impl Kernels {
    fn new(data: &Handed, filled: &Region) -> Result<Self, String> {
        let pages = filled.pages();
        let swapped = Region::new(pages)?;
        swapped.fill(filled);
        let mut all = vec![(Way::File, Region::of_file(data.fd(), pages)?), (Way::New, Region::new(pages)?)];
        if kernel::has_swap(&swapped) {
            all.push((Way::Swap, swapped));
        }
        Ok(Self(all))
    }

    /// Returns the workers of each way.
    fn sides<'a>(&'a self, sequences: &'a [Vec<u32>], misses: f64) -> impl Iterator<Item = Vec<Worker<'a>>> {
        self.0.iter().map(move |(way, region)| {
            sequences.iter().map(|sequence| kernel::worker(region, sequence, misses, *way)).collect()
        })
    }
}

/// Returns the sequences of all threads, and the share of touches that miss memory which keeps the pages used last.
fn sequences(workload: Workload, pages: usize, threads: usize) -> (Vec<Vec<u32>>, f64) {
    let sequences: Vec<_> = (0..threads).map(|thread| workload.sequence(pages, thread, threads, READS)).collect();
    let (touches, warm) = (sequences[0].len(), sequences[0].len() / 4);
    let misses = lru_misses(&sequences, warm, pages, pages / TIMES);
    let misses = misses as f64 / ((touches - warm) * threads) as f64;
    (sequences, misses)
}

/// Measures touches of a pager, and prints the table.
pub fn measure(plan: &Plan, pages: &Pages) -> Result<(), String> {
    let data = Handed::new(pages.pages.iter().map(|page| &page[..]))?;
    let pages = pages.pages.len();
    let filled = Region::of_file(data.fd(), pages)?;
    let kernels = Kernels::new(&data, &filled)?;
    let ways = [("", false), (", lent", true)].map(|(name, lends)| -> Result<_, String> {
        Ok((name, [Paged::new(&filled, false, lends)?, Paged::new(&filled, true, lends)?]))
    });
    let ways = ways.into_iter().collect::<Result<Vec<_>, _>>()?;
    let has_swap = kernels.0.len() == 3;
    let peers: &[usize] = if has_swap { &[2, 4] } else { &[2] };
    let ours = ["moving", "in place"].map(|name| Side { name, peers });
    let kernel = ["file", "new", "swap"].map(|name| Side { name, peers: &[] });
    let sides: Vec<Side> = ours.into_iter().chain(kernel).take(2 + kernels.0.len()).collect();
    println!(
        "\n{} MiB, of which {} may be resident; lent: two threads are lent to the pager",
        mib(pages),
        mib(pages / TIMES)
    );
    println!(
        "file, new, swap: the kernel lets go of a page as often as memory of that size would miss it; the next touch"
    );
    println!("finds it in a memory file, gets a page of zeros, or brings it back from swap");
    if !has_swap {
        println!("swap was not measured: there is no swap that takes pages");
    }
    let units = Units { title: "pager: thousand touches a second", rate: 1e3, cost: ("CPU us", 1e-6) };
    let table = Table::new(plan, &sides, units);
    for workload in [Workload::Random, Workload::Zipf] {
        let (sequences, misses) = sequences(workload, pages, plan.most_threads());
        for (name, paged) in &ways {
            let ours = paged.iter().map(|paged| sequences.iter().map(|one| paged.worker(one)).collect());
            let name = format!("{}{name}, {:.0} % misses", workload.name(), misses * 100.0);
            table.case(&name, ours.chain(kernels.sides(&sequences, misses)).collect());
        }
    }
    table.end();
    ways.iter().flat_map(|(_, paged)| paged).try_for_each(|paged| paged.check(&filled))
}

/// Converts pages to MiB.
fn mib(pages: usize) -> usize {
    (pages * PAGE_SIZE) >> 20
}
