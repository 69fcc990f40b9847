//! draft
mod class;
mod classes;
mod error;
#[cfg(all(test, loom))]
mod models;
mod object;
mod os;
mod pool;
mod region;
mod sync;
mod units;
mod word;
mod zspage;

pub use classes::MAX_ALLOC_SIZE;
pub use error::{Error, Result};
#[cfg(not(loom))]
pub use pool::options::{Backing, HugePages, LentMemory, MIN_BYTES, PoolOptions};
pub use pool::{CompactBudget, Evict, Handle, MapMode, Mapped, MappedMut, NewObject, Pool, PoolStats};
