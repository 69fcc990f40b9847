//! A virtual machine whose memory is four times its limit: guest memory under a pager, on /dev/kvm.
//!
//! ```text
//! cargo run --release --features uffd --example kvm_guest [-- OPTIONS]
//! ```
//!
//! The guest is a short program in machine code, without an operating system. It gets pages of real programs, goes over
//! them several times, in random order and in order by turns, hashes each page, writes to some, and gives ranges of
//! them back as a balloon would. Neither the guest nor KVM knows of the pager: a processor that touches a page that is
//! not in memory sleeps in KVM until a lent thread has put the page in place. Afterwards the host does the same in
//! plain Rust on memory of its own, and compares each checksum and each byte.
//!
//! | module | what it does |
//! |---|---|
//! | `args` | command-line arguments |
//! | `x86_64` | everything else, because it is machine code; its overview lists the rest |

mod args;
#[path = "../userswap/problem.rs"]
mod problem;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86_64;

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
    end("kvm_guest", done)
}

/// Runs everything. Returns whether every page was right and the limit held.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn run(args: &Args) -> Result<bool> {
    let report = x86_64::run(args)?;
    print(&x86_64::table(&report))?;
    Ok(report.is_well())
}

/// Refuses to run: the guest's machine code is for another machine.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn run(_: &Args) -> Result<bool> {
    let what = "the guest is machine code for x86_64, and its host is Linux";
    Err(Problem::Missing(format!("{what}; this is {} on {}", std::env::consts::OS, std::env::consts::ARCH)))
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
