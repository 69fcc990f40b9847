//! What `make install` writes, and what `make uninstall` leaves.

use super::common::installed::{can_install, installed, made, make};
use super::{Folder, common, file_name, manifest, told};
use common::repository;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns everything in a folder: folders end with `/`, links have ` -> ` and where they lead.
fn tree(folder: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_symlink() {
                found.insert(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                found.insert(name + "/");
                folders.push(path);
            } else {
                found.insert(name);
            }
        }
    }
    found
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns `make` variables that install to a folder.
fn prefix(folder: &Path) -> String {
    format!("PREFIX={}", folder.display())
}

#[test]
fn uninstall_leaves_what_was_there_before() {
    if !can_install("uninstall_leaves_what_was_there_before") {
        return;
    }
    installed();
    let folder = Folder::of("uninstall with spaces");
    let top = folder.path("deep/prefix");
    fs::create_dir_all(folder.path("deep")).unwrap();
    made(&["install", &prefix(&top)]);
    let shared = file_name();
    let expected = [
        "include/",
        "include/zsalloc.h",
        "lib/",
        "lib/.debug/",
        &format!("lib/.debug/{shared}.debug"),
        "lib/libzsalloc.a",
        "lib/libzsalloc.so -> libzsalloc.so.0",
        &format!("lib/libzsalloc.so.0 -> {shared}"),
        &format!("lib/{shared}"),
        "lib/pkgconfig/",
        "lib/pkgconfig/zsalloc.pc",
    ];
    assert_eq!(tree(&top), set(&expected));
    let mode = |name: &str| fs::metadata(top.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("include/zsalloc.h"), mode("lib/libzsalloc.so"), mode("lib")), (0o644, 0o755, 0o755));
    // What the first installation made is known after the second one.
    made(&["install", &prefix(&top)]);
    made(&["uninstall", &prefix(&top)]);
    assert_eq!(tree(&folder.0), set(&["deep/"]));
    // What was there before stays: folders, whether empty or not, and files of others.
    for path in ["deep/prefix/include", "deep/prefix/lib/pkgconfig"] {
        fs::create_dir_all(folder.path(path)).unwrap();
    }
    fs::write(folder.path("deep/prefix/lib/pkgconfig/other.pc"), "").unwrap();
    let before = tree(&folder.0);
    made(&["install", &prefix(&top)]);
    assert!(tree(&folder.0).len() > before.len());
    made(&["uninstall", &prefix(&top)]);
    assert_eq!(tree(&folder.0), before);
    made(&["uninstall", &prefix(&top)]);
    assert_eq!(tree(&folder.0), before);
}

#[test]
fn packagers_stage_the_files() {
    if !can_install("packagers_stage_the_files") {
        return;
    }
    installed();
    let folder = Folder::of("staged");
    let staged = ["DESTDIR=".to_owned() + folder.0.to_str().unwrap(), "PREFIX=/usr".into()];
    let at = ["LIBDIR=/usr/lib/x86_64-linux-gnu", "INCLUDEDIR=/usr/include/zs", "PKGCONFIGDIR=/usr/share/pkgconfig"];
    let run = |target: &str, more: &[&str]| {
        made(&[&[target, &staged[0], &staged[1]], &at[..], more].concat());
    };
    run("install", &["DEBUG_INFO=none"]);
    let shared = file_name();
    let expected = [
        "usr/",
        "usr/include/",
        "usr/include/zs/",
        "usr/include/zs/zsalloc.h",
        "usr/lib/",
        "usr/lib/x86_64-linux-gnu/",
        "usr/lib/x86_64-linux-gnu/libzsalloc.a",
        "usr/lib/x86_64-linux-gnu/libzsalloc.so -> libzsalloc.so.0",
        &format!("usr/lib/x86_64-linux-gnu/libzsalloc.so.0 -> {shared}"),
        &format!("usr/lib/x86_64-linux-gnu/{shared}"),
        "usr/share/",
        "usr/share/pkgconfig/",
        "usr/share/pkgconfig/zsalloc.pc",
    ];
    assert_eq!(tree(&folder.0), set(&expected));
    let package = fs::read_to_string(folder.path("usr/share/pkgconfig/zsalloc.pc")).unwrap();
    let version = format!("Version: {}", manifest("version"));
    for line in ["prefix=/usr", "libdir=${prefix}/lib/x86_64-linux-gnu", "includedir=${prefix}/include/zs", &version] {
        assert!(package.lines().any(|found| found == line), "{line} is not in:\n{package}");
    }
    // Where it was staged is nobody's business, and neither is what make did not replace.
    assert!(!package.contains(folder.0.to_str().unwrap()) && !package.contains('@'), "{package}");
    run("uninstall", &[]);
    assert_eq!(tree(&folder.0), set(&[]));
    // Packagers who take the debug information out themselves.
    run("install", &["DEBUG_INFO=inside"]);
    for name in ["libzsalloc.a", "libzsalloc.so"] {
        let sections = told("readelf", &["-SW"], &folder.path("usr/lib/x86_64-linux-gnu").join(name));
        assert!(sections.contains(".debug_info"), "{name}: {sections}");
    }
    run("uninstall", &[]);
    assert_eq!(tree(&folder.0), set(&[]));
}

#[test]
fn install_needs_no_cargo_after_make() {
    if !can_install("install_needs_no_cargo_after_make") {
        return;
    }
    installed();
    let folder = Folder::of("no-cargo");
    let nothing = ["CARGO=/no/cargo", "RUSTC=/no/rustc", "CC=/no/cc", "LD=/no/ld", "OBJCOPY=/no/objcopy"];
    made(&[&["install", &prefix(&folder.0)], &nothing[..]].concat());
    assert!(folder.path("lib/libzsalloc.so").exists());
    // What is not built yet says what to do.
    let output = make(&[&["install", "TARGET=unknown", &prefix(&folder.0)], &nothing[..]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("run make as a user who has it"), "{said}");
}

#[test]
fn wrong_variables_are_refused() {
    if !can_install("wrong_variables_are_refused") {
        return;
    }
    installed();
    for (wrong, why) in [
        ("PREFIX=relative", "relative does not begin with /"),
        ("DEBUG_INFO=yes", "DEBUG_INFO is yes: it can be split, inside or none"),
        ("SYSTEM_CODECS=yes", "SYSTEM_CODECS is yes: it can be 0 or 1"),
    ] {
        let output = make(&["install", wrong]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{wrong}: {said}");
    }
    assert!(!repository().join("relative").exists());
}
