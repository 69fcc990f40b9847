//! The C library as `make install` installs it: what its files have and show, how programs link with it, what the
//! installation writes and what it leaves behind.
#![cfg(not(any(loom, miri)))]

mod common;
#[path = "install/files.rs"]
mod files;
#[path = "install/links.rs"]
mod links;
#[path = "install/symbols.rs"]
mod symbols;
#[path = "install/system_codecs.rs"]
mod system_codecs;

use common::{manifest, scratch, soname};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder for a test's files, which is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn of(test: &str) -> Self {
        Self(scratch(&format!("install-{test}")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool on a file. Returns its output.
fn told(tool: &str, options: &[&str], file: &Path) -> String {
    let arguments: Vec<_> = options.iter().map(OsStr::new).chain([file.as_os_str()]).collect();
    common::output(tool, &arguments)
}

/// Returns the name of the shared library's file, from the soname and the version.
fn file_name() -> String {
    format!("{}.{}", soname(), manifest("version").split_once('.').unwrap().1)
}
