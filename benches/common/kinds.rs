//! Allocators with their settings, each measured in a process of its own: settings are read when a process starts, and
//! an allocator's memory depends on its past.

use super::give_up;
use std::io::{self, Read, Write};
use std::process::Command;

/// An allocator with its settings.
pub struct Kind {
    /// Name on the command line.
    pub name: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Settings that it reads from the environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// Whether it needs huge pages from the system's reserve.
    pub takes_huge_pool: bool,
    /// Measures its memory in this process.
    pub run: fn(),
}

/// Returns an allocator with its default settings.
pub const fn kind(name: &'static str, title: &'static str, run: fn()) -> Kind {
    Kind { name, title, environment: &[], takes_huge_pool: false, run }
}

/// Returns a command that runs this program with the settings of an allocator.
pub fn this_program(kind: &Kind) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|error| give_up(&error.to_string()));
    let mut command = Command::new(program);
    command.envs(kind.environment.iter().copied());
    command
}

/// Sends sizes of objects to a process that calls [`sizes_from_parent`].
pub fn send_sizes(input: &mut impl Write, sizes: &[u16]) {
    let bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_ne_bytes()).collect();
    input.write_all(&bytes).expect("the child reads its sizes");
}

/// Reads sizes of objects from the standard input.
pub fn sizes_from_parent(sizes: &mut [u16]) {
    let bytes = size_of_val(sizes);
    // SAFETY: these are the bytes of `sizes`, which is borrowed meanwhile, and any bytes are valid numbers.
    let bytes = unsafe { std::slice::from_raw_parts_mut(sizes.as_mut_ptr().cast::<u8>(), bytes) };
    io::stdin().read_exact(bytes).expect("sizes on the standard input");
}
