//! Checks the sources against the rules that docs/tour.md and CONTRIBUTING.md state.

#[path = "tidy/functions.rs"]
mod functions;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/names.rs"]
mod names;

use imports::product;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, lowest first. Each imports only from those before it, and from itself.
const LAYERS: [&str; 24] = [
    "units",
    "os",
    "error",
    "sync",
    "parking",
    "heap",
    "per_processor",
    "bitmap",
    "buckets",
    "field",
    "json",
    "latency",
    "readahead",
    "crc",
    "word",
    "geometry",
    "object",
    "zspage",
    "memory",
    "size_class",
    "pool",
    "zswap",
    "guest",
    "pager",
];

const LONGEST_LINE: usize = 120;
const LONGEST_FUNCTION: usize = 60;
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

/// Prefix of the names of the C library's modules.
const C_LIBRARY: &str = "c_library";

/// Returns the module of a source file, from the crate's root on: `src/pager/guest/mod.rs` is `pager`, `guest`. A file
/// of the C library has [`C_LIBRARY`] in front.
fn module_of(path: &Path) -> Vec<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = path.strip_prefix(top.join("src"));
    let of_c = || Path::new(C_LIBRARY).join(path.strip_prefix(top.join("c-library/src")).unwrap());
    let inside = inside.map_or_else(|_| of_c(), Path::to_path_buf).with_extension("");
    let names = inside.components().map(|name| name.as_os_str().to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// Returns whether a file belongs to the C library.
fn is_of_c(path: &Path) -> bool {
    module_of(path).first().is_some_and(|first| first == C_LIBRARY)
}

/// Returns the index in [`LAYERS`] of the top module of a file, if the file is part of the product.
fn layer_of(path: &Path) -> Option<usize> {
    layer_named(module_of(path).first()?)
}

fn layer_named(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

/// Returns everything that a module of this layer imports from layers above it.
fn upward(layer: usize, module: &[String], text: &str) -> Vec<String> {
    let tops = imports::imports(module, product(text)).into_iter().filter_map(|name| name.into_iter().next());
    tops.filter(|top| layer_named(top).is_some_and(|imported| imported > layer)).collect()
}

#[test]
fn modules_import_downwards_only() {
    for path in sources("src") {
        let Some(layer) = layer_of(&path) else { continue };
        let above = upward(layer, &module_of(&path), &fs::read_to_string(&path).unwrap());
        assert!(above.is_empty(), "{} imports {above:?}, which is above it", path.display());
    }
}

#[test]
fn an_import_from_above_is_found_in_braces() {
    let of_pool = |text| upward(layer_named("pool").unwrap(), &["pool".to_owned(), "handle".to_owned()], text);
    assert_eq!(of_pool("use crate::{sync, zswap::Area};"), ["zswap"]);
    assert_eq!(of_pool("use crate::{\n    pager,\n    sync::{self, Lock},\n};"), ["pager"]);
    assert_eq!(of_pool("fn f() { super::super::pager::f() }"), ["pager"]);
    assert!(of_pool("use crate::{sync, os};\nuse super::Pool;").is_empty());
}

/// The modules of one folder that import from each other in a circle; `mod` is the folder's own file. These were there
/// before the test was. No new one may come and none may grow: what two modules share belongs into a third below both.
const CIRCLES: &[(&str, &[&str])] = &[
    // Areas share the pool, the limit and the target of writeback, and what they share has the list of the areas.
    ("zswap", &["area", "shared"]),
];

#[test]
fn no_folder_has_a_new_circle() {
    let files = sources("src").into_iter().filter(|path| layer_of(path).is_some());
    let mut files: BTreeMap<_, _> = files.map(|path| (module_of(&path), fs::read_to_string(&path).unwrap())).collect();
    for path in sources("c-library/src") {
        let text = fs::read_to_string(&path).unwrap().replace("crate::", &format!("crate::{C_LIBRARY}::"));
        files.insert(module_of(&path), text);
    }
    let owned = |(folder, names): &(&str, &[&str])| {
        ((*folder).to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let known: BTreeSet<_> = CIRCLES.iter().map(owned).collect();
    let found = imports::circles(&files);
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "new circles: {new:#?}; no longer there: {gone:#?}");
}

/// Folders of src that are not part of the product.
const TESTS: [&str; 3] = ["fuzzing", "models", "tests"];

/// Returns whether the tour covers a file of src: through its layer, or as tests.
fn is_known(module: &[String]) -> bool {
    module.first().is_none_or(|top| layer_named(top).is_some() || TESTS.contains(&top.as_str()))
}

#[test]
fn the_tour_names_every_module_in_order() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tour.md")).unwrap();
    let table = text.split("## The modules").nth(1).unwrap();
    let named: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(named, LAYERS);
    for path in sources("src") {
        assert!(is_known(&module_of(&path)), "{} is in no layer", path.display());
    }
}

#[test]
fn a_module_in_no_layer_is_found() {
    let at = |path: &str| is_known(&module_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)));
    assert!(at("src/lib.rs") && at("src/sync.rs") && at("src/guest/fill.rs") && at("src/tests/mod.rs"));
    assert!(!at("src/other.rs") && !at("src/other/pool.rs") && !at("src/other/mod.rs"));
}

#[test]
fn only_os_names_the_system() {
    let is_os = |path: &PathBuf| path.ends_with("c-library/src/system.rs") || layer_of(path) == layer_named("os");
    for path in ["src", "c-library/src"].into_iter().flat_map(sources).filter(|path| !is_os(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let product = product(&text);
        let is_test = !is_of_c(&path) && layer_of(&path).is_none();
        assert!(is_test || !product.contains("libc::") && !product.contains("memmap2::"), "{}", path.display());
    }
}

#[test]
fn lines_functions_and_files_are_short() {
    for path in ["src", "c-library/src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let at = || format!("{}:{}", path.display(), number + 1);
            assert!(line.chars().count() <= LONGEST_LINE, "{}: a line of more than {LONGEST_LINE} characters", at());
        }
        for (number, length) in functions::lengths(&text) {
            let at = || format!("{}:{number}", path.display());
            assert!(length <= LONGEST_FUNCTION, "{}: a function of {length} lines begins here", at());
        }
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: is it one idea?", path.display());
    }
}

/// Returns whether a line reports a skipped test by itself. The test harness would capture that line.
fn is_quiet_skip(line: &str) -> bool {
    let line = line.to_lowercase();
    (line.contains("print") || line.contains("write")) && line.contains("skip") && line.contains('"')
}

#[test]
fn skips_go_through_their_helper() {
    let own = |path: &Path| path.ends_with("tests/skip/mod.rs") || path.ends_with("tests/tidy.rs");
    for path in ["src", "c-library/src", "tests"].into_iter().flat_map(sources).filter(|path| !own(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let quiet = text.lines().find(|line| is_quiet_skip(line));
        assert_eq!(quiet, None, "{} is to call skip()", path.display());
    }
    assert!(is_quiet_skip("eprintln!(\"skipped: no swap\");"));
}

#[test]
fn nothing_is_left_to_do() {
    for path in ["src", "c-library/src", "tests", "benches", "examples"].into_iter().flat_map(sources) {
        let text = fs::read_to_string(&path).unwrap();
        let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat()];
        assert!(marks.iter().all(|mark| !text.contains(mark)), "{} has something left to do", path.display());
    }
}
