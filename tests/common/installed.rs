//! The C library as `make install` installs it.

use super::{Library, output, repository, said, scratch, skip};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns whether this machine has the commands that `make install` and a user of the library need. If not, skips the
/// test `name`.
pub fn can_install(name: &str) -> bool {
    for command in ["make", "cc", "ld", "objcopy", "ar", "pkg-config"] {
        if !is_command(command) {
            skip::skip(name, format_args!("this machine has no {command}"));
            return false;
        }
    }
    true
}

/// Returns whether this machine has a command.
pub fn is_command(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Variables of this test's build, or of the `make` that runs the tests, which passes its own on: with its `LIBDIR`, a
/// test would install into the system.
const OF_THIS_BUILD: [&str; 17] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_FLAGS",
    "CFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "MAKEOVERRIDES",
    "DESTDIR",
    "PREFIX",
    "LIBDIR",
    "INCLUDEDIR",
    "PKGCONFIGDIR",
    "SYSTEM_CODECS",
    "DEBUG_INFO",
    "TARGET",
    "SOURCE_PATH",
];

/// Returns a `make` command of the repository, whose build has no flags of this test's build and leaves the linker's
/// cache as it is.
pub fn make(arguments: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.args(["--directory", repository().to_str().expect("a UTF-8 path"), "LDCONFIG=true"]).args(arguments);
    make.env("CARGO", env!("CARGO"));
    let of_this_build = |name: &str| {
        ["CARGO_BUILD_", "CARGO_PROFILE_", "RUSTC_"].iter().any(|prefix| name.starts_with(prefix))
            || OF_THIS_BUILD.contains(&name)
    };
    std::env::vars().filter(|(name, _)| of_this_build(name)).for_each(|(name, _)| _ = make.env_remove(name));
    make
}

/// Runs `make`, which must succeed. Returns its output.
pub fn made(arguments: &[&str]) -> String {
    let output = make(arguments).output().unwrap_or_else(|error| panic!("make does not start: {error}"));
    assert!(output.status.success(), "make {arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the prefix that the library was installed to, once for each checkout and change. Its folders are `lib`,
/// `lib/pkgconfig` and `include`.
pub fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(install)
}

fn install() -> PathBuf {
    let (prefix, stamp) = (repository().join("target/installed"), repository().join("target/installed.stamp"));
    fs::create_dir_all(repository().join("target")).unwrap();
    let lock = File::create(repository().join("target/installed.lock")).unwrap();
    // SAFETY: the descriptor is open. Closing it ends the lock.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0, "{}", std::io::Error::last_os_error());
    made(&[]);
    // Programs of other tests may run with what is installed, so it is replaced only when it is old.
    let changed = |path: PathBuf| fs::metadata(&path).and_then(|data| data.modified()).ok();
    let parts =
        ["target/c/bundled/split/libzsalloc.so", "target/c/bundled/split/libzsalloc.a", "target/c/bundled/libs"];
    let sources = ["include/zsalloc.h", "c-library/zsalloc.pc.in", "Makefile"];
    let newest = parts.iter().chain(&sources).map(|path| changed(repository().join(path)).expect("a built file")).max();
    if changed(stamp.clone()) < newest || !prefix.join("lib/pkgconfig/zsalloc.pc").exists() {
        let _ = fs::remove_dir_all(&prefix);
        made(&["install", &format!("PREFIX={}", prefix.display())]);
        File::create(stamp).unwrap();
    }
    prefix
}

/// Returns the flags that `pkg-config` has for the installed library.
pub fn pkg_config(arguments: &[&str]) -> Vec<String> {
    pkg_config_of(&installed().join("lib/pkgconfig"), arguments)
}

/// Returns the flags that `pkg-config` has for the library whose `zsalloc.pc` is in a folder.
pub fn pkg_config_of(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.args(arguments).arg("zsalloc").env("PKG_CONFIG_PATH", folder);
    let output = command.output().unwrap_or_else(|error| panic!("pkg-config does not start: {error}"));
    assert!(output.status.success(), "pkg-config {arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Returns the folder of the installed libraries, for `LD_LIBRARY_PATH`.
pub fn installed_lib() -> PathBuf {
    installed().join("lib")
}

/// Compiles as a user does: with the flags of `pkg-config`, which come after the sources.
pub fn compile_installed(compiler: &str, sources: &[&Path], target: &Path, before: &[&str], flags: &[String]) {
    let mut arguments: Vec<&OsStr> = before.iter().map(OsStr::new).collect();
    arguments.extend([OsStr::new("-o"), target.as_os_str()]);
    arguments.extend(sources.iter().map(|source| source.as_os_str()));
    arguments.extend(flags.iter().map(OsStr::new));
    output(compiler, &arguments);
}

impl Library {
    /// Returns the installed library. Programs link with the shared one, or with the static one.
    pub fn installed(is_static: bool) -> Self {
        let runtime = scratch(&format!("installed-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
        let [shared, archive] = ["libzsalloc.so", "libzsalloc.a"].map(|name| installed_lib().join(name));
        std::os::unix::fs::symlink(installed_lib().join("libzsalloc.so.0"), runtime.join("libzsalloc.so.0")).unwrap();
        Self { shared, archive, is_static, runtime }
    }
}
