//! Checks the README and the documents for users: their C programs compile and run, their paths and commands exist,
//! their versions are the manifest's, and the README stays short. (The documentation tests compile the Rust programs.)
#![cfg(not(any(loom, miri)))]

mod common;

use common::{Library, Mode, compile, mode, repository, run, scratch, skip};
use std::fs;

/// The README, and the documents for users that it leads to.
const DOCUMENTS: [&str; 5] =
    ["README.md", "docs/first-programs.md", "docs/guarantees.md", "docs/benchmarks.md", "docs/installing.md"];

/// The README has at most so many lines.
const LONGEST_README: usize = 200;

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// Returns the blocks of code of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|part| part.split_once("```").expect("a block ends").0.to_owned()).collect()
}

#[test]
fn the_c_examples_run() {
    let folder = scratch("readme");
    let library = Library::find();
    let examples: Vec<_> = DOCUMENTS.iter().flat_map(|file| blocks(&text(file), "c")).collect();
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

/// rustdoc ignores blocks of other languages, so a block with a misspelled language would go untested.
#[test]
fn every_rust_program_is_a_documentation_test() {
    let programs: Vec<_> = DOCUMENTS.iter().map(|file| text(file).matches("fn main()").count()).collect();
    let tested = |file: &&str| ["rust", "rust,no_run"].map(|kind| blocks(&text(file), kind).len()).iter().sum();
    let tested: Vec<usize> = DOCUMENTS.iter().map(tested).collect();
    assert_eq!(programs, tested);
    assert_eq!(tested, [1, 3, 0, 0, 0], "rustdoc is passed the first two documents in src/lib.rs");
}

#[test]
fn paths_and_commands_are_there() {
    let tour = text("docs/tour.md");
    let table = tour.split_once("## What is where").unwrap().1.split("\n## ").next().unwrap();
    let paths: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        assert!(repository().join(path).exists(), "{path} is not there");
    }
    let texts = DOCUMENTS.map(text).concat();
    for folder in ["--example", "--bench"] {
        for part in texts.split(&format!("{folder} ")).skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let folder = repository().join(if folder == "--bench" { "benches" } else { "examples" });
            let found = folder.join(format!("{name}.rs")).exists() || folder.join(&name).join("main.rs").exists();
            assert!(found, "{name} is not in {}", folder.display());
        }
    }
}

/// The table is what the benchmark printed, so each of its lines is one that the benchmark prints.
#[test]
fn the_table_beside_jemalloc_has_the_benchmarks_lines() {
    let readme = text("README.md");
    let section = readme.split_once("\n## Beside jemalloc\n").unwrap().1.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let cells = cells.filter(|cell| !cell.starts_with('|'));
    let titles: Vec<_> = cells.map(|cell| cell.trim_matches('*').split(", 256 MiB").next().unwrap()).collect();
    assert!(titles.len() >= 17, "{titles:?}");
    let sources = ["main", "turns"].map(|file| text(&format!("benches/jemalloc/{file}.rs"))).concat();
    for title in titles {
        assert!(sources.contains(&format!("\"{title}")), "the benchmark prints no line {title:?}");
    }
}

/// The lines are what the example printed, so their names are those that it prints.
#[test]
fn the_table_of_what_leaves_memory_has_the_examples_names() {
    let readme = text("README.md");
    let section = readme.split_once("\n## What leaves memory\n").unwrap().1.split("\n## ").next().unwrap();
    let source = text("examples/store_pages/tier_table.rs");
    for name in ["MiB on it", "bytes/page", "compressed", "extents", "pages each", "loads", "p50 us", "p99 us"] {
        assert!(section.contains(name) && source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// A newcomer reads all of it. What is longer belongs into `docs`.
#[test]
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= LONGEST_README, "README.md has {lines} lines");
}

#[test]
fn versions_are_the_manifests() {
    let texts = DOCUMENTS.map(text);
    let all = texts.concat();
    let named = all.matches(&format!("Rust toolchain from {} on", common::manifest("rust-version"))).count();
    assert!(named > 0 && texts[0].contains("Rust toolchain from "));
    assert_eq!(all.matches("toolchain from ").count(), named, "one names another version");
    let version = common::manifest("version");
    let dependency = format!("zsalloc = {{ version = \"{}\"", version.rsplit_once('.').unwrap().0);
    assert_eq!(all.matches(&dependency).count(), 2, "in the README and in the first programs");
    assert!(texts[0].contains(&format!("1 to {} bytes", zsalloc::MAX_ALLOC_SIZE)));
    assert_eq!(common::manifest("license"), "MIT OR Apache-2.0");
}
