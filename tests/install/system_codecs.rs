//! The library that links with the system's LZ4 and Zstandard.

use super::common::installed::{can_install, made, pkg_config_of};
use super::{Folder, common, told};
use common::{repository, skip::skip};
use std::ffi::OsStr;
use std::process::Command;

#[test]
#[ignore = "it builds the library once more; .ci/long runs it"]
fn codecs_are_the_system_s() {
    if !can_install("codecs_are_the_system_s") {
        return;
    }
    if !Command::new("pkg-config").args(["--exists", "liblz4", "libzstd"]).status().unwrap().success() {
        return skip("codecs", "the packages liblz4-dev and libzstd-dev are missing");
    }
    let folder = Folder::of("system-codecs");
    made(&["install", "SYSTEM_CODECS=1", &format!("PREFIX={}", folder.0.display())]);
    let lib = folder.path("lib");
    let dynamic = told("readelf", &["-dW"], &lib.join("libzsalloc.so"));
    for needed in ["[liblz4.so.1]", "[libzstd.so.1]"] {
        assert!(dynamic.contains(needed), "{dynamic}");
    }
    let defined = told("nm", &["--defined-only", "--format=posix"], &lib.join("libzsalloc.a"));
    let of_codecs = ["LZ4_", "ZSTD_", "HUF_", "FSE_"];
    let found: Vec<_> = defined.lines().filter(|line| of_codecs.iter().any(|name| line.starts_with(name))).collect();
    assert!(found.is_empty(), "{found:?}");
    for (whole, flags) in [("-pie", &["--cflags", "--libs"][..]), ("-static", &["--static", "--cflags", "--libs"])] {
        for test in ["hello", "zswap", "zswap_file", "no_memory"] {
            let (source, program) = (repository().join("c-tests").join(test).with_extension("c"), folder.path(test));
            if whole == "-static" && test == "no_memory" {
                continue; // It replaces functions of libc, which a static program has once.
            }
            let flags = pkg_config_of(&lib.join("pkgconfig"), flags);
            let mut arguments = vec![OsStr::new("-pthread"), whole.as_ref(), "-o".as_ref(), program.as_os_str()];
            arguments.push(source.as_os_str());
            arguments.extend(flags.iter().map(OsStr::new));
            common::output("cc", &arguments);
            let output = Command::new(&program).arg(&folder.0).env("LD_LIBRARY_PATH", &lib).output().unwrap();
            assert!(output.status.success(), "{whole} {test}: {output:?}");
        }
    }
}
