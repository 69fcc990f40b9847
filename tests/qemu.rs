//! `examples/nbdkit/boot`: a machine in QEMU runs Linux on a disk of the plugin for nbdkit.
#![cfg(not(any(loom, miri)))]

mod common;

use common::disk::{Plugin, has_programs};
use common::repository;
use common::skip::skip;
use std::process::Command;

/// How the script ends where something is missing.
const MISSING: i32 = 77;

#[test]
fn a_guest_works_on_the_disk() {
    let name = "a_guest_works_on_the_disk";
    if !has_programs(name, &["nbdkit", "nbdcopy", "qemu-system-x86_64", "busybox", "cpio"]) {
        return;
    }
    let mut boot = Command::new(repository().join("examples/nbdkit/boot"));
    let output = boot.arg(Plugin::compiled()).env("LD_LIBRARY_PATH", Plugin::libraries()).output().unwrap();
    let [said, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output.status.code() == Some(MISSING) {
        return skip(name, errors);
    }
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    for line in ["guest: the files are right", "host: the file system and the files are right"] {
        assert!(said.lines().any(|found| found == line), "{said}");
    }
    let figure = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\":"))).expect("a figure");
        line.parse::<u64>().unwrap()
    };
    assert!(figure("used_bytes") <= 4 << 20 && figure("file_pages") > 0 && figure("file_loads") > 0, "{said}");
}
