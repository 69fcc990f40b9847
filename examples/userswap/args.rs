//! The command line.

use super::picks::Kind;
use super::{PAGE, Problem, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zsalloc::FaultMode;

/// What `--help` prints.
pub const USAGE: &str = "\
Fills memory with pages of real programs, keeps what is resident of it to a limit by compressing what was not used
lately, works on it with threads, and compares every page at the end. Prints what it took, and draws it.

Usage: userswap [OPTIONS]

  --memory BYTES      memory that is filled; K, M and G multiply by 1024; default 1G
  --limit BYTES       most of it that is resident; default: a quarter of the memory
  --pool-limit BYTES  most bytes of compressed pages; default: 5/8 of the memory
  --backing FILE      where pages go that the pool has no room for: a file that is made for this run and removed
  --threads N         threads that work on the memory; default 2
  --workload NAME     zipf, scan, random, or all of them one after another; default all
  --mode MODE         sigbus: the thread that touches a page serves itself, which needs no privileges;
                      threads: others serve it, which needs the right to userfaultfd; default sigbus
  --evict HOW         move: pages are moved to a staging range first, and come back as they are if they are touched
                      there; in-place: they are compressed where they are, which interrupts other processors less;
                      default in-place
  --seconds N         how long each workload runs; default 8
  --writes PERCENT    how many of the touches write; default 25
  --seed N            other random numbers
  --plot FILE         the picture; default userswap.svg in cargo's target folder
  --json FILE         the figures as JSON
  --quiet             nothing on standard output
  --help              this text

ZSALLOC_PAGES=FILE[:FILE...] in the environment names the files whose pages are taken, such as dumps of memory.

Exit status: 0 if every page was right and the limits held; 1 if not; 2 if arguments, files or memory would not do;
77 if the system gives no userfaultfd to this user.
";

/// What is to be done.
pub enum Command {
    /// Run.
    Run(Args),
    /// Explain.
    Help,
}

/// How.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    /// Pages of memory.
    pub pages: usize,
    /// Most bytes that are resident.
    pub limit: u64,
    /// Most bytes of compressed pages.
    pub pool_limit: u64,
    /// Where pages are written back to.
    pub backing: Option<PathBuf>,
    /// Threads that work on it.
    pub threads: usize,
    /// What they do, one after another.
    pub workloads: Vec<Kind>,
    /// Who serves touches.
    pub mode: FaultMode,
    /// Whether pages are compressed where they are.
    pub in_place: bool,
    /// How long each workload runs.
    pub seconds: f64,
    /// Percent of touches that write.
    pub writes: usize,
    /// Where random numbers begin.
    pub seed: u64,
    /// Where the picture goes.
    pub plot: Option<PathBuf>,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// Nothing is printed.
    pub quiet: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            pages: (1 << 30) / PAGE,
            limit: 0,
            pool_limit: 0,
            backing: None,
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
    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        (self.pages * PAGE) as u64
    }

    /// Where the picture goes: beside the programs of cargo, unless that is said.
    pub fn plot_path(&self) -> PathBuf {
        let program = std::env::current_exe().ok();
        // target/release/examples/userswap
        let target = program.as_deref().and_then(|program| program.ancestors().nth(3));
        let default = || target.unwrap_or(Path::new(".")).join("userswap.svg");
        self.plot.clone().unwrap_or_else(default)
    }
}

/// Most bytes that may be asked for: a tebibyte.
const MOST: u64 = 1 << 40;

/// Reads the arguments that follow the program's name.
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
                _ => {}
            }
        }
        let mut value = || {
            let value = value.take().or_else(|| args.next()).filter(|value| !value.is_empty());
            value.ok_or_else(|| Problem::Refused(format!("{name} needs a value; --help tells which")))
        };
        match name.as_str() {
            "--memory" => parsed.pages = bytes(&name, &value()?)? as usize / PAGE,
            "--limit" => parsed.limit = bytes(&name, &value()?)?,
            "--pool-limit" => parsed.pool_limit = bytes(&name, &value()?)?,
            "--backing" => parsed.backing = Some(value()?.into()),
            "--threads" => parsed.threads = number(&name, &value()?, 1, 1024)? as usize,
            "--workload" => parsed.workloads = workloads(&value()?)?,
            "--mode" => parsed.mode = mode(&value()?)?,
            "--evict" => parsed.in_place = in_place(&value()?)?,
            "--seconds" => parsed.seconds = seconds(&value()?)?,
            "--writes" => parsed.writes = number(&name, &value()?, 0, 100)? as usize,
            "--seed" => parsed.seed = number(&name, &value()?, 0, u64::MAX)?,
            "--plot" => parsed.plot = Some(value()?.into()),
            "--json" => parsed.json = Some(value()?.into()),
            _ => return refused(format!("{arg} is no option; --help tells which there are")),
        }
    }
    complete(parsed).map(Command::Run)
}

/// Fills in what depends on the rest.
fn complete(mut args: Args) -> Result<Args> {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    args.limit = or(args.limit, args.bytes() / 4);
    args.pool_limit = or(args.pool_limit, args.bytes() / 8 * 5);
    if args.pages < 256 || args.limit < 256 * 1024 {
        return refused("--memory is at least 1M, and --limit at least 256K".to_owned());
    }
    Ok(args)
}

fn refused<T>(sentence: String) -> Result<T> {
    Err(Problem::Refused(sentence))
}

fn bytes(name: &str, text: &str) -> Result<u64> {
    let unit = text.chars().last().and_then(|last| "KMG".find(last.to_ascii_uppercase()));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let factor = 1u64 << (unit.map_or(0, |unit| unit + 1) * 10);
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(number) if (1..=MOST).contains(&number) => Ok(number),
        _ => refused(format!("{name} needs a number of bytes, such as 64M, at most 1024G, not {text}")),
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
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let senseless: [&[&str]; 10] = [
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
        ];
        senseless.iter().for_each(|args| assert_eq!(parsed(args).unwrap_err().status(), 2, "{args:?}"));
    }
}
