//! Checks the documents against the repository. Links and paths must lead somewhere, and `docs/protocols.md` must name
//! every model, weakening and lock rank, and no others. New names in the changelog's table of renames must exist.
#![cfg(not(any(loom, miri)))]

#[path = "docs/protocols.rs"]
mod protocols;
mod skip;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the Markdown documents at the top, in `docs`, and in the folders of the examples.
fn documents() -> Vec<PathBuf> {
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let mut all = [files(repository()), files(&repository().join("docs"))].concat();
    let examples = fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    all.extend(examples.filter(|path| path.is_dir()).flat_map(|folder| files(&folder)));
    all.sort();
    assert!(all.len() >= 2, "{all:?}");
    all
}

/// Returns the targets of the links of a Markdown text.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns whether a link of a document leads to a file, and to a heading of it if the link names one.
fn leads_somewhere(document: &Path, link: &str) -> bool {
    if link.starts_with("https://") {
        return true;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { document.to_owned() } else { document.parent().unwrap().join(file) };
    let has = |text: String| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
    target.exists() && (heading.is_empty() || fs::read_to_string(target).is_ok_and(has))
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let dead: Vec<_> = links(&text).into_iter().filter(|link| !leads_somewhere(&document, link)).collect();
        assert!(dead.is_empty(), "{} has dead links: {dead:?}", document.display());
    }
    let readme = repository().join("README.md");
    assert!(leads_somewhere(&readme, "README.md#try-it") && leads_somewhere(&readme, "#try-it"));
    assert!(
        !leads_somewhere(&readme, "README.md#no-such-heading") && !leads_somewhere(&readme, "docs/no-such-file.md")
    );
}

/// The first components of paths in the repository. A document may also be named without a folder.
const FOLDERS: [&str; 10] =
    ["src/", "c-library/", "tests/", "docs/", ".ci/", "include/", "examples/", "benches/", "c-tests/", "fuzz/"];

/// Returns the paths of the repository that a text names. Skips those with NAME in them, which stand for many.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let words = text.split(move |c| !is_of_path(c)).map(|word| word.trim_end_matches('.'));
    let is_path = |word: &str| {
        let is_document = !word.contains('/') && (word.ends_with(".md") || word.ends_with(".toml"));
        is_document || FOLDERS.iter().any(|folder| word.starts_with(folder))
    };
    words.filter(move |word| is_path(word) && !word.contains("NAME"))
}

/// Does not check the changelog, which names files of the past.
#[test]
fn paths_that_documents_name_are_there() {
    let is_of_the_past = |path: &PathBuf| path.ends_with("CHANGELOG.md");
    let sources = [repository().join("src/lib.rs")];
    for document in documents().into_iter().filter(|path| !is_of_the_past(path)).chain(sources) {
        let text = fs::read_to_string(&document).unwrap();
        let dead: Vec<_> = paths(&text).filter(|path| !is_there(path)).collect();
        assert!(dead.is_empty(), "{} names paths that are not there: {dead:?}", document.display());
    }
    let named: Vec<_> = paths("`src/a.rs`, docs/b.md. (Cargo.toml) target/src/c c-tests/NAME.c x.rs").collect();
    assert_eq!(named, ["src/a.rs", "docs/b.md", "Cargo.toml"]);
}

/// Returns whether a path exists, or can't be checked: a packaged crate lacks `.ci`, `fuzz` and the C library.
fn is_there(path: &str) -> bool {
    let is_packed = [".ci/", "fuzz/", "c-library/"].iter().all(|folder| !path.starts_with(folder));
    let found = [repository().join(path), repository().join("docs").join(path)];
    found.iter().any(|path| path.exists()) || !is_packed && !repository().join(".ci").exists()
}

#[test]
fn overviews_have_short_glossaries() {
    for (file, heading, row) in [("docs/tour.md", "## Glossary", "| **"), ("src/lib.rs", "//! # Terms", "//! | **")] {
        let text = read(file);
        let glossary = text.split_once(heading).unwrap().1.split("# ").next().unwrap();
        let nouns = glossary.lines().filter(|line| line.starts_with(row)).count();
        assert!((10..=20).contains(&nouns), "{nouns} nouns in {file}");
    }
}

/// Returns the identifiers of a text, without the lines that are comments.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    let is_code = |line: &&str| ["//", "/*", "*"].iter().all(|mark| !line.trim_start().starts_with(mark));
    text.lines().filter(is_code).flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
}

/// Adds the identifiers of all Rust files in a folder.
fn add_identifiers(folder: &Path, known: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            add_identifiers(&path, known);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            known.extend(identifiers(&fs::read_to_string(path).unwrap()).map(str::to_owned));
        }
    }
}

/// Returns the identifiers of more than three letters between backticks in a cell of a table, that are not known.
fn unknown<'a>(cell: &'a str, known: &BTreeSet<String>) -> Vec<&'a str> {
    let code = cell.split('`').skip(1).step_by(2).flat_map(identifiers);
    let is_name = |word: &&str| word.len() > 3 && !word.starts_with(|c: char| c.is_ascii_digit());
    code.filter(is_name).filter(|&word| !known.contains(word)).collect()
}

#[test]
fn new_names_in_the_table_of_renames_exist() {
    let changelog = read("CHANGELOG.md");
    let (_, table) = changelog.split_once("\n### Renames\n").unwrap();
    let rows: Vec<_> = table.lines().take_while(|line| !line.starts_with("### ")).collect();
    let rows: Vec<_> = rows.into_iter().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 50, "{} rows", rows.len());
    let mut known: BTreeSet<_> = identifiers(&read("include/zsalloc.h")).map(str::to_owned).collect();
    add_identifiers(&repository().join("src"), &mut known);
    known.insert("UINT64_MAX".into()); // C's own.
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [_, now] = cells[..] else { panic!("a row has two cells: {row}") };
        assert_eq!(unknown(now, &known), [""; 0], "the sources lack names of this row: {row}");
    }
    assert_eq!(unknown("not_code, `Pool::no_such_call(&mut x)`, `Pool`", &known), ["no_such_call"]);
}
