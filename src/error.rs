//! Errors: a number for C, and a sentence for people.

use crate::os::{Errno, errno};
use std::fmt;
use std::io;
use std::ops::Deref;

/// An English sentence of an [`Error`]: what is wrong, and what to do.
///
/// It derefs to `str` and prints as one. The library alone makes sentences. Their words may change in every version:
/// match on the variant of the error, and show the sentence to people.
// One word, so that an error has two, and a `Result` of a handle or an address is returned in registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sentence(&'static &'static str);

const _: () = assert!(size_of::<Error>() == 2 * size_of::<usize>());

/// Makes a sentence of a constant text.
pub const fn sentence(text: &'static &'static str) -> Sentence {
    Sentence(text)
}

impl Sentence {
    /// Returns the text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl Deref for Sentence {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.0)
    }
}

impl fmt::Debug for Sentence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(*self.0, out)
    }
}

/// Makes a sentence that says what the system did not give, and what to do about it.
macro_rules! not_given {
    ($what:literal) => {
        $crate::error::sentence(&concat!(
            $what,
            ": free memory, or raise RLIMIT_AS, RLIMIT_DATA or vm.max_map_count, or RLIMIT_MEMLOCK if the process \
             locks what it maps (mlockall)"
        ))
    };
}
pub(crate) use not_given;

/// The limit that a call met. [`Error::Limit`] has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Limit {
    /// The pool has as much memory as its limit (`max_bytes`) allows.
    Pool,
    /// All addresses of the pool are in use. A pool has addresses for a little more than its largest limit, and live
    /// objects that are scattered over them can use them up before the limit is met.
    Addresses,
    /// The pool's tables of objects are full. Their size follows from the limit or the memory that the pool was created
    /// with.
    Tables,
    /// The compressed pages of a zswap, or of a pager, take as much memory as their limit allows.
    Zswap,
    /// The compressed pages of an area take as much memory as the area's limit allows.
    Area,
    /// As many pages of a pager's regions are held as may be, or one page is held as often as can be counted.
    Held,
    /// The pager has as many regions, or parts of regions left by munmap and mremap, as it has room for.
    Regions,
    /// The process has as many pagers that serve touches by SIGBUS as it can have.
    Pagers,
    /// The guardian watches as many userfaultfds as it can.
    Watched,
}

impl Limit {
    /// Returns the sentence: which limit was met, and what to do.
    pub const fn text(self) -> &'static str {
        self.sentence().as_str()
    }

    const fn sentence(self) -> Sentence {
        sentence(match self {
            Self::Pool => {
                &"the pool (of objects or of the zswap) is at its limit: free, compact or shrink, then try again"
            }
            Self::Addresses => &"all addresses of the pool are in use: free or compact, then try again",
            Self::Tables => {
                &"the pool's tables of objects are full: free objects, or create the pool with a larger limit or more \
                 memory"
            }
            Self::Zswap => {
                &"the zswap is at its limit: shrink it, set a backing file or raise the limit, then try again"
            }
            Self::Area => &"the area is at its limit: shrink it or raise its limit, then try again",
            Self::Held => &"as many pages are held as may be, or one as often as can be counted: release some",
            Self::Regions => {
                &"there are as many regions, or parts of them, as the pager has room for: remove one, or raise \
                 max_regions"
            }
            Self::Pagers => {
                &"the process has 64 pagers whose touches are served by SIGBUS, and can have no more: destroy one, or \
                 serve touches by threads"
            }
            Self::Watched => {
                &"the guardian watches 4096 userfaultfds, which is its limit: forget some, or start another guardian"
            }
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.text())
    }
}

/// Why a call failed. Each variant has an errno, and a sentence that says what is wrong and what to do.
///
/// Match on the variant to decide what the program does. Print the error for people.
///
/// An error converts into a [`std::io::Error`] by `?` or `into`. Its kind tells the variants apart roughly, and its
/// inner error is this one:
///
/// ```
/// use std::io;
/// use zsalloc::{Error, Limit};
///
/// let error = io::Error::from(Error::Limit(Limit::Pool));
/// assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
/// let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
/// assert_eq!(inner, Some(&Error::Limit(Limit::Pool)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// `EINVAL`: an argument or an option is wrong, or does not fit the object that the call is made on.
    Invalid(Sentence),
    /// `EINVAL`: the handle or the claim has ended, was never made, or is another pool's or area's.
    Stale(Sentence),
    /// `EINVAL`: the area was removed.
    Removed,
    /// `EINVAL`: an offset, or the end of a range, is past the end of the area or the object.
    OutOfRange(Sentence),
    /// `ENOMEM`: the system gives no memory. Free memory or raise the system's limits, then try again.
    NoMemory(Sentence),
    /// `ENOMEM`: a limit of the library's was met. Make room or raise it, then try again.
    Limit(Limit),
    /// `ENOSPC`: it does not fit, and never will.
    TooLarge(Sentence),
    /// `EBUSY`: something is in use, or mapped too often.
    Busy(Sentence),
    /// `EAGAIN`: nothing could be done now; a later call may succeed.
    Again(Sentence),
    /// `ENOENT`: what the call names does not exist.
    NotFound(Sentence),
    /// `EBADMSG`: a stored page is damaged. Its bytes are lost, and are never returned.
    Damaged(Sentence),
    /// `EIO`: a file, or the process that guards clients, could not be read or written, or statistics not be written as
    /// JSON.
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
            Self::Invalid(_) | Self::Stale(_) | Self::Removed | Self::OutOfRange(_) => errno::EINVAL,
            Self::NoMemory(_) | Self::Limit(_) => errno::ENOMEM,
            Self::TooLarge(_) => errno::ENOSPC,
            Self::Busy(_) => errno::EBUSY,
            Self::Again(_) => errno::EAGAIN,
            Self::NotFound(_) => errno::ENOENT,
            Self::Damaged(_) => errno::EBADMSG,
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
        self.sentence().as_str()
    }

    /// Returns the sentence, in one word.
    const fn sentence(self) -> Sentence {
        match self {
            Self::Invalid(text)
            | Self::Stale(text)
            | Self::OutOfRange(text)
            | Self::NoMemory(text)
            | Self::TooLarge(text)
            | Self::Busy(text)
            | Self::Again(text)
            | Self::NotFound(text)
            | Self::Damaged(text)
            | Self::Io(text) => text,
            Self::Limit(limit) => limit.sentence(),
            Self::Removed => sentence(&"the area was removed"),
            Self::Forked => sentence(
                &"it was created in the parent process, and forked children do not get it: create one in the child",
            ),
            Self::System { step, .. } => step,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Described::from(*self).fmt(out)
    }
}

/// An error as people read it: its sentence, advice that the number alone gives, and the number.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The error's sentence.
    pub sentence: Sentence,
    /// The positive errno.
    pub errno: i32,
}

impl From<Error> for Described {
    fn from(error: Error) -> Self {
        Self { sentence: error.sentence(), errno: error.errno() }
    }
}

impl fmt::Display for Described {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sentence, errno } = *self;
        let advice = match errno {
            errno::EMFILE => ": close descriptors, or raise RLIMIT_NOFILE",
            _ => "",
        };
        write!(out, "{sentence}{advice} (errno {errno})")
    }
}

impl std::error::Error for Error {}

/// The inner error of the result, [`io::Error::get_ref`], is the [`Error`], which still has the errno.
/// [`io::Error::raw_os_error`] is none, as for each error with an inner one.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        use io::ErrorKind;
        let kind = match error {
            Error::Invalid(_) | Error::Stale(_) | Error::Removed | Error::OutOfRange(_) => ErrorKind::InvalidInput,
            Error::NoMemory(_) => ErrorKind::OutOfMemory,
            Error::Limit(_) => ErrorKind::QuotaExceeded,
            Error::TooLarge(_) => ErrorKind::FileTooLarge,
            Error::Busy(_) => ErrorKind::ResourceBusy,
            Error::Again(_) => ErrorKind::WouldBlock,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Damaged(_) => ErrorKind::InvalidData,
            Error::Io(_) => ErrorKind::Other,
            Error::Forked => ErrorKind::PermissionDenied,
            Error::System { errno, .. } => Self::from_raw_os_error(errno).kind(),
        };
        Self::new(kind, error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use io::ErrorKind::{self, *};

    const TEXT: Sentence = sentence(&"a sentence of the test");

    #[test]
    fn each_variant_has_its_errno_its_sentence_and_its_kind() {
        let rows: [(Error, i32, &str, ErrorKind); 14] = [
            (Error::Invalid(TEXT), errno::EINVAL, &TEXT, InvalidInput),
            (Error::Stale(TEXT), errno::EINVAL, &TEXT, InvalidInput),
            (Error::Removed, errno::EINVAL, "the area was removed", InvalidInput),
            (Error::OutOfRange(TEXT), errno::EINVAL, &TEXT, InvalidInput),
            (Error::NoMemory(TEXT), errno::ENOMEM, &TEXT, OutOfMemory),
            (Error::Limit(Limit::Area), errno::ENOMEM, Limit::Area.text(), QuotaExceeded),
            (Error::TooLarge(TEXT), errno::ENOSPC, &TEXT, FileTooLarge),
            (Error::Busy(TEXT), errno::EBUSY, &TEXT, ResourceBusy),
            (Error::Again(TEXT), errno::EAGAIN, &TEXT, WouldBlock),
            (Error::NotFound(TEXT), errno::ENOENT, &TEXT, NotFound),
            (Error::Damaged(TEXT), errno::EBADMSG, &TEXT, InvalidData),
            (Error::Io(TEXT), errno::EIO, &TEXT, Other),
            (Error::Forked, errno::EPERM, "create one in the child", PermissionDenied),
            (Error::System { errno: errno::ENOENT, step: TEXT }, errno::ENOENT, &TEXT, NotFound),
        ];
        for (error, errno, text, kind) in rows {
            assert_eq!(error.errno(), errno, "{error:?}");
            assert!(error.text().contains(text), "{error:?}");
            assert!(error.to_string().starts_with(error.text()), "{error}");
            assert!(error.to_string().ends_with(&format!("(errno {errno})")), "{error}");
            let converted = io::Error::from(error);
            assert_eq!(converted.kind(), kind, "{error:?}");
            let inner = converted.get_ref().and_then(|inner| inner.downcast_ref());
            assert_eq!((inner, converted.to_string()), (Some(&error), error.to_string()));
        }
        let no_descriptor = Error::System { errno: errno::EMFILE, step: TEXT };
        assert!(no_descriptor.to_string().contains("RLIMIT_NOFILE"), "{no_descriptor}");
    }

    #[test]
    fn each_limit_says_which_it_is_and_what_to_do() {
        use Limit::*;
        let all = [Pool, Addresses, Tables, Zswap, Area, Held, Regions, Pagers, Watched];
        for (at, limit) in all.into_iter().enumerate() {
            assert!(limit.text().contains(": "), "{limit}");
            assert!(all[at + 1..].iter().all(|other| other.text() != limit.text()), "{limit}");
        }
    }

    #[test]
    fn a_sentence_is_a_str_and_prints_as_one() {
        assert!(TEXT.ends_with("test"));
        assert_eq!((TEXT.to_string(), format!("{TEXT:?}")), (TEXT.as_str().to_owned(), format!("{:?}", TEXT.as_str())));
    }
}
