//! Which zspage records of a group are taken. They are given out lowest first, so that they lie in few pages.

use crate::bitmap::Bitmap;
use crate::units::{CHUNK_PAGES, GROUP_CHUNKS};

/// The records of the zspages of one group of chunks. All zero is an unused group.
#[repr(C)]
pub struct Group {
    /// A bit for each record that is taken.
    pub taken: Bitmap<{ GROUP_CHUNKS * CHUNK_PAGES / u64::BITS as usize }>,
    /// Pages of the zspage table that hold its records and are charged.
    pub pages: u32,
    /// Whether its stretch of the zspage table was committed.
    pub committed: bool,
}

impl Group {
    /// Returns one more than the highest record taken.
    pub fn end(&self) -> usize {
        self.taken.highest_set().map_or(0, |last| last + 1)
    }
}
