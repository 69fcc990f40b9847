//! Command-line arguments.

use super::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use zsalloc::{Codec, OnDeath, Protect};

/// Text of `--help`.
pub const USAGE: &str = "\
Serves the page faults of Firecracker microVMs that are resumed from one snapshot, from one compressed copy of it.

Usage: firecracker_handler --snapshot FILE --socket PATH [OPTIONS]

Options:
  --snapshot FILE     the snapshot's memory file, which is read once
  --socket PATH       the Unix socket to create for Firecracker: the backend_path of a mem_backend of type Uffd
  --pool-limit BYTES  how many bytes compressed pages may take; K, M and G multiply by 1024; default: no limit
  --codec CODEC       lz4, zstd, or zstd:LEVEL with a level of 1 to 22; default lz4
  --threads N         how many threads serve page faults, 1 to 64; default 1. Several of them may serve one microVM
  --ahead PAGES       how many pages one fault may fill when memory is read in order: 1 to 64; default 8
  --protect WHICH     which pages to write-protect, for a VMM that tracks writes: registered (those in ranges that it
                      registered for write protection), always (all pages; a touch waits until it can be), or never;
                      default registered
  --on-death WHAT     what a guardian, another process, does with running microVMs when this process ends, even by
                      SIGKILL: kill them, or freeze them at the next page that they have not touched yet; needs
                      Linux 5.9; default: no guardian
  --help              print this text

The handler runs until SIGINT or SIGTERM, and then prints its statistics. MicroVMs that still run then stop at the next
page that they have not touched yet, as long as they or a guardian keep their userfaultfd open; otherwise they read
zeros. Guest memory must have 4 KiB pages. With its userfaultfd a microVM may send its memory file, and the bitmap of
pages that KVM reports to it: the handler then writes pages to the file, and answers the microVM's requests for them.

Exit status: 0; 2 if arguments or the snapshot are wrong or memory is short.
";

/// What the command line asks for.
pub enum Command {
    /// Serve with these arguments.
    Run(Args),
    /// Print the usage.
    Help,
}

/// The arguments, with defaults filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The snapshot's memory file.
    pub snapshot: PathBuf,
    /// Path of the socket to listen on.
    pub socket: PathBuf,
    /// How many bytes compressed pages may take; 0: no limit.
    pub pool_limit: Option<u64>,
    /// The codec of stored pages.
    pub codec: Codec,
    /// How many threads serve; none: 1.
    pub threads: Option<usize>,
    /// How many pages one fault may fill; 0: the default.
    pub ahead: Option<usize>,
    /// Which pages are write-protected.
    pub protect: Protect,
    /// What happens to microVMs when this process dies; none: nothing is done.
    pub on_death: Option<OnDeath>,
}

/// Parses the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args::default();
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let name = name.to_string_lossy().into_owned();
        if name == "--help" || name == "-h" {
            return Ok(Command::Help);
        }
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value: see --help"));
        match name.as_str() {
            "--snapshot" => parsed.snapshot = value()?.into(),
            "--socket" => parsed.socket = value()?.into(),
            "--pool-limit" => parsed.pool_limit = Some(bytes(&text(value()?)?)?),
            "--codec" => parsed.codec = codec(&text(value()?)?)?,
            "--threads" => parsed.threads = Some(pages(&text(value()?)?)?),
            "--ahead" => parsed.ahead = Some(pages(&text(value()?)?)?),
            "--protect" => parsed.protect = protect(&text(value()?)?)?,
            "--on-death" => parsed.on_death = Some(on_death(&text(value()?)?)?),
            _ => return Err(format!("{name} is not an option: see --help")),
        }
    }
    if parsed.snapshot.as_os_str().is_empty() || parsed.socket.as_os_str().is_empty() {
        return Err("--snapshot FILE and --socket PATH are required: see --help".to_owned());
    }
    Ok(Command::Run(parsed))
}

fn text(value: OsString) -> Result<String> {
    value.into_string().map_err(|value| format!("{} is not text", value.display()))
}

fn bytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|bytes| *bytes > 0).ok_or_else(|| format!("{text} is not a number of bytes, such as 512M"))
}

fn codec(text: &str) -> Result<Codec> {
    match text.split_once(':') {
        None if text == "lz4" => Ok(Codec::Lz4),
        None if text == "zstd" => Ok(Codec::Zstd(3)),
        Some(("zstd", level)) => match level.parse() {
            Ok(level @ 1..=22) => Ok(Codec::Zstd(level)),
            _ => Err(format!("{level} is not a level of zstd, 1 to 22")),
        },
        _ => Err(format!("{text} is not a codec: lz4, zstd, or zstd:LEVEL")),
    }
}

fn pages(text: &str) -> Result<usize> {
    let number = text.parse::<usize>().ok();
    number.filter(|pages| (1..=64).contains(pages)).ok_or_else(|| format!("{text} is not a number from 1 to 64"))
}

fn protect(text: &str) -> Result<Protect> {
    match text {
        "registered" => Ok(Protect::IfRegistered),
        "always" => Ok(Protect::Always),
        "never" => Ok(Protect::Never),
        _ => Err(format!("--protect is registered, always, or never, not {text}")),
    }
}

fn on_death(text: &str) -> Result<OnDeath> {
    match text {
        "kill" => Ok(OnDeath::Kill),
        "freeze" => Ok(OnDeath::Freeze),
        _ => Err(format!("--on-death is kill or freeze, not {text}")),
    }
}
