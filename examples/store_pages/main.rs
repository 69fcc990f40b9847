//! Stores the pages of real files in a zswap, with a limit and tiers if asked for. Loads each page in random
//! order and compares it with the original; removes half, compacts, and compares the rest. Plain LZ4 stores and loads
//! the same pages for comparison. At the end a table shows memory, as the system counts it, and times.
//!
//! ```text
//! cargo run --release --example store_pages [-- [OPTIONS] [FILE]...]
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `args` | command-line arguments |
//! | `input` | pages of files |
//! | `heap` | pages of this program's own heap |
//! | `tiers` | the files that pages are written back to |
//! | `round` | the round: store, write back, load, remove, compact and verify, measuring time and memory |
//! | `turns` | turns of zswap and plain LZ4 |
//! | `plain` | plain LZ4, for comparison |
//! | `times` | a time for each page, and summaries |
//! | `memory` | this process's memory as the system counts it |
//! | `report` | the results |
//! | `table`, `tier_table` | prints the results for people, and as JSON |

mod args;
mod heap;
mod input;
mod memory;
mod plain;
mod random;
mod report;
mod round;
mod table;
mod tier_table;
mod tiers;
mod times;
mod turns;

use args::{Args, Command};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use round::Plan;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use tiers::TierFile;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a mebibyte.
const MIB: usize = 1 << 20;

/// The reason why there is no table: one sentence for people, and an exit status.
#[derive(Debug)]
enum Problem {
    /// Arguments or files are wrong, or memory is short.
    Refused(String),
    /// The zswap failed, or a page did not come back as it was stored.
    Damaged(String),
}

type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    fn status(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Damaged(_) => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(sentence) | Self::Damaged(sentence)) = self;
        out.write_str(sentence)
    }
}

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::USAGE),
        Ok(Command::Run(args)) => run(&args).and_then(|text| print(&text)),
        Err(problem) => Err(problem),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // An error means that standard error is closed, so it can't be reported.
            let _ = writeln!(io::stderr(), "store_pages: {problem}");
            ExitCode::from(problem.status())
        }
    }
}

/// Runs everything. Returns the text to print.
fn run(args: &Args) -> Result<String> {
    let source = input::load(args)?;
    let pages = source.pages();
    let tiers = TierFile::open(&args.tiers, args.overwrite, size_of_val(pages) as u64, &args.files)?;
    // A first round on a few pages loads the code, and lets the system's allocator and the clock get their memory. Its
    // zswap is kept, so that the measured one does not reuse its memory.
    let small = Plan { codec: args.codec, ..Plan::default() };
    let _rehearsed = round::round(&pages[..pages.len().min(256)], &small, &ProgressBar::hidden())?;
    let progress = progress_bar();
    progress.tick();
    let round = round::round(pages, &Plan { limit: args.limit, codec: args.codec, tiers: &tiers }, &progress);
    progress.finish_and_clear();
    let (report, _stored) = round?;
    Ok(if args.json { table::json(&source, &report) } else { table::text(&source, &report) })
}

/// Returns a progress bar on standard error if that is a terminal, otherwise a hidden one.
fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:14} [{bar:40}] {percent:>3} %  {elapsed}");
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
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
