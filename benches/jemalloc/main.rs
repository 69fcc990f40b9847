//! The pool beside jemalloc and the system's malloc, as one table in Markdown: how much memory objects cost, and how
//! long operations take.
//!
//! ```text
//! cargo bench --bench jemalloc
//! cargo bench --bench jemalloc -- --quick
//! cargo bench --bench jemalloc -- --live 256
//! ```
//!
//! `--quick` tries the benchmark out, in seconds, and its figures mean little. `--live` is the number of MiB of objects
//! whose memory is measured. `ZSALLOC_PAGES=FILE[:FILE...]` names files of 4 KiB pages whose LZ4 lengths are the sizes.
//!
//! jemalloc has two columns. The first has its default settings, with which it keeps freed memory for some seconds. The
//! second has [`TUNED`]: one arena, and memory that is free goes back to the system at once.
//!
//! The benchmark uses one processor at a time, but for the row of another thread. Figures repeat best if it has this
//! processor for itself, by `chrt -f 50 taskset -c 1` before the command.

#[path = "../common/mod.rs"]
mod common;
mod turns;

use common::density::{self, STATES};
use common::kinds::{Kind, kind};
use common::peers::{Jemalloc, Malloc, Peer, Zsalloc};
use common::{is_trial, machine, option, sizes};
use turns::{Compared, ROWS, Row, Scale, Work};

/// jemalloc's settings for as little memory as it can have.
const TUNED: (&str, &str) = ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0");

/// The allocators, ours first. The two after it have a column of ratios.
const KINDS: [Kind; 4] = [
    kind("zsalloc", "zsalloc", measure::<Zsalloc>),
    kind("jemalloc", "jemalloc", measure::<Jemalloc>),
    Kind { environment: &[TUNED], ..kind("jemalloc-tuned", "jemalloc, tuned", measure::<Jemalloc>) },
    kind("malloc", "malloc", measure::<Malloc>),
];
/// The allocators that have a column of ratios.
const RATIOS: [usize; 2] = [1, 2];

/// What the states of the density benchmark are called here.
const TITLES: [&str; STATES.len()] = [
    "filled",
    "churned: replaced four times as many objects as there are",
    "the same, compacted or purged",
    "half of the objects freed",
    "the same, compacted or purged",
    "90 % of the objects freed",
    "the same, compacted or purged",
];

/// The state in which half of the objects were freed, and memory was given back.
const AFTER_HALF: usize = 4;

fn measure<P: Peer>() {
    density::measure_here(P::new);
}

/// Serves the rounds of the allocator that the command line names.
fn serve(name: &str, scale: Scale) {
    let row = option("--row").unwrap_or_default();
    match name {
        "zsalloc" => turns::serve::<Zsalloc>(&row, scale),
        "malloc" => turns::serve::<Malloc>(&row, scale),
        _ => turns::serve::<Jemalloc>(&row, scale),
    }
}

/// Prints a line: a figure for each allocator, and ratios.
fn print_line(title: &str, figures: impl Iterator<Item = String>, ratios: [Option<f64>; RATIOS.len()]) {
    let ratios = ratios.map(|ratio| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")));
    let cells: Vec<_> = std::iter::once(title.to_owned()).chain(figures).chain(ratios).collect();
    println!("| {} |", cells.join(" | "));
}

fn print_heading(title: &str) {
    print_line(&format!("**{title}**"), KINDS.iter().map(|_| String::new()), [None; RATIOS.len()]);
}

/// Prints how much memory objects cost in each state. Returns each allocator's memory, for each byte of objects, after
/// half of the objects were freed and memory was given back.
fn print_density(live: u64, sizes: &[u16]) -> Vec<f64> {
    let found: Vec<_> = KINDS.iter().map(|kind| density::measure(kind, live, sizes).density()).collect();
    print_heading(&format!("bytes of objects for each byte of memory, {} MiB of objects", live >> 20));
    for (state, title) in TITLES.iter().enumerate() {
        let ratios = RATIOS.map(|peer| Some(found[0][state] / found[peer][state]));
        print_line(title, found.iter().map(|density| format!("{:.3}", density[state])), ratios);
    }
    found.iter().map(|density| 1.0 / density[AFTER_HALF]).collect()
}

fn print_times(sizes: &[u16], is_quick: bool, remaining: &[f64]) {
    let kinds: Vec<_> = KINDS.iter().collect();
    print_heading("nanoseconds for each operation");
    for row in &ROWS {
        let compared = turns::compare(&kinds, row, sizes, is_quick);
        match row.work {
            Work::GiveBack => print_given_back(row, &compared, Scale::of(is_quick).bytes / 2, remaining),
            _ => {
                let times = compared.medians.iter().map(|round| format!("{:.1}", round.time));
                print_line(row.title, times, RATIOS.map(|peer| Some(compared.ratios[peer])));
            }
        }
    }
}

/// Prints how much was given back, what each MiB took, and what remains.
fn print_given_back(row: &Row, compared: &Compared, freed: u64, remaining: &[f64]) {
    let mib = |peer: usize| compared.medians[peer].given_back / (1 << 20) as f64;
    // So little is what else the process did meanwhile: this allocator had nothing left to give back.
    let is_nothing = |peer: usize| compared.medians[peer].given_back < freed as f64 / 100.0;
    let each = |peer: usize| (!is_nothing(peer)).then(|| compared.medians[peer].time / 1000.0 / mib(peer));
    print_heading(row.title);
    print_line("MiB given back", (0..KINDS.len()).map(|peer| format!("{:.1}", mib(peer))), [None; RATIOS.len()]);
    let times = (0..KINDS.len()).map(|peer| each(peer).map_or("-".to_owned(), |each| format!("{each:.0}")));
    let ratios = RATIOS.map(|peer| Some(each(0)? / each(peer)?));
    print_line("microseconds for each MiB", times, ratios);
    let ratios = RATIOS.map(|peer| Some(remaining[0] / remaining[peer]));
    let remaining = remaining.iter().map(|bytes| format!("{bytes:.3}"));
    print_line("memory that remains, for each byte of objects (measured as above)", remaining, ratios);
}

/// Returns the size below which this share of the sizes lies.
fn quantile(sorted: &[u16], share: f64) -> u16 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn print_head(sizes: &[u16], scale: Scale) {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let mean = sizes.iter().map(|&size| f64::from(size)).sum::<f64>() / sizes.len() as f64;
    let names: Vec<_> = sizes::sources().into_iter().map(|source| source.name).collect();
    println!("zsalloc {}, jemalloc {}, {}", env!("CARGO_PKG_VERSION"), Jemalloc::version(), Malloc::version());
    println!("{}", machine::describe());
    print!("Sizes: LZ4 lengths of {} pages of {}: mean {mean:.0} bytes, ", sizes.len(), names.join(", "));
    let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| quantile(&sorted, share));
    println!("a tenth below {low}, half below {middle}, a tenth above {high}.");
    print!("Objects: one of {} is replaced at a time, and {} MiB are ", scale.objects, scale.bytes >> 20);
    println!("half freed before memory is given back; medians of {} rounds.", scale.rounds);
    println!("jemalloc has its default settings; tuned: {}. Ratios are zsalloc's figure over jemalloc's.", TUNED.1);
    println!("zsalloc compacts, jemalloc purges (arena.4096.purge, all arenas), malloc trims (malloc_trim).\n");
    let titles = KINDS.iter().map(|kind| kind.title.to_owned());
    let ratios = RATIOS.map(|peer| format!(" beside {} |", KINDS[peer].title)).concat();
    println!("| |{}{ratios}", titles.map(|title| format!(" {title} |")).collect::<String>());
    println!("|---|{}", "---|".repeat(KINDS.len() + RATIOS.len()));
}

fn main() {
    common::with_peers("jemalloc");
    let asks_for_quick = std::env::args().any(|argument| argument == "--quick");
    if let Some(kind) = option("--measure") {
        return density::run_in_child(&KINDS, &kind);
    }
    if let Some(kind) = option("--turns") {
        return serve(&kind, Scale::of(asks_for_quick));
    }
    let is_quick = asks_for_quick || is_trial();
    let live = option("--live").unwrap_or(if is_quick { "4" } else { "256" }.to_owned());
    let live = match live.parse::<u64>() {
        Ok(mib @ 1..) => mib << 20,
        _ => common::give_up(&format!("--live: {live} is not a number of MiB")),
    };
    let sizes = sizes::mixed();
    print_head(&sizes, Scale::of(is_quick));
    let remaining = print_density(live, &sizes);
    print_times(&sizes, is_quick, &remaining);
}
