//! Keeps the pages of real files, compressed with LZ4, in a pool: stores them, reads each one back and compares it,
//! frees half at random, compacts, frees down to a tenth, compacts, and compares what is left. At the end a table says
//! what it took: memory as the system counts it, and times.
//!
//! ```text
//! cargo run --release --example store_pages [-- [OPTIONS] [FILE]...]
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `args` | the command line |
//! | `input` | pages of files |
//! | `heap` | pages of this program's own heap |
//! | `measure` | the round: store, free, compact, verify, with the clock and the memory read beside |
//! | `memory` | what the system says this process has |
//! | `table` | the figures, for people and for machines |

mod args;
mod heap;
mod input;
mod measure;
mod memory;
mod random;
mod table;

use args::{Args, Command};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use zsalloc::PoolOptions;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a mebibyte.
const MIB: usize = 1 << 20;

/// Why there is no table: one sentence for people, and an exit status.
#[derive(Debug)]
enum Problem {
    /// The arguments, a file, or the memory to be had.
    Refused(String),
    /// The pool failed, or a page did not come back as it was stored.
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
            // Nobody is left to tell if standard error is closed too.
            let _ = writeln!(io::stderr(), "store_pages: {problem}");
            ExitCode::from(problem.status())
        }
    }
}

/// The whole job; returns what is to be printed.
fn run(args: &Args) -> Result<String> {
    let source = input::load(args)?;
    let pages = source.pages();
    // A first round on a few pages loads the code, and lets the system's allocator and the clock get the memory they
    // want. Its pool is kept, so that what this one allocates is not memory that it left behind.
    let small = PoolOptions { max_bytes: 4 * MIB as u64, ..PoolOptions::default() };
    let _rehearsed = measure::round(&pages[..pages.len().min(256)], &small, &ProgressBar::hidden())?;
    let progress = progress_bar();
    progress.tick();
    let options = PoolOptions { max_bytes: args.pool_mib * MIB as u64, ..PoolOptions::default() };
    let round = measure::round(pages, &options, &progress);
    progress.finish_and_clear();
    let (report, _pool) = round?;
    Ok(if args.json { table::json(&source, &report) } else { table::text(&source, &report) })
}

/// A bar on standard error if that is a terminal, else nothing.
fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:14} [{bar:40}] {percent:>3} %  {elapsed}");
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// Prints to standard output. A reader that has seen enough and closed it is no problem.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Problem::Refused(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
