//! What the installed libraries show to programs, and what they have in them.

use super::common::installed::{can_install, installed, installed_lib};
use super::{Folder, common, file_name, told};
use common::{declared, repository};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the nodes of the version script, and the functions of each.
fn nodes() -> Vec<(String, Vec<String>)> {
    let script = fs::read_to_string(repository().join("c-library/libzsalloc.map")).unwrap();
    let (_, code) = script.split_once("*/").expect("the script begins with a comment");
    let nodes = code.split_inclusive('{').collect::<Vec<_>>();
    let name = |before: &str| before.trim_end_matches('{').trim().rsplit([';', ' ']).next().unwrap().trim().to_owned();
    let functions = |body: &str| {
        let words = body.split('}').next().unwrap().split_whitespace();
        let listed = words.take_while(|word| *word != "local:").filter_map(|word| word.strip_suffix(';'));
        listed.map(str::to_owned).collect()
    };
    nodes.windows(2).map(|pair| (name(pair[0]), functions(pair[1]))).collect()
}

#[test]
fn the_version_script_has_each_function_of_the_header_once() {
    let listed: Vec<_> = nodes().into_iter().flat_map(|(_, functions)| functions).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    let header = fs::read_to_string(repository().join("include/zsalloc.h")).unwrap();
    assert_eq!(unique, declared(&header), "c-library/libzsalloc.map and the header differ");
    assert_eq!(listed.len(), unique.len(), "a function is in the version script twice");
}

#[test]
fn shared_library_shows_its_functions_with_their_versions() {
    if !can_install("shared_library_shows_its_functions_with_their_versions") {
        return;
    }
    let library = installed_lib().join("libzsalloc.so");
    let listing = told("nm", &["-D", "--defined-only", "--format=posix"], &library);
    let shown: BTreeSet<_> = listing.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let nodes = nodes();
    let versioned = nodes.iter().flat_map(|(node, all)| all.iter().map(move |name| format!("{name}@@{node}")));
    // A node is a symbol, too.
    let expected: BTreeSet<_> = versioned.chain(nodes.iter().map(|(node, _)| node.clone())).collect();
    assert_eq!(shown, expected);
    let dynamic = told("readelf", &["-dW"], &library);
    let soname = common::soname();
    assert!(dynamic.contains(&format!("soname: [{soname}]")), "{dynamic}");
    assert!(dynamic.contains("BIND_NOW") && !dynamic.contains("NODELETE"), "{dynamic}");
    assert!(told("readelf", &["-lW"], &library).contains("GNU_RELRO"));
}

#[test]
fn static_library_shows_its_functions_alone() {
    if !can_install("static_library_shows_its_functions_alone") {
        return;
    }
    let library = installed_lib().join("libzsalloc.a");
    let listing = told("nm", &["--extern-only", "--defined-only", "--format=posix"], &library);
    let shown = listing.lines().filter(|line| !line.ends_with(':')).map(|line| line.split(' ').next().unwrap());
    let expected: BTreeSet<_> = nodes().into_iter().flat_map(|(_, functions)| functions).collect();
    assert_eq!(shown.map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    let sections = told("readelf", &["-SW"], &library);
    assert!([".llvmbc", ".llvmcmd", ".debug_info"].iter().all(|name| !sections.contains(name)), "{sections}");
    // Programs may define the functions that Zstandard would tell of each call.
    assert!(!told("nm", &["--undefined-only"], &library).contains("ZSTD_trace"));
}

#[test]
fn shared_library_is_small_and_its_debug_information_is_found() {
    if !can_install("shared_library_is_small_and_its_debug_information_is_found") {
        return;
    }
    let library = installed_lib().join(file_name());
    let bytes = fs::metadata(&library).unwrap().len();
    assert!(bytes <= 2_500_000, "{bytes}");
    let sections = told("readelf", &["-SW"], &library);
    assert!(!sections.contains(".debug_info") && !sections.contains(".symtab"), "{sections}");
    assert!(sections.contains(".note.gnu.build-id"), "{sections}");
    let listing = told("nm", &["-D", "--defined-only", "--format=posix"], &library);
    let address = listing.lines().find_map(|line| line.strip_prefix("zs_malloc@@ZSALLOC_0.1 T ")?.split(' ').next());
    let name = address.expect("zs_malloc is there").to_owned();
    // As gdb does, the tool follows the link to the file in the folder .debug.
    let place = told("addr2line", &["-f", "-e", library.to_str().unwrap()], Path::new(&name));
    assert!(place.contains("c-library/src/") && !place.contains("??"), "{place}");
}

/// The paths of this machine: of the user, the checkout, cargo's packages and the toolchain.
fn paths_of_this_machine() -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo_home = std::env::var("CARGO_HOME").unwrap_or_default();
    let toolchain = common::output("rustc", &["--print".as_ref(), "sysroot".as_ref()]);
    let repository = repository().to_str().unwrap().to_owned();
    let all = [home, cargo_home, toolchain.trim().to_owned(), repository];
    // A distribution's toolchain lies in /usr, as the place of the sources does that the files name.
    all.into_iter().filter(|path| path.len() > 3 && !"/usr/src/debug".starts_with(path.as_str())).collect()
}

/// Returns whether a text is in a file.
fn has(file: &Path, text: &str) -> bool {
    let found = Command::new("grep").args(["-qaF", text]).arg(file).status().unwrap().code();
    assert!(matches!(found, Some(0 | 1)), "grep {}: {found:?}", file.display());
    found == Some(0)
}

#[test]
fn no_file_has_a_path_of_this_machine() {
    if !can_install("no_file_has_a_path_of_this_machine") {
        return;
    }
    let folder = Folder::of("paths");
    let debug = installed_lib().join(".debug").join(file_name() + ".debug");
    let unpacked = folder.path("debug");
    common::output("objcopy", &["--decompress-debug-sections".as_ref(), debug.as_ref(), unpacked.as_ref()]);
    // What the libraries are made of, with all debug information.
    let object = repository().join("target/c/bundled/zsalloc.o");
    let files: [PathBuf; 5] = [
        installed_lib().join("libzsalloc.a"),
        installed_lib().join(file_name()),
        installed().join("include/zsalloc.h"),
        unpacked.clone(),
        object,
    ];
    for file in files {
        for path in paths_of_this_machine() {
            assert!(!has(&file, &path), "{} has {path}", file.display());
        }
    }
    for path in ["/usr/src/debug/zsalloc-", "/registry/src/", "lz4-sys-", "zstd-sys-"] {
        assert!(has(&unpacked, path), "the debug information lacks {path}");
    }
}
