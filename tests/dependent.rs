//! A program that depends on the crate gets only a Rust library: no soname, no C functions, and no shared libraries of
//! ours beside its own. And the package that a registry would have builds alone.
#![cfg(not(any(loom, miri)))]

mod common;

use common::{cargo, output, repository, scratch};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = "
#[unsafe(no_mangle)]
pub extern \"C\" fn dependent_pages() -> u64 {
    zsalloc::Pool::new(\"dependent\", &zsalloc::PoolOptions::default()).map_or(0, |pool| pool.total_pages())
}
";

/// Returns the shared libraries that cargo reports it built, without procedural macros.
fn shared_libraries(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let built = messages.filter(|message| message["target"]["kind"] != serde_json::json!(["proc-macro"]));
    let files = built.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    files
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .filter(|file| file.extension() == Some("so".as_ref()))
        .collect()
}

#[test]
fn a_dependent_s_shared_library_has_its_own_functions_and_no_soname() {
    let folder = scratch("dependent");
    let manifest = format!(
        "[package]\nname = \"dependent\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [workspace]\n[dependencies]\nzsalloc = {{ path = {:?}, features = [\"uffd\"] }}\n",
        repository()
    );
    fs::create_dir(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), SOURCE).unwrap();
    // With this repository's lock file no other versions need to be downloaded.
    fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let built = cargo("build", &folder).args(["--offline", "--message-format", "json"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let libraries = shared_libraries(&String::from_utf8_lossy(&built.stdout));
    let [library] = &libraries[..] else { panic!("more than one shared library was built: {libraries:?}") };
    let listing = output("nm", &["-D".as_ref(), "--defined-only".as_ref(), library.as_os_str()]);
    let exported: Vec<_> = listing.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(exported, ["dependent_pages"]);
    let dynamic = output("readelf", &["-d".as_ref(), library.as_os_str()]);
    assert!(!dynamic.contains("SONAME"), "{dynamic}");
    fs::remove_dir_all(folder).unwrap();
}

/// Returns the files of the package, which is unpacked in a folder.
fn packaged(folder: &Path) -> BTreeSet<String> {
    let mut package = cargo("package", repository());
    let packaged = package.args(["-p", "zsalloc", "--no-verify", "--offline", "--allow-dirty"]).output().unwrap();
    let said = String::from_utf8_lossy(&packaged.stderr);
    // Cargo leaves out, with a warning, what Cargo.toml names and the package does not have.
    assert!(packaged.status.success() && !said.contains("ignoring"), "{said}");
    let name = concat!("zsalloc-", env!("CARGO_PKG_VERSION"));
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("package").join(format!("{name}.crate"));
    let strip = ["--strip-components=1", "-C"].map(OsStr::new);
    output("tar", &["-xzf".as_ref(), archive.as_os_str(), strip[0], strip[1], folder.as_os_str()]);
    let listing = output("tar", &["-tzf".as_ref(), archive.as_os_str()]);
    listing.lines().map(|line| line.strip_prefix(name).unwrap().trim_start_matches('/').to_owned()).collect()
}

#[test]
fn the_package_has_what_it_needs_and_builds_alone() {
    let folder = scratch("package");
    let files = packaged(&folder);
    for needed in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md", "src/lib.rs", "Cargo.lock"] {
        assert!(files.contains(needed), "{needed} is not in the package: {files:?}");
    }
    let tops: BTreeSet<_> = files.iter().map(|file| file.split('/').next().unwrap()).collect();
    for foreign in [".ci", "c-library", "fuzz", "target", "build.rs", "deny.toml", "Makefile"] {
        assert!(!tops.contains(foreign), "{foreign} is in the package");
    }
    // The folder lies in this repository, whose workspace cargo would take it for.
    let manifest = folder.join("Cargo.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + "\n[workspace]\n").unwrap();
    let checked =
        cargo("check", &folder).args(["--offline", "--locked", "--all-targets", "--features", "uffd"]).output();
    let checked = checked.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    fs::remove_dir_all(folder).unwrap();
}
