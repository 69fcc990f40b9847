//! The pager beside the kernel's own swap to zram: the same pages, the same touches, on the same machine, in turns.
//!
//! Run as root: `cargo bench --features uffd --bench pager`. The benchmark creates a zram device with LZ4, makes it
//! swap, sets `vm.page-cluster` to 0, and creates a memory cgroup for each process that the kernel pages. All of that
//! is undone at the end, after Ctrl-C too. Existing swap is not touched. Each measurement is a process of its own.
//! `ZSALLOC_PAGES=FILE[:FILE...]` names files of 4 KiB pages to fill memory with.
//!
//! | part | what it measures |
//! |---|---|
//! | `faults` | microseconds to evict a page and to touch it again, with memory to spare, in one thread; a floor |
//! | `work` | operations per second over memory four times as large as the limit |
//! | `tail` | the least that the slowest touches of `work` can take, by the pages that are evicted at once |
//! | `policy` | effect of the sizes of the staging range and of the kept copies, beside a least-recently-used list |
//!
//! After `--`: `--only faults,work` chooses parts, `--pages N` sets the pages of memory, `--rounds N` the number of
//! rounds, `--threads 1,2` the numbers of threads, `--workloads zipf,scan,random,mixed` the workloads. The kernel at
//! times kills a process in a small cgroup as out of memory while swap has room: then its turn is repeated, and the run
//! says so.
//!
//! For steady numbers of one thread keep the machine quiet, and give the part `faults` one processor and real-time
//! priority: `chrt -f 50 taskset -c 1 cargo bench ... -- --only faults`, after it was built. The other parts have more
//! threads, and run without that. Their figures of processor time suffer less from a busy machine.

mod cgroup;
mod child;
mod faults;
mod floor;
mod job;
mod policy;
mod rescues;
mod sides;
mod swap;
mod tables;
mod tail;
mod work;

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports)]
#[path = "../../examples/userswap/latency.rs"]
mod latency;

use common::pages;
use common::region::Handed;
use common::sequences::Workload;
use swap::Swap;

/// What all parts use.
pub struct Setup {
    /// A memory file with the pages to fill memory with.
    pub data: Handed,
    /// The number of pages.
    pub pages: usize,
    /// The kernel's swap device.
    pub swap: Swap,
    /// The number of rounds. Each side has one turn in a round.
    pub rounds: usize,
    /// The number of pages that the swap device has room for.
    pub places: usize,
    /// The numbers of threads to measure.
    pub threads: Vec<usize>,
    /// The workloads to measure.
    pub workloads: Vec<Workload>,
}

fn number(name: &str, default: usize) -> usize {
    let parse = |text: String| text.parse().unwrap_or_else(|_| common::give_up(&format!("{name} can't be {text}")));
    common::option(name).map_or(default, parse)
}

fn measure(only: &str) -> Result<(), String> {
    let trial = common::is_trial();
    let pages = number("--pages", if trial { 2048 } else { 65_536 });
    let rounds = number("--rounds", if trial { 1 } else { 3 });
    let source = pages::read(pages);
    println!("{pages} pages, {} of them different, none of one repeated word", source.different);
    let data = Handed::new(source.pages.iter().map(|page| &page[..]))?;
    drop(source);
    // Ample: with little room to spare, the kernel at times finds no free place although there are thousands.
    let places = pages * 2;
    let swap = Swap::on(places)?;
    let threads = common::option("--threads").unwrap_or("1,2".into());
    let threads = threads.split(',').map(|text| text.parse().ok().filter(|count| (1..=64).contains(count)));
    let threads = threads.collect::<Option<Vec<usize>>>().ok_or("--threads is a list of numbers, 1 to 64")?;
    let workloads = common::option("--workloads").map_or(Ok(Workload::ALL.to_vec()), |names| {
        let named = |name: &str| Workload::ALL.into_iter().find(|workload| workload.name() == name);
        names.split(',').map(|name| named(name).ok_or(format!("--workloads: there is no {name}"))).collect()
    })?;
    let setup = Setup { data, pages, swap, rounds, places, threads, workloads };
    let chosen = |name: &str| only.is_empty() || only.split(',').any(|part| part == name);
    if chosen("faults") {
        tables::faults(&setup)?;
    }
    if chosen("work") {
        tables::work(&setup)?;
    }
    if chosen("tail") {
        tables::tail(&setup)?;
    }
    if chosen("policy") {
        policy::policy(&setup)?;
    }
    Ok(())
}

fn main() {
    if let Some((name, order)) = child::is_ordered() {
        child::main(&name, &order).unwrap_or_else(|sentence| common::give_up(&sentence));
        return;
    }
    let only = common::option("--only").unwrap_or_default();
    if let Some(part) = only.split(',').find(|part| !["", "faults", "work", "tail", "policy"].contains(part)) {
        common::give_up(&format!("--only: {part} is none of faults, work, tail, policy"));
    }
    child::catch_signals();
    // All settings are restored when this returns.
    match measure(&only) {
        Err(sentence) if common::is_trial() => println!("{sentence}"),
        Err(sentence) => common::give_up(&sentence),
        Ok(()) => {}
    }
}
