//! Holds the sources to what the overview in src/lib.rs says of them.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, lowest first. Each imports only from those before it, and from itself.
const LAYERS: [&str; 16] = [
    "units", "os", "error", "sync", "heap", "json", "word", "classes", "object", "zspage", "region", "class", "pool",
    "zswap", "pager", "capi",
];

const LONGEST_LINE: usize = 120;
const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 520;

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The top module that a file of src belongs to, if it is part of the product.
fn layer_of(path: &Path) -> Option<usize> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let top = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
    LAYERS.iter().position(|layer| *layer == top)
}

/// The part of a file before its tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

#[test]
fn modules_import_downwards_only() {
    for path in sources("src") {
        let Some(layer) = layer_of(&path) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        for part in product(&text).split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let Some(imported) = LAYERS.iter().position(|layer| *layer == name) else { continue };
            assert!(imported <= layer, "{} imports {name}, which is above it", path.display());
        }
    }
}

#[test]
fn the_overview_names_every_module_in_order() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let table = text.split("# The modules").nth(1).unwrap().split("# Errors").next().unwrap();
    let named: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next()).collect();
    assert_eq!(named, LAYERS);
    for path in sources("src") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let known = layer_of(&path).is_some()
            || name == "lib.rs"
            || text.contains("mod models;")
            || text.contains("mod tests;");
        assert!(known, "{} is in no layer", path.display());
    }
}

#[test]
fn only_os_names_the_system() {
    let is_os = |path: &PathBuf| path.ends_with("src/os.rs") || path.parent().unwrap().ends_with("src/os");
    for path in sources("src").into_iter().filter(|path| !is_os(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let product = product(&text);
        let is_test = layer_of(&path).is_none();
        assert!(is_test || !product.contains("libc::") && !product.contains("memmap2::"), "{}", path.display());
    }
}

#[test]
fn lines_functions_and_files_are_short() {
    for path in ["src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let text = fs::read_to_string(&path).unwrap();
        let (mut function, mut length) = (None, 0);
        for (number, line) in text.lines().enumerate() {
            let at = || format!("{}:{}", path.display(), number + 1);
            assert!(line.chars().count() <= LONGEST_LINE, "{}: a line of more than {LONGEST_LINE} characters", at());
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let begins =
                ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "unsafe fn ", "pub unsafe fn ", "const fn "];
            if function.is_none() && begins.iter().any(|begin| code.starts_with(begin)) && !code.ends_with(';') {
                (function, length) = (Some(indent), 0);
            }
            length += 1;
            if function == Some(indent) && code.starts_with('}') {
                assert!(length <= LONGEST_FUNCTION, "{}: a function of {length} lines ends here", at());
                function = None;
            }
            if function == Some(indent) && code.ends_with('}') && length == 1 {
                function = None;
            }
        }
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: is it one idea?", path.display());
    }
}

#[test]
fn nothing_is_left_to_do() {
    for path in ["src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let text = fs::read_to_string(&path).unwrap();
        let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat()];
        assert!(marks.iter().all(|mark| !text.contains(mark)), "{} has something left to do", path.display());
    }
}
