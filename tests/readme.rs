//! Checks the README: its C examples compile and run, its paths exist, and its version is the manifest's. (The
//! documentation tests compile its Rust examples.)
#![cfg(not(any(loom, miri)))]

mod common;

use common::{Library, Mode, compile, mode, repository, run, scratch, skip};
use std::fs;

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// Returns the blocks of code of a language.
fn blocks(language: &str) -> Vec<String> {
    let (readme, begin) = (text("README.md"), format!("```{language}\n"));
    readme.split(&begin).skip(1).map(|part| part.split_once("```").expect("a block ends").0.to_owned()).collect()
}

#[test]
fn the_c_examples_run() {
    let folder = scratch("readme");
    let library = Library::find();
    let examples = blocks("c");
    assert_eq!(examples.len(), 3, "one of the pager, one of zswap, one of the pool");
    for (number, example) in examples.iter().enumerate() {
        let (source, program) = (folder.join(format!("{number}.c")), folder.join(format!("example{number}")));
        fs::write(&source, example).unwrap();
        compile(&[&source], &program, "c11", &library.shared_flags());
        if mode() == Mode::Valgrind && example.contains("zspager_") {
            skip::skip("readme", "valgrind does not know the system call userfaultfd");
            continue;
        }
        assert_eq!(run(&program, &library, &[]), "hello\n");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn paths_and_commands_are_there() {
    let readme = text("README.md");
    let table = readme.split_once("## What is where").unwrap().1.split("\n## ").next().unwrap();
    let paths: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        assert!(repository().join(path).exists(), "{path} is not there");
    }
    for folder in ["--example", "--bench"] {
        for part in readme.split(&format!("{folder} ")).skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let folder = repository().join(if folder == "--bench" { "benches" } else { "examples" });
            let found = folder.join(format!("{name}.rs")).exists() || folder.join(&name).join("main.rs").exists();
            assert!(found, "{name} is not in {}", folder.display());
        }
    }
}

#[test]
fn versions_are_the_manifests() {
    let (readme, manifest) = (text("README.md"), text("Cargo.toml"));
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_else(|| panic!("{key} is in the manifest")).trim_matches('"').to_owned()
    };
    assert_eq!(readme.matches(&format!("Rust toolchain from {} on", value("rust-version"))).count(), 2);
    let version = value("version");
    assert!(readme.contains(&format!("zsalloc = {{ version = \"{}\"", version.rsplit_once('.').unwrap().0)));
    assert!(readme.contains(&format!("1 to {} bytes", zsalloc::MAX_ALLOC_SIZE)));
    assert_eq!(value("license"), "MIT OR Apache-2.0");
}
