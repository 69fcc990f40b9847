//! Compiles and runs C programs against the C library, which cargo builds first.
//!
//! `ZSALLOC_C_TESTS=asan` compiles them with AddressSanitizer and UBSan, `ZSALLOC_C_TESTS=valgrind` runs them under
//! valgrind. `ZSALLOC_C_LIBRARY=installed` links them with the shared library that `make install` installs, and
//! `ZSALLOC_C_LIBRARY=installed-static` with the static one.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod disk;
pub mod example;
pub mod installed;
#[path = "../skip/mod.rs"]
pub mod skip;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// How C programs are compiled and run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Without tools.
    Plain,
    /// With AddressSanitizer and UBSan.
    Sanitized,
    /// Run under valgrind.
    Valgrind,
}

/// Returns the mode that the environment asks for.
pub fn mode() -> Mode {
    match std::env::var("ZSALLOC_C_TESTS").as_deref() {
        Ok("asan") => Mode::Sanitized,
        Ok("valgrind") => Mode::Valgrind,
        Ok("" | "plain") | Err(_) => Mode::Plain,
        Ok(other) => panic!("ZSALLOC_C_TESTS is {other}: it can be plain, asan or valgrind"),
    }
}

/// Returns the top folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the functions that a header declares.
pub fn declared(header: &str) -> BTreeSet<String> {
    let code = header.lines().filter(|line| !line.trim_start().starts_with(['*', '/', '#']));
    let code = code.filter(|line| !line.contains("typedef"));
    let words = code.flat_map(|line| line.split_inclusive('(')).filter_map(|part| part.strip_suffix('('));
    let names = words.filter_map(|part| part.rsplit([' ', '*']).next());
    let ours = ["zs_", "zswap_", "zspager_"];
    names.filter(|name| ours.iter().any(|prefix| name.starts_with(prefix))).map(str::to_owned).collect()
}

/// Creates an empty folder for a test's files.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Returns where cargo put this test's build: `target/debug`, or `target/TRIPLE/debug` for another target.
fn built_at() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).expect("a test lies in the folder deps of its profile").to_path_buf()
}

/// Returns a cargo command that builds as this test was built: same profile, target and target folder.
pub fn cargo(command: &str, package: &Path) -> Command {
    let (built_at, target_dir) = (built_at(), Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([command, "--quiet", "--manifest-path"]).arg(package.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target_dir);
    if built_at.ends_with("release") {
        cargo.arg("--release");
    }
    let triple = built_at.parent().unwrap().strip_prefix(target_dir).unwrap();
    if triple != Path::new("") {
        cargo.arg("--target").arg(triple);
    }
    cargo
}

/// Builds the C library, once: `cargo test` builds the tests and the libraries they link, but no shared library.
fn build() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let output = cargo("build", &repository().join("c-library")).output().unwrap();
            assert!(output.status.success(), "the C library can't be built: {}", said(&output));
            built_at()
        })
        .clone()
}

/// The C library, built as this test was built, or installed.
pub struct Library {
    shared: PathBuf,
    archive: PathBuf,
    /// Whether programs link with the archive in place of the shared library.
    is_static: bool,
    /// A folder that has the shared library under its soname, as for an installed one.
    runtime: PathBuf,
}

impl Library {
    /// Builds the library if necessary, and finds it. The environment may ask for the installed one.
    pub fn find() -> Self {
        match std::env::var("ZSALLOC_C_LIBRARY").as_deref() {
            Ok("installed") => return Self::installed(false),
            Ok("installed-static") => return Self::installed(true),
            Ok("") | Err(_) => {}
            Ok(other) => panic!("ZSALLOC_C_LIBRARY is {other}: it can be installed or installed-static"),
        }
        let folder = build();
        let runtime = scratch(&format!("runtime-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
        std::os::unix::fs::symlink(folder.join("libzsalloc.so"), runtime.join("libzsalloc.so.0")).unwrap();
        Self { shared: folder.join("libzsalloc.so"), archive: folder.join("libzsalloc.a"), is_static: false, runtime }
    }

    /// Returns the path of the shared library.
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// Returns the folder where programs linked with the shared library find it.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Returns flags that link a program with the library: the shared one, unless the environment asks for the other.
    pub fn shared_flags(&self) -> Vec<&str> {
        if self.is_static {
            return self.static_flags();
        }
        vec!["-pthread", self.shared.to_str().expect("a UTF-8 path")]
    }

    /// Returns flags that link a program with the static library.
    pub fn static_flags(&self) -> Vec<&str> {
        vec!["-pthread", self.archive.to_str().expect("a UTF-8 path"), "-ldl", "-lm"]
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

/// Returns the soname that the build script gives to the shared library.
pub fn soname() -> String {
    let script = fs::read_to_string(repository().join("build.rs")).unwrap();
    let found = script.split("SONAME: &str = \"").nth(1).and_then(|rest| rest.split('"').next());
    found.expect("build.rs has a SONAME").to_owned()
}

/// Returns a value of the root package's manifest, such as its version.
pub fn manifest(key: &str) -> String {
    let text = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("{key} is in the manifest")).trim_matches('"').to_owned()
}

/// Returns how a command ended, and all that it wrote.
pub fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}\n{out}{err}", output.status)
}

/// Runs a command and returns its output. Panics with all output if the command fails.
pub fn output(program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, which the C tests need, does not start: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns whether there is a C++ compiler. If not, prints a note, because the C++ part of a test is left out.
pub fn has_cxx() -> bool {
    let found = Command::new("c++").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip::skip("c++", "this machine has no C++ compiler: the header is not tested with C++");
    }
    found
}

/// Compiles with the system's compiler, with warnings as errors.
pub fn compile(sources: &[&Path], target: &Path, standard: &str, flags: &[&str]) {
    let compiler = if standard.starts_with("c++") { "c++" } else { "cc" };
    let include = repository().join("include");
    let mut arguments: Vec<OsString> =
        ["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1", "-o"].map(OsString::from).into();
    arguments.extend([target.into(), format!("-std={standard}").into(), "-I".into(), include.into()]);
    if mode() == Mode::Sanitized {
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
        arguments.extend(sanitizers.map(OsString::from));
    }
    arguments.extend(sources.iter().map(|source| source.as_os_str().to_owned()));
    arguments.extend(flags.iter().map(OsString::from));
    let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
    output(compiler, &arguments);
}

/// Runs a program and returns its output. Panics with all output if the program fails.
pub fn run(program: &Path, library: &Library, arguments: &[&str]) -> String {
    let mut command = match mode() {
        Mode::Valgrind => {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full"]).arg(program);
            valgrind
        }
        Mode::Plain | Mode::Sanitized => Command::new(program),
    };
    let output = command.args(arguments).env("LD_LIBRARY_PATH", &library.runtime).output();
    let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    assert!(output.status.success(), "{} {arguments:?}: {}", program.display(), said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
