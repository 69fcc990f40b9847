//! Time that passes for the pages of an area.
//!
//! The library knows no time of its own: the program says when time passes. Pages that were not used meanwhile become
//! older, so that a shrink can take the oldest alone.

use super::area::Area;
use crate::error::Result;

impl Area {
    /// Lets time pass for the pages of the area that are in the pool. A page that was stored or loaded since the last
    /// call has age 0 from then on, and the others become older by one, up to 3. [`crate::ShrinkOptions::min_age`] says
    /// which pages a shrink takes. Pages that are being written back stay as they are.
    ///
    /// Call it at an interval that suits the program, such as a minute. A page that was not used has age 3 after four
    /// calls: the first one takes back the mark that the store has left. As a shrink does when it passes, a call clears
    /// the mark of a page that was used: a shrink that takes pages of all ages takes it without another chance.
    ///
    /// Takes no lock, and time in proportion to the pages that are stored.
    ///
    /// # Errors
    /// [`crate::Error::Removed`], [`crate::Error::Forked`] in a child without the pool.
    pub fn age(&self) -> Result<()> {
        let area = &self.0;
        let _call = area.begin()?;
        let (mut at, end) = (0, area.index.pages());
        while let Some((offset, word)) = area.index.next_used(at, end) {
            area.page(offset).age(word);
            at = offset + 1;
        }
        Ok(())
    }
}
