//! Fuzz targets. Each makes calls of its input, and panics if a promise is broken.
//!
//! `.ci/fuzz` runs them under libFuzzer and AddressSanitizer, from `fuzz/`. `fuzz/corpus/` has inputs that reach much
//! of the code, and every input that once found a fault; a test replays them. The targets that call the C functions are
//! in `c-library/src/fuzzing/`.

mod guest;
#[allow(dead_code, reason = "the targets of the C library use all of it")]
mod input;
mod proc;
mod stored;

#[cfg(fuzzing)]
pub use crate::os::{
    Call,
    injected::{Faults, given},
};

/// A fuzz target: a function that takes an input.
pub type Target = fn(&[u8]);

/// The targets with their names. The folder of a target's inputs has the same name.
pub const TARGETS: [(&str, Target); 3] = [("stored", stored::run), ("guest", guest::run), ("proc", proc::run)];

#[cfg(test)]
mod replay;
