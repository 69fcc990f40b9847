//! What the benchmarks share: the allocators side by side, the sizes of real pages, and the workloads.

// Each benchmark is a program of its own and uses a part of this.
#![allow(dead_code)]

pub mod memory;
pub mod peers;
pub mod random;
pub mod sizes;
pub mod workloads;

/// Whether this is a run to try the benchmark, not to measure: `cargo bench` says `--bench`, `cargo test` does not.
pub fn is_trial() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// Ends the program with a sentence.
pub fn give_up(sentence: &str) -> ! {
    eprintln!("{sentence}");
    std::process::exit(1)
}

/// What follows `--name` on the command line.
pub fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    Some(arguments.next().unwrap_or_else(|| give_up(&format!("{name} needs a value"))))
}
