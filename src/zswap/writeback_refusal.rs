//! Why a page was not written back.

use super::stats::Counts;

/// Why a page was not written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// `EEXIST`: the embedder has the page in memory already, so it is in use. The page gets a second chance, and the
    /// shrink leaves this area: the pages that follow are in use as well.
    Exists,
    /// `EAGAIN`: not now.
    Again,
    /// `ENOMEM`: the embedder has no memory to write with.
    NoMemory,
    /// `EIO`: the write failed.
    Io,
    /// `ENOSPC`: there is no room for the page. The shrink leaves this area: there is none for the next page either.
    NoSpace,
    /// Another positive errno.
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
