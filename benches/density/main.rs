//! Density: bytes of live objects over all the memory that they cost, including tables and unused room, beside jemalloc
//! and the system's malloc, and beside the kernel's allocators for compressed pages: zbud, z3fold and zsmalloc as
//! models, and, as root, zsmalloc itself by a zram device.
//!
//! Memory is what the system reports: growth of the process's resident memory since before the allocator was used,
//! blocks of a memory file, and huge pages taken from the system's reserve. Each measurement is a process of its own,
//! because an allocator's memory depends on its past. All bytes of all objects are written. A model counts the memory
//! that it would take. The kernel counts that of zram: its pool, 16 bytes for each page of the device that was used,
//! and 8 for each object.
//!
//! `cargo bench --bench density -- --live 64,256,1024 --only zsalloc,jemalloc` chooses what is measured;
//! `ZSALLOC_PAGES=FILE[:FILE...]` names files of 4 KiB pages whose LZ4 lengths are the sizes.

mod kinds;
mod lists;
mod models;
mod z3fold;
mod zram;
mod zsmalloc;

#[path = "../common/mod.rs"]
mod common;

use common::density::{self, STATES};
use common::kinds::Kind;
use common::memory;
use common::sizes::{self, Source};
use kinds::{KINDS, ZRAM};

/// Bytes of objects in the measurement of metadata.
const METADATA_LIVE: u64 = 256 << 20;

/// Results of a measurement: live bytes over memory in each state, and the share of memory in huge pages when filled.
#[derive(Clone, Copy, Default)]
struct Row {
    density: [f64; STATES.len()],
    huge: f64,
}

fn measured(kind: &Kind, live: u64, source: &Source) -> Row {
    let found = density::measure(kind, live, &source.sizes);
    Row { density: found.density(), huge: found.huge }
}

fn print_head(title: &str) {
    print!("\n{title:<34}");
    STATES.iter().for_each(|state| print!("{state:>9}"));
    println!("{:>8}", "in huge");
}

fn print_row(name: &str, row: &Row) {
    print!("{name:<34}");
    row.density.iter().for_each(|density| print!("{density:>9.4}"));
    println!("{:>7.0} %", row.huge * 100.0);
}

fn mean(rows: &[Row]) -> Row {
    let mut sum = Row::default();
    for row in rows {
        (0..STATES.len()).for_each(|state| sum.density[state] += row.density[state] / rows.len() as f64);
        sum.huge += row.huge / rows.len() as f64;
    }
    sum
}

/// Prints the table for one amount of live bytes: for each allocator a row for each source, and their mean.
fn print_table(kinds: &[&Kind], live: u64, sources: &[Source]) {
    let only = if let [source] = sources { &source.name } else { "several sources" };
    print_head(&format!("{} MiB live, {only}", live >> 20));
    for kind in kinds {
        let rows: Vec<Row> = sources.iter().map(|source| measured(kind, live, source)).collect();
        if rows.len() > 1 {
            sources.iter().zip(&rows).for_each(|(source, row)| print_row(&format!("  {}", source.name), row));
        }
        print_row(kind.title, &mean(&rows));
    }
}

/// Prints what is kept beside the objects themselves, for objects of 1 KiB.
fn print_metadata(kinds: &[&Kind], live: u64) {
    println!("\nmetadata in bytes per object, {} MiB of 1024-byte objects", live >> 20);
    println!("{:<34}{:>20}{:>20}", "", "memory - objects", "by the pool's count");
    for kind in kinds {
        let found = density::measure(kind, live, &[1024]);
        let ((bytes, memory), told) = (found.states[0], found.metadata);
        let beside = (memory - bytes) / (bytes / 1024.0);
        let told = if told > 0.0 { format!("{told:.2}") } else { "-".to_owned() };
        println!("{:<34}{beside:>20.2}{told:>20}", kind.title);
    }
}

fn parse_live(text: &str) -> Vec<u64> {
    let parse = |number: &str| match number.trim().parse::<u64>() {
        Ok(mib @ 1..) => mib << 20,
        _ => common::give_up(&format!("--live: {number} is not a number of MiB")),
    };
    text.split(',').map(parse).collect()
}

fn main() {
    common::with_peers("density");
    if let Some(kind) = common::option("--measure") {
        return density::run_in_child(&KINDS, &kind);
    }
    let trial = common::is_trial();
    let live = common::option("--live").unwrap_or(if trial { "4" } else { "64,256,1024" }.to_owned());
    let only = common::option("--only").unwrap_or_default();
    for name in only.split(',').filter(|name| !name.is_empty()) {
        if KINDS.iter().all(|kind| kind.name != name) {
            let names = KINDS.map(|kind| kind.name).join(", ");
            common::give_up(&format!("--only: {name} is none of {names}"));
        }
    }
    let chosen = |kind: &&Kind| only.is_empty() || only.split(',').any(|name| name == kind.name);
    let (_, huge_pages) = memory::huge_pool();
    if huge_pages == 0 {
        println!("The system has no huge pages in reserve (vm.nr_hugepages is 0): a pool in them is not measured.");
    }
    let no_zram = KINDS.iter().filter(chosen).any(|kind| kind.name == ZRAM).then(zram::missing).flatten();
    if let Some(sentence) = &no_zram {
        println!("zram is not measured: {sentence}");
    }
    let available =
        |kind: &&Kind| (huge_pages > 0 || !kind.takes_huge_pool) && (no_zram.is_none() || kind.name != ZRAM);
    let kinds: Vec<&Kind> = KINDS.iter().filter(chosen).filter(available).collect();
    let sources = sizes::sources();
    println!("Live bytes / memory. Columns: filled; churned by 4 times as many replacements as objects; compacted (or");
    println!("purged, or trimmed); half of the objects freed at random, then compacted; a tenth left, then compacted.");
    println!("In huge: the share of the memory that was in huge pages when filled.");
    for live in parse_live(&live) {
        print_table(&kinds, live, &sources);
    }
    print_metadata(&kinds, if trial { METADATA_LIVE >> 6 } else { METADATA_LIVE });
}
