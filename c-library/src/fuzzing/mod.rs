//! The fuzz targets that call the C functions. `src/fuzzing/` has the other targets, and explains them.

mod faults;
#[path = "../../../src/fuzzing/input.rs"]
#[allow(dead_code, reason = "the targets in src/fuzzing use all of it")]
mod input;
mod objects;
mod pages;
mod structs;

/// A function that takes fuzzer input.
pub type Target = fn(&[u8]);

/// The targets by name. Each target's inputs are in a folder of that name.
pub const TARGETS: [(&str, Target); 3] = [("objects", objects::run), ("pages", pages::run), ("structs", structs::run)];

#[cfg(test)]
#[path = "../../../src/fuzzing/replay.rs"]
mod replay;
