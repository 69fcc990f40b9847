//! Scaling with threads: operations per second of the pool, of zswap and of the pager at 1, 2, 4 and 8 threads, each
//! beside peers that do the same work, or its least possible part, in the same run.
//!
//! | part | peers |
//! |---|---|
//! | `pool` | jemalloc and the system's malloc |
//! | `zswap` | plain LZ4 with a copy, in threads that share nothing |
//! | `pager` | faults that the kernel serves alone, and its swap if swap is on |
//!
//! | option | meaning |
//! |---|---|
//! | `--only pool,zswap` | the parts to measure |
//! | `--threads 1,2` | numbers of threads; by default up to 8, or 16 on as many processors |
//! | `--seconds 0.12` | duration of one side's turn |
//! | `--rounds 5` | number of rounds; all sides have a turn in each |
//! | `--pages 32768` | pages to store, and pages of the pager's memory |
//!
//! Options follow `--`: `cargo bench --features uffd --bench scale -- --only pool`. `ZSALLOC_PAGES=FILE[:FILE...]`
//! names files of 4 KiB pages to store.
//!
//! The sides take turns within a round. A rate is the median over the rounds. Gains (over the first number of threads)
//! and ratios are medians of each round's own value. Each thread has a processor of its own, one on each core before
//! two on one, while there are enough. If there are more threads than processors, the system places them, and a `*`
//! marks the line.
//!
//! Each table ends with the share of the processors that its peers got. If other programs used much of them, compare
//! only the processor time per operation: a larger team of threads gets more of a busy machine.
//!
//! The benchmark changes no settings of the machine. The kernel's swap to zram, which needs root and a device, is in
//! `cargo bench --features uffd --bench pager -- --only work --threads 1,2,4,8`.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "uffd")]
mod kernel;
mod machine;
#[cfg(feature = "uffd")]
mod pager;
mod pool;
mod table;
mod team;
mod zswap;

use common::pages;
use machine::Machine;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use table::Plan;

const PARTS: [&str; 3] = ["pool", "zswap", "pager"];

/// Returns the value of an option, or its default.
fn value<T: FromStr + Display>(name: &str, default: T) -> T {
    let parse = |text: String| text.parse().unwrap_or_else(|_| common::give_up(&format!("{name} can't be {text}")));
    common::option(name).map_or(default, parse)
}

/// Returns the numbers of threads: those of `--threads`, or powers of two up to 8, or to 16 if there are as many
/// processors.
fn thread_counts(machine: &Machine) -> Vec<usize> {
    let most = if common::is_trial() { 2 } else { machine.processors().clamp(8, 16) };
    let default = [1, 2, 4, 8, 16].into_iter().filter(|&count| count <= most).collect();
    let Some(text) = common::option("--threads") else { return default };
    let counts = text.split(',').map(|count| count.parse().ok().filter(|count| (1..=64).contains(count)));
    counts.collect::<Option<_>>().unwrap_or_else(|| common::give_up("--threads is a list of numbers, 1 to 64"))
}

fn plan() -> Plan {
    let machine = Machine::new();
    let trial = common::is_trial();
    let seconds: f64 = value("--seconds", if trial { 0.005 } else { 0.12 });
    if !(0.0..=3600.0).contains(&seconds) {
        common::give_up(&format!("--seconds can't be {seconds}"));
    }
    let rounds = value("--rounds", if trial { 1 } else { 5 }).max(1);
    Plan { threads: thread_counts(&machine), machine, rounds, length: Duration::from_secs_f64(seconds) }
}

#[cfg(feature = "uffd")]
fn measure_pager(plan: &Plan, pages: &pages::Pages) {
    if let Err(sentence) = pager::measure(plan, pages) {
        println!("\npager: not measured: {sentence}");
    }
}

#[cfg(not(feature = "uffd"))]
fn measure_pager(_: &Plan, _: &pages::Pages) {
    println!("\npager: not measured: this program was built without --features uffd");
}

fn main() {
    common::with_peers("scale");
    let only = common::option("--only").unwrap_or(PARTS.join(","));
    if let Some(part) = only.split(',').find(|part| !PARTS.contains(part)) {
        common::give_up(&format!("--only: {part} is none of {}", PARTS.join(", ")));
    }
    let chosen = |part: &str| only.split(',').any(|name| name == part);
    let plan = plan();
    println!("{}, load {}", plan.machine, machine::load());
    println!("{} rounds, {} seconds for each turn", plan.rounds, plan.length.as_secs_f64());
    println!(
        "gain: rate relative to the first number of threads; CPU: processor time per operation; to: ratio of rates"
    );
    if plan.threads.iter().any(|&threads| !plan.machine.has_one_for_each(threads)) {
        println!("*: more threads than processors; these threads are not pinned");
    }
    if chosen("pool") {
        pool::measure(&plan);
    }
    if chosen("zswap") || chosen("pager") {
        let pages = pages::read(value("--pages", if common::is_trial() { 2048 } else { 32_768 }).max(1024));
        println!("\n{} pages, {} of them different, none of one repeated word", pages.pages.len(), pages.different);
        if chosen("zswap") {
            zswap::measure(&plan, &pages);
        }
        if chosen("pager") {
            measure_pager(&plan, &pages);
        }
    }
    println!("\nload {} at the end", machine::load());
}
