//! The examples as cargo built them: what they print, and how they refuse what makes no sense.

// Cargo builds an example either as a program or as a test of it. The programs are what is run below, so the tests
// inside the examples are run from here too.
#[allow(dead_code)]
#[path = "../examples/compressed_cache.rs"]
mod compressed_cache;
#[allow(dead_code)]
#[path = "../examples/store_pages/main.rs"]
mod store_pages;

use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// An example, with nothing to read and its output kept. It lies beside the folder of this test.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: `cargo build --examples` builds it", program.display());
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end. One that hangs, such as on a FIFO that nobody writes to, is ended and fails the test.
fn run(command: &mut Command) -> Output {
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// What was printed by one that succeeds, which says nothing on standard error: that is no terminal here.
fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out
}

/// The sentence of one that refuses: exit status 2, one line, nothing else.
fn is_refused(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{err}");
    assert!(err.ends_with('\n') && err.trim_end().lines().count() == 1, "{err}");
    assert!(!err.contains("panicked"), "{err}");
    err
}

/// A folder for a test's files, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// 100 pages of zeros, 100 of noise, 99 of text, and a last one that is not full.
fn mixed_pages() -> Vec<u8> {
    let mut bytes = vec![0; 100 * PAGE];
    bytes.extend(noise(100 * PAGE));
    let text = (0..).flat_map(|line| format!("{line} bottles of beer on the wall\n").into_bytes());
    bytes.extend(text.take(100 * PAGE - 17));
    bytes
}

#[test]
fn store_pages_tells_its_figures_as_json() {
    let folder = Folder::new("json");
    let file = folder.file("mixed", &mixed_pages());
    let text = succeeds(example("store_pages").arg("--json").arg(&file));
    let figures: Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name}: {text}"));
    let wanted = [
        ("pages", 300),
        ("files", 1),
        ("files_filled_up", 1),
        ("files_shortened", 0),
        ("heap_pages", 0),
        ("same_filled", 100),
        ("raw", 100),
        ("compressed", 100),
        ("pages_verified", 200 + 100 + 20),
    ];
    for (name, wanted) in wanted {
        assert_eq!(number(name), f64::from(wanted), "{name}: {text}");
    }
    assert!(number("ratio") > 1.0 && number("stored_bytes") > (100 * PAGE) as f64, "{text}");
    for name in ["malloc_ns", "write_ns", "map_unmap_ns", "free_ns"] {
        assert!(number(name) > 0.0, "{name}: {text}");
    }
    let steps = figures["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["stored", "half freed", "compacted", "tenth left", "compacted"]);
    let objects: Vec<_> = steps.iter().map(|step| step["objects"].as_u64().unwrap()).collect();
    assert_eq!(objects, [200, 100, 100, 20, 20]);
    for step in steps {
        let [live, pool, tables] = ["live_bytes", "pool_bytes", "table_bytes"].map(|name| step[name].as_u64().unwrap());
        assert!(live > 0 && live < pool && tables < pool, "{step}");
        assert!(step["density"].as_f64().unwrap() > 0.0, "{step}");
    }
    assert!(steps[2]["pool_bytes"].as_u64() < steps[1]["pool_bytes"].as_u64(), "{text}");
    let compactions = figures["compactions"].as_array().unwrap();
    assert_eq!(compactions.len(), 2);
    assert!(compactions[0]["pages_returned"].as_u64().unwrap() > 0, "{text}");
}

#[test]
fn store_pages_prints_a_table() {
    let folder = Folder::new("table");
    let (file, short) = (folder.file("mixed", &mixed_pages()), folder.file("short", b"less than a page"));
    let text = succeeds(example("store_pages").args([&file, &short]));
    for part in ["same-filled", "raw", "ratio", "density", "half freed", "tenth left", "map, unmap", "compaction"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("of 2 files") && text.contains("the last page of 2 of the files"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 120), "{text}");
}

#[test]
fn store_pages_without_files_takes_what_is_there() {
    let text = succeeds(example("store_pages").args(["--json", "--max-mib", "2"]));
    let figures: Value = serde_json::from_str(&text).unwrap();
    let pages = figures["pages"].as_u64().unwrap();
    assert!((1..=512).contains(&pages), "{text}");
    assert!(figures["files"].as_u64().unwrap() > 0, "{text}");
}

#[test]
fn store_pages_takes_no_more_than_it_may_and_as_much_of_each_file() {
    let folder = Folder::new("share");
    let files = [folder.file("zeros", &vec![0; 2 << 20]), folder.file("ones", &vec![1; 2 << 20])];
    let text = succeeds(example("store_pages").args(["--json", "--max-mib=1", "--"]).args(files));
    let figures: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((figures["pages"].as_u64(), figures["files_shortened"].as_u64()), (Some(256), Some(2)));
    // Pages of one word only: nothing is stored, and of nothing there is no ratio.
    assert_eq!((figures["same_filled"].as_u64(), &figures["ratio"]), (Some(256), &Value::Null));
}

#[test]
fn what_is_no_file_with_pages_is_refused() {
    let folder = Folder::new("refused");
    let good = folder.file("good", b"good");
    let path = |name: &str| folder.0.join(name);
    make_fifo(&path("fifo"));
    let _socket = UnixListener::bind(path("socket")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    folder.file("empty", b"");
    let cases = [
        (path("missing"), "can't read"),
        (path("dangling"), "can't read"),
        (path("loop"), "can't read"),
        (path(&"long".repeat(100)), "can't read"),
        (good.join("below"), "can't read"),
        (path("empty"), "is empty"),
        (folder.0.clone(), "a directory"),
        (path("fifo"), "a FIFO"),
        (path("socket"), "a socket"),
        (PathBuf::from("/dev/zero"), "a device"),
        (PathBuf::new(), "can't read"),
    ];
    for (file, reason) in cases {
        let sentence = is_refused(example("store_pages").args([&good, &file]));
        assert!(sentence.starts_with("store_pages: ") && sentence.contains(reason), "{}: {sentence}", file.display());
        assert!(sentence.contains(&*file.to_string_lossy()), "{sentence}");
    }
}

fn make_fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let folder = Folder::new("secret");
    let file = folder.file("secret", b"secret");
    fs::set_permissions(&file, Permissions::from_mode(0o0)).unwrap();
    if File::open(&file).is_ok() {
        eprintln!("skipped: this user may read every file");
        return;
    }
    assert!(is_refused(example("store_pages").arg(&file)).contains("can't read"));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for args in [&["--what"][..], &["--max-mib"], &["--max-mib", "0"], &["--pool-mib", "much"]] {
        is_refused(example("store_pages").args(args));
    }
    for args in [&["--what"][..], &["file"], &["--requests"], &["--limit-mib", "0"]] {
        is_refused(example("compressed_cache").args(args));
    }
    for name in ["store_pages", "compressed_cache"] {
        assert!(succeeds(example(name).arg("--help")).contains("Usage: "));
    }
}

#[test]
fn too_little_memory_is_told() {
    let folder = Folder::new("memory");
    let file = folder.file("noise", &noise(2 << 20));
    let sentence = is_refused(example("store_pages").args(["--pool-mib", "1"]).arg(&file));
    assert!(sentence.contains("out of memory"), "{sentence}");
    // The pages themselves do not fit: a file with a hole costs this test nothing.
    File::create(folder.0.join("hole")).unwrap().set_len(1 << 30).unwrap();
    let mut command = example("store_pages");
    command.args(["--max-mib", "1024"]).arg(folder.0.join("hole"));
    let sentence = is_refused(limit_addresses(&mut command, 256 << 20));
    assert!(sentence.contains("out of memory"), "{sentence}");
}

/// Gives a program no more than so many bytes of addresses.
fn limit_addresses(command: &mut Command, bytes: u64) -> &mut Command {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: setrlimit may be called between fork and exec, and `limit` is copied into the closure.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

#[test]
fn a_closed_pipe_is_no_problem_and_a_full_disk_is_told() {
    let folder = Folder::new("output");
    let file = folder.file("short", b"less than a page");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run(example("store_pages").arg(&file).stdout(writer));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(is_refused(example("store_pages").arg(&file).stdout(full)).contains("standard output"));
}

#[test]
fn the_cache_serves_its_workload() {
    let text = succeeds(example("compressed_cache").args(["--requests", "8000", "--limit-mib", "1"]));
    assert!(text.starts_with("8000 requests") && text.contains("hits") && text.contains("evicted"), "{text}");
    let hits = text.lines().find_map(|line| line.strip_prefix("hits")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(hits.is_some_and(|hits| (1..8000).contains(&hits)), "{text}");
}
