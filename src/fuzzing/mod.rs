//! Functions that take input from a fuzzer: each makes calls of it, and panics if something is not as promised.
//!
//! `fuzz/` runs them under libFuzzer and AddressSanitizer, by `.ci/fuzz`. `fuzz/corpus/` has inputs that reach much of
//! the code, and every input that once found something; the test below replays them.

mod guest;
mod input;
mod objects;
mod pages;
mod proc;
mod stored;
mod structs;

/// A function that takes input.
pub type Target = fn(&[u8]);

/// The functions by their names, which are those of the folders of their inputs.
pub const TARGETS: [(&str, Target); 6] = [
    ("objects", objects::run),
    ("pages", pages::run),
    ("stored", stored::run),
    ("guest", guest::run),
    ("structs", structs::run),
    ("proc", proc::run),
];

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::fs;
    use std::path::Path;

    #[test]
    fn inputs_that_were_found_are_replayed() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, run) in TARGETS {
            let mut inputs: Vec<_> =
                fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            inputs.sort();
            assert!(!inputs.is_empty(), "{name} has no inputs");
            for input in inputs {
                // The name of one that fails is the last that is printed.
                println!("{}", input.display());
                run(&fs::read(input).unwrap());
            }
        }
    }
}
