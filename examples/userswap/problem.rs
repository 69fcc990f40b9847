//! Reasons why an example ends without a table, and its exit status.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The reason why there is no table: a sentence for people, and an exit status.
#[derive(Debug)]
pub enum Problem {
    /// Arguments or files are wrong, or memory is short.
    Refused(String),
    /// This user or this machine lacks userfaultfd or virtual machines.
    Missing(String),
    /// The pager failed, or the program that uses it.
    Failed(String),
}

/// The result of everything that can have a problem.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// Returns the exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Missing(_) => 77,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(sentence) | Self::Missing(sentence) | Self::Failed(sentence)) = self;
        out.write_str(sentence)
    }
}

/// Prints the problem, if there is one, and returns the program's exit code.
pub fn end(program: &str, done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // An error means that standard error is closed, so it can't be reported.
            let _ = writeln!(io::stderr(), "{program}: {problem}");
            ExitCode::from(problem.status())
        }
    }
}
