//! A program that depends on the crate gets only a Rust library: no soname, no C functions, and no shared libraries of
//! ours beside its own.
#![cfg(not(any(loom, miri)))]

mod common;

use common::{cargo, output, repository, scratch};
use std::fs;
use std::path::PathBuf;

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
