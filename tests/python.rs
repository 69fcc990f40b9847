//! `examples/python/pages.py`, run by the real Python against the installed library.
#![cfg(not(any(loom, miri)))]

mod common;

use common::installed::{can_install, installed_lib, is_command};
use common::repository;
use std::process::{Command, Output};

/// Runs the example with the installed library in the search path and with more arguments. `None`: it can't be run.
fn run(name: &str, arguments: &[&str], path: &str) -> Option<Output> {
    if !is_command("python3") {
        common::skip::skip(name, "this machine has no python3");
        return None;
    }
    let mut python = Command::new("python3");
    python.arg(repository().join("examples/python/pages.py")).args(arguments).env("LD_LIBRARY_PATH", path);
    Some(python.output().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn python_stores_and_loads_pages_through_ctypes() {
    let name = "python_stores_and_loads_pages_through_ctypes";
    if !can_install(name) {
        return;
    }
    let folder = installed_lib();
    let folder = folder.to_str().expect("a UTF-8 path");
    // By its path, and as ctypes finds it: `find_library` asks the linker, which has LD_LIBRARY_PATH.
    for arguments in [&[&*format!("{folder}/libzsalloc.so")][..], &[]] {
        let Some(output) = run(name, arguments, folder) else { return };
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{out}{err}");
        assert!(out.contains("refused: [Errno 22] zswap_load(): "), "{out}");
        assert!(out.contains("1000 pages, 4096000 bytes, take "), "{out}");
    }
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let name = "a_library_that_is_not_there_is_named";
    let Some(output) = run(name, &["/missing/libzsalloc.so"], "") else { return };
    assert!(!output.status.success() && text(&output.stderr).contains("/missing/libzsalloc.so"));
}
