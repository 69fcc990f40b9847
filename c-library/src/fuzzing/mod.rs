//! The fuzz targets that call the C functions. `src/fuzzing/` has the others, and says what they are.

mod faults;
#[path = "../../../src/fuzzing/input.rs"]
#[allow(dead_code, reason = "the targets in src/fuzzing use all of it")]
mod input;
mod objects;
mod pages;
mod structs;

/// A function that takes input.
pub type Target = fn(&[u8]);

/// The functions by their names, which are those of the folders of their inputs.
pub const TARGETS: [(&str, Target); 3] = [("objects", objects::run), ("pages", pages::run), ("structs", structs::run)];

#[cfg(test)]
#[path = "../../../src/fuzzing/replay.rs"]
mod replay;
