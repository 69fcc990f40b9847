//! The memory of one pool: its tables and its arena.
//!
//! The addresses are reserved at once. Memory is committed and charged before it is touched.
//!
//! Under loom a few zspages and words stand in for it (`src/models/memory.rs`), so everything above runs unchanged.

#[cfg(not(loom))]
pub mod arena;
#[cfg(not(loom))]
pub mod charge;
mod fifo;
#[cfg(not(loom))]
mod forked;
#[cfg(not(loom))]
pub mod groups;
#[cfg(not(loom))]
mod handle_supply;
#[cfg(not(loom))]
mod handle_trim;
#[cfg(all(test, not(loom)))]
#[path = "../tests/invariants/memory.rs"]
mod invariants;
#[cfg(not(loom))]
pub mod layout;
#[cfg(loom)]
#[path = "../models/memory.rs"]
mod model;
#[cfg(not(loom))]
mod queries;
#[cfg(not(loom))]
mod reserve;
#[cfg(not(loom))]
mod runs;
#[cfg(not(loom))]
mod sample;
#[cfg(not(loom))]
mod tables;
mod tail;

pub use fifo::{Fifo, Ring};
#[cfg(loom)]
pub use model::{PoolMemory, SCRIBBLE};
#[cfg(not(loom))]
pub use reserve::Source;
#[cfg(not(loom))]
pub use tables::{Policy, PoolMemory};
pub use tail::Tail;
