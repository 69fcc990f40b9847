//! Replays the inputs in `fuzz/corpus/`, of the targets here and of those of the C library.

use super::TARGETS;
use std::fs;
use std::path::Path;

#[test]
fn inputs_that_were_found_are_replayed() {
    // The package lies in the top folder of the repository, or right below it.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let corpus = folders.map(|folder| folder.join("fuzz/corpus")).find(|corpus| corpus.is_dir());
    let corpus = corpus.expect("the repository has fuzz/corpus");
    for (name, run) in TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            // The last name that is printed is that of the input that fails.
            println!("{}", input.display());
            run(&fs::read(input).unwrap());
        }
    }
}
