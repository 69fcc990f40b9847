//! The tables of the costs of one page, and of workloads.

use super::Setup;
use super::child::{self, Numbers};
use super::common::sequences::{READS, Workload};
use super::job::{How, Job, TIMES};
use std::fmt::Display;
use zsalloc::PAGE_SIZE;

/// Bytes of a mebibyte.
pub const MIB: f64 = 1048576.0;

/// Returns the median of a number over the rounds.
pub fn middle(rounds: &[Numbers], name: &str) -> f64 {
    let mut values: Vec<f64> = rounds.iter().filter_map(|numbers| numbers.get(name).copied()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a line without a number for eviction in place.
fn row(name: &str, ours: f64, kernel: f64, target: &str) {
    println!("{name:<46}{ours:>10.2}{:>8.3}{:>18}{kernel:>10.2}  {target}", ours / kernel, "");
}

/// Prints a line with all three numbers.
fn row_of_three(name: &str, [ours, in_place, kernel]: [f64; 3], target: &str) {
    println!(
        "{name:<46}{ours:>10.2}{:>8.3}{in_place:>10.2}{:>8.3}{kernel:>10.2}  {target}",
        ours / kernel,
        in_place / kernel
    );
}

fn of_side(setup: &Setup, name: &str, side: &str, round: usize) -> Result<Numbers, String> {
    let (data, seed, zram) = (setup.data.fd(), round + 1, setup.swap.number());
    let order: [(&str, &dyn Display); 7] = [
        ("side", &side),
        ("data", &data),
        ("pages", &setup.pages),
        ("seed", &seed),
        ("zram", &zram),
        ("places", &setup.places),
        ("staged", &if name == "rescues" { 90 } else { 0 }),
    ];
    child::run(name, &order)
}

/// Prints the costs of eviction, and of touches with memory to spare.
pub fn faults(setup: &Setup) -> Result<(), String> {
    let [mut ours, mut in_place, mut kernel, mut huge, mut threads, mut rescues] = [const { Vec::new() }; 6];
    let mut floor = Vec::new();
    for round in 0..setup.rounds {
        floor.push(of_side(setup, "floor", "floor", round)?);
        ours.push(of_side(setup, "faults", "pager", round)?);
        in_place.push(of_side(setup, "faults", "in-place", round)?);
        kernel.push(of_side(setup, "faults", "kernel", round)?);
        huge.push(of_side(setup, "faults", "huge", round)?);
        rescues.push(of_side(setup, "rescues", "pager", round)?);
    }
    // Serving faults with lent threads needs a right that not every container has.
    match of_side(setup, "faults", "threads", 0) {
        Ok(numbers) => threads.push(numbers),
        Err(sentence) => println!("faults served by lent threads were not measured: {sentence}"),
    }
    println!(
        "\n{:<46}{:>10}{:>8}{:>10}{:>8}{:>10}",
        "microseconds per page, one thread", "pager", "ratio", "in place", "ratio", "kernel"
    );
    let of_three = |name: &str| [&ours, &in_place, &kernel].map(|rounds| middle(rounds, name));
    let row_of = |title: &str, name: &str, target: &str| row_of_three(title, of_three(name), target);
    row_of("evict with compression, first time", "first-evict", "at most 0.6");
    row_of("evict with compression, second time", "second-evict", "at most 0.6");
    row_of("evict pages that were only read", "read-evict", "");
    for (round, when) in [("first", "first time"), ("second", "second time"), ("read", "third time")] {
        for (percentile, target) in [("p50", "at most 1.15"), ("p99", "at most 1.0"), ("p99.9", ""), ("mean", "")] {
            row_of(
                &format!("touch of an evicted page, {when}: {percentile}"),
                &format!("{round}-{percentile}"),
                target,
            );
        }
        let left = format!("{round}-left");
        if of_three(&left).iter().sum::<f64>() > 0.0 {
            println!("pages that were not evicted, {when}: {:?}", of_three(&left));
        }
    }
    against_floor(&in_place, &floor);
    for percentile in ["p50", "p99"] {
        row_of(&format!("first write after the touch: {percentile}"), &format!("write-{percentile}"), "");
    }
    for (name, title) in [("first-evict", "evict"), ("second-p50", "touch, p50"), ("second-p99", "touch, p99")] {
        row(&format!("pool in huge pages: {title}"), middle(&huge, name), middle(&kernel, name), "");
    }
    for percentile in ["p50", "p99", "p99.9", "mean"] {
        let (by_threads, rescue) = (format!("second-{percentile}"), format!("rescue-{percentile}"));
        let kernel = middle(&kernel, &by_threads);
        row(&format!("touch served by a lent thread: {percentile}"), middle(&threads, &by_threads), kernel, "");
        row(&format!("touch of a staged page: {percentile}"), middle(&rescues, &rescue), kernel, "");
    }
    row_of_three("MiB that the pool takes", of_three("second-pool").map(|bytes| bytes / MIB), "");
    let [first, second, read] = ["first", "second", "read"].map(|round| middle(&ours, &format!("{round}-stored")));
    println!("the pager compressed {first}, {} and {} pages", second - first, read - second);
    let [ahead, rescued, missing] =
        [(&ours, "ahead"), (&rescues, "rescues"), (&rescues, "missing")].map(|(rounds, name)| middle(rounds, name));
    println!("{ahead} pages were loaded ahead; {rescued} of {missing} missing pages came from the staging range");
    Ok(())
}

/// Prints eviction in place, and touches of the pages, beside the least that they can cost: see [`super::floor`].
fn against_floor(in_place: &[Numbers], floor: &[Numbers]) {
    println!("{:<46}{:>10}{:>8}{:>10}", "", "in place", "ratio", "floor");
    let (ours, least) = (middle(in_place, "second-evict"), middle(floor, "second-evict"));
    println!("{:<46}{ours:>10.2}{:>8.3}{least:>10.2}", "evict with compression, second time", ours / least);
    for (percentile, target) in [("p50", "at most 1.1"), ("p99", ""), ("mean", "")] {
        let name = format!("second-{percentile}");
        let (ours, least) = (middle(in_place, &name), middle(floor, &name));
        let title = format!("touch of an evicted page, second time: {percentile}");
        println!("{title:<46}{ours:>10.2}{:>8.3}{least:>10.2}  {target}", ours / least);
    }
}

/// Prints the times of touches that make room for themselves in a program that does nothing else, by how many pages
/// they evict at once. Every number is of touches that wait.
pub fn tail(setup: &Setup) -> Result<(), String> {
    println!("\n{:<46}{:>10}{:>10}{:>10}", "microseconds of a touch without a pager", "p50", "p99", "p99/p50");
    for &threads in &setup.threads {
        for batch in [1, 8, 16, 64] {
            let data = setup.data.fd();
            let order: [(&str, &dyn Display); 4] =
                [("data", &data), ("pages", &setup.pages), ("threads", &threads), ("batch", &batch)];
            let rounds: Result<Vec<_>, _> = (0..setup.rounds).map(|_| child::run("tail", &order)).collect();
            let rounds = rounds?;
            let [p50, p99] = ["p50", "p99"].map(|name| middle(&rounds, name));
            let title = format!("{threads} threads, {batch} pages at once");
            println!("{title:<46}{p50:>10.1}{p99:>10.1}{:>10.1}", p99 / p50);
        }
    }
    Ok(())
}

/// Prints how workloads run under the pager and under the kernel: each way with two threads lent to the pager, and with
/// none.
pub fn work(setup: &Setup) -> Result<(), String> {
    let limit = setup.pages / TIMES * PAGE_SIZE;
    let all = setup.pages * PAGE_SIZE;
    println!("\n{:.1} MiB of memory, of which {:.1} may be resident", all as f64 / MIB, limit as f64 / MIB);
    println!(
        "lent: two threads are lent to the pager, one to serve events and one to evict; in place: pages are evicted"
    );
    println!(
        "without a staging range; CPU: processor microseconds per operation; hits: operations that did not wait for a"
    );
    println!(
        "load; LRU: hits of a least-recently-used list; resident, pool: MiB of memory; effective: all memory divided by"
    );
    println!(
        "resident and pool together; ratio: to the kernel; p50, p99: microseconds of touches that took more than one"
    );
    println!("sleeps, retries: how often a thread went to sleep, and a touch was tried again, in 100 operations");
    print!("{:<8}{:>8} {:<15}{:>10}{:>8}{:>8}{:>8}", "", "threads", "", "1000 op/s", "ratio", "CPU", "ratio");
    print!("{:>8}{:>8}{:>9}{:>8}{:>10}", "hits %", "LRU %", "resident", "pool", "effective");
    println!("{:>8}{:>9}{:>8}{:>8}  ratio at least 1.0", "p50", "p99", "sleeps", "retries");
    for &workload in &setup.workloads {
        for &threads in &setup.threads {
            work_of(setup, workload, threads)?;
        }
    }
    Ok(())
}

fn work_of(setup: &Setup, workload: Workload, threads: usize) -> Result<(), String> {
    let job = Job::new(setup, workload, threads, READS)?;
    let lent = |side| How { side, ..How::default() };
    let alone = |side| How { side, lent: false, ..How::default() };
    let ways = [
        ("kernel", lent("kernel")),
        ("pager, lent", lent("pager")),
        ("pager alone", alone("pager")),
        ("in place, lent", lent("in-place")),
        ("in place alone", alone("in-place")),
    ];
    let mut all = [const { Vec::new() }; 5];
    for _ in 0..setup.rounds {
        for (rounds, (_, how)) in all.iter_mut().zip(&ways) {
            rounds.push(job.run(setup, how)?);
        }
    }
    let [kernel, kernel_cpu] = ["rate", "cpu-each"].map(|name| middle(&all[0], name));
    for (rounds, (title, _)) in all.iter().zip(&ways) {
        let [rate, cpu] = ["rate", "cpu-each"].map(|name| middle(rounds, name));
        let (of_rate, of_cpu) = (rate / kernel, cpu / kernel_cpu);
        print!("{:<8}{threads:>8} {title:<15}{rate:>10.1}{of_rate:>8.3}{cpu:>8.2}{of_cpu:>8.3}", workload.name());
        let [hits, resident, pool, effective] =
            ["hits", "resident", "pool", "effective"].map(|name| middle(rounds, name));
        let (lru, resident, pool) = (job.lru_hits(), resident / MIB, pool / MIB);
        print!("{hits:>8.2}{lru:>8.2}{resident:>9.1}{pool:>8.1}{effective:>10.2}");
        let [p50, p99, sleeps, retries] =
            ["waited-p50", "waited-p99", "sleeps-each", "retries-each"].map(|name| middle(rounds, name));
        println!("{p50:>8.1}{p99:>9.1}{sleeps:>8.2}{retries:>8.2}");
    }
    Ok(())
}
