//! Errors: a number for C, and a sentence for people.

use crate::os::{Errno, errno};
use std::fmt;

/// A sentence for people: what is wrong, and what to do. It is a reference to a reference, which is one word, so that
/// an [`Error`] has two words and a `Result` of a handle or an address is returned in registers.
pub type Sentence = &'static &'static str;

/// Makes a sentence that says what the system did not give, and what to do about it.
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

/// Why a call failed. Each variant stands for one errno. The sentence says what is wrong and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// `EINVAL`: an argument is wrong, or the handle is stale, freed or from another pool.
    Invalid(Sentence),
    /// `ENOMEM`: the pool is full, or the system gives no memory. Free, compact or shrink, then retry.
    NoMemory(Sentence),
    /// `ENOSPC`: it does not fit, and a retry would not either.
    NoSpace(Sentence),
    /// `EBUSY`: something is in use, or mapped too often.
    Busy(Sentence),
    /// `EAGAIN`: nothing could be done now; a later call may succeed.
    Again(Sentence),
    /// `ENOENT`: what the call names does not exist.
    NotFound(Sentence),
    /// `EIO`: a stored page is damaged, or could not be read or written.
    Io(Sentence),
    /// `EPERM`: a forked child used something that children do not get.
    Forked,
    /// Another error number of the system, and the step that the system refused.
    System {
        /// The positive errno.
        errno: i32,
        /// The step that the system refused, or why, as a sentence.
        step: Sentence,
    },
}

/// The result of a call of this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the positive errno. The C functions return it negated.
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

    /// Returns the error for the system's refusal of `step`. `ENOMEM` becomes [`Error::NoMemory`].
    pub(crate) const fn system(error: Errno, step: Sentence) -> Self {
        match error.0 {
            errno::ENOMEM => Self::NoMemory(step),
            errno => Self::System { errno, step },
        }
    }

    /// Returns the error for a refusal of advice about memory (madvise). There `EAGAIN` means that the system lacks
    /// memory, and `ENOMEM` that memory is not mapped.
    pub(crate) const fn advice(error: Errno, step: Sentence) -> Self {
        match error.0 {
            errno::EAGAIN => Self::NoMemory(not_given!("the system does not take advice about memory")),
            _ => Self::system(error, step),
        }
    }

    /// Returns the sentence, without the number.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Invalid(text)
            | Self::NoMemory(text)
            | Self::NoSpace(text)
            | Self::Busy(text)
            | Self::Again(text)
            | Self::NotFound(text)
            | Self::Io(text) => text,
            Self::Forked => {
                "it was created in the parent process, and forked children do not get it: create one in the child"
            }
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
