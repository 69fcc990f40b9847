//! What the extents of a tier are written to: the library's own file, or a tier of the program's own.

use super::super::tier::TierFailure;
use super::blocks::BlockRun;
use super::file_tier::FileTier;
use super::format::{BLOCK, Builder};
use super::own_tier::OwnTier;
use crate::os::{Errno, errno};
use std::ops::Range;

/// What the extents of a tier are written to.
pub enum Medium {
    /// The library's own file.
    File(FileTier),
    /// A tier of the program's own.
    Own(OwnTier),
}

/// Why bytes were not written or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediumError {
    /// What a call of the system said.
    OfFile(Errno),
    /// What a tier of the program's own said.
    OfTier(TierFailure),
}

impl MediumError {
    /// Returns what the error means for the tier.
    pub fn failure(self) -> TierFailure {
        match self {
            Self::OfFile(Errno(errno::ENOSPC | errno::EDQUOT | errno::EFBIG)) => TierFailure::Full,
            Self::OfFile(_) => TierFailure::Away,
            Self::OfTier(failure) => failure,
        }
    }
}

/// The name of an extent and where it lies.
#[derive(Clone, Copy)]
pub struct Placed {
    pub number: u64,
    pub run: BlockRun,
    /// How many bytes the extent has.
    pub bytes: usize,
}

impl Medium {
    /// Whether it may be used in a signal handler. Code of the program's own may not.
    pub fn is_signal_safe(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Whether the descriptor of a file is still that of the file.
    pub fn is_there(&self) -> bool {
        match self {
            Self::File(file) => file.is_there(),
            Self::Own(_) => true,
        }
    }

    /// Whether there may be no room for a whole extent besides what is set aside.
    pub fn is_nearly_full(&self) -> bool {
        match self {
            Self::File(file) => file.is_nearly_full(),
            Self::Own(tier) => tier.is_nearly_full(),
        }
    }

    /// Returns the bytes of memory of the map of blocks.
    pub fn table_bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.table_bytes(),
            Self::Own(_) => 0,
        }
    }

    /// Takes room for an extent. If a file has no run that is long enough, the last entries are taken away until the
    /// rest fits.
    pub fn take(&self, builder: &mut Builder<'_>, cleans: bool) -> Option<BlockRun> {
        let wanted = builder.blocks();
        let file = match self {
            Self::File(file) => file,
            Self::Own(tier) => return tier.take(wanted, cleans),
        };
        let run = file.take(wanted, builder.blocks_of(1), cleans)?;
        if run.count < wanted {
            builder.truncate(builder.fitting(run.count));
        }
        let needed = builder.blocks();
        let rest = BlockRun { first: run.first + needed as u64, count: run.count - needed };
        if rest.count > 0 {
            file.give_back(rest);
        }
        Some(BlockRun { count: needed, ..run })
    }

    /// Gives back room that no extent has, or whose extent was removed.
    pub fn give_back(&self, run: BlockRun) {
        match self {
            Self::File(file) => file.give_back(run),
            Self::Own(tier) => tier.give_back(run),
        }
    }

    /// Removes an extent. `Err`: it has to be removed later.
    pub fn remove(&self, number: u64, run: BlockRun) -> Result<(), TierFailure> {
        if let Self::Own(tier) = self
            && tier.remove(number) == Err(TierFailure::Away)
        {
            return Err(TierFailure::Away);
        }
        self.give_back(run);
        Ok(())
    }

    /// Punches out blocks that were written and are free.
    pub fn punch(&self) {
        if let Self::File(file) = self {
            file.punch();
        }
    }

    /// Writes an extent, and binds its entries to its number. Returns how many of its bytes can be read, and what
    /// stopped the rest.
    pub fn put(
        &self,
        number: u64,
        run: BlockRun,
        builder: &mut Builder<'_>,
        owner: u64,
    ) -> (usize, Option<MediumError>) {
        let bytes = builder.bytes();
        let blocks = builder.seal(owner, number);
        match self {
            Self::File(file) => {
                let (written, error) = file.put(run, blocks);
                // Blocks are read whole.
                (written / BLOCK * BLOCK, error.map(MediumError::OfFile))
            }
            Self::Own(tier) => match tier.put(number, &blocks[..bytes]) {
                Ok(()) => (bytes, None),
                Err(failure) => (0, Some(MediumError::OfTier(failure))),
            },
        }
    }

    /// Returns the bytes that have to be read for a range of an extent. A file is read by whole blocks.
    pub fn span(&self, of: Placed, range: Range<usize>) -> Range<usize> {
        match self {
            Self::File(_) => {
                let end = range.end.next_multiple_of(BLOCK).min(of.run.count * BLOCK);
                range.start / BLOCK * BLOCK..end
            }
            Self::Own(_) => range.start..range.end.min(of.bytes),
        }
    }

    /// Reads a range that [`Medium::span`] returned.
    pub fn get(&self, of: Placed, range: Range<usize>, bytes: &mut [u8]) -> Result<(), MediumError> {
        let bytes = &mut bytes[..range.len()];
        match self {
            Self::File(file) => file.get(of.run, range.start / BLOCK, bytes).map_err(MediumError::OfFile),
            Self::Own(tier) => tier.get(of.number, range.start, bytes).map_err(MediumError::OfTier),
        }
    }
}
