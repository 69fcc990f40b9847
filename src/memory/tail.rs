//! The pages at the end of a zspage that compaction gives back.

use crate::geometry::Geometry;
use crate::units::ZspageId;

/// The pages at the end of an isolated zspage, which go back to the system.
#[derive(Clone, Copy)]
pub struct Tail {
    /// The zspage.
    pub id: ZspageId,
    /// The geometry of its class.
    pub class: Geometry,
    /// How many slots keep their memory.
    pub keep: u8,
    /// How many slots have memory.
    pub touched: u8,
}

impl Tail {
    /// Returns how many pages stay.
    pub fn pages_kept(&self) -> usize {
        self.class.pages_of_slots(self.keep as usize)
    }

    /// Returns how many pages go.
    pub fn pages(&self) -> usize {
        self.class.pages_of_slots(self.touched as usize) - self.pages_kept()
    }
}
