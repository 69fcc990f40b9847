//! What one turn of the clock hand did.

/// Counts what became of the pages that the hand picked.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
pub struct HandTurn {
    /// Pages that wait in the staging range now.
    pub staged: u64,
    /// Pages that left memory.
    pub gone: u64,
    /// Pages that turned out to be immovable.
    pub marked: u64,
    /// There were pages to evict, and no room to store any.
    pub full: bool,
    /// There may be pages to evict in a moment.
    pub busy: bool,
}

impl HandTurn {
    /// Adds what a further turn did.
    pub fn add(&mut self, more: Self) {
        (self.staged, self.gone) = (self.staged + more.staged, self.gone + more.gone);
        self.marked += more.marked;
        self.full |= more.full;
        self.busy |= more.busy;
    }
}
