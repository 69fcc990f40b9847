//! Command-line arguments.

use super::picks::Kind;
use super::tiers::{self, Named};
use super::{PAGE, Problem, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zsalloc::FaultMode;

/// Text of `--help`.
pub const USAGE: &str = "\
Fills memory with pages of real programs, and keeps its resident part to a limit by compressing pages that were not used
lately. Threads work on the memory, and at the end every page is compared. Prints memory and times, and draws them.

Usage: userswap [OPTIONS]

  --memory BYTES      size of the memory; K, M and G multiply by 1024; default 1G
  --limit BYTES       how much of it may be resident; default: a quarter of the memory
  --pool-limit BYTES  how much memory compressed pages may take; default: 5/8 of the memory
  --tier TIER         where pages go that the pool has no room for: file:PATH, or file:PATH:SIZE to use at most so many
                      bytes. Several are filled in the order in which they are given. A file is created for this run
                      and removed after it
  --backing FILE      the same as --tier file:FILE
  --overwrite         the files of tiers exist, or are block devices: their contents are lost
  --threads N         threads that work on the memory; default 2
  --workload NAME     zipf, scan, random, or all for each in turn; default all
  --mode MODE         sigbus: the thread that touches a page serves itself, which needs no privileges;
                      threads: other threads serve it, which needs the right to userfaultfd; default sigbus
  --evict HOW         move: pages are moved to a staging range first, and moved back if they are touched there;
                      in-place: they are compressed where they are, which interrupts other processors less;
                      default in-place
  --seconds N         duration of each workload; default 8
  --writes PERCENT    share of touches that write; default 25
  --seed N            seed of the random numbers
  --plot FILE         file for the picture; default userswap.svg in cargo's target folder
  --json FILE         file for the figures as JSON
  --quiet             print nothing on standard output
  --help              print this text

ZSALLOC_PAGES=FILE[:FILE...] in the environment names the files whose pages are taken, such as dumps of memory.

Exit status: 0 if every page was right and the limits held; 1 if not; 2 if arguments or files are wrong or memory is
short; 77 if this user may not use userfaultfd.
";

/// What the command line asks for.
pub enum Command {
    /// Run with these arguments.
    Run(Args),
    /// Print the usage.
    Help,
}

/// The arguments, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// Size of the memory in pages.
    pub pages: usize,
    /// How many bytes of it may be resident.
    pub limit: u64,
    /// How many bytes compressed pages may take.
    pub pool_limit: u64,
    /// The tiers that pages are written back to, in this order.
    pub tiers: Vec<Named>,
    /// Whether their files exist and are overwritten.
    pub overwrite: bool,
    /// Threads that work on the memory.
    pub threads: usize,
    /// The workloads to run, in order.
    pub workloads: Vec<Kind>,
    /// How touches are served.
    pub mode: FaultMode,
    /// Whether pages are compressed where they are.
    pub in_place: bool,
    /// Duration of each workload.
    pub seconds: f64,
    /// Percentage of touches that write.
    pub writes: usize,
    /// Seed of the random numbers.
    pub seed: u64,
    /// File for the picture.
    pub plot: Option<PathBuf>,
    /// File for the figures.
    pub json: Option<PathBuf>,
    /// Whether to print nothing.
    pub quiet: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            pages: (1 << 30) / PAGE,
            limit: 0,
            pool_limit: 0,
            tiers: Vec::new(),
            overwrite: false,
            threads: 2,
            workloads: Kind::ALL.to_vec(),
            mode: FaultMode::Sigbus,
            in_place: true,
            seconds: 8.0,
            writes: 25,
            seed: 1,
            plot: None,
            json: None,
            quiet: false,
        }
    }
}

impl Args {
    /// Returns the size of the memory in bytes.
    pub fn bytes(&self) -> u64 {
        (self.pages * PAGE) as u64
    }

    /// Returns the file for the picture: the one that was named, or one beside the programs that cargo builds.
    pub fn plot_path(&self) -> PathBuf {
        let program = std::env::current_exe().ok();
        // target/release/examples/userswap
        let target = program.as_deref().and_then(|program| program.ancestors().nth(3));
        let default = || target.unwrap_or(Path::new(".")).join("userswap.svg");
        self.plot.clone().unwrap_or_else(default)
    }
}

/// Parses the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args::default();
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let (name, mut value) = match arg.split_once('=') {
            Some((name, value)) if arg.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg.clone(), None),
        };
        if value.is_none() {
            match name.as_str() {
                "--help" | "-h" => return Ok(Command::Help),
                "--quiet" => {
                    parsed.quiet = true;
                    continue;
                }
                "--overwrite" => {
                    parsed.overwrite = true;
                    continue;
                }
                _ => {}
            }
        }
        let mut value = || {
            let value = value.take().or_else(|| args.next()).filter(|value| !value.is_empty());
            value.ok_or_else(|| Problem::Refused(format!("{name} needs a value: see --help")))
        };
        match name.as_str() {
            "--memory" => parsed.pages = bytes(&name, &value()?)? as usize / PAGE,
            "--limit" => parsed.limit = bytes(&name, &value()?)?,
            "--pool-limit" => parsed.pool_limit = bytes(&name, &value()?)?,
            "--backing" => parsed.tiers.push(Named::whole(value()?.into())),
            "--tier" => parsed.tiers.push(Named::parse(value()?.as_ref())?),
            "--threads" => parsed.threads = number(&name, &value()?, 1, 1024)? as usize,
            "--workload" => parsed.workloads = workloads(&value()?)?,
            "--mode" => parsed.mode = mode(&value()?)?,
            "--evict" => parsed.in_place = in_place(&value()?)?,
            "--seconds" => parsed.seconds = seconds(&value()?)?,
            "--writes" => parsed.writes = number(&name, &value()?, 0, 100)? as usize,
            "--seed" => parsed.seed = number(&name, &value()?, 0, u64::MAX)?,
            "--plot" => parsed.plot = Some(value()?.into()),
            "--json" => parsed.json = Some(value()?.into()),
            _ => return refused(format!("{arg} is not an option: see --help")),
        }
    }
    complete(parsed).map(Command::Run)
}

/// Fills in the defaults that depend on other arguments.
fn complete(mut args: Args) -> Result<Args> {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    args.limit = or(args.limit, args.bytes() / 4);
    args.pool_limit = or(args.pool_limit, args.bytes() / 8 * 5);
    if args.pages < 256 || args.limit < 256 * 1024 {
        return refused("--memory must be at least 1M, and --limit at least 256K".to_owned());
    }
    if args.overwrite && args.tiers.is_empty() {
        return refused("--overwrite needs a file to overwrite: name one with --tier file:PATH".to_owned());
    }
    Ok(args)
}

fn refused<T>(sentence: String) -> Result<T> {
    Err(Problem::Refused(sentence))
}

fn bytes(name: &str, text: &str) -> Result<u64> {
    match tiers::size(text) {
        Some(number) => Ok(number),
        None => refused(format!("{name} needs a number of bytes, such as 64M, at most 1024G, not {text}")),
    }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => refused(format!("{name} needs a whole number from {least} to {most}, not {text}")),
    }
}

fn seconds(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => refused(format!("--seconds needs a number of seconds, not {text}")),
    }
}

fn workloads(text: &str) -> Result<Vec<Kind>> {
    if text == "all" {
        return Ok(Kind::ALL.to_vec());
    }
    match Kind::ALL.into_iter().find(|kind| kind.name() == text) {
        Some(kind) => Ok(vec![kind]),
        None => refused(format!("--workload is zipf, scan, random or all, not {text}")),
    }
}

fn mode(text: &str) -> Result<FaultMode> {
    match text {
        "sigbus" => Ok(FaultMode::Sigbus),
        "threads" => Ok(FaultMode::Threads),
        _ => refused(format!("--mode is sigbus or threads, not {text}")),
    }
}

fn in_place(text: &str) -> Result<bool> {
    match text {
        "in-place" => Ok(true),
        "move" => Ok(false),
        _ => refused(format!("--evict is in-place or move, not {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Args> {
        match parse(args.iter().map(OsString::from))? {
            Command::Run(args) => Ok(args),
            Command::Help => panic!("help was not asked for"),
        }
    }

    #[test]
    fn options_with_and_without_an_equals_sign() {
        let args =
            ["--memory=64M", "--workload", "scan", "--mode=threads", "--evict=in-place", "--quiet", "--threads", "8"];
        let args = parsed(&args).unwrap();
        let wanted = Args {
            pages: 16384,
            limit: 16 << 20,
            pool_limit: 40 << 20,
            workloads: vec![Kind::Scan],
            mode: FaultMode::Threads,
            in_place: true,
            quiet: true,
            threads: 8,
            ..Args::default()
        };
        assert_eq!(args, wanted);
        assert_eq!(parsed(&[]).unwrap().limit, 256 << 20);
        let tiers = parsed(&["--tier=file:a:64M", "--backing", "b:1", "--overwrite"]).unwrap().tiers;
        assert_eq!(tiers, [Named { path: "a".into(), bytes: Some(64 << 20) }, Named::whole("b:1".into())]);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let senseless: [&[&str]; 12] = [
            &["--memory"],
            &["--memory="],
            &["--memory=1"],
            &["--limit", "-1"],
            &["--threads=0"],
            &["--workload=none"],
            &["--mode=fast"],
            &["--evict=never"],
            &["--seconds=0"],
            &["file"],
            &["--tier=pages"],
            &["--overwrite"],
        ];
        senseless.iter().for_each(|args| assert_eq!(parsed(args).unwrap_err().status(), 2, "{args:?}"));
    }
}
