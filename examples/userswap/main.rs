//! Memory that outgrows its limit. A mapping is filled with pages of real programs, a pager keeps its resident part to
//! a limit, threads work on it, and at the end every byte of every page is compared. The system counts what is
//! resident, a hundred times a second: neither the table nor the exit status relies on what the library reports about
//! itself.
//!
//! ```text
//! cargo run --release --features uffd --example userswap [-- OPTIONS]
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `args` | command-line arguments |
//! | `data` | pages of this machine's programs and shared libraries |
//! | `memory` | the memory: the contents of each page, and whether they are right |
//! | `random`, `picks` | which page is touched next |
//! | `latency` | times of touches |
//! | `workload` | the threads that fill, touch and verify |
//! | `tiers` | the files that pages go to |
//! | `swap` | the pager, its tiers, and the threads lent to it |
//! | `proc` | resident memory as the system counts it |
//! | `page_cache` | how much of the tiers' files is in the system's page cache |
//! | `watch` | the thread that samples resident memory every ten milliseconds, and checks the limits |
//! | `display` | what a terminal shows during the run |
//! | `report`, `table`, `tier_table` | the results, for people and for machines |
//! | `plot` | the results over time, as a picture |

mod args;
mod data;
mod display;
mod latency;
mod memory;
mod page_cache;
mod picks;
mod plot;
mod problem;
mod proc;
#[path = "../store_pages/random.rs"]
mod random;
mod report;
mod swap;
mod table;
#[path = "../store_pages/tier_table.rs"]
mod tier_table;
#[path = "../store_pages/tiers.rs"]
mod tiers;
mod watch;
mod workload;

use args::{Args, Command};
use problem::{Problem, Result, end};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::USAGE).map(|()| true),
        Ok(Command::Run(args)) => run(&args),
        Err(problem) => Err(problem),
    };
    end("userswap", done)
}

/// Runs everything. Returns whether every page was right and the limits held.
fn run(args: &Args) -> Result<bool> {
    let report = report::measure(args)?;
    let write = |path: &std::path::Path, text: String| {
        std::fs::write(path, text).map_err(|error| Problem::Refused(format!("can't write {}: {error}", path.display())))
    };
    let plot = args.plot_path();
    write(&plot, plot::svg(&report))?;
    if let Some(path) = &args.json {
        write(path, table::json(&report))?;
    }
    if !args.quiet {
        print(&table::text(&report))?;
        print(&format!("plot: {}\n", plot.display()))?;
    }
    for fault in report.faults_found() {
        let _ = writeln!(io::stderr(), "userswap: {fault}");
    }
    Ok(report.is_well())
}

/// Prints to standard output. That a reader has closed it early is not an error.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Problem::Refused(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
