//! One name for one thing: type names, and the names of files.

use super::{TESTS, is_of_c, module_of, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Type names that two files of the product define, each with the reason.
const TWICE: &[(&str, &str)] = &[];

/// Names of files that differ by a letter, each pair with the reason.
const ALIKE: &[(&str, &str, &str)] = &[
    ("area", "arena", "both are terms of the field, of zswap and of allocators"),
    ("page", "pager", "a page of an area, and the layer that is named after pages"),
];

/// The files of the product: no tests, models or fuzz targets, nor what checks invariants for them.
fn product_files() -> Vec<PathBuf> {
    let is_product = |path: &PathBuf| {
        let module = module_of(path);
        let inside = if is_of_c(path) { &module[1..] } else { &module[..] };
        inside.first().is_none_or(|top| !TESTS.contains(&top.as_str()))
    };
    ["src", "c-library/src"].into_iter().flat_map(sources).filter(is_product).collect()
}

/// Returns the name of the type that a line defines. An associated type is indented, and defines none.
fn type_defined(line: &str) -> Option<&str> {
    let mut words =
        line.split_whitespace().skip_while(|word| word.starts_with("pub") || *word == "unsafe" || word.ends_with(')'));
    let is_inside = line.starts_with(' ');
    match words.next()? {
        "struct" | "enum" | "union" | "trait" => {}
        "type" if !is_inside => {}
        _ => return None,
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    name[..end].starts_with(|c: char| c.is_ascii_uppercase()).then_some(&name[..end])
}

/// Returns the names of types that several files define, with the files.
fn defined_twice(files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for (file, text) in files {
        for name in super::imports::product(text).lines().filter_map(type_defined) {
            found.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    found.retain(|_, files| files.len() > 1);
    found
}

#[test]
fn a_type_name_has_one_meaning() {
    let text = |path: &PathBuf| (module_of(path).join("::"), fs::read_to_string(path).unwrap());
    let mut found = defined_twice(&product_files().iter().map(text).collect::<Vec<_>>());
    let gone: Vec<_> = TWICE.iter().filter(|(name, _)| found.remove(*name).is_none()).collect();
    assert!(found.is_empty(), "defined more than once: {found:#?}");
    assert!(gone.is_empty(), "no longer defined more than once: {gone:?}");
}

#[test]
fn a_type_that_is_defined_twice_is_found() {
    let files = [
        ("a", "pub(super) struct Page<'a>(u8);\nimpl A {\n    type Target = u8;\n}\ntype Other = u8;\n"),
        ("b", "enum Page {}\nimpl B {\n    type Target = u8;\n}\nstruct Pages;\n"),
        ("c", "#[cfg(loom)]\nstruct Own;\n#[cfg(not(loom))]\nstruct Own;\n#[cfg(test)]\nmod tests {\nenum Page {}\n}"),
    ];
    let found = defined_twice(&files.map(|(file, text)| (file.to_owned(), text.to_owned())));
    assert_eq!(found, BTreeMap::from([("Page".to_owned(), BTreeSet::from(["a".to_owned(), "b".to_owned()]))]));
}

/// Returns whether one name is the other with a letter more, or its plural.
fn differ_by_a_letter(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let same = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let has_a_letter_more = long.len() == short.len() + 1 && short[same..] == long[same + 1..];
    has_a_letter_more || long.strip_prefix(short) == Some("es")
}

#[test]
fn names_of_files_differ_by_more_than_a_letter() {
    let mut found = BTreeSet::new();
    for is_c in [false, true] {
        let files = product_files().into_iter().filter(|path| is_of_c(path) == is_c);
        let names: BTreeSet<_> = files.filter_map(|path| module_of(&path).pop()).collect();
        for one in &names {
            let alike = names.range(one.clone()..).filter(|other| differ_by_a_letter(one, other));
            found.extend(alike.map(|other| (one.clone(), other.clone())));
        }
    }
    let known: BTreeSet<_> = ALIKE.iter().map(|(one, other, _)| ((*one).to_owned(), (*other).to_owned())).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "names that differ by a letter: {new:?}; no longer there: {gone:?}");
}

#[test]
fn a_letter_is_seen_wherever_it_is() {
    for (one, other) in [("class", "geometry"), ("page", "page"), ("word", "work"), ("load", "loaded")] {
        assert!(!differ_by_a_letter(one, other), "{one} {other}");
    }
    for (one, other) in [("page", "pages"), ("class", "classes"), ("os", "s"), ("area", "arena")] {
        assert!(differ_by_a_letter(one, other) && differ_by_a_letter(other, one), "{one} {other}");
    }
}

/// The folders of src that a file of the same name stands beside.
fn folders_beside_their_file(folder: &str) -> Vec<PathBuf> {
    let is_folder = |path: &Path| path.with_extension("").is_dir();
    sources(folder).into_iter().filter(|path| is_folder(path)).collect()
}

#[test]
fn a_folder_has_its_module_in_mod_rs() {
    let beside = ["src", "c-library/src"].into_iter().flat_map(folders_beside_their_file);
    let beside: Vec<_> = beside.map(|path| module_of(&path).join("::")).collect();
    assert!(beside.is_empty(), "the module of a folder belongs into its mod.rs: {beside:?}");
}
