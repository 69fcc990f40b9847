//! Why an example has no table to show, and how it ends.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why there is no table: a sentence for people, and an exit status.
#[derive(Debug)]
pub enum Problem {
    /// The arguments, a file, or the memory to be had.
    Refused(String),
    /// This user, or this machine, lacks what it takes: userfaultfd, or virtual machines.
    Missing(String),
    /// The pager, or what runs over it, failed.
    Failed(String),
}

/// What can have a problem.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// The exit status.
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

/// The exit code of a program that is done, well or not, or has told of its problem.
pub fn end(program: &str, done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // Nobody is left to tell if standard error is closed too.
            let _ = writeln!(io::stderr(), "{program}: {problem}");
            ExitCode::from(problem.status())
        }
    }
}
