//! Command-line arguments.

use super::{MIB, PAGE, Problem, Result};
use std::ffi::OsString;

/// Text of `--help`.
pub const USAGE: &str = "\
Runs a virtual machine on /dev/kvm whose memory is under a pager, and larger than what may be resident. The guest goes
over pages of real programs, hashes and changes them; the host does the same and compares.

Usage: kvm_guest [OPTIONS]

  --memory BYTES      memory of the guest; K, M and G multiply by 1024; default 192M, at most 3G
  --limit BYTES       how much of it may be resident; default: a quarter of the memory
  --passes N          how often the guest goes over all pages, in random order and in order by turns; default 4
  --processors N      processors of the guest, each with pages of its own; default 2
  --in-place          evict pages in place, as on systems that can't move pages (before Linux 6.8)
  --help              print this text

ZSALLOC_PAGES=FILE[:FILE...] in the environment names the files whose pages are taken, such as dumps of memory.

Exit status: 0 if every checksum and every page was right and the limit held; 1 if not; 2 if arguments or files are
wrong or memory is short; 77 if this user may not use /dev/kvm or userfaultfd.
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
    /// Bytes of the guest's memory: whole pages.
    pub memory: u64,
    /// How many bytes of it may be resident.
    pub limit: u64,
    /// How often the guest goes over its pages.
    pub passes: u64,
    /// Number of processors of the guest.
    pub processors: usize,
    /// Whether pages are evicted in place.
    pub evict_in_place: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { memory: 192 * MIB, limit: 0, passes: 4, processors: 2, evict_in_place: false }
    }
}

/// The addresses from here on belong to devices.
const MOST_MEMORY: u64 = 3 << 30;

/// Parses the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args::default();
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let (name, mut value) = match arg.split_once('=') {
            Some((name, value)) if arg.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg.clone(), None),
        };
        match name.as_str() {
            "--help" | "-h" if value.is_none() => return Ok(Command::Help),
            "--in-place" if value.is_none() => {
                parsed.evict_in_place = true;
                continue;
            }
            _ => {}
        }
        let mut value = || {
            let value = value.take().or_else(|| args.next()).filter(|value| !value.is_empty());
            value.ok_or_else(|| Problem::Refused(format!("{name} needs a value: see --help")))
        };
        match name.as_str() {
            "--memory" => parsed.memory = bytes(&name, &value()?, MIB, MOST_MEMORY)?,
            "--limit" => parsed.limit = bytes(&name, &value()?, 256 << 10, MOST_MEMORY)?,
            "--passes" => parsed.passes = number(&name, &value()?, 1, 1000)?,
            "--processors" => parsed.processors = number(&name, &value()?, 1, 16)? as usize,
            _ => return Err(Problem::Refused(format!("{arg} is not an option: see --help"))),
        }
    }
    parsed.memory -= parsed.memory % PAGE as u64;
    if parsed.limit == 0 {
        parsed.limit = (parsed.memory / 4).max(256 << 10);
    }
    Ok(Command::Run(parsed))
}

fn bytes(name: &str, text: &str, least: u64, most: u64) -> Result<u64> {
    let unit = text.chars().last().and_then(|last| "KMG".find(last.to_ascii_uppercase()));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let factor = 1u64 << (unit.map_or(0, |unit| unit + 1) * 10);
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let (least, most) = (least >> 10, most >> 20);
            Err(Problem::Refused(format!("{name} needs bytes, from {least}K to {most}M, such as 64M, not {text}")))
        }
    }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Problem::Refused(format!("{name} needs a whole number from {least} to {most}, not {text}"))),
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
        let args = parsed(&["--memory=64M", "--passes", "3", "--processors=1", "--in-place"]).unwrap();
        let wanted = Args { memory: 64 * MIB, limit: 16 * MIB, passes: 3, processors: 1, evict_in_place: true };
        assert_eq!(args, wanted);
        assert_eq!(parsed(&[]).unwrap().limit, 48 * MIB);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let senseless: [&[&str]; 8] = [
            &["--memory"],
            &["--memory="],
            &["--memory=4G"],
            &["--limit", "-1"],
            &["--passes=0"],
            &["--processors=17"],
            &["--in-place=1"],
            &["file"],
        ];
        senseless.iter().for_each(|args| assert_eq!(parsed(args).unwrap_err().status(), 2, "{args:?}"));
    }
}
