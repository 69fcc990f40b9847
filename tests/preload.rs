//! The shim of `examples/preload`, under real programs: their answers with a limit are those without.
#![cfg(not(any(loom, miri)))]

mod common;

use common::disk::folder_for_sockets;
use common::installed::{can_install, compile_installed, installed_lib, is_command, pkg_config};
use common::{output, repository, scratch};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

/// The shim, compiled as its README says, and a program in C that knows nothing of it.
struct Shim {
    object: PathBuf,
    program: PathBuf,
}

impl Shim {
    fn compile() -> Self {
        let folder = scratch("preload");
        let (object, program) = (folder.join("zspreload.so"), folder.join("program"));
        let source = repository().join("examples/preload/preload.c");
        let warnings = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];
        compile_installed("cc", &[&source], &object, &warnings, &pkg_config(&["--cflags", "--libs"]));
        let source = repository().join("c-tests/preload.c");
        compile_installed("cc", &[&source], &program, &["-O1", "-g", "-Wall", "-Werror", "-std=c11", "-pthread"], &[]);
        Self { object, program }
    }

    /// Returns a command that runs under the shim.
    fn command(&self, program: impl AsRef<OsStr>, options: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", &self.object).env("LD_LIBRARY_PATH", installed_lib());
        command.envs(options.iter().copied());
        command
    }
}

/// Compiles the shim once. `None`, after a line that says so: this machine can't, or the process may not use
/// userfaultfd.
fn shim(name: &str) -> Option<&'static Shim> {
    static SHIM: OnceLock<Shim> = OnceLock::new();
    if !can_install(name) {
        return None;
    }
    let shim = SHIM.get_or_init(Shim::compile);
    let tried = run(shim.command("true", &[("ZSALLOC_LIMIT", "1M")]));
    if tried.status.code() == Some(125) && err(&tried).contains("userfaultfd") {
        common::skip::skip(name, err(&tried));
        return None;
    }
    assert!(tried.status.success(), "{}", err(&tried));
    Some(shim)
}

fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the first number after a name in the statistics.
fn figure(stats: &str, name: &str) -> u64 {
    let after = &stats[stats.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {stats}"))..];
    let digits = after.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap()
}

/// Runs a part of the C program, with a limit of 8 MiB. Returns what it prints.
fn program_prints(shim: &Shim, part: &str, options: &[(&str, &str)]) -> (String, String) {
    let mut command = shim.command(&shim.program, options);
    command.arg(part).env("ZSALLOC_LIMIT", "8M");
    let output = run(command);
    assert!(output.status.success(), "{part} {options:?}: {}\n{}{}", output.status, out(&output), err(&output));
    (out(&output), err(&output))
}

#[test]
fn large_memory_has_the_right_bytes_whatever_a_program_does_with_it() {
    let Some(shim) = shim("large_memory_has_the_right_bytes_whatever_a_program_does_with_it") else { return };
    let file = scratch("preload-parts").join("stats-%p");
    for threads in ["1", "2"] {
        for part in ["mappings", "protections", "blocks", "threads", "descriptors"] {
            let options = [("ZSALLOC_THREADS", threads), ("ZSALLOC_STATS", file.to_str().unwrap())];
            assert_eq!(program_prints(shim, part, &options), (format!("{part}: ok\n"), String::new()));
        }
    }
    let mut files = 0;
    for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
        let stats = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(figure(&stats, "loads") > 0 && figure(&stats, "stored") > 0, "nothing left memory: {stats}");
        assert!(figure(&stats, "over_limit") == 0 && figure(&stats, "immovable_bytes") == 0, "{stats}");
        assert!(figure(&stats, "resident_bytes") <= (8 << 20) + 16 * 4096 && figure(&stats, "regions") <= 8, "{stats}");
        files += 1;
    }
    assert_eq!(files, 10);
}

#[test]
fn the_heap_of_the_shim_gives_out_separate_blocks() {
    let Some(shim) = shim("the_heap_of_the_shim_gives_out_separate_blocks") else { return };
    let own = run({
        let mut command = Command::new(&shim.program);
        command.arg("heap");
        command
    });
    assert!(own.status.success(), "{}", err(&own));
}

#[test]
fn small_mappings_and_other_codecs_work_as_well() {
    let Some(shim) = shim("small_mappings_and_other_codecs_work_as_well") else { return };
    for options in
        [[("ZSALLOC_MIN", "4K"), ("ZSALLOC_CODEC", "zstd")], [("ZSALLOC_MIN", "1G"), ("ZSALLOC_CODEC", "raw")]]
    {
        for part in ["mappings", "blocks"] {
            program_prints(shim, part, &options);
        }
    }
}

#[test]
fn children_get_all_memory_or_the_fork_is_refused() {
    let Some(shim) = shim("children_get_all_memory_or_the_fork_is_refused") else { return };
    let cases =
        [("auto", "little 7\nmuch -12\n"), ("copy", "little 7\nmuch 7\n"), ("refuse", "little -12\nmuch -12\n")];
    for (policy, expected) in cases {
        let (printed, said) = program_prints(shim, "forks", &[("ZSALLOC_FORK", policy)]);
        assert_eq!(printed, format!("{expected}forks: ok\n"), "{policy}");
        let refused = usize::from(expected.contains("-12"));
        assert_eq!(said.matches("fork() is refused with ENOMEM").count(), refused, "it is said once: {said}");
    }
}

#[test]
fn other_handlers_of_fork_may_use_memory() {
    let Some(shim) = shim("other_handlers_of_fork_may_use_memory") else { return };
    let (printed, _) = program_prints(shim, "handlers", &[("ZSALLOC_FORK", "copy")]);
    assert_eq!(printed, "little 7\nmuch 7\nhandlers: ok\n");
}

/// jemalloc locks itself for a fork, and maps and unmaps memory while threads hold its locks.
#[test]
fn a_fork_does_not_wait_for_a_thread_inside_jemalloc() {
    let name = "a_fork_does_not_wait_for_a_thread_inside_jemalloc";
    let Some(shim) = shim(name) else { return };
    let libraries = output("/sbin/ldconfig", &[OsStr::new("-p")]);
    let Some(jemalloc) = libraries.split_whitespace().find(|word| word.ends_with("/libjemalloc.so.2")) else {
        return common::skip::skip(name, "this machine has no libjemalloc.so.2, which comes with redis-server");
    };
    let both = format!("{}:{jemalloc}", shim.object.display());
    let (printed, _) = program_prints(shim, "forks", &[("ZSALLOC_FORK", "copy"), ("LD_PRELOAD", &both)]);
    assert_eq!(printed, "little 7\nmuch 7\nforks: ok\n");
}

/// After a fork the parent adds large memory again, and the library refuses memory with the stack of the caller.
#[test]
fn a_fork_from_a_stack_in_large_memory_is_refused() {
    let Some(shim) = shim("a_fork_from_a_stack_in_large_memory_is_refused") else { return };
    let (printed, said) = program_prints(shim, "stacks", &[("ZSALLOC_FORK", "copy")]);
    assert_eq!(printed, "own stack -12\nusual stack 7\nstacks: ok\n");
    assert_eq!(said.matches("the stack of the calling thread is in large memory").count(), 1, "{said}");
}

#[test]
fn a_child_without_the_right_to_userfaultfd_goes_on() {
    let Some(shim) = shim("a_child_without_the_right_to_userfaultfd_goes_on") else { return };
    let (printed, said) = program_prints(shim, "rights", &[]);
    assert_eq!(printed, "rights: ok\n");
    let all_may = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok_and(|text| text.trim() == "1");
    let all_open = fs::metadata("/dev/userfaultfd").is_ok_and(|device| device.permissions().mode() & 0o006 == 0o006);
    let is_root = output("id", &["-u"].map(OsStr::new)).trim() == "0";
    if is_root && !all_may && !all_open {
        assert_eq!(said.matches("goes on without ZSALLOC_LIMIT").count(), 1, "{said}");
    }
}

#[test]
fn wrong_options_end_the_program_with_the_reason() {
    let Some(shim) = shim("wrong_options_end_the_program_with_the_reason") else { return };
    let cases = [
        (("ZSALLOC_LIMIT", "much"), "ZSALLOC_LIMIT is much: it can be a number from 1048576"),
        (("ZSALLOC_LIMIT", "64MB"), "ZSALLOC_LIMIT is 64MB"),
        (("ZSALLOC_LIMIT", "-1"), "ZSALLOC_LIMIT is -1"),
        (("ZSALLOC_LIMIT", "99999999T"), "ZSALLOC_LIMIT is 99999999T"),
        (("ZSALLOC_THREADS", "0"), "ZSALLOC_THREADS is 0: it can be a number from 1 to 16"),
        (("ZSALLOC_CODEC", "gzip"), "ZSALLOC_CODEC is gzip: it can be lz4, zstd or raw"),
        (("ZSALLOC_FORK", "yes"), "ZSALLOC_FORK is yes: it can be auto, refuse or copy"),
    ];
    for (option, reason) in cases {
        let tried = run(shim.command("true", &[("ZSALLOC_LIMIT", "8M"), option]));
        assert!(tried.status.code() == Some(125) && err(&tried).contains(reason), "{option:?}: {}", err(&tried));
    }
    // Without a limit nothing is taken over.
    assert!(run(shim.command("true", &[("ZSALLOC_CODEC", "gzip")])).status.success());
}

/// A malloc() in the executable would serve the library too, from memory that may be under the pager.
#[test]
fn a_program_with_a_malloc_of_its_own_is_refused() {
    let Some(shim) = shim("a_program_with_a_malloc_of_its_own_is_refused") else { return };
    let folder = scratch("preload-malloc");
    let (source, program) = (folder.join("own.c"), folder.join("own"));
    let own = "#include <stdlib.h>
        static char memory[1 << 20] __attribute__((aligned(16)));
        static size_t used;
        void *malloc(size_t bytes) { void *block = memory + used; used += (bytes + 15) & -16; return block; }
        void free(void *block) { (void)block; }
        int main(void) { return malloc(1) == NULL; }";
    fs::write(&source, own).unwrap();
    compile_installed("cc", &[&source], &program, &["-rdynamic"], &[]);
    let tried = run(shim.command(&program, &[("ZSALLOC_LIMIT", "8M")]));
    assert!(tried.status.code() == Some(125) && err(&tried).contains("malloc() of its own"), "{}", err(&tried));
}

/// Returns the path of Python itself: the command may be a script that starts it.
fn python(name: &str) -> Option<String> {
    if !is_command("python3") {
        common::skip::skip(name, "this machine has no python3");
        return None;
    }
    Some(output("python3", &["-c", "import sys; print(sys.executable)"].map(OsStr::new)).trim().to_owned())
}

/// Returns the MiB that the workload says it had in memory at most.
fn most_memory(said: &str) -> u64 {
    let at = said.find("most memory ").unwrap_or_else(|| panic!("{said}"));
    said[at + 12..].split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn python_computes_the_same_in_a_quarter_of_its_memory() {
    let name = "python_computes_the_same_in_a_quarter_of_its_memory";
    let (Some(shim), Some(python)) = (shim(name), python(name)) else { return };
    let (mib, script) = ("32", repository().join("examples/preload/workload.py"));
    let stats = scratch("preload-python").join("stats");
    let free = run({
        let mut command = Command::new(&python);
        command.arg(&script).args([mib, "2000"]);
        command
    });
    assert!(free.status.success(), "{}", err(&free));
    for threads in ["1", "2"] {
        let options =
            [("ZSALLOC_LIMIT", "8M"), ("ZSALLOC_THREADS", threads), ("ZSALLOC_STATS", stats.to_str().unwrap())];
        let mut command = shim.command(&python, &options);
        command.arg(&script).args([mib, "2000"]);
        let limited = run(command);
        assert!(limited.status.success(), "{}{}", out(&limited), err(&limited));
        assert_eq!(out(&limited), out(&free));
        let text = fs::read_to_string(&stats).unwrap();
        assert!(figure(&text, "loads") > 1000 && figure(&text, "over_limit") == 0, "{text}");
        let (all, less) = (most_memory(&err(&free)), most_memory(&err(&limited)));
        assert!(less < all * 3 / 4, "{less} MiB of {all}");
    }
}

/// What Python's subprocesses need: vfork, posix_spawn, pipes to memory that is not there.
const SUBPROCESSES: &str = r#"
import os, subprocess
big = [bytearray(b"%d " % i * 100000) for i in range(60)]
assert subprocess.run(["cat"], input=bytes(big[7]), capture_output=True, check=True).stdout == big[7]
assert subprocess.run(["sh", "-c", "echo $((1+1))"], capture_output=True, check=True).stdout == b"2\n"
assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0
assert os.system("exit 3") == 3 << 8 and os.popen("echo popen").read() == "popen\n"
for fork in os.fork, os.forkpty:
    try:
        fork()
    except OSError as error:
        print(error)
assert all(b == b"%d " % i * 100000 for i, b in enumerate(big))
"#;

#[test]
fn python_starts_other_programs_and_is_refused_a_fork() {
    let name = "python_starts_other_programs_and_is_refused_a_fork";
    let (Some(shim), Some(python)) = (shim(name), python(name)) else { return };
    let mut command = shim.command(&python, &[("ZSALLOC_LIMIT", "8M")]);
    command.args(["-c", SUBPROCESSES]);
    let ran = run(command);
    assert!(ran.status.success(), "{}{}", out(&ran), err(&ran));
    assert_eq!(out(&ran).matches("Cannot allocate memory").count(), 2, "both forks: {}", out(&ran));
    assert!(err(&ran).contains("ZSALLOC_FORK=copy"), "{}", err(&ran));
}

/// A redis-server of its own, at a socket in a folder of its own.
struct Redis {
    server: Child,
    folder: PathBuf,
}

impl Redis {
    /// Starts a server, under the shim or not.
    fn start(shim: Option<&Shim>, options: &[(&str, &str)]) -> Self {
        let folder = folder_for_sockets();
        let mut command =
            shim.map_or_else(|| Command::new("redis-server"), |shim| shim.command("redis-server", options));
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]);
        command.arg("--dir").arg(&folder).arg("--unixsocket").arg(folder.join("socket"));
        command.env("ZSALLOC_STATS", folder.join("stats"));
        command.stdout(fs::File::create(folder.join("log")).unwrap());
        command.stderr(fs::File::create(folder.join("messages")).unwrap());
        let mut redis = Self { server: command.spawn().unwrap(), folder };
        while redis.try_to_ask(&["ping"]) != "PONG" {
            let ended = redis.server.try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended with {ended:?}: {}", redis.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        redis
    }

    fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("log") + &read("messages")
    }

    fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        client.arg("-s").arg(self.folder.join("socket"));
        client
    }

    fn try_to_ask(&self, command: &[&str]) -> String {
        out(&self.client().args(command).output().unwrap()).trim().to_owned()
    }

    fn ask(&self, command: &[&str]) -> String {
        let answer = self.try_to_ask(command);
        assert!(!answer.is_empty(), "{command:?}: {}", self.said());
        answer
    }

    /// Sends many commands at once. All must succeed.
    fn pipe(&self, commands: &Path) {
        let output = self.client().arg("--pipe").stdin(fs::File::open(commands).unwrap()).output().unwrap();
        assert!(out(&output).contains("errors: 0, "), "{}{}", out(&output), err(&output));
    }

    /// Ends the server, which must end well. Returns the statistics of the shim, if it ran under it.
    fn end(mut self) -> String {
        _ = self.try_to_ask(&["shutdown", "nosave"]);
        let status = self.server.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
        fs::read_to_string(self.folder.join("stats")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes commands that set `keys` keys, 1 KiB each, to a file.
fn commands(file: PathBuf, keys: usize) -> PathBuf {
    let mut text = String::new();
    for key in 0..keys {
        let words = (0..50).map(|word| format!("{} of words, ", (key * 31 + word * 7919) % 10007));
        let (name, value) = (format!("key:{key}"), words.collect::<String>());
        text += &format!("*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n${}\r\n{value}\r\n", name.len(), value.len());
    }
    fs::write(&file, text).unwrap();
    file
}

/// Fills, reads all, deletes some, reads all, empties and fills again. Returns the digests of what was there.
fn digests(redis: &Redis, commands: &Path, keys: usize) -> Vec<String> {
    let mut digests = Vec::new();
    for _ in 0..2 {
        redis.pipe(commands);
        assert_eq!(redis.ask(&["dbsize"]), keys.to_string());
        digests.push(redis.ask(&["debug", "digest"]));
        let names: Vec<String> = (0..keys).step_by(3).map(|key| format!("key:{key}")).collect();
        let del: Vec<&str> = std::iter::once("del").chain(names.iter().map(String::as_str)).collect();
        assert_eq!(redis.ask(&del), names.len().to_string());
        digests.push(redis.ask(&["debug", "digest"]));
        digests.push(redis.ask(&["get", "key:1"]));
        assert_eq!(redis.ask(&["flushall"]), "OK");
    }
    redis.pipe(commands);
    digests
}

#[test]
fn redis_server_keeps_its_keys_in_a_quarter_of_its_memory() {
    let name = "redis_server_keeps_its_keys_in_a_quarter_of_its_memory";
    let Some(shim) = shim(name) else { return };
    if !is_command("redis-server") {
        return common::skip::skip(name, "this machine has no redis-server");
    }
    let keys = 12_000;
    let commands = commands(scratch("preload-redis-commands").join("commands"), keys);
    let free = Redis::start(None, &[]);
    let expected = digests(&free, &commands, keys);
    free.end();
    for (policy, save) in [("auto", "Cannot allocate memory"), ("copy", "Background saving terminated with success")] {
        let options = [("ZSALLOC_LIMIT", "4M"), ("ZSALLOC_FORK", policy)];
        let redis = Redis::start(Some(shim), &options);
        assert_eq!(digests(&redis, &commands, keys), expected);
        // BGSAVE forks.
        _ = redis.try_to_ask(&["bgsave"]);
        while redis.ask(&["info", "persistence"]).contains("rdb_bgsave_in_progress:1") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(redis.said().contains(save), "{policy}: {}", redis.said());
        assert_eq!(redis.said().contains("zspreload: fork() is refused"), policy == "auto", "{}", redis.said());
        assert_eq!(redis.ask(&["debug", "digest"]), expected[0]);
        let stats = redis.end();
        assert!(figure(&stats, "loads") > 1000 && figure(&stats, "stored") > 1000, "{stats}");
    }
}
