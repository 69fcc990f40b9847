//! The command line.

use super::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use zsalloc::{Codec, OnDeath, Protect};

/// What `--help` prints.
pub const USAGE: &str = "\
Serves the page faults of Firecracker microVMs that are resumed from one snapshot, from one compressed copy of it.

Usage: firecracker_handler --snapshot FILE --socket PATH [OPTIONS]

Options:
  --snapshot FILE     the snapshot's memory file; it is read once
  --socket PATH       the Unix socket that is made for Firecracker: the backend_path of a mem_backend of the type Uffd
  --pool-limit BYTES  most bytes that the compressed pages may take; K, M and G multiply by 1024; default: none
  --codec CODEC       lz4, zstd, or zstd:LEVEL with a level of 1 to 22; default lz4
  --ahead PAGES       most pages that are filled for one fault, when memory is gone through in order: 1 to 64; default 8
  --protect WHICH     which pages are put in place protected from writes, for a VMM that tracks those: registered, all
                      that it registered for write protection; always, all, or the touch waits; never; default
                      registered
  --on-death WHAT     what a guardian, a process beside this one, does with microVMs that still run when this one ends,
                      even by SIGKILL: kill, or freeze, which has them stop at the next page that they have not touched
                      yet; needs Linux 5.9; default: no guardian
  --help              this text

It runs until SIGINT or SIGTERM, and then prints what it did. MicroVMs that still run then stop at the next page
that they have not touched yet, as long as they or a guardian have their userfaultfd open: else they read zeros.
Guest memory has to have pages of 4 KiB. With its userfaultfd a microVM may send its memory file, and the bitmap of
pages that KVM tells it of: pages are written to the file, and its requests for them are answered.

Exit status: 0; 2 if arguments, the snapshot or memory would not do.
";

/// What is to be done.
pub enum Command {
    /// Serve.
    Run(Args),
    /// Explain.
    Help,
}

/// How.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The memory file.
    pub snapshot: PathBuf,
    /// Where to listen.
    pub socket: PathBuf,
    /// Most bytes of compressed pages, 0 for no limit.
    pub pool_limit: u64,
    /// What pages are compressed with.
    pub codec: Codec,
    /// Most pages for one fault, 0 for the default.
    pub ahead: usize,
    /// Which pages are protected from writes.
    pub protect: Protect,
    /// What becomes of microVMs when this process dies; none: nobody sees to it.
    pub on_death: Option<OnDeath>,
}

/// Reads the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parsed = Args::default();
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let name = name.to_string_lossy().into_owned();
        if name == "--help" || name == "-h" {
            return Ok(Command::Help);
        }
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value; --help tells more"));
        match name.as_str() {
            "--snapshot" => parsed.snapshot = value()?.into(),
            "--socket" => parsed.socket = value()?.into(),
            "--pool-limit" => parsed.pool_limit = bytes(&text(value()?)?)?,
            "--codec" => parsed.codec = codec(&text(value()?)?)?,
            "--ahead" => parsed.ahead = pages(&text(value()?)?)?,
            "--protect" => parsed.protect = protect(&text(value()?)?)?,
            "--on-death" => parsed.on_death = Some(on_death(&text(value()?)?)?),
            _ => return Err(format!("there is no option {name}; --help tells which there are")),
        }
    }
    if parsed.snapshot.as_os_str().is_empty() || parsed.socket.as_os_str().is_empty() {
        return Err("--snapshot FILE and --socket PATH are needed; --help tells more".to_owned());
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
    number.filter(|bytes| *bytes > 0).ok_or_else(|| format!("{text} is no number of bytes, such as 512M"))
}

fn codec(text: &str) -> Result<Codec> {
    match text.split_once(':') {
        None if text == "lz4" => Ok(Codec::Lz4),
        None if text == "zstd" => Ok(Codec::Zstd(3)),
        Some(("zstd", level)) => match level.parse() {
            Ok(level @ 1..=22) => Ok(Codec::Zstd(level)),
            _ => Err(format!("{level} is no level of zstd: 1 to 22")),
        },
        _ => Err(format!("{text} is no codec: lz4, zstd, or zstd:LEVEL")),
    }
}

fn pages(text: &str) -> Result<usize> {
    let number = text.parse::<usize>().ok();
    number.filter(|pages| (1..=64).contains(pages)).ok_or_else(|| format!("{text} is no number of pages: 1 to 64"))
}

fn protect(text: &str) -> Result<Protect> {
    match text {
        "registered" => Ok(Protect::IfRegistered),
        "always" => Ok(Protect::Always),
        "never" => Ok(Protect::Never),
        _ => Err(format!("{text} is no choice of pages to protect: registered, always, or never")),
    }
}

fn on_death(text: &str) -> Result<OnDeath> {
    match text {
        "kill" => Ok(OnDeath::Kill),
        "freeze" => Ok(OnDeath::Freeze),
        _ => Err(format!("{text} is nothing to do on death: kill, or freeze")),
    }
}
