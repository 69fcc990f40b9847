//! The command line.

use super::{Problem, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
Keeps 4 KiB pages of files, compressed with LZ4, in a pool; verifies each, frees half, compacts, frees down to a tenth,
compacts, verifies the rest; and prints what it took.

Usage: store_pages [OPTIONS] [FILE]...

FILE   regular files; without any, this machine's shared libraries and this program's own heap

Options:
  --max-mib N    most MiB of pages that are taken of all files together; default 256
  --pool-mib N   most MiB of memory the pool may have; default: as much as the machine has
  --json         the figures as one JSON object
  --help         this text

Exit status: 0; 1 if a page did not come back as it was stored; 2 if arguments, files or memory would not do.
";

/// What is to be done.
pub enum Command {
    /// Store pages.
    Run(Args),
    /// Explain.
    Help,
}

/// How.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// Where the pages are from; empty: the default.
    pub files: Vec<PathBuf>,
    /// Most MiB of pages.
    pub max_mib: usize,
    /// Most MiB of the pool, 0 for no limit of its own.
    pub pool_mib: u64,
    /// Whether the figures are for machines.
    pub json: bool,
}

/// Most MiB that may be asked for: a tebibyte.
const MOST_MIB: u64 = 1 << 20;

/// Reads the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args { files: Vec::new(), max_mib: 256, pool_mib: 0, json: false };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (text.as_str(), None),
        };
        match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--json" if value.is_none() => parsed.json = true,
            "--max-mib" => parsed.max_mib = number(name, value, &mut args)? as usize,
            "--pool-mib" => parsed.pool_mib = number(name, value, &mut args)?,
            "--" => parsed.files.extend(args.by_ref().map(PathBuf::from)),
            _ if name.starts_with('-') && name != "-" => {
                return Err(Problem::Refused(format!("{text} is no option; --help tells which there are")));
            }
            _ => parsed.files.push(PathBuf::from(arg)),
        }
    }
    Ok(Command::Run(parsed))
}

fn number(name: &str, value: Option<String>, args: &mut impl Iterator<Item = OsString>) -> Result<u64> {
    let value = value.or_else(|| args.next().map(|arg| arg.to_string_lossy().into_owned()));
    let number = value.as_deref().and_then(|value| value.parse().ok());
    number.filter(|number| (1..=MOST_MIB).contains(number)).ok_or_else(|| {
        Problem::Refused(format!(
            "{name} needs a whole number of MiB from 1 to {MOST_MIB}, not {}",
            value.as_deref().unwrap_or("nothing")
        ))
    })
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
    fn options_and_files_in_any_order() {
        let args = parsed(&["a", "--json", "--max-mib", "3", "b", "--pool-mib=7", "--", "--json"]).unwrap();
        let files = ["a", "b", "--json"].map(PathBuf::from).to_vec();
        assert_eq!(args, Args { files, max_mib: 3, pool_mib: 7, json: true });
        assert_eq!(parsed(&[]).unwrap().max_mib, 256);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong: [&[&str]; 8] = [
            &["--max-mib"],
            &["--max-mib", "0"],
            &["--max-mib", "-1"],
            &["--max-mib=99999999999999999999"],
            &["--pool-mib", "x"],
            &["--json=yes"],
            &["--what"],
            &["-j"],
        ];
        for args in wrong {
            assert_eq!(parsed(args).unwrap_err().status(), 2, "{args:?}");
        }
    }
}
