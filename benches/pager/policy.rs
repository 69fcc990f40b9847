//! The effect of the pager's two shares: the size of the staging range, and the number of kept copies.

use super::Setup;
use super::child::Numbers;
use super::common::sequences::Workload;
use super::job::{How, Job};
use super::tables::{MIB, middle};

/// Prints the tables of both shares.
pub fn policy(setup: &Setup) -> Result<(), String> {
    kept(setup)?;
    staged(setup)
}

/// Runs a job in several ways, in turns.
fn in_turns<const WAYS: usize>(setup: &Setup, job: &Job, ways: &[How; WAYS]) -> Result<[Vec<Numbers>; WAYS], String> {
    let mut all = [const { Vec::new() }; WAYS];
    for _ in 0..setup.rounds {
        for (rounds, how) in all.iter_mut().zip(ways) {
            rounds.push(job.run(setup, how)?);
        }
    }
    Ok(all)
}

fn print_rest(rounds: &[Numbers], counts: &[&str]) {
    print!("{:>11.1}{:>8.2}", middle(rounds, "rate"), middle(rounds, "cpu-each"));
    counts.iter().for_each(|name| print!("{:>9}", middle(rounds, name)));
    ["slots", "pool"].iter().for_each(|name| print!("{:>9.1}", middle(rounds, name) / MIB));
    print!("{:>10.3}", middle(rounds, "effective"));
}

/// Prints the effect of the size of the staging range.
fn staged(setup: &Setup) -> Result<(), String> {
    println!("\neffect of the size of the staging range; LRU: misses of a least-recently-used list");
    println!(
        "{:<8}{:>8}{:>11}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>9}",
        "",
        "staged",
        "1000 op/s",
        "CPU",
        "misses",
        "ahead",
        "rescues",
        "staged",
        "stored",
        "direct",
        "slots",
        "pool",
        "effective",
        "LRU"
    );
    const SHARES: [usize; 5] = [2, 5, 10, 20, 40];
    for &workload in setup.workloads.iter().filter(|&&workload| workload != Workload::Random) {
        let job = Job::new(setup, workload, 1, 90)?;
        let all = in_turns(setup, &job, &SHARES.map(|staged| How { staged, ..How::default() }))?;
        for (rounds, share) in all.iter().zip(SHARES) {
            print!("{:<8}{share:>6} %", workload.name());
            print_rest(rounds, &["misses", "ahead", "rescues", "staged", "stored", "direct"]);
            println!("{:>9}", job.lru_misses);
        }
    }
    Ok(())
}

/// Prints the effect of the share of pages whose copy is kept while they are in memory.
fn kept(setup: &Setup) -> Result<(), String> {
    println!("\neffect of the share of pages that keep their compressed copy while they are in memory and not written");
    println!(
        "{:<8}{:>9}{:>10}{:>8}{:>11}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}",
        "",
        "writes",
        "",
        "kept",
        "1000 op/s",
        "CPU",
        "misses",
        "stored",
        "dropped",
        "writes",
        "slots",
        "pool",
        "effective"
    );
    const SHARES: [usize; 6] = [0, 5, 10, 25, 50, 100];
    let jobs = [(Workload::Zipf, 95), (Workload::Zipf, 75), (Workload::Scan, 95)];
    for (workload, reads) in jobs.into_iter().filter(|(workload, _)| setup.workloads.contains(workload)) {
        let job = Job::new(setup, workload, 1, reads)?;
        for (side, name) in [("pager", "moved"), ("in-place", "in place")] {
            let all = in_turns(setup, &job, &SHARES.map(|kept| How { side, kept: Some(kept), ..How::default() }))?;
            for (rounds, share) in all.iter().zip(SHARES) {
                print!("{:<8}{:>7} %{name:>10}{share:>6} %", workload.name(), 100 - reads);
                print_rest(rounds, &["misses", "stored", "dropped", "first-writes"]);
                println!();
            }
        }
    }
    Ok(())
}
