//! What is left of the budget of a compaction. Each step of it spends a part: objects that move in a pool, and handles
//! that a zswap replaces afterwards.

use super::CompactBudget;
use std::time::Instant;

/// What a compaction that has begun may still do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Bytes that it may still move. None if there is no bound.
    bytes: Option<u64>,
    /// When it has to stop. None if there is no bound.
    deadline: Option<Instant>,
}

impl Allowance {
    /// An allowance that never runs out.
    pub const UNBOUNDED: Self = Self { bytes: None, deadline: None };

    /// Whether nothing bounds it.
    pub fn is_unbounded(&self) -> bool {
        self.bytes.is_none() && self.deadline.is_none()
    }

    /// Takes bytes that were moved off.
    pub fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.map(|left| left.saturating_sub(bytes));
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.bytes == Some(0) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl CompactBudget {
    /// Begins to spend the budget: its time runs from now on.
    pub(crate) fn begin(&self) -> Allowance {
        Allowance {
            bytes: self.max_bytes_moved,
            deadline: self.max_time.and_then(|time| Instant::now().checked_add(time)),
        }
    }
}
