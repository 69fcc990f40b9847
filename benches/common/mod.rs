//! What the benchmarks share: allocators behind one interface, sizes of real pages, and workloads.

// Each benchmark is a program of its own and uses only a part of this.
#![allow(dead_code)]

pub mod c_library;
pub mod density;
pub mod kinds;
#[cfg(feature = "uffd")]
pub mod lent;
pub mod machine;
pub mod memory;
pub mod pages;
pub mod peers;
pub mod plain;
pub mod random;
pub mod region;
pub mod sequences;
pub mod sizes;
pub mod workloads;
pub mod zram;

/// Returns whether this run only tries the benchmark out: `cargo bench` passes `--bench`, `cargo test` does not.
pub fn is_trial() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// Returns if this program was built with jemalloc. Otherwise builds and runs the benchmark again with jemalloc, and
/// exits.
pub fn with_peers(name: &str) {
    if cfg!(zsalloc_peers) {
        return;
    }
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let command = if is_trial() { "test" } else { "bench" };
    let features: &[&str] = if cfg!(feature = "uffd") { &["--features", "uffd"] } else { &[] };
    // A target folder of its own, because other flags would build everything in the usual one again.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");
    let status = std::process::Command::new(env!("CARGO"))
        .args([command, "--quiet", "--target-dir", target, "--bench", name])
        .args(features)
        .arg("--")
        .args(arguments)
        .env("RUSTFLAGS", std::env::var("RUSTFLAGS").unwrap_or_default() + " --cfg zsalloc_peers")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    match status {
        Ok(status) if status.success() => std::process::exit(0),
        _ => give_up("The benchmark with jemalloc failed. Building jemalloc needs make."),
    }
}

/// Returns the median of some numbers, at least one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ends the program with an error message.
pub fn give_up(sentence: &str) -> ! {
    eprintln!("{sentence}");
    std::process::exit(1)
}

/// Returns the value after `--name` on the command line.
pub fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    Some(arguments.next().unwrap_or_else(|| give_up(&format!("{name} needs a value"))))
}
