//! Functions that take input from a fuzzer: each makes calls of it, and panics if something is not as promised.
//!
//! `fuzz/` runs them under libFuzzer and AddressSanitizer, by `.ci/fuzz`. `fuzz/corpus/` has inputs that reach much of
//! the code, and every input that once found something; a test replays them. The targets that call the C functions are
//! in `c-library/src/fuzzing/`.

mod guest;
#[allow(dead_code, reason = "the targets of the C library use all of it")]
mod input;
mod proc;
mod stored;

#[cfg(fuzzing)]
pub use crate::os::{
    Call,
    faults::{Faults, given},
};

/// A function that takes input.
pub type Target = fn(&[u8]);

/// The functions by their names, which are those of the folders of their inputs.
pub const TARGETS: [(&str, Target); 3] = [("stored", stored::run), ("guest", guest::run), ("proc", proc::run)];

#[cfg(test)]
mod replay;
