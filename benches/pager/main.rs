//! The pager beside the kernel's own swap to zram: the same pages, the same touches, on the same machine, in turns.
//!
//! As root: `cargo bench --features uffd --bench pager`. It has a zram device of its own with LZ4, makes it swap, sets
//! `vm.page-cluster` to 0, and makes a memory cgroup for each process that the kernel pages; everything is removed and
//! set back at its end, after Ctrl-C too. Swap that was there before is not touched. Each measurement is a process of
//! its own. `ZSALLOC_PAGES=FILE[:FILE...]` names files of 4 KiB pages to fill memory with.
//!
//! | part | what |
//! |---|---|
//! | `faults` | microseconds to evict a page, and to touch it again, with memory to spare, in one thread |
//! | `work` | operations per second over four times the memory that may be resident |
//! | `policy` | what the shares of the staging range and of kept copies do, beside a list of the least recently used |
//!
//! `-- --only faults,work` chooses parts, `--pages N` the pages of memory, `--rounds N` how often the sides take turns,
//! `--threads 1,2` how many threads work, `--workloads zipf,scan,random,mixed` at what. The kernel at times ends a
//! process in a small cgroup for want of memory, with room in swap: then its turn is done again, and the run says so.
//!
//! For steady numbers of one thread keep the machine quiet, and give the part `faults` one processor and real-time
//! priority: `chrt -f 50 taskset -c 1 cargo bench ... -- --only faults`, once it is built. The other parts have more
//! threads, and run without that; what they tell of processor time suffers less from a machine that is busy.

mod cgroup;
mod child;
mod faults;
mod job;
mod policy;
mod rescues;
mod sides;
mod swap;
mod tables;
mod work;

#[path = "../common/mod.rs"]
mod common;

use common::pages;
use common::region::Handed;
use common::sequences::Workload;
use swap::Swap;

/// What all parts use.
pub struct Setup {
    /// A memory file with the pages to fill memory with.
    pub data: Handed,
    /// How many.
    pub pages: usize,
    /// Where the kernel pages to.
    pub swap: Swap,
    /// How often the sides take turns.
    pub rounds: usize,
    /// Places of the swap.
    pub places: usize,
    /// How many threads touch memory, in one table after the other.
    pub threads: Vec<usize>,
    /// What they do, too.
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
    // With little more than what is needed, the kernel at times finds no place where there are thousands.
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
    if let Some(part) = only.split(',').find(|part| !["", "faults", "work", "policy"].contains(part)) {
        common::give_up(&format!("--only: {part} is none of faults, work, policy"));
    }
    child::catch_signals();
    // Everything is set back when this comes back.
    match measure(&only) {
        Err(sentence) if common::is_trial() => println!("{sentence}"),
        Err(sentence) => common::give_up(&sentence),
        Ok(()) => {}
    }
}
