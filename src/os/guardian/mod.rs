//! The process beside this one that holds userfaultfds for it.
//!
//! The process is forked from one that may have many threads, so it calls nothing that could need a lock: it makes
//! system calls, and nothing else. It has its own stack, and unmaps all other memory that it got a copy of: otherwise
//! everything that this process writes from then on would have to be kept twice.
//!
//! | file | what it knows |
//! |---|---|
//! | `wire` | what the two processes send each other, and the memory that the new one lives in |
//! | `gaps` | which addresses the new process unmaps |
//! | `child` | what the new process does |
//! | `keeper` | starting it, asking it, waiting for it |

mod child;
mod gaps;
mod keeper;
mod wire;

#[cfg(all(any(test, fuzzing), feature = "zstd"))]
pub(crate) use gaps::images_of;
pub use keeper::{Keeper, may_signal, process};
pub use wire::Ask;
