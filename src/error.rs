//! What can go wrong: a number for C, a sentence for people.

use crate::os::{Errno, errno};
use std::fmt;

/// A sentence for people. A reference to it is one word, so that an [`Error`] is two, and a `Result` of a handle or an
/// address is returned in registers.
pub type Sentence = &'static &'static str;

/// A sentence that says what the system did not give, and then what to do about it.
macro_rules! not_given {
    ($what:literal) => {
        &concat!(
            $what,
            ": free memory, or raise RLIMIT_AS, RLIMIT_DATA or vm.max_map_count, or RLIMIT_MEMLOCK if the process \
             locks what it maps (mlockall)"
        )
    };
}
pub(crate) use not_given;

/// Why a call failed. Each variant is one errno; the text says what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// `EINVAL`: an argument is wrong, or the handle is stale, freed or of another pool.
    Invalid(Sentence),
    /// `ENOMEM`: the pool is full, or the system gives no memory. Free, compact or shrink, then retry.
    NoMemory(Sentence),
    /// `ENOSPC`: it will never fit; do not retry.
    NoSpace(Sentence),
    /// `EBUSY`: something is mapped, or too often mapped.
    Busy(Sentence),
    /// `EAGAIN`: nothing could be done now; a later call may.
    Again(Sentence),
    /// `ENOENT`: there is nothing to do it to.
    NotFound(Sentence),
    /// `EIO`: a stored page is damaged, or could not be read.
    Io(Sentence),
    /// `EPERM`: a forked child called into a pool that children do not get.
    Forked,
    /// Another error number, as the system gave it, and which step it refused.
    System {
        /// The positive errno.
        errno: i32,
        /// What was being done.
        step: Sentence,
    },
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The positive errno of this error; the C functions return it negated.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Invalid(_) => errno::EINVAL,
            Self::NoMemory(_) => errno::ENOMEM,
            Self::NoSpace(_) => errno::ENOSPC,
            Self::Busy(_) => errno::EBUSY,
            Self::Again(_) => errno::EAGAIN,
            Self::NotFound(_) => errno::ENOENT,
            Self::Io(_) => errno::EIO,
            Self::Forked => errno::EPERM,
            Self::System { errno, .. } => errno,
        }
    }

    /// The error that the system's `errno` at `step` means to a caller of this crate.
    pub(crate) const fn system(error: Errno, step: Sentence) -> Self {
        match error.0 {
            errno::ENOMEM => Self::NoMemory(step),
            errno => Self::System { errno, step },
        }
    }

    /// The error that a refusal of advice about memory (madvise) means: `EAGAIN` is the system's want of memory, and
    /// `ENOMEM` says that memory is not mapped.
    pub(crate) const fn advice(error: Errno, step: Sentence) -> Self {
        match error.0 {
            errno::EAGAIN => Self::NoMemory(not_given!("the system does not take advice about memory")),
            _ => Self::system(error, step),
        }
    }

    /// The sentence, without the number.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Invalid(text)
            | Self::NoMemory(text)
            | Self::NoSpace(text)
            | Self::Busy(text)
            | Self::Again(text)
            | Self::NotFound(text)
            | Self::Io(text) => text,
            Self::Forked => "this pool is not for forked children: it was created in the parent",
            Self::System { step, .. } => step,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.errno() {
            errno::EMFILE => ": close descriptors, or raise RLIMIT_NOFILE",
            _ => "",
        };
        write!(out, "{}{advice} (errno {})", self.text(), self.errno())
    }
}

impl std::error::Error for Error {}
