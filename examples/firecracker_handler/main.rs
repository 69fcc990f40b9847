//! A page-fault handler for Firecracker: microVMs that are resumed from one snapshot get their memory from one
//! compressed copy of it.
//!
//! Give its socket to Firecracker as the memory backend of `PUT /snapshot/load`, with the backend type `Uffd`.

mod args;
mod guard;
mod guests;
mod handshake;
mod report;
mod requests;
mod snapshot;
mod system;
mod team;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A sentence that says why the handler ends.
pub type Problem = String;
/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Problem>;

/// Prints a line. Ignores errors: microVMs need the handler more than anyone needs the line.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line on standard error. Ignores errors.
pub fn warn(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(args::Command::Help) => {
            say(args::USAGE.trim_end());
            return ExitCode::SUCCESS;
        }
        Ok(args::Command::Run(command)) => run(&command),
        Err(problem) => Err(problem),
    };
    match command {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            warn(&format!("firecracker_handler: {problem}"));
            ExitCode::from(2)
        }
    }
}

fn run(args: &args::Args) -> Result<()> {
    let stop = system::stop_signals().map_err(|error| format!("signals: {error}"))?;
    if let Err(error) = system::allow_descriptors() {
        warn(&format!("the limit of descriptors stays as it is: {error}"));
    }
    // The guardian is forked from this process while it has little memory.
    let guard = guard::Guard::start(args.on_death)?;
    let snapshot = snapshot::load(args)?;
    say(&report::stored(&snapshot)?);
    let listener = listen(&args.socket)?;
    let _socket = Socket(args.socket.clone());
    say(&format!("waiting for microVMs on {}", args.socket.display()));
    let mut guests = guests::Guests::new(snapshot, listener, stop, guard, args)?;
    guests.serve()?;
    say(guests.table()?.trim_end());
    guests.end();
    Ok(())
}

/// Listens on a socket. Replaces one that an earlier run left behind, but not one that another process listens on.
fn listen(path: &Path) -> Result<UnixListener> {
    let problem = |error| format!("{}: {error}", path.display());
    let is_socket = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path).map_err(problem)?;
    }
    let listener = UnixListener::bind(path).map_err(problem)?;
    listener.set_nonblocking(true).map_err(problem)?;
    Ok(listener)
}

/// The path of the socket, which is removed at the end.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
