//! A disk that nbdkit serves with the plugin of `examples/nbdkit`, on a socket of its own.

use super::installed::{can_install, compile_installed, installed_lib, pkg_config};
use super::{repository, scratch, skip::skip};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Returns whether all programs are there, and all that the plugin is compiled with. If not, skips the test `name`.
pub fn has_programs(name: &str, programs: &[&str]) -> bool {
    if !can_install(name) {
        return false;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let lacks = |program: &&str| !folders.iter().any(|at| at.join(program).exists());
    let mut missing: Vec<_> = programs.iter().copied().filter(lacks).collect();
    let packages = ["nbdkit", "libzstd"].into_iter();
    missing.extend(packages.filter(|package| {
        !Command::new("pkg-config").args(["--exists", package]).status().is_ok_and(|status| status.success())
    }));
    if !missing.is_empty() {
        skip(name, format!("this machine lacks {missing:?}"));
    }
    missing.is_empty()
}

/// Asks a process to end, as `kill` does. Returns whether there is one.
pub fn ask_to_end(pid: libc::pid_t) -> bool {
    // SAFETY: the call takes two numbers.
    unsafe { libc::kill(pid, libc::SIGTERM) == 0 }
}

/// Creates a folder whose path is short: that of a socket has 107 bytes at most, and the repository's may have more.
pub fn folder_for_sockets() -> PathBuf {
    let mut path = std::env::temp_dir().join("zsalloc-XXXXXX").into_os_string().into_vec();
    path.push(0);
    // SAFETY: the path ends with a NUL, and the call changes the six bytes before it.
    let made = unsafe { libc::mkdtemp(path.as_mut_ptr().cast()) };
    assert!(!made.is_null(), "mkdtemp: {}", std::io::Error::last_os_error());
    path.pop();
    PathBuf::from(OsString::from_vec(path))
}

/// The plugin, and folders for the files and the sockets of a test.
pub struct Plugin {
    folder: PathBuf,
    sockets: PathBuf,
}

impl Plugin {
    /// Compiles the plugin once, against the installed library, as its README says. Returns its path.
    pub fn compiled() -> &'static Path {
        static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
        PLUGIN.get_or_init(|| {
            let sources =
                ["zsalloc.c", "pages.c", "blocks.c"].map(|name| repository().join("examples/nbdkit").join(name));
            let sources: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
            let before = ["-O2", "-fPIC", "-shared", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pedantic"];
            let flags = pkg_config(&["--cflags", "--libs", "nbdkit", "libzstd"]);
            let compiled = scratch("nbdkit-plugin").join("nbdkit-zsalloc-plugin.so");
            compile_installed("cc", &sources, &compiled, &before, &flags);
            compiled
        })
    }

    /// Returns where the library is, for `LD_LIBRARY_PATH`.
    pub fn libraries() -> PathBuf {
        installed_lib()
    }

    /// Makes the folders.
    pub fn new(test: &str) -> Self {
        Self { folder: scratch(test), sockets: folder_for_sockets() }
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the path of a socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// Returns a command that starts nbdkit with the plugin and its parameters.
    pub fn nbdkit(&self, options: &[&str], parameters: &[&str]) -> Command {
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(options).arg(Self::compiled()).args(parameters);
        nbdkit.env("LD_LIBRARY_PATH", Self::libraries()).current_dir(&self.folder);
        nbdkit
    }

    /// Starts nbdkit, and waits until it serves the disk.
    pub fn serve(&self, parameters: &[&str]) -> Disk<'_> {
        self.serve_with(&[], parameters)
    }

    /// Starts nbdkit with options of its own, and waits until it serves the disk. nbdkit ends with this thread at the
    /// latest.
    pub fn serve_with(&self, options: &[&str], parameters: &[&str]) -> Disk<'_> {
        let (socket, stats) = (self.socket("socket"), self.path("stats.json"));
        let _ = fs::remove_file(&socket);
        let stats_parameter = format!("stats={}", stats.display());
        let parameters = [parameters, &[&*stats_parameter]].concat();
        let options = [&["-f", "--exit-with-parent", "-U", socket.to_str().expect("a UTF-8 path")], options].concat();
        let mut nbdkit = self.nbdkit(&options, &parameters);
        let server = nbdkit.stderr(fs::File::create(self.path("log")).unwrap()).spawn().unwrap();
        let mut disk = Disk { plugin: self, server, socket, stats };
        let begin = Instant::now();
        while !disk.socket.exists() {
            let ended = disk.server.try_wait().unwrap().is_some() || begin.elapsed() > Duration::from_secs(60);
            assert!(!ended, "nbdkit does not serve the disk: {}", disk.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        disk
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

/// A disk that is served.
pub struct Disk<'a> {
    plugin: &'a Plugin,
    server: Child,
    socket: PathBuf,
    stats: PathBuf,
}

impl Disk<'_> {
    /// Returns the address of the disk.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// Returns the path of the disk's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the process id of nbdkit.
    pub fn pid(&self) -> libc::pid_t {
        self.server.id() as libc::pid_t
    }

    /// Returns what nbdkit has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.plugin.path("log")).unwrap_or_default()
    }

    /// Runs a program, in the folder of the plugin.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.plugin.folder).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{program} does not start: {error}"))
    }

    /// Runs a program that must succeed. Returns its output.
    pub fn does<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> String {
        let output = self.run(program, arguments);
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{program}: {}\n{out}{err}\nnbdkit: {}", output.status, self.log());
        out
    }

    /// Runs commands of qemu-io, which must succeed. Returns its output.
    pub fn qemu_io(&self, commands: &[&str]) -> String {
        let uri = self.uri();
        let mut arguments = vec!["-f", "raw"];
        commands.iter().for_each(|command| arguments.extend(["-c", command]));
        let output = self.does("qemu-io", &[&arguments[..], &[&*uri]].concat());
        assert!(!output.contains("failed"), "{commands:?}: {output}\nnbdkit: {}", self.log());
        output
    }

    /// Copies a file onto the disk.
    pub fn fill(&self, file: &str, options: &[&str]) {
        self.does("nbdcopy", &[options, &[file, &self.uri()]].concat());
    }

    /// Returns all bytes of the disk.
    pub fn bytes(&self, options: &[&str]) -> Vec<u8> {
        // It takes seconds to make thousands of holes in a file.
        self.does("nbdcopy", &[options, &["--allocated", "--sparse=0", &self.uri(), "copied-out"]].concat());
        fs::read(self.plugin.path("copied-out")).unwrap()
    }

    /// Ends nbdkit as a user would, and returns the statistics of the disk.
    pub fn end(mut self) -> Stats {
        assert!(ask_to_end(self.pid()), "nbdkit has ended: {}", self.log());
        let status = self.server.wait().unwrap();
        assert!(status.success(), "nbdkit: {status}: {}", self.log());
        Stats(fs::read_to_string(&self.stats).unwrap())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The statistics that the plugin writes at its end.
pub struct Stats(String);

impl Stats {
    /// Returns the first figure of this name, which is that of the zswap.
    pub fn figure(&self, name: &str) -> u64 {
        let rest = self.0.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {}", self.0)).1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }
}

/// Returns `bytes` bytes of all kinds: text, pages of zeros, and noise.
pub fn mixed_bytes(bytes: usize) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes + 8192);
    let noise = noise(bytes);
    for line in 0_usize.. {
        match line % 3 {
            0 => made.extend_from_slice(format!("{line} bottles of beer on the wall, ").repeat(150).as_bytes()),
            1 => made.resize((made.len() + 8192) / 4096 * 4096, 0),
            _ => made.extend_from_slice(&noise[line * 1000..][..3000]),
        }
        if made.len() >= bytes {
            break;
        }
    }
    made.truncate(bytes);
    made
}

/// Returns bytes that do not compress.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes + 8);
    let mut state = 1_u64;
    while made.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        made.extend_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    made.truncate(bytes);
    made
}
