//! Why a page was not written back.

use super::stats::Counts;
use crate::os::errno;
use std::{fmt, io};

/// Why a page was not written back: what a writeback callback returns, or [`crate::Claim::refuse`] is passed, to keep
/// the page in the pool. Each is counted in [`crate::Counts`].
///
/// `?` makes one of the [`std::io::Error`] that a write failed with:
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
/// use zsalloc::{PAGE_SIZE, Refusal};
///
/// fn write_page(disk: &File, offset: u64, page: &[u8; PAGE_SIZE]) -> Result<(), Refusal> {
///     disk.write_all_at(page, offset * PAGE_SIZE as u64)?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// `EEXIST`: the program has the page in memory already, so the page is in use. It gets a second chance. The shrink
    /// leaves this area, because the pages that follow are probably in use as well.
    Exists,
    /// `EAGAIN`: the page can't be written now. The shrink goes on with the next page.
    Again,
    /// `ENOMEM`: the program has no memory to write with. The shrink goes on with the next page.
    NoMemory,
    /// `EIO`: the write failed. The shrink goes on with the next page.
    Io,
    /// `ENOSPC`: there is no room for the page. The shrink leaves this area, because there is none for the next page
    /// either.
    NoSpace,
    /// Another positive errno. The shrink goes on with the next page.
    Other(i32),
}

impl Refusal {
    /// Whether a shrink tries no more pages of the area after this one.
    pub(super) fn ends_area(self) -> bool {
        matches!(self, Self::Exists | Self::NoSpace)
    }

    pub(super) fn count(self, counts: &mut Counts) {
        let cause = match self {
            Self::Exists => &mut counts.writeback_exists,
            Self::Again => &mut counts.writeback_again,
            Self::NoMemory => &mut counts.writeback_no_memory,
            Self::Io => &mut counts.writeback_io,
            Self::NoSpace => &mut counts.writeback_no_space,
            Self::Other(_) => &mut counts.writeback_other,
        };
        *cause += 1;
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => out.pad("the page is in memory already, so it was not written"),
            Self::Again => out.pad("the page can't be written now"),
            Self::NoMemory => out.pad("there is no memory to write the page with"),
            Self::Io => out.pad("the write failed"),
            Self::NoSpace => out.pad("there is no room for the page"),
            Self::Other(errno) => write!(out, "the page was not written (errno {errno})"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a write to a file or a device failed with. An error without an errno goes by its kind. `EEXIST` of a file does
/// not say that the page is in memory, so it is not [`Refusal::Exists`].
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(errno::EAGAIN), _) | (None, io::ErrorKind::WouldBlock) => Self::Again,
            (Some(errno::ENOMEM), _) | (None, io::ErrorKind::OutOfMemory) => Self::NoMemory,
            (Some(errno::ENOSPC), _) | (None, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Self::NoSpace
            }
            (Some(errno::EIO) | None, _) => Self::Io,
            (Some(errno), _) => Self::Other(errno),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_write_becomes_the_refusal_that_it_means() {
        let of_errno = |errno| Refusal::from(io::Error::from_raw_os_error(errno));
        assert_eq!(of_errno(errno::ENOSPC), Refusal::NoSpace);
        assert_eq!(of_errno(errno::EAGAIN), Refusal::Again);
        assert_eq!(of_errno(errno::ENOMEM), Refusal::NoMemory);
        assert_eq!(of_errno(errno::EIO), Refusal::Io);
        assert_eq!(of_errno(errno::EEXIST), Refusal::Other(errno::EEXIST), "a file exists, and not the page in memory");
        assert_eq!(of_errno(errno::EPERM), Refusal::Other(errno::EPERM));
        assert_eq!(Refusal::from(io::Error::from(io::ErrorKind::StorageFull)), Refusal::NoSpace);
        assert_eq!(Refusal::from(io::Error::other("the disk is gone")), Refusal::Io);
        assert!(Refusal::Other(75).to_string().ends_with("(errno 75)"));
    }
}
