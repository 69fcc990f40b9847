//! Command-line arguments.

use super::tiers::{self, Named};
use super::{Problem, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use zsalloc::Codec;

/// Text of `--help`.
pub const USAGE: &str = "\
Stores 4 KiB pages of files in a zswap, loads each in random order and compares it, removes half, compacts, and compares
the rest. Plain LZ4 stores and loads the same pages for comparison. Prints memory and times.

Usage: store_pages [OPTIONS] [FILE]...

FILE   regular files; without any, this machine's shared libraries and this program's own heap

Options:
  --tier TIER      where pages go that leave memory: file:PATH, or file:PATH:SIZE to use at most so many bytes. Several
                   are filled in the order in which they are given. A file is created for this run and removed after it
  --backing FILE   the same as --tier file:FILE
  --overwrite      the files of tiers exist, or are block devices: their contents are lost
  --limit BYTES    how many bytes stored pages may take; K, M and G multiply by 1024. When it is reached, pages that
                   were not used lately go to the tiers; without any, no more pages are taken. Default: no limit, but
                   with a tier all pages leave memory once they are stored
  --codec CODEC    lz4, zstd, zstd:LEVEL with a level of 1 to 22, or raw; default lz4
  --max-mib N      how many MiB of pages to take from all files together; default 256
  --json           print the figures as one JSON object
  --help           print this text

Exit status: 0; 1 if a page did not come back as it was stored; 2 if arguments or files are wrong or memory is short.
";

/// What the command line asks for.
pub enum Command {
    /// Store pages, with these arguments.
    Run(Args),
    /// Print the usage.
    Help,
}

/// The arguments, with defaults filled in.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// Files to take pages from; empty: the default.
    pub files: Vec<PathBuf>,
    /// How many MiB of pages to take.
    pub max_mib: usize,
    /// How many bytes stored pages may take. `None`: no limit.
    pub limit: Option<u64>,
    /// The tiers that pages are written back to, in this order.
    pub tiers: Vec<Named>,
    /// Whether their files exist and are overwritten.
    pub overwrite: bool,
    /// The codec of stored pages.
    pub codec: Codec,
    /// Whether to print the figures as JSON.
    pub json: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            max_mib: 256,
            limit: None,
            tiers: Vec::new(),
            overwrite: false,
            codec: Codec::Lz4,
            json: false,
        }
    }
}

/// Largest number of MiB that an option takes: a tebibyte.
const MOST_MIB: u64 = 1 << 20;

/// Parses the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (name, mut value) = split(&arg);
        let mut value = || value.take().or_else(|| args.next());
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--max-mib" => parsed.max_mib = mib(&name, value())?,
            "--limit" => parsed.limit = Some(bytes(&name, value())?),
            "--codec" => parsed.codec = codec(value())?,
            "--backing" => parsed.tiers.push(Named::whole(path(&name, value())?)),
            "--tier" => parsed.tiers.push(Named::parse(&value().unwrap_or_default())?),
            "--json" if arg == "--json" => parsed.json = true,
            "--overwrite" if arg == "--overwrite" => parsed.overwrite = true,
            "--" => parsed.files.extend(args.by_ref().map(PathBuf::from)),
            _ if name.starts_with('-') && name != "-" => {
                return Err(refused(format!("{} is not an option: see --help", arg.to_string_lossy())));
            }
            _ => parsed.files.push(PathBuf::from(arg)),
        }
    }
    if parsed.overwrite && parsed.tiers.is_empty() {
        return Err(refused("--overwrite needs a file to overwrite: name one with --tier file:PATH".to_owned()));
    }
    Ok(Command::Run(parsed))
}

fn refused(sentence: String) -> Problem {
    Problem::Refused(sentence)
}

/// Splits an option's name from a value that follows a `=`.
fn split(arg: &OsString) -> (String, Option<OsString>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = arg.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if bytes.starts_with(b"--") => {
            (String::from_utf8_lossy(&bytes[..at]).into_owned(), Some(OsString::from_vec(bytes[at + 1..].to_vec())))
        }
        _ => (arg.to_string_lossy().into_owned(), None),
    }
}

fn shown(value: Option<&OsString>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string_lossy().into_owned())
}

fn mib(name: &str, value: Option<OsString>) -> Result<usize> {
    let number = value.as_ref().and_then(|value| value.to_str()?.parse::<u64>().ok());
    let number = number.filter(|number| (1..=MOST_MIB).contains(number));
    let sentence =
        || refused(format!("{name} needs a whole number of MiB from 1 to {MOST_MIB}, not {}", shown(value.as_ref())));
    number.map(|number| number as usize).ok_or_else(sentence)
}

fn bytes(name: &str, value: Option<OsString>) -> Result<u64> {
    let number = value.as_ref().and_then(|value| tiers::size(value.to_str()?));
    number.ok_or_else(|| {
        refused(format!("{name} needs a number of bytes, such as 64M, at most 1024G, not {}", shown(value.as_ref())))
    })
}

fn codec(value: Option<OsString>) -> Result<Codec> {
    let text = value.as_ref().and_then(|value| value.to_str()).unwrap_or("");
    let level = || text.strip_prefix("zstd:")?.parse().ok().filter(|level| (1..=22).contains(level));
    match text {
        "lz4" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd(0)),
        "raw" => Ok(Codec::Raw),
        _ => level().map(Codec::Zstd).ok_or_else(|| {
            refused(format!(
                "--codec is lz4, zstd, zstd:LEVEL with a level of 1 to 22, or raw, not {}",
                shown(value.as_ref())
            ))
        }),
    }
}

fn path(name: &str, value: Option<OsString>) -> Result<PathBuf> {
    let path = value.filter(|value| !value.is_empty()).map(PathBuf::from);
    path.ok_or_else(|| refused(format!("{name} needs the path of a file")))
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
        let args = parsed(&["a", "--json", "--max-mib", "3", "b", "--limit=7m", "--codec", "zstd:9", "--", "--json"]);
        let files = ["a", "b", "--json"].map(PathBuf::from).to_vec();
        let wanted =
            Args { files, max_mib: 3, limit: Some(7 << 20), codec: Codec::Zstd(9), json: true, ..Args::default() };
        assert_eq!(args.unwrap(), wanted);
        let args = parsed(&["--backing=a=b", "--overwrite", "--tier=file:c:4K", "--limit", "12345"]).unwrap();
        let tiers = vec![Named::whole("a=b".into()), Named { path: "c".into(), bytes: Some(4096) }];
        assert_eq!(args, Args { tiers, overwrite: true, limit: Some(12345), ..Args::default() });
        assert_eq!(parsed(&[]).unwrap(), Args::default());
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let wrong: [&[&str]; 24] = [
            &["--max-mib"],
            &["--max-mib", "0"],
            &["--max-mib", "-1"],
            &["--max-mib=99999999999999999999"],
            &["--limit"],
            &["--limit", ""],
            &["--limit", "0"],
            &["--limit", "M"],
            &["--limit", "x"],
            &["--limit", "1\u{e9}"],
            &["--limit", "99999999999G"],
            &["--limit", "-1"],
            &["--codec"],
            &["--codec", "lzo"],
            &["--codec", "zstd:23"],
            &["--backing"],
            &["--backing="],
            &["--tier"],
            &["--tier=a"],
            &["--tier", "file:"],
            &["--overwrite"],
            &["--json=yes"],
            &["--what"],
            &["-j"],
        ];
        for args in wrong {
            assert_eq!(parsed(args).unwrap_err().status(), 2, "{args:?}");
        }
    }
}
