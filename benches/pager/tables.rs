//! What is measured, and the tables of it.

use super::Setup;
use super::cgroup::Cgroup;
use super::child::{self, Numbers};
use super::region::Handed;
use super::sequences::{Workload, lru_misses};
use std::fmt::Display;
use zsalloc::PAGE_SIZE;

/// Memory is so many times what may be resident.
const TIMES: usize = 4;
const MIB: f64 = 1048576.0;

/// The middle of what a number was in several rounds.
fn middle(rounds: &[Numbers], name: &str) -> f64 {
    let mut values: Vec<f64> = rounds.iter().filter_map(|numbers| numbers.get(name).copied()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(name: &str, ours: f64, kernel: f64, target: &str) {
    println!("{name:<46}{ours:>10.2}{kernel:>10.2}{:>9.3}  {target}", ours / kernel);
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

/// Eviction, and touches with memory to spare.
pub fn faults(setup: &Setup) -> Result<(), String> {
    let [mut ours, mut kernel, mut huge, mut threads, mut rescues] = [const { Vec::new() }; 5];
    for round in 0..setup.rounds {
        ours.push(of_side(setup, "faults", "pager", round)?);
        kernel.push(of_side(setup, "faults", "kernel", round)?);
        huge.push(of_side(setup, "faults", "huge", round)?);
        rescues.push(of_side(setup, "rescues", "pager", round)?);
    }
    // By lent threads it needs a right that not every container has.
    match of_side(setup, "faults", "threads", 0) {
        Ok(numbers) => threads.push(numbers),
        Err(sentence) => println!("faults served by lent threads: {sentence}"),
    }
    println!("\n{:<46}{:>10}{:>10}{:>9}", "microseconds a page, one thread", "pager", "kernel", "ratio");
    let row_of = |title: &str, name: &str, target: &str| row(title, middle(&ours, name), middle(&kernel, name), target);
    row_of("evict with compression, first time", "first-evict", "at most 0.6");
    row_of("evict with compression, second time", "second-evict", "at most 0.6");
    row_of("evict what was only read meanwhile", "read-evict", "");
    for (round, when) in [("first", "first time"), ("second", "second time"), ("read", "third time")] {
        for (percentile, target) in [("p50", "at most 0.85"), ("p99", "at most 1.0"), ("p99.9", ""), ("mean", "")] {
            row_of(
                &format!("touch of an evicted page, {when}: {percentile}"),
                &format!("{round}-{percentile}"),
                target,
            );
        }
        let left = format!("{round}-left");
        if middle(&ours, &left) + middle(&kernel, &left) > 0.0 {
            println!("pages that were not evicted, {when}: {} {}", middle(&ours, &left), middle(&kernel, &left));
        }
    }
    for percentile in ["p50", "p99"] {
        row_of(&format!("first write after that: {percentile}"), &format!("write-{percentile}"), "");
    }
    for (name, title) in [("first-evict", "evict"), ("second-p50", "touch, p50"), ("second-p99", "touch, p99")] {
        row(&format!("with a pool in huge pages: {title}"), middle(&huge, name), middle(&kernel, name), "");
    }
    for percentile in ["p50", "p99", "p99.9", "mean"] {
        let (by_threads, rescue) = (format!("second-{percentile}"), format!("rescue-{percentile}"));
        let kernel = middle(&kernel, &by_threads);
        row(&format!("the same served by a lent thread: {percentile}"), middle(&threads, &by_threads), kernel, "");
        row(&format!("touch of a staged page: {percentile}"), middle(&rescues, &rescue), kernel, "");
    }
    row("MiB of memory of the pool", middle(&ours, "second-pool") / MIB, middle(&kernel, "second-pool") / MIB, "");
    let [first, second, read] = ["first", "second", "read"].map(|round| middle(&ours, &format!("{round}-stored")));
    println!("the pager compressed {first}, {} and {} pages", second - first, read - second);
    let [ahead, rescued, missing] =
        [(&ours, "ahead"), (&rescues, "rescues"), (&rescues, "missing")].map(|(rounds, name)| middle(rounds, name));
    println!("{ahead} pages were loaded ahead; {rescued} of {missing} missing ones came from the staging range");
    Ok(())
}

/// A workload that is the same for both sides.
struct Job {
    threads: usize,
    /// Touches of a thread, those of them that are not measured, and all that are.
    touches: usize,
    warm: usize,
    measured: f64,
    file: Handed,
    limit: usize,
    lru_misses: f64,
}

impl Job {
    fn new(setup: &Setup, workload: Workload, threads: usize) -> Result<Self, String> {
        let sequences: Vec<Vec<u32>> =
            (0..threads).map(|thread| workload.sequence(setup.pages, thread, threads)).collect();
        let touches = sequences[0].len();
        let (warm, limit) = (touches / 4, setup.pages / TIMES);
        let bytes: Vec<u8> = sequences.iter().flatten().flat_map(|touch| touch.to_ne_bytes()).collect();
        let lru_misses = lru_misses(&sequences, warm, setup.pages, limit) as f64;
        let file = Handed::new(std::iter::once(&bytes[..]))?;
        let measured = ((touches - warm) * threads) as f64;
        Ok(Self { threads, touches, warm, measured, file, limit, lru_misses })
    }

    /// Runs it, and again if it fails: the kernel at times ends a process in a small cgroup for want of memory, where
    /// all pages of it are active and swap has room.
    fn run(&self, setup: &Setup, side: &str, staged: usize, lent: bool) -> Result<Numbers, String> {
        let mut tries = 0;
        loop {
            match self.run_once(setup, side, staged, lent) {
                Err(sentence) if side == "kernel" && tries < 5 && sentence.contains("signal") => {
                    println!("the kernel's side again: {sentence}");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn run_once(&self, setup: &Setup, side: &str, staged: usize, lent: bool) -> Result<Numbers, String> {
        // The group is removed after its process ended.
        let group = if side == "kernel" { Some(Cgroup::new()?) } else { None };
        let path = group.as_ref().map(|group| group.path().display());
        let (data, sequence, zram, lent) = (setup.data.fd(), self.file.fd(), setup.swap.number(), u8::from(lent));
        let mut order: Vec<(&str, &dyn Display)> = vec![
            ("side", &side),
            ("data", &data),
            ("pages", &setup.pages),
            ("zram", &zram),
            ("places", &setup.places),
            ("sequence", &sequence),
            ("threads", &self.threads),
            ("touches", &self.touches),
            ("warm", &self.warm),
            ("limit", &self.limit),
            ("staged", &staged),
            ("lent", &lent),
        ];
        if let Some(path) = &path {
            order.push(("cgroup", path));
        }
        let mut numbers = child::run("work", &order)?;
        let of_all = |count: f64| count / self.measured;
        let [seconds, cpu, misses] = ["seconds", "cpu", "misses"].map(|name| numbers[name]);
        numbers.insert("rate".into(), self.measured / seconds / 1000.0);
        numbers.insert("cpu-each".into(), of_all(cpu) * 1e6);
        numbers.insert("hits".into(), (1.0 - of_all(misses)) * 100.0);
        Ok(numbers)
    }

    fn lru_hits(&self) -> f64 {
        (1.0 - self.lru_misses / self.measured) * 100.0
    }
}

/// Workloads, with two threads lent to the pager, with none, and in a cgroup.
pub fn work(setup: &Setup) -> Result<(), String> {
    let limit = setup.pages / TIMES * PAGE_SIZE;
    let all = setup.pages * PAGE_SIZE;
    println!("\n{:.1} MiB of memory, of which {:.1} may be resident", all as f64 / MIB, limit as f64 / MIB);
    println!(
        "lent: with two threads lent to the pager, one that serves events and one that evicts; CPU: microseconds of"
    );
    println!(
        "processors for an operation; hits: operations that did not wait for a load; LRU: what a list of the least"
    );
    println!("recently used pages would have hit; memory in MiB");
    println!(
        "{:<8}{:>8} {:<12}{:>10}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>8}  at least 1.0",
        "", "threads", "", "1000 op/s", "ratio", "CPU", "ratio", "hits %", "LRU %", "resident", "pool"
    );
    for workload in [Workload::Zipf, Workload::Scan, Workload::Random, Workload::Mixed] {
        for &threads in &setup.threads {
            let job = Job::new(setup, workload, threads)?;
            let sides = [("kernel", "kernel", true), ("pager, lent", "pager", true), ("pager alone", "pager", false)];
            let mut all = [const { Vec::new() }; 3];
            for _ in 0..setup.rounds {
                for (rounds, (_, side, lent)) in all.iter_mut().zip(sides) {
                    rounds.push(job.run(setup, side, 0, lent)?);
                }
            }
            let [kernel, kernel_cpu] = ["rate", "cpu-each"].map(|name| middle(&all[0], name));
            for (rounds, (title, ..)) in all.iter().zip(sides) {
                let [rate, cpu] = ["rate", "cpu-each"].map(|name| middle(rounds, name));
                println!(
                    "{:<8}{threads:>8} {title:<12}{rate:>10.1}{:>8.3}{cpu:>8.2}{:>8.3}{:>8.2}{:>8.2}{:>10.1}{:>8.1}",
                    workload.name(),
                    rate / kernel,
                    cpu / kernel_cpu,
                    middle(rounds, "hits"),
                    job.lru_hits(),
                    middle(rounds, "resident") / MIB,
                    middle(rounds, "pool") / MIB,
                );
            }
        }
    }
    Ok(())
}

/// What the share of the staging range does.
pub fn policy(setup: &Setup) -> Result<(), String> {
    println!(
        "\n{:<8}{:>8}{:>11}{:>8}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "staged", "1000 op/s", "CPU", "misses", "ahead", "rescues", "staged", "stored", "direct", "LRU"
    );
    for workload in [Workload::Zipf, Workload::Scan, Workload::Mixed] {
        let job = Job::new(setup, workload, 1)?;
        for staged in [5, 10, 25, 40] {
            let rounds: Result<Vec<Numbers>, String> =
                (0..setup.rounds).map(|_| job.run(setup, "pager", staged, true)).collect();
            let rounds = rounds?;
            print!("{:<8}{staged:>6} %{:>11.1}", workload.name(), middle(&rounds, "rate"));
            print!("{:>8.2}{:>10}", middle(&rounds, "cpu-each"), middle(&rounds, "misses"));
            for name in ["ahead", "rescues", "staged", "stored", "direct"] {
                print!("{:>9}", middle(&rounds, name));
            }
            println!("{:>9}", job.lru_misses);
        }
    }
    Ok(())
}
