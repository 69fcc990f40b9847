//! The memory of one pool: tables and arena, reserved at once, committed as touched, charged before it is touched.
//!
//! Under loom a few zspages and words stand in for it (`model.rs`), so that everything above runs unchanged.

pub mod fifo;

#[cfg(not(loom))]
pub mod arena;
#[cfg(not(loom))]
pub mod charge;
#[cfg(all(test, not(loom)))]
mod check;
#[cfg(not(loom))]
mod forked;
#[cfg(not(loom))]
mod handles;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
mod memory;
#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod page_map;
#[cfg(not(loom))]
pub mod records;
#[cfg(not(loom))]
mod sample;
#[cfg(not(loom))]
mod view;
#[cfg(not(loom))]
mod zspages;

use crate::classes::Class;
use crate::units::ZspageId;

pub use fifo::{Fifo, Ring};
#[cfg(not(loom))]
pub use handles::NO_HANDLES;
#[cfg(not(loom))]
pub use memory::{Policy, Region, Source};
#[cfg(loom)]
pub use model::{NO_HANDLES, Region, SCRIBBLE};

/// The end of an isolated zspage, which is to go back.
#[derive(Clone, Copy)]
pub struct Tail {
    /// The zspage.
    pub id: ZspageId,
    /// Its class.
    pub class: Class,
    /// Slots that keep their memory.
    pub keep: u8,
    /// Slots that have memory.
    pub touched: u8,
}

impl Tail {
    /// Pages that stay.
    pub fn pages_kept(&self) -> usize {
        self.class.pages_of_slots(self.keep as usize)
    }

    /// Pages that go.
    pub fn pages(&self) -> usize {
        self.class.pages_of_slots(self.touched as usize) - self.pages_kept()
    }
}
